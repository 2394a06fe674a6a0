/**
 * Cuts length-prefixed frames from a stream of chunks (WebSocket messages or TCP reads):
 *
 *   [u32 big-endian length][length bytes of frame][u32 length][frame] …
 *
 * Chunks split and pack frames at any byte. A frame that lies whole in a chunk is handed over in place, as offsets;
 * only a split one is copied. A node holds one of these states per socket, 100,000 of them, so an idle one is `null`.
 * The memory of a split frame grows with the bytes that have arrived, never with the announced length. So a client
 * has to send as many bytes as it makes the node hold.
 */

/** The beginning of a frame, its length included, whose end has not arrived. */
export type SplitFrame = { buffer: Uint8Array; have: number };

export type FramePool = {
  /** A buffer of at least `bytesMin`, its content undefined. */
  take(bytesMin: number): Uint8Array;
  give(buffer: Uint8Array): void;
};

/** One frame: bytes `start` to `end` of `buffer`, valid until return. False: the session is over, read no further. */
export type OnFrame = (buffer: Uint8Array, start: number, end: number) => boolean;

/** The result of cutFrames when a frame announces a length over the limit. No buffer is held any more. */
export const tooLarge = Symbol("a frame is larger than frameBytesMax");

const headerBytes = 4;

/**
 * Continues reading: `split` is the result of the call before. Returns the argument for the next call: null if the
 * chunk ended where a frame did, or onFrame asked to stop.
 */
export function cutFrames(
  split: SplitFrame | null,
  chunk: Uint8Array,
  frameBytesMax: number,
  pool: FramePool,
  onFrame: OnFrame,
): SplitFrame | null | typeof tooLarge {
  let at = 0;
  if (split !== null) {
    at = fill(split, chunk, frameBytesMax, pool);
    if (at === lengthTooLarge) {
      release(split, pool);
      return tooLarge;
    }
    if (!isWhole(split)) return split;
    if (!handOver(split, pool, onFrame)) return null;
  }

  const chunkEnd = chunk.length;
  while (chunkEnd - at >= headerBytes) {
    const length = readLength(chunk, at);
    if (length > frameBytesMax) return tooLarge;
    const start = at + headerBytes;
    const end = start + length;
    if (end > chunkEnd) break;
    at = end;
    if (!onFrame(chunk, start, end)) return null;
  }
  return at === chunkEnd ? null : keep(chunk, at, pool);
}

/** Gives back the buffer of a socket that is gone. */
export function release(split: SplitFrame | null, pool: FramePool): void {
  if (split !== null) pool.give(split.buffer);
}

/** The frame with its length in front. */
export function frame(bytes: Uint8Array): Uint8Array {
  const framed = new Uint8Array(headerBytes + bytes.length);
  writeLength(framed, 0, bytes.length);
  framed.set(bytes, headerBytes);
  return framed;
}

export function writeLength(buffer: Uint8Array, at: number, length: number): void {
  buffer[at] = length >>> 24;
  buffer[at + 1] = length >>> 16;
  buffer[at + 2] = length >>> 8;
  buffer[at + 3] = length;
}

/** The caller has checked that four bytes are there; `?? 0` only satisfies the type. */
export function readLength(buffer: Uint8Array, at: number): number {
  const high = (buffer[at] ?? 0) * 0x1000000; // not << 24: that would be negative from 2^31 on
  return high + (((buffer[at + 1] ?? 0) << 16) | ((buffer[at + 2] ?? 0) << 8) | (buffer[at + 3] ?? 0));
}

const lengthTooLarge = -1;

/** Moves bytes of the chunk into the split frame until it is whole. Returns where the rest of the chunk begins. */
function fill(split: SplitFrame, chunk: Uint8Array, frameBytesMax: number, pool: FramePool): number {
  let at = 0;
  while (split.have < headerBytes) {
    if (at === chunk.length) return at;
    split.buffer[split.have++] = chunk[at++] ?? 0;
  }
  const length = readLength(split.buffer, 0);
  if (length > frameBytesMax) return lengthTooLarge;

  const bytes = Math.min(headerBytes + length - split.have, chunk.length - at);
  grow(split, split.have + bytes, pool);
  split.buffer.set(chunk.subarray(at, at + bytes), split.have);
  split.have += bytes;
  return at + bytes;
}

function isWhole(split: SplitFrame): boolean {
  return split.have >= headerBytes && split.have === headerBytes + readLength(split.buffer, 0);
}

function handOver(split: SplitFrame, pool: FramePool, onFrame: OnFrame): boolean {
  try {
    return onFrame(split.buffer, headerBytes, split.have);
  } finally {
    release(split, pool);
  }
}

function grow(split: SplitFrame, bytesMin: number, pool: FramePool): void {
  if (bytesMin <= split.buffer.length) return;
  const larger = pool.take(bytesMin);
  larger.set(split.buffer.subarray(0, split.have));
  pool.give(split.buffer);
  split.buffer = larger;
}

function keep(chunk: Uint8Array, at: number, pool: FramePool): SplitFrame {
  const have = chunk.length - at;
  const buffer = pool.take(have);
  buffer.set(chunk.subarray(at));
  return { buffer, have };
}

const smallestBytes = 512;
/** Unused buffers kept per size class: 2,048 of the smallest, 16 of 64 KiB. */
const keptBytesPerClass = 1024 * 1024;

type SizeClass = { bytes: number; keptMax: number; kept: Uint8Array[] };

/** Buffers for split frames, in size classes doubling from 512 bytes up to the largest frame with its length. */
export class BufferPool implements FramePool {
  /** Buffers made because none was kept. A warm node makes none. */
  allocated = 0;
  /** Buffers that were taken and not given back. */
  taken = 0;
  readonly #classes: SizeClass[] = [];

  constructor(frameBytesMax: number, keptPerClassMax = Number.POSITIVE_INFINITY) {
    const largest = frameBytesMax + headerBytes;
    // The last class replaces the one before it, which would be more than half its size.
    for (let bytes = smallestBytes; bytes * 2 <= largest; bytes *= 2) this.#addClass(bytes, keptPerClassMax);
    this.#addClass(largest, keptPerClassMax);
  }

  take(bytesMin: number): Uint8Array {
    for (const sizeClass of this.#classes) {
      if (sizeClass.bytes < bytesMin) continue;
      this.taken++;
      const buffer = sizeClass.kept.pop();
      if (buffer !== undefined) return buffer;
      this.allocated++;
      return new Uint8Array(sizeClass.bytes);
    }
    throw new RangeError(`no buffer of ${bytesMin} bytes: the largest frame is smaller`);
  }

  give(buffer: Uint8Array): void {
    this.taken--;
    for (const { bytes, keptMax, kept } of this.#classes) {
      if (bytes !== buffer.length) continue;
      if (kept.length < keptMax) kept.push(buffer);
      return;
    }
    throw new RangeError(`a buffer of ${buffer.length} bytes is not of this pool`);
  }

  #addClass(bytes: number, keptPerClassMax: number): void {
    const keptMax = Math.min(keptPerClassMax, Math.max(1, Math.floor(keptBytesPerClass / bytes)));
    this.#classes.push({ bytes, keptMax, kept: [] });
  }
}
