/**
 * The data directory of a node. One node at a time uses it; `format` holds the version of its files.
 *
 *     format          "flux-gateway data, format 1"
 *     lock            a socket on which the node listens while it runs
 *     resume-secret   signs resume tokens where the configuration has no resumeSecret
 *     archive-id      names the directory in the archive
 *     log/            durable rooms and inboxes
 *     sessions/       sessions, what devices have read, sign-outs
 *     webhooks/       events that webhooks have not told yet, and dead letters
 */
import { accessSync, constants, existsSync, mkdirSync, opendirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { randomId } from "../platform/ids.ts";
import { DataDirError, explained } from "./error.ts";
import { formatVersion } from "./frames.ts";
import { lockFolder } from "./lock.ts";
import { writeWhole } from "./whole.ts";

export interface DataDir {
  readonly path: string;
  /** Path of a journal's folder. */
  folder(name: string): string;
  /** Reads the stored secret; creates one on the first call. */
  secret(): Promise<string>;
  /** Name in the archive; created on the first call. */
  archiveId(): Promise<string>;
  /** Releases the lock, so that another node may use the directory. */
  close(): Promise<void>;
}

/** @throws DataDirError where the directory cannot be used, or another node uses it. */
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
    archiveId: () => archiveIdIn(path),
    close: () => lock.release(),
  };
}

function prepare(path: string): void {
  try {
    makeFolder(path);
    opendirSync(path).closeSync(); // fails for a file before the check of access rights, so that the error says why
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw explained(error);
  }
}

/**
 * Creates a directory and its parents. mkdir's own `recursive` would hang: on ENOENT below an existing directory, as in
 * /proc, Node 20 retries forever, and the process handles no signal.
 */
function makeFolder(path: string): void {
  const missing: string[] = [];
  for (let folder = path; !existsSync(folder); folder = dirname(folder)) missing.unshift(folder);
  for (const folder of missing) {
    try {
      mkdirSync(folder, { mode: 0o700 });
    } catch (error) {
      // Another process created it, or this user may not look into it: the next step finds out.
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
  }
}

async function checkFormat(path: string): Promise<void> {
  const file = join(path, "format");
  if (!existsSync(file)) return writeWhole(file, `flux-gateway data, format ${formatVersion}\n`);
  const text = readFileSync(file, "utf8");
  const format = Number(/format (\d+)/.exec(text)?.[1]);
  if (format === formatVersion) return;
  if (format > formatVersion) {
    throw new DataDirError(
      `a newer version of flux-gateway wrote it (format ${format}, this version reads ${formatVersion}); start that version, or choose another directory`,
    );
  }
  throw new DataDirError(`${file} names no format; restore a backup, or choose another directory`);
}

async function secretIn(path: string): Promise<string> {
  const file = join(path, "resume-secret");
  if (!existsSync(file)) await writeWhole(file, `${randomId(32)}\n`);
  const secret = readFileSync(file, "utf8").trim();
  if (secret.length < 32) throw new DataDirError(`${file} is damaged; delete it (clients then cannot resume their sessions), or restore a backup`);
  return secret;
}

/** For tools beside the node as well. @throws DataDirError */
export async function archiveIdIn(path: string): Promise<string> {
  const file = join(path, "archive-id");
  if (!existsSync(path)) throw new DataDirError(`there is no directory ${path}; start the node first`);
  if (!existsSync(file)) await writeWhole(file, `${randomId(9)}\n`);
  const id = readFileSync(file, "utf8").trim();
  if (!/^[\w-]{12}$/.test(id)) throw new DataDirError(`${file} is damaged; restore a backup, or delete it and give the node another schema for its archive`);
  return id;
}
