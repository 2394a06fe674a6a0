import t from "tap";
import fc from "fast-check";
import { BufferPool, cutFrames, frame, readLength, release, tooLarge, writeLength } from "../src/protocol/framing.ts";
import type { SplitFrame } from "../src/protocol/framing.ts";

const frameBytesMax = 5000; // past several size classes, small enough for many runs

const anyFrame = fc.oneof(
  { weight: 6, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: frameBytesMax }).map((bytes) => new Uint8Array(bytes).fill(bytes)) },
);
const anyFrames = fc.array(anyFrame, { maxLength: 12 });
/** Sizes of chunks, used round and round. */
const anyCuts = fc.oneof(
  fc.constant<number[]>([1]),
  fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 10 }),
  fc.array(fc.integer({ min: 1, max: 6000 }), { minLength: 1, maxLength: 10 }),
);

function concat(parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function* cut(bytes: Uint8Array, sizes: number[]): Generator<Uint8Array> {
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    // A copy that is wiped afterwards, as uWS detaches what it handed over: nothing may be read from it later.
    const chunk = bytes.slice(at, at + size);
    yield chunk;
    chunk.fill(0xee);
    at += size;
  }
}

type Outcome = { frames: Uint8Array[]; end: SplitFrame | null | typeof tooLarge; consumedChunks: number };

function read(bytes: Uint8Array, sizes: number[], pool: BufferPool, stopAfter = Number.POSITIVE_INFINITY): Outcome {
  const frames: Uint8Array[] = [];
  let split: SplitFrame | null = null;
  let consumedChunks = 0;
  for (const chunk of cut(bytes, sizes)) {
    consumedChunks++;
    const end: Outcome["end"] = cutFrames(split, chunk, frameBytesMax, pool, (buffer, from, to) => {
      frames.push(buffer.slice(from, to));
      return frames.length < stopAfter;
    });
    if (end === tooLarge || frames.length >= stopAfter) return { frames, end, consumedChunks };
    split = end;
  }
  return { frames, end: split, consumedChunks };
}

t.test("frames come out as they went in, however the stream is cut", async (t) => {
  fc.assert(
    fc.property(anyFrames, anyCuts, (frames, sizes) => {
      const pool = new BufferPool(frameBytesMax);
      const out = read(concat(frames.map(frame)), sizes, pool);
      return (
        out.end === null &&
        pool.taken === 0 &&
        out.frames.length === frames.length &&
        out.frames.every((bytes, i) => Buffer.compare(bytes, frames[i] ?? new Uint8Array(1)) === 0)
      );
    }),
    { numRuns: 1000 },
  );
  t.pass("1,000 streams");
});

t.test("a frame without its end is held, and given back when the socket dies", async (t) => {
  fc.assert(
    fc.property(anyFrames, fc.uint8Array({ minLength: 1, maxLength: 600 }), anyCuts, fc.nat(), (frames, last, sizes, lost) => {
      const pool = new BufferPool(frameBytesMax);
      const bytes = concat([...frames, last].map(frame));
      const missing = 1 + (lost % (last.length + 3)); // at least one byte of the last frame has arrived
      const out = read(bytes.subarray(0, bytes.length - missing), sizes, pool);
      if (out.end === null || out.end === tooLarge) return false;
      const held = pool.taken;
      release(out.end, pool);
      return out.frames.length === frames.length && held === 1 && pool.taken === 0;
    }),
    { numRuns: 500 },
  );
  t.pass("500 streams");
});

t.test("a length over the limit is refused as soon as its four bytes are there", async (t) => {
  const anyLength = fc.oneof(fc.integer({ min: frameBytesMax + 1, max: frameBytesMax + 9 }), fc.integer({ min: frameBytesMax + 1, max: 2 ** 32 - 1 }));
  fc.assert(
    fc.property(anyFrames, anyLength, anyCuts, (frames, length, sizes) => {
      const pool = new BufferPool(frameBytesMax);
      const header = new Uint8Array(4);
      writeLength(header, 0, length);
      const out = read(concat([...frames.map(frame), header]), sizes, pool);
      return out.end === tooLarge && out.frames.length === frames.length && pool.taken === 0;
    }),
    { numRuns: 500 },
  );
  const pool = new BufferPool(frameBytesMax);
  const largest = read(frame(new Uint8Array(frameBytesMax)), [7], pool);
  t.equal(largest.frames[0]?.length, frameBytesMax, "a frame of exactly the limit is read");
});

