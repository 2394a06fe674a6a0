/**
 * One node at a time has a data directory: it listens on a socket in it. Unlike a file with a process's number, which
 * another process may get after a crash or in another container, a socket whose process is gone answers to nobody.
 */
import { closeSync, openSync, readlinkSync, rmSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { DataDirError } from "./error.ts";

export interface Lock {
  release(): Promise<void>;
}

/** Paths of sockets may have so many bytes, whatever those of files may. */
const socketPathBytesMax = 100;
const answerMs = 2000;

/** @throws DataDirError where another node is there. */
export async function lockFolder(folder: string): Promise<Lock> {
  const file = join(folder, "lock");
  const { path, release } = shortened(folder, file);
  try {
    const server = createServer((socket) => socket.destroy()).unref();
    if (!(await listens(server, path))) {
      if (await answers(path)) throw new DataDirError("another node uses it; end that one, or choose another");
      rmSync(file, { force: true });
      if (!(await listens(server, path))) throw new DataDirError("another node has just taken it; end that one, or choose another");
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

/** Another name of the same file where its own is too long: by way of the open folder, which only Linux has. */
function shortened(folder: string, file: string): { path: string; release: () => void } {
  if (Buffer.byteLength(file) <= socketPathBytesMax) return { path: file, release: () => undefined };
  const handle = openSync(folder, "r");
  const path = `/proc/self/fd/${handle}`;
  try {
    readlinkSync(path);
  } catch (error) {
    closeSync(handle);
    throw new DataDirError("its path is too long; choose one of at most 90 bytes", { cause: error });
  }
  return { path: `${path}/lock`, release: () => closeSync(handle) };
}

/** False: there is a socket already, of someone or of nobody any more. */
function listens(server: Server, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(false);
      else reject(new DataDirError(`no lock can be made in it: ${error.message}`));
    };
    server.once("error", failed);
    server.listen(path, () => {
      server.off("error", failed);
      // One that asks and cannot be accepted, for want of files, finds that somebody is there all the same.
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
    // One that does not answer in time is busy, not gone.
    socket.setTimeout(answerMs, () => end(true));
    socket.once("connect", () => end(true));
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"));
  });
}
