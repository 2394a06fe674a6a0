/**
 * Lets one node at a time use a data directory: the node listens on a socket in it. A file with a process id would not
 * do: after a crash, or in another container, another process may have that id. Nobody answers on the socket of a dead
 * process.
 */
import { closeSync, existsSync, openSync, readlinkSync, renameSync, rmSync, statSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { randomId } from "../platform/ids.ts";
import { DataDirError } from "./error.ts";

export interface Lock {
  release(): Promise<void>;
}

/** The length limit of socket paths is lower than that of file paths. */
const socketPathBytesMax = 96;
const answerMs = 2000;

/** @throws DataDirError where another node uses the folder. */
export async function lockFolder(folder: string): Promise<Lock> {
  const file = join(folder, "lock");
  const { path, release } = shortened(folder, file);
  try {
    const server = createServer((socket) => socket.destroy()).unref();
    if (!(await listens(server, path))) {
      const found = identityOf(path);
      if (await answers(path)) throw new DataDirError("another node uses it; stop that node, or choose another directory");
      // Another node may have put its own in the place of the dead one meanwhile: what is taken away is asked once more.
      if (identityOf(path) !== found) throw new DataDirError(justLocked);
      const aside = `${path}~${randomId(4)}`;
      if (isTaken(path, aside)) {
        const isAlive = await answers(aside);
        if (isAlive && !existsSync(path)) renameSync(aside, path);
        else rmSync(aside, { force: true });
        if (isAlive) throw new DataDirError(justLocked);
      }
      if (!(await listens(server, path))) throw new DataDirError(justLocked);
    }
    return {
      release: async () => {
        await new Promise<void>((resolve) => server.close(() => resolve()));
        release();
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

const justLocked = "another node has just locked it; stop that node, or choose another directory";

/** Tells a file from one that has taken its place. */
function identityOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? "" : `${stat.ino} ${stat.ctimeNs}`;
}

/** Renames a socket, which still reaches who listens on it. False: it is gone. */
function isTaken(path: string, aside: string): boolean {
  try {
    renameSync(path, aside);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

/** A shorter path to the same file, where its own is too long: through the open folder's descriptor, on Linux only. */
function shortened(folder: string, file: string): { path: string; release: () => void } {
  if (Buffer.byteLength(file) <= socketPathBytesMax) return { path: file, release: () => undefined };
  const handle = openSync(folder, "r");
  const path = `/proc/self/fd/${handle}`;
  try {
    readlinkSync(path);
  } catch (error) {
    closeSync(handle);
    throw new DataDirError("its path is too long; choose a path of at most 90 bytes", { cause: error });
  }
  return { path: `${path}/lock`, release: () => closeSync(handle) };
}

/** False where the socket exists already, of a running node or of a dead one. */
function listens(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(false);
      else reject(new DataDirError(`its lock cannot be created: ${error.message}`));
    };
    server.once("error", failed);
    server.listen(path, () => {
      server.off("error", failed);
      // A connection that cannot be accepted, for lack of file descriptors, still shows the other side that a node is
      // here.
      server.on("error", () => undefined);
      resolve(true);
    });
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    // A node that does not answer in time is busy, not dead.
    socket.setTimeout(answerMs, () => end(true));
    socket.once("connect", () => end(true));
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"));
  });
}
