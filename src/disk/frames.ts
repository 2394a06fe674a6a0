/**
 * Layout of a journal file: a head of 16 bytes, then one frame per commit.
 *
 *     head   "FLUXDATA"  u32 version  u32 salt
 *     frame  u32 magic   u32 length of the records   u32 CRC-32 of the records, seeded with the salt   the records
 *     record u32 length, including itself   payload
 *
 * All numbers are little-endian. Each file has a random salt. So no client can send a payload that looks like a frame
 * to the search for the end of a file.
 */
import { readSync } from "node:fs";
import { crc32 } from "node:zlib";

export const formatVersion = 1;
export const fileHeadBytes = 16;
export const frameHeadBytes = 12;
export const recordHeadBytes = 4;

const fileMagic = Buffer.from("FLUXDATA");
const frameMagic = 0x4d524646;
/** Bytes per read. */
const windowBytes = 1024 * 1024;

export function fileHead(salt: number): Buffer {
  const head = Buffer.alloc(fileHeadBytes);
  fileMagic.copy(head);
  head.writeUInt32LE(formatVersion, 8);
  head.writeUInt32LE(salt, 12);
  return head;
}

/** Writes the frame's head into the bytes that were reserved before its records. */
export function sealFrame(frame: Buffer, salt: number): void {
  frame.writeUInt32LE(frameMagic, 0);
  frame.writeUInt32LE(frame.length - frameHeadBytes, 4);
  frame.writeUInt32LE(crc32(frame.subarray(frameHeadBytes), salt), 8);
}

/** How a file ends: intact; with an incomplete last write; or with intact frames after a damaged one. */
export type Ending = "whole" | "torn" | "damaged";

export interface FileHead {
  readonly version: number;
  readonly salt: number;
}

/** Null: the file was never started. "foreign": the file belongs to no journal. */
export function readFileHead(file: number): FileHead | "foreign" | null {
  const head = Buffer.alloc(fileHeadBytes);
  const length = readSync(file, head, 0, fileHeadBytes, 0);
  if (length < fileHeadBytes) return null;
  if (!head.subarray(0, 8).equals(fileMagic)) return head.every((byte) => byte === 0) ? null : "foreign";
  return { version: head.readUInt32LE(8), salt: head.readUInt32LE(12) };
}

export interface Scanned {
  /** Length of the intact part. */
  readonly bytes: number;
  readonly ending: Ending;
}

/** Passes each record of a file, with its offset, to `onRecord`. A record is valid until return. */
export function scanFrames(file: number, size: number, salt: number, onRecord: (record: Buffer, at: number) => void): Scanned {
  const window = new Window(file, size);
  let at = fileHeadBytes;
  for (let records = recordsAt(window, at, salt); records !== null; records = recordsAt(window, at, salt)) {
    for (let next = 0; next < records.length; ) {
      const length = records.readUInt32LE(next);
      onRecord(records.subarray(next, next + length), at + frameHeadBytes + next);
      next += length;
    }
    at += frameHeadBytes + records.length;
  }
  if (at === size) return { bytes: at, ending: "whole" };
  return { bytes: at, ending: hasFrameAfter(window, at + 1, salt) ? "damaged" : "torn" };
}

/** The length of a frame's records, from its head; 0 where there is no head. */
export function recordsLength(head: Buffer): number {
  return head.readUInt32LE(0) === frameMagic ? head.readUInt32LE(4) : 0;
}

export function isWhole(head: Buffer, records: Buffer, salt: number): boolean {
  return crc32(records, salt) === head.readUInt32LE(8);
}

/** The records of the frame at this offset; null where no intact frame is there. */
function recordsAt(window: Window, at: number, salt: number): Buffer | null {
  const head = window.at(at, frameHeadBytes);
  const length = head === null ? 0 : recordsLength(head);
  if (head === null || length === 0) return null;
  const sealed = Buffer.from(head); // the window may move on to the records
  const records = window.at(at + frameHeadBytes, length);
  return records !== null && isWhole(sealed, records, salt) ? records : null;
}

/**
 * Frames are written one at a time. So an intact frame after a broken one means damage, not only an incomplete write.
 */
function hasFrameAfter(window: Window, from: number, salt: number): boolean {
  for (let at = from; at + frameHeadBytes <= window.size; at++) {
    if (window.byte(at) === (frameMagic & 255) && recordsAt(window, at, salt) !== null) return true;
  }
  return false;
}

/** The part of a file that is in memory. It moves as the file is read. */
class Window {
  readonly size: number;
  readonly #file: number;
  #bytes = Buffer.alloc(0);
  #start = 0;

  constructor(file: number, size: number) {
    this.#file = file;
    this.size = size;
  }

  /** Null where the file ends earlier. */
  at(start: number, length: number): Buffer | null {
    if (start + length > this.size) return null;
    if (start < this.#start || start + length > this.#start + this.#bytes.length) this.#move(start, length);
    const from = start - this.#start;
    return from + length > this.#bytes.length ? null : this.#bytes.subarray(from, from + length);
  }

  byte(at: number): number {
    return this.at(at, 1)?.[0] ?? -1;
  }

  #move(start: number, length: number): void {
    const wanted = Math.min(Math.max(length, windowBytes), this.size - start);
    const bytes = Buffer.allocUnsafe(wanted);
    let read = 0;
    while (read < wanted) {
      const more = readSync(this.#file, bytes, read, wanted - read, start + read);
      if (more === 0) break;
      read += more;
    }
    this.#bytes = bytes.subarray(0, read);
    this.#start = start;
  }
}
