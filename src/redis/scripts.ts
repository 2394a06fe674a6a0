/** Lua scripts for Redis, from files beside the code that runs them. Each is about the keys of one slot of Redis Cluster. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { extname } from "node:path";
import { packageFolder } from "../platform/version.ts";

/** Where the files are: src where TypeScript runs as it is, else dist, also where this module is bundled into another file. */
const folder = new URL(extname(import.meta.url) === ".ts" ? "src/" : "dist/", packageFolder);

export class Script {
  /** How many of its arguments are keys: the first. */
  readonly keys: number;
  /** Without its comments: to a cluster it leaves with every call. */
  readonly text: string;
  /** What Redis knows it by. */
  readonly hash: string;

  /** @param files below src, which together are the script. */
  constructor(keys: number, ...files: string[]) {
    this.keys = keys;
    this.text = files.map((file) => readFileSync(new URL(file, folder), "utf8").replace(/^ *--.*\n/gm, "")).join("");
    this.hash = createHash("sha1").update(this.text).digest("hex");
  }
}
