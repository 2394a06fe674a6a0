/**
 * Lua scripts for Redis, from files beside the code that runs them. Each uses the keys of one slot of Redis Cluster.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { extname } from "node:path";
import { packageFolder } from "../platform/version.ts";

/** The folder of the files: src where TypeScript runs unbuilt, else dist, also for code bundled from another file. */
const folder = new URL(extname(import.meta.url) === ".ts" ? "src/" : "dist/", packageFolder);

export class Script {
  /** How many of its arguments are keys. They come first. */
  readonly keys: number;
  /** Without its comments: a cluster gets it with every call. */
  readonly text: string;
  /** The SHA-1 that Redis knows it by. */
  readonly hash: string;

  /** @param files below src, joined into the script. */
  constructor(keys: number, ...files: string[]) {
    this.keys = keys;
    this.text = files.map((file) => readFileSync(new URL(file, folder), "utf8").replace(/^ *--.*\n/gm, "")).join("");
    this.hash = createHash("sha1").update(this.text).digest("hex");
  }
}
