/** The style of the page of the calls, for light and dark screens and for narrow ones. */
export const pageStyle = `
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--page:#fff;--side:#f6f8fa;--code:#f0f3f6;--get:#0969a8;--post:#1a7f4b;--put:#8a5a00;--delete:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e3e8ef;--soft:#9aa7b8;--line:#2c3540;--page:#12171d;--side:#171d24;--code:#1d252e;--get:#5fb2f0;--post:#55c98b;--put:#e0b050;--delete:#f28b82}}
*{box-sizing:border-box}html{scroll-behavior:smooth;scroll-padding-top:1rem}
body{margin:0;display:grid;grid-template-columns:19rem minmax(0,1fr);font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--page)}
nav{position:sticky;top:0;height:100vh;overflow:auto;padding:1.5rem 1rem;background:var(--side);border-right:1px solid var(--line);font-size:.9rem}
nav ul{list-style:none;margin:1rem 0 0;padding:0}nav a{display:block;padding:.3rem .4rem;border-radius:.3rem;color:inherit;text-decoration:none}nav li a{display:grid;grid-template-columns:4.6em 1fr;align-items:baseline}nav a:hover,nav a:focus-visible{background:var(--code)}
.brand{font-weight:700;font-size:1.05rem}small{color:var(--soft);font-weight:400}
main{max-width:56rem;padding:2rem clamp(1rem,4vw,3rem) 6rem}h1{margin:0 0 1rem;font-size:2rem}h2{margin:0 0 .5rem;font-size:1.35rem}h3{margin:1.2rem 0 .4rem;font-size:.8rem;letter-spacing:.06em;text-transform:uppercase;color:var(--soft)}
section{padding:2.2rem 0 1.2rem;border-bottom:1px solid var(--line)}a{color:var(--get)}
code,pre{font:.86em/1.5 ui-monospace,SFMono-Regular,Menlo,monospace}code{background:var(--code);padding:.1em .3em;border-radius:.25rem}
pre{margin:.4rem 0;padding:.8rem 1rem;overflow:auto;background:var(--code);border-radius:.4rem}pre.answer{border-left:3px solid var(--post)}
.request{display:flex;flex-wrap:wrap;align-items:center;gap:.6rem}.request code{font-size:.95rem}.scope{color:var(--soft);font-size:.85rem}
.method{display:inline-block;min-width:5.2em;margin-right:.6em;font:700 .72rem/1.6 ui-monospace,monospace;text-align:center;border:1px solid currentColor;border-radius:.25rem}
.GET{color:var(--get)}.POST{color:var(--post)}.PUT{color:var(--put)}.DELETE{color:var(--delete)}
table{width:100%;border-collapse:collapse;font-size:.93rem}td,th{padding:.4rem .6rem .4rem 0;text-align:left;vertical-align:top;border-top:1px solid var(--line)}th{font-weight:600}tr:target{background:var(--code)}
td:last-child,th:last-child{padding-right:0}td code,.request code{overflow-wrap:anywhere}.fields td:first-child{width:11rem}.fields td:nth-child(2){width:8rem}
.errors{font-size:.85rem;color:var(--soft)}
@media (max-width:52rem){body{display:block}nav{position:static;height:auto;border-right:0;border-bottom:1px solid var(--line)}}
@media (max-width:36rem){section{padding-top:1.6rem}table,tbody{display:block}thead{display:none}tr{display:grid;grid-template-columns:auto minmax(0,1fr);column-gap:.8rem;padding:.5rem 0;border-top:1px solid var(--line)}td,.fields td:first-child,.fields td:nth-child(2){width:auto;padding:0;border:0}.fields td:last-child,#errors td:nth-child(n+3){grid-column:1/-1}.fields td:nth-child(2){color:var(--soft)}#errors td:nth-child(3){color:var(--soft)}#errors td:nth-child(3)::before{content:"retryable: "}}
`.replaceAll("\n", "");
