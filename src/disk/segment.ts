/**
 * One file of a journal. The newest file is written to; the others are only read, until all of their records are
 * obsolete.
 */
import { constants } from "node:fs";
import { open, unlink, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { fileHead, fileHeadBytes } from "./frames.ts";
import { syncFolder } from "./whole.ts";

export class Segment {
  readonly id: number;
  readonly path: string;
  readonly salt: number;
  readonly file: FileHandle;
  /** Length of the file that is written and intact. */
  bytes: number;
  /** Kept by the owner: bytes of records still needed, records that point to this file, time of the newest record. */
  liveBytes = 0;
  anchors = 0;
  newestAt = 0;

  constructor(id: number, path: string, salt: number, file: FileHandle, bytes: number) {
    this.id = id;
    this.path = path;
    this.salt = salt;
    this.file = file;
    this.bytes = bytes;
  }

  /** Reads `length` bytes at `at`. @throws Error where the file is shorter. */
  async read(at: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await this.file.read(bytes, done, length - done, at + done);
      if (bytesRead === 0) throw new Error(`${this.path} ends before ${at + length}`);
      done += bytesRead;
    }
    return bytes;
  }

  /** Writes a frame after the last intact one and truncates what a failed write left there. */
  async append(frame: Buffer): Promise<number> {
    const at = this.bytes;
    try {
      for (let done = 0; done < frame.length; ) {
        done += (await this.file.write(frame, done, frame.length - done, at + done)).bytesWritten;
      }
    } catch (error) {
      await this.file.truncate(at).catch(() => undefined); // if this fails too, the next write starts at the same place
      throw error;
    }
    this.bytes = at + frame.length;
    return at;
  }

  async remove(): Promise<void> {
    await this.file.close();
    await unlink(this.path);
  }
}

/** With O_DSYNC, a write that returns is on the disk: one system call in place of write and fdatasync. */
export function openFlags(sync: boolean): number {
  return constants.O_RDWR | (sync ? constants.O_DSYNC : 0);
}

export function segmentPath(folder: string, id: number): string {
  return join(folder, `${String(id).padStart(10, "0")}.flux`);
}

export function segmentId(name: string): number | null {
  const match = /^(\d{10})\.flux$/.exec(name);
  return match === null ? null : Number(match[1]);
}

/** Creates a new, empty file. */
export async function createSegment(folder: string, id: number, sync: boolean): Promise<Segment> {
  const path = segmentPath(folder, id);
  const salt = randomBytes(4).readUInt32LE();
  const file = await open(path, openFlags(sync) | constants.O_CREAT | constants.O_TRUNC, 0o600);
  try {
    await file.write(fileHead(salt), 0, fileHeadBytes, 0);
    if (sync) await syncFolder(folder);
  } catch (error) {
    await file.close();
    await unlink(path).catch(() => undefined); // opening treats a file without a complete head as never started
    throw error;
  }
  return new Segment(id, path, salt, file, fileHeadBytes);
}
