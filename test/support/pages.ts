/** The pages of the documentation, and what is in them: headings, links, and fenced blocks. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { root } from "./root.ts";

export interface Block {
  /** The word behind the fence, and what follows it: `sh`, `no-run`. */
  readonly language: string;
  readonly rest: string;
  readonly text: string;
  /** Of the fence, from 1. */
  readonly line: number;
}

export interface Page {
  /** From the root of the repository. */
  readonly path: string;
  readonly text: string;
  readonly blocks: readonly Block[];
  /** The text with its fenced blocks blanked out: what is in them is neither a heading nor a link. */
  readonly prose: string;
}

/** README and its like, docs/, the map, and what is in deploy/. */
export function readPages(): Page[] {
  const top = readdirSync(root).filter((name) => name.endsWith(".md"));
  const paths = [...top, ...markdownIn("docs"), "src/README.md", ...markdownIn("deploy")];
  return paths.sort().map((path) => pageOf(path, readFileSync(join(root, path), "utf8")));
}

function markdownIn(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".md")).map((name) => relative(root, join(root, folder, name)));
}

export function pageOf(path: string, text: string): Page {
  const blocks: Block[] = [];
  const prose: string[] = [];
  let open: { fence: string; language: string; rest: string; line: number; lines: string[] } | null = null;
  text.split("\n").forEach((line, i) => {
    const [, fence, language = "", rest = ""] = /^\s*(```+)\s*([\w-]*)\s*(.*)$/.exec(line) ?? [];
    if (open !== null) {
      prose.push("");
      if (fence === open.fence && language === "") {
        blocks.push({ language: open.language, rest: open.rest, text: open.lines.join("\n"), line: open.line });
        open = null;
      } else open.lines.push(line);
    } else if (fence !== undefined) {
      prose.push("");
      open = { fence, language, rest: rest.trim(), line: i + 1, lines: [] };
    } else prose.push(line);
  });
  if (open !== null) throw new Error(`${path}: a fenced block does not end`);
  return { path, text, blocks, prose: prose.join("\n") };
}

/** Anchors of a page as GitHub makes them. */
export function anchorsOf({ prose }: Page): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ""] of prose.matchAll(/^#{1,6} +(.+?) *#*$/gm)) {
    const slug = slugOf(heading);
    let anchor = slug;
    for (let i = 1; anchors.has(anchor); i++) anchor = `${slug}-${i}`;
    anchors.add(anchor);
  }
  for (const [, name = ""] of prose.matchAll(/<a (?:id|name)="([^"]+)"/g)) anchors.add(name);
  return anchors;
}

export function slugOf(heading: string): string {
  const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/[`*]/g, "");
  return text.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replace(/\s/g, "-");
}

export interface Link {
  readonly target: string;
  readonly line: number;
}

/** Links and pictures; code spans are not read. */
export function linksOf({ prose }: Page): Link[] {
  const text = prose.replace(/`[^`\n]*`/g, (span) => span.replace(/[[\]()]/g, " "));
  return [...text.matchAll(/\]\(([^()\s]+)(?:\s+"[^"]*")?\)/g)].map((match) => ({ target: match[1] ?? "", line: text.slice(0, match.index).split("\n").length }));
}
