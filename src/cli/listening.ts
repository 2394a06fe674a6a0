/**
 * What a running node writes down for the health check of its container: where it listens. The check runs in a process
 * of its own, and options may come from flags or a file that it does not know of. One file for each process, so that
 * several nodes on a machine do not meet; it counts only while that very process lives. Linux only: it is read from /proc.
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

/** As it stands in the file. */
export interface Recorded extends Listening {
  readonly pid: number;
  /** When the process began, in ticks since the machine did: another process of this number began at another time. */
  readonly began: string;
  /** Numbers of processes are those of a container, which may share the folder with others. */
  readonly pidSpace: string;
  /** Of the variables it was started with: a check for this node has the same ones. */
  readonly environment: string;
}

const prefix = "flux-gateway-";
const fileBytesMax = 4096;
/** Files that are looked at: others may fill a folder that everybody can write to. */
const filesMax = 1000;

/** Where a node may write, the first that takes it: neither is on the disk of a container that is read-only. */
export const folders = (): string[] => ["/dev/shm", tmpdir()];

/**
 * Writes it down, and takes it away when the process exits.
 * @returns the file; null: there is no folder that takes it.
 */
export function writeListening(listening: Listening, into = folders()): string | null {
  const [began, pidSpace] = [beganAt(process.pid), ownPidSpace()];
  if (began === null || pidSpace === null) return null;
  const recorded: Recorded = { ...listening, pid: process.pid, began, pidSpace, environment: environmentOf(process.env) };
  for (const folder of into) {
    removeStale(folder, pidSpace);
    // Nobody else can have taken a name like this, and nobody reads half of the file.
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

/** The nodes of this user that run now, in this container. */
export function readListening(from = folders()): Recorded[] {
  const pidSpace = ownPidSpace();
  return from.flatMap((folder) => filesIn(folder)).flatMap((file) => {
    const recorded = readFile(file);
    return recorded !== null && recorded.pidSpace === pidSpace && lives(recorded) ? [recorded] : [];
  });
}

/** Of the node's variables: which they are does not show. */
export function environmentOf(env: NodeJS.ProcessEnv): string {
  const own = Object.entries(env).filter(([name]) => name.startsWith("FLUX_")).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(own)).digest("hex");
}

function lives({ pid, began }: Recorded): boolean {
  return beganAt(pid) === began;
}

/** What a crash has left. */
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
    // There is no such folder, or this user may not look into it.
    return [];
  }
}

/**
 * Only a file that this user wrote and nobody else can write to. Everybody may write to these folders, so it is not
 * followed where it is a link, and not waited for where it is a pipe.
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
    // It is gone meanwhile, a link, another user's, or no JSON: not a file of ours.
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
    // It is gone already, or was never written.
  }
}

/** Field 22 of /proc/PID/stat; the name before it may hold spaces and brackets. Null: there is no such process. */
function beganAt(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A zombie has ended.
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