t.test("garbage never throws and never costs more than twice the bytes that came", async (t) => {
  const anyGarbage = fc.oneof(
    fc.uint8Array({ maxLength: 3000 }), // its first length is nearly always too large
    fc.array(fc.constantFrom(0, 0, 0, 1, 2, 255), { maxLength: 3000 }).map((bytes) => Uint8Array.from(bytes)),
  );
  fc.assert(
    fc.property(anyGarbage, anyCuts, (bytes, sizes) => {
      const pool = new BufferPool(frameBytesMax);
      const out = read(bytes, sizes, pool);
      if (out.end !== null && out.end !== tooLarge) {
        if (out.end.buffer.length > Math.max(512, out.end.have * 2 + 4)) return false;
        release(out.end, pool);
      }
      return pool.taken === 0;
    }),
    { numRuns: 1000 },
  );
  t.pass("1,000 streams");
});

t.test("an announced length takes no memory before its bytes are there", async (t) => {
  const pool = new BufferPool(65536);
  const header = new Uint8Array(4);
  writeLength(header, 0, 65536);
  let split = cutFrames(null, header, 65536, pool, () => true);
  if (split === null || split === tooLarge) return t.fail("the frame is not held");
  t.equal(split.buffer.length, 512, "64 KiB announced, 4 bytes sent");

  split = cutFrames(split, new Uint8Array(1000), 65536, pool, () => true);
  if (split === null || split === tooLarge) return t.fail("the frame is not held");
  t.equal(split.buffer.length, 1024, "1,004 bytes sent");
  t.equal(pool.taken, 1, "the smaller buffer went back");

  while (split.have < 65_539) {
    split = cutFrames(split, Uint8Array.of(0), 65536, pool, () => true);
    if (split === null || split === tooLarge) return t.fail("the frame is not held");
    if (split.buffer.length > Math.min(65_540, 2 * split.have + 4)) return t.fail(`${split.buffer.length} bytes for ${split.have}`);
  }
  t.equal(pool.taken, 1, "all but its last byte, one at a time: one buffer, of a frame at most");
});

t.test("nothing is read after onFrame said stop, and nothing is held", async (t) => {
  fc.assert(
    fc.property(fc.array(anyFrame, { minLength: 2, maxLength: 12 }), anyCuts, fc.nat(), (frames, sizes, n) => {
      const pool = new BufferPool(frameBytesMax);
      const stopAfter = 1 + (n % frames.length);
      const out = read(concat(frames.map(frame)), sizes, pool, stopAfter);
      return out.end === null && out.frames.length === stopAfter && pool.taken === 0;
    }),
    { numRuns: 500 },
  );
  t.pass("500 streams");
});

t.test("a buffer goes back even if onFrame throws", async (t) => {
  const pool = new BufferPool(frameBytesMax);
  const bytes = frame(new Uint8Array(10));
  const split = cutFrames(null, bytes.subarray(0, 5), frameBytesMax, pool, () => true);
  if (split === null || split === tooLarge) return t.fail("the frame is not held");
  t.throws(() => cutFrames(split, bytes.subarray(5), frameBytesMax, pool, () => { throw new Error("ours"); }), /ours/);
  t.equal(pool.taken, 0);
});

t.test("a whole frame is handed over in place", async (t) => {
  const pool = new BufferPool(frameBytesMax);
  const chunk = Uint8Array.of(0, 0, 0, 2, 0xaa, 0xbb, 0, 0, 0, 0, 0, 0, 0, 1, 0xcc);
  const seen: [boolean, number, number][] = [];
  cutFrames(null, chunk, frameBytesMax, pool, (buffer, start, end) => seen.push([buffer === chunk, start, end]) > 0);
  t.same(seen, [[true, 4, 6], [true, 10, 10], [true, 14, 15]], "the one in the middle is empty");
  t.equal(pool.allocated, 0);
});

t.test("a warm pool allocates nothing", async (t) => {
  const pool = new BufferPool(frameBytesMax);
  const bytes = concat([10, 600, 1500, 5000, 0].map((size) => frame(new Uint8Array(size))));
  read(bytes, [3], pool);
  const { allocated } = pool;
  t.ok(allocated > 0, "splitting needed buffers");
  for (let run = 0; run < 50; run++) read(bytes, [3, 700, 1], pool);
  t.equal(pool.allocated, allocated);
});

t.test("the pool keeps a bounded number of buffers and knows its own", async (t) => {
  const pool = new BufferPool(65536, 2);
  const buffers = [1, 2, 3].map(() => pool.take(65540));
  for (const buffer of buffers) pool.give(buffer);
  for (let i = 0; i < 3; i++) pool.take(65540);
  t.equal(pool.allocated, 4, "two of the three were kept");
  t.throws(() => pool.take(65541), RangeError, "more than the largest frame");
  t.throws(() => pool.give(new Uint8Array(100)), RangeError, "not of this pool");
});

t.test("lengths are read as they are written, over the whole range", async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.nat(5), (length, at) => {
      const buffer = new Uint8Array(10);
      writeLength(buffer, at, length);
      return readLength(buffer, at) === length && new DataView(buffer.buffer).getUint32(at) === length;
    }),
  );
  t.same([...frame(Uint8Array.of(7, 8))], [0, 0, 0, 2, 7, 8]);
});
