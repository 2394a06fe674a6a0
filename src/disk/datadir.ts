/**
 * The data directory of a node: one node at a time has it, and it says which format its files are of.
 *
 *     format          "flux-gateway data, format 1"
 *     lock            a socket that listens as long as the node lives
 *     resume-secret   what resume tokens are signed with, where the configuration gives none
 *     log/            durable rooms and inboxes
 *     sessions/       sessions, what devices have read, sign-outs
 */
import { accessSync, constants, existsSync, mkdirSync, opendirSync, readFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { randomId } from "../platform/ids.ts";
import { DataDirError, explained } from "./error.ts";
import { formatVersion } from "./frames.ts";
import { lockFolder } from "./lock.ts";
import { syncFolder } from "./segment.ts";

export interface DataDir {
  readonly path: string;
  /** The folder of a journal. */
  folder(name: string): string;
  /** The secret that is kept here; made when it is asked for the first time. */
  secret(): Promise<string>;
  /** Lets another node have it. */
  close(): Promise<void>;
}

/** @throws DataDirError where it cannot be used, or another node has it. */
export async function openDataDir(name: string): Promise<DataDir> {
  const path = resolve(name);
  prepare(path);
  const lock = await lockFolder(path);
  try {
    await checkFormat(path);
  } catch (error) {
    await lock.release();
    throw error;
  }
  return {
    path,
    folder: (part) => join(path, part),
    secret: () => secretIn(path),
    close: () => lock.release(),
  };
}

function prepare(path: string): void {
  try {
    makeFolder(path);
    opendirSync(path).closeSync(); // what is no directory says so, before what this user may do with it
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw explained(error);
  }
}

/**
 * With what is missing above it. Not by mkdir's own `recursive`: where the system answers ENOENT below a directory that
 * is there, as /proc does, Node 20 tries again without end, and the process hears no signal.
 */
function makeFolder(path: string): void {
  const missing: string[] = [];
  for (let folder = path; !existsSync(folder); folder = dirname(folder)) missing.unshift(folder);
  for (const folder of missing) {
    try {
      mkdirSync(folder, { mode: 0o700 });
    } catch (error) {
      // Another process made it, or it is one that this user may not look into: what comes next tells.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

async function checkFormat(path: string): Promise<void> {
  const file = join(path, "format");
  if (!existsSync(file)) return writeWhole(path, "format", `flux-gateway data, format ${formatVersion}\n`);
  const text = readFileSync(file, "utf8");
  const format = Number(/format (\d+)/.exec(text)?.[1]);
  if (format === formatVersion) return;
  if (format > formatVersion) {
    throw new DataDirError(
      `it was written by a newer version of flux-gateway (format ${format}, this one reads ${formatVersion}); start that version, or choose another`,
    );
  }
  throw new DataDirError(`${file} does not say what format it is of; put a backup in its place, or choose another`);
}

async function secretIn(path: string): Promise<string> {
  const file = join(path, "resume-secret");
  if (!existsSync(file)) await writeWhole(path, "resume-secret", `${randomId(32)}\n`);
  const secret = readFileSync(file, "utf8").trim();
  if (secret.length < 32) throw new DataDirError(`${file} is damaged; remove it, and no session from before is resumed`);
  return secret;
}

/** The file is there with all of its text, or not at all. */
async function writeWhole(path: string, name: string, text: string): Promise<void> {
  const half = join(path, `${name}.new`);
  const handle = await open(half, "w", 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(half, join(path, name));
  await syncFolder(path);
}
