/** The files of the page, as the build made them. They say nothing about the node, so anyone may load them. */
import { readFileSync } from "node:fs";
import { packageFolder } from "../platform/version.ts";

export interface PageFile {
  readonly type: string;
  readonly bytes: Buffer;
  readonly gzipped: Buffer;
}

const names: Readonly<Record<string, readonly [file: string, type: string]>> = {
  "/dashboard": ["index.html", "text/html; charset=utf-8"],
  "/dashboard/app.js": ["app.js", "text/javascript; charset=utf-8"],
  "/dashboard/app.css": ["app.css", "text/css; charset=utf-8"],
  "/dashboard/icon.svg": ["icon.svg", "image/svg+xml"],
};

const read = new Map<string, PageFile>();

/** Null: there is no such file. Read when first asked for: most nodes are never looked at. */
export function pageFile(path: string): PageFile | null {
  if (!Object.hasOwn(names, path)) return null;
  const before = read.get(path);
  if (before !== undefined) return before;
  const [name, type] = names[path]!;
  const built = (file: string) => readFileSync(new URL(`dist/browser/dashboard/${file}`, packageFolder));
  const file = { type, bytes: built(name), gzipped: built(`${name}.gz`) };
  read.set(path, file);
  return file;
}
