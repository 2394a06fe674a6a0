// Bundles the page of the dashboard, for the browsers of operators.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/**
 * Each file is there gzipped as well: browsers get that.
 *
 * @param outdir for index.html, app.js, app.css and icon.svg
 */
export async function bundleDashboard(outdir) {
  const page = "src/dashboard/page";
  const { outputFiles } = await build({
    entryPoints: { app: `${page}/main.tsx` },
    outdir,
    write: false,
    charset: "utf8",
    plugins: [withoutUnusedPlots],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    jsx: "automatic",
    jsxImportSource: "preact",
    logLevel: "warning",
  });
  mkdirSync(outdir, { recursive: true });
  const files = [...outputFiles.map(({ path, contents }) => [basename(path), contents]), ...["index.html", "icon.svg"].map((name) => [name, readFileSync(`${page}/${name}`)])];
  for (const [name, contents] of files) {
    writeFileSync(join(outdir, name), contents);
    writeFileSync(join(outdir, `${name}.gz`), gzipSync(contents, { level: 9 }));
  }
}

/**
 * Parts of uPlot that the page does not use, a quarter of it: bars, splines and steps, axes of dates and logarithms, its
 * legend, zooming with the mouse. Each is one function at a known depth; a version that has it elsewhere fails here.
 */
const unusedPlots = {
  "": ["bars", "stepped", "splineInterp", "_monotoneCubic", "logAxisSplits", "rangeLog", "log10AxisValsFilt", "log2AxisValsFilt", "asinhAxisSplits", "clipBandLine", "join", "timeAxisVals", "rangeAsinh", "_rangeNum", "genTimeStuffs", "timeAxisStamps", "fmtDate", "tzDate", "points", "bandFillClipDirs", "sortCols", "allHeadersSame", "isAsc", "nullExpand", "findColWidth", "seriesPointsShow", "snapAsinhY", "snapLogY", "timeAxisVal", "timeSeriesVal", "legendStroke", "seriesFillTo", "_sync", "numSeriesVal"],
  "\t": ["initLegendRow", "setLegendValues", "mouseUp", "mouseDown", "syncLegend", "delSeries", "setFocus", "addSeries", "setSeries", "addBand", "setSelect", "dblClick", "toggleDOM", "pubSync", "doFill", "setLegend", "autoPadSide"],
};
/** What the page never asks for, decided here: the minifier leaves out what depends on it. */
const known = {
  "sync.sub(self);": "",
  "sync.unsub(self);": "",
  "const FEAT_TIME          = true;": "const FEAT_TIME = false;",
  "const showLegend = legend.show;": "const showLegend = false;",
  "const mode = self.mode;": "const mode = 1;",
  "const cursorFocus = focus.prox >= 0;": "const cursorFocus = false;",
  "const cursorOnePt = cursorFocus && points.one;": "const cursorOnePt = false;",
  "const syncKey = syncOpts.key;": "const syncKey = null;",
  "if (select.show && dragging) {": "if (false) {",
};
const withoutUnusedPlots = {
  name: "without-unused-plots",
  setup(build) {
    build.onLoad({ filter: /uPlot\.esm\.js$/ }, ({ path }) => {
      let text = readFileSync(path, "utf8");
      for (const [indent, names] of Object.entries(unusedPlots)) {
        for (const name of names) {
          const whole = new RegExp(`^${indent}function ${name}\\(.*?^${indent}\\}`, "ms");
          if (!whole.test(text)) throw new Error(`uPlot has no function ${name} any more: look at unusedPlots in bundledashboard.mjs`);
          text = text.replace(whole, `${indent}function ${name}() { return [[], [], () => null]; }`);
        }
      }
      for (const [before, after] of Object.entries(known)) {
        if (!text.includes(before)) throw new Error(`uPlot has no "${before}" any more: look at known in bundledashboard.mjs`);
        text = text.replace(before, after);
      }
      return { contents: text.replace(/^const subs = \{.*?^\};/ms, "const subs = {};") };
    });
  },
};
