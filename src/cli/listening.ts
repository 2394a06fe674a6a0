/**
 * Records where a running node listens, for the health check of its container. The check is a process of its own and
 * may not know the node's flags or file. Each process has its own file, so several nodes can share a machine. A file
 * counts only while that process lives. Linux only: it needs /proc.
 */
import { createHash, randomBytes } from "node:crypto";
import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Listening {
  readonly node: string;
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
}

/** Content of the file. */
export interface Recorded extends Listening {
  readonly pid: number;
  /** Start time of the process, in ticks since boot. It tells apart two processes with the same id. */
  readonly began: string;
  /** Process ids belong to a container, and containers may share the folder. */
  readonly pidSpace: string;
  /** Hash of the variables the node was started with. A check for this node has the same variables. */
  readonly environment: string;
}

const prefix = "flux-gateway-";
const fileBytesMax = 4096;
/** Upper limit of files read: the folder is writable for everybody. */
const filesMax = 1000;

/** Folders for the file; the first writable one is used. Both are writable in a container with a read-only disk. */
export const folders = (): string[] => ["/dev/shm", tmpdir()];

/**
 * Writes the file, and deletes it when the process exits.
 * @returns the file; null where no folder is writable.
 */
export function writeListening(listening: Listening, into = folders()): string | null {
  const [began, pidSpace] = [beganAt(process.pid), ownPidSpace()];
  if (began === null || pidSpace === null) return null;
  const recorded: Recorded = { ...listening, pid: process.pid, began, pidSpace, environment: environmentOf(process.env) };
  for (const folder of into) {
    removeStale(folder, pidSpace);
    // Nobody else can have this name, and nobody reads a half-written file.
    const name = `${process.pid}-${randomBytes(8).toString("hex")}`;
    const [half, file] = [join(folder, `.${prefix}${name}`), join(folder, `${prefix}${name}`)];
    try {
      writeFileSync(half, JSON.stringify(recorded), { flag: "wx", mode: 0o600 });
      renameSync(half, file);
    } catch {
      remove(half);
      continue;
    }
    process.once("exit", () => remove(file));
    return file;
  }
  return null;
}

/** This user's nodes that run now, in this container. */
export function readListening(from = folders()): Recorded[] {
  const pidSpace = ownPidSpace();
  return from.flatMap((folder) => filesIn(folder)).flatMap((file) => {
    const recorded = readFile(file);
    return recorded !== null && recorded.pidSpace === pidSpace && lives(recorded) ? [recorded] : [];
  });
}

/** A hash of the node's variables, which hides their values. */
export function environmentOf(env: NodeJS.ProcessEnv): string {
  const own = Object.entries(env).filter(([name]) => name.startsWith("FLUX_")).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(own)).digest("hex");
}

function lives({ pid, began }: Recorded): boolean {
  return beganAt(pid) === began;
}

/** Deletes files that crashed processes left. */
function removeStale(folder: string, pidSpace: string): void {
  for (const file of filesIn(folder)) {
    const recorded = readFile(file);
    if (recorded !== null && recorded.pidSpace === pidSpace && !lives(recorded)) remove(file);
  }
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => name.startsWith(prefix)).slice(0, filesMax).map((name) => join(folder, name));
  } catch {
    // The folder does not exist, or this user may not read it.
    return [];
  }
}

/**
 * Reads a file only if this user wrote it and nobody else can write to it. Everybody can write to these folders, so
 * links are not followed and pipes are not waited for.
 */
function readFile(file: string): Recorded | null {
  let opened: number | null = null;
  try {
    opened = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = fstatSync(opened);
    const isOurs = stat.isFile() && stat.uid === process.geteuid?.() && (stat.mode & 0o022) === 0 && stat.nlink === 1;
    if (!isOurs || stat.size > fileBytesMax) return null;
    const bytes = Buffer.alloc(fileBytesMax);
    const read = JSON.parse(bytes.toString("utf8", 0, readSync(opened, bytes))) as Recorded;
    return isRecorded(read) ? read : null;
  } catch {
    // Deleted meanwhile, a link, another user's file, or not JSON: ignored.
    return null;
  } finally {
    if (opened !== null) closeSync(opened);
  }
}

function isRecorded(read: Partial<Record<keyof Recorded, unknown>> | null): boolean {
  if (read === null || typeof read !== "object") return false;
  const texts = [read.node, read.host, read.began, read.pidSpace, read.environment];
  const isPort = Number.isInteger(read.port) && Number(read.port) > 0 && Number(read.port) < 65_536;
  return texts.every((text) => typeof text === "string") && isPort && Number.isInteger(read.pid) && typeof read.tls === "boolean";
}

function remove(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // Deleted already, or never written.
  }
}

/** Field 22 of /proc/PID/stat; the name before it may contain spaces and brackets. Null: no such process. */
function beganAt(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A zombie has exited.
    return state === "Z" || state === "X" ? null : (fields[18] ?? null);
  } catch {
    return null;
  }
}

function ownPidSpace(): string | null {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return null;
  }
}
