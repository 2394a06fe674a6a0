/**
 * Keys in a file that nodes read again when it changes. The first line names the format, every other line is a key.
 * `flux-gateway key` replaces the file as a whole, so a reader never sees half of a change.
 */
import { open, readFile, realpath, rm, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { writeWhole } from "../disk/whole.ts";
import { everyInTime, KeyStoreProblem, keysMax, lookMs, type Every, type KeyChange, type KeyRecord, type KeyStore, type KeyWriter } from "./keystore.ts";
import { byName, KnownKeys, readRecord, writeRecord, type RecordText } from "./records.ts";

export interface FileKeysOptions {
  readonly path: string;
  readonly log: { info(fields: object, text: string): void; warn(fields: object, text: string): void; error(fields: object, text: string): void };
  /** Replaced in tests. */
  readonly every?: Every;
}

const header = '{"format":"flux-gateway api keys","version":1}';
const fileBytesMax = 32 * 1_048_576;
/** File systems record times in steps. A file that changed so shortly before it was read may have changed again. */
const timeStepMs = 2_000;
/** How long a change waits for another one. */
const lockMs = 5_000;
const lockLookMs = 20;

/** @throws KeyStoreProblem where the file cannot be used at the start. Later the last good keys stay. */
export async function openFileKeys({ path, log, every = everyInTime }: FileKeysOptions): Promise<KeyStore> {
  const known = new KnownKeys();
  let seen = "";
  let problem = "";
  let looking: Promise<void> | null = null;

  /** Reads the file where it has changed, also if it cannot be read: a large broken file costs little. */
  const read = async (): Promise<boolean> => {
    const state = await statOf(path);
    if (state.signature === seen) return false;
    seen = Date.now() - state.changedAt > timeStepMs ? state.signature : "";
    if (state.bytes > fileBytesMax) throw new KeyStoreProblem(`is larger than ${fileBytesMax} bytes`);
    await known.replace(await linesOf(path));
    warnOfMode(state.mode);
    return true;
  };
  let warnedOf = "";
  const warnOfMode = (mode: number) => {
    const others = mode & 0o002 ? "write" : mode & 0o004 ? "read" : "";
    if (others !== "" && others !== warnedOf) log.warn({ file: path }, `API keys: every user of this machine may ${others} ${path}; allow only the user of the node: chmod 600`);
    warnedOf = others;
  };
  const look = async () => {
    const keys = known.size;
    try {
      if (!(await read())) return;
      if (problem !== "" || known.size !== keys) log.info({ file: path, keys: known.size }, "API keys: the file was read again");
      problem = "";
    } catch (error) {
      // What keeps the file from being read may pass without any change of it: too many open files, for example.
      if (!(error instanceof KeyStoreProblem)) seen = "";
      const said = whyNot(error);
      if (said !== problem) log.error({ file: path }, `API keys: ${path} ${said}; the node keeps the ${known.size} keys that it read last, and revocations in the file have no effect until it is repaired`);
      problem = said;
    }
  };
  await read().catch((error: unknown) => {
    throw new KeyStoreProblem(whyNot(error));
  });
  const stopLooking = every(lookMs, () => (looking ??= look().finally(() => (looking = null))));
  return {
    find: (secretId) => known.find(secretId),
    guarded: true,
    usage: () => ({ keys: known.size, problem }),
    stop: async () => {
      stopLooking();
      await looking;
    },
  };
}

/** @param path of a file that the first change creates. */
export function openFileKeyWriter(path: string, waitMs = lockMs): KeyWriter {
  const read = async (): Promise<Map<string, KeyRecord>> => {
    let lines: RecordText[];
    try {
      lines = await linesOf(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return new Map();
      throw error;
    }
    await new KnownKeys().replace(lines);
    return new Map(lines.map(({ text }) => readRecord(text)).map((key) => [key.name, key]));
  };
  const change = async (name: string, change: KeyChange) => {
    const keys = await read();
    const after = change(keys.get(name) ?? null);
    if (after === null) keys.delete(name);
    else if (!keys.has(name) && keys.size >= keysMax) throw new KeyStoreProblem(`has ${keysMax} keys, as many as are allowed`);
    else keys.set(name, after);
    await write(path, [header, ...byName([...keys.values()]).map(writeRecord)].map((line) => `${line}\n`).join(""));
  };
  return {
    list: () => plainly(async () => byName([...(await read()).values()])),
    change: (name, wanted) => plainly(() => locked(path, waitMs, () => change(name, wanted))),
    stop: async () => undefined,
  };
}

async function linesOf(path: string): Promise<RecordText[]> {
  const lines = (await readFile(path, "utf8")).split("\n").map((line) => line.trimEnd());
  // A file that a full disk has emptied must not revoke every key.
  if (lines[0] !== header) throw new KeyStoreProblem("does not begin with the line of a file of API keys, as flux-gateway key create writes it");
  return lines.map((text, i) => ({ where: `line ${i + 1}`, text })).slice(1).filter(({ text }) => text !== "");
}

interface FileState {
  readonly signature: string;
  readonly bytes: number;
  readonly mode: number;
  readonly changedAt: number;
}

async function statOf(path: string): Promise<FileState> {
  const { dev, ino, size, mode, mtimeNs, ctimeNs, mtimeMs } = await stat(path, { bigint: true });
  return { signature: [dev, ino, size, mode, mtimeNs, ctimeNs].join(), bytes: Number(size), mode: Number(mode), changedAt: Number(mtimeMs) };
}

/** Replaces the file, and keeps its owner and mode where it exists. A link to it stays. */
async function write(path: string, text: string): Promise<void> {
  const target = await realpath(path).catch(() => path);
  await writeWhole(target, text, await stat(target).catch(() => null));
}

/** Lets one change at a time happen, also of other processes. */
async function locked<T>(path: string, waitMs: number, act: () => Promise<T>): Promise<T> {
  const lock = `${path}.lock`;
  const end = performance.now() + waitMs;
  for (;;) {
    try {
      await (await open(lock, "wx", 0o600)).close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      if (performance.now() > end) throw new KeyStoreProblem(`is being changed by another command; if none is running, remove ${lock}`);
      await sleep(lockLookMs);
    }
  }
  try {
    return await act();
  } finally {
    await rm(lock, { force: true });
  }
}

async function plainly<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof Error && "code" in error) throw new KeyStoreProblem(whyNot(error));
    throw error;
  }
}

function whyNot(error: unknown): string {
  if (error instanceof KeyStoreProblem) return error.message;
  const code = (error as NodeJS.ErrnoException).code ?? "";
  return `cannot be used: ${reasons[code] ?? String(error)}`;
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "it does not exist; flux-gateway key create makes it",
  EACCES: "permission denied; let the user of the node read it",
  EISDIR: "it is a directory; give the path of a file",
  ENOSPC: "the disk is full",
};
