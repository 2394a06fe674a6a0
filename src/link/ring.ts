/**
 * A queue of records between two threads: one writer, one reader, in a SharedArrayBuffer.
 *
 *     [control 256 bytes][data: a power of two of bytes]
 *
 *     record  [u32 body length][u32 kind][body][padding to 8 bytes]
 *     filler  [u32 0xffffffff]            to the end of the data; the next record is at its start
 *
 * Records are never split over the end, so a body can be handed on as one view. Head and tail count bytes and
 * run freely over 2^32; their difference is what is in the ring. Each lies in a cache line of its own.
 */
const headAt = 0; // bytes read so far; only the reader writes it
const tailAt = 16; // bytes written so far; only the writer writes it
const asleepAt = 32; // 1: the reader waits for a doorbell
const blockedAt = 48; // 1: the writer waits for room
const controlBytes = 256;
const recordHeaderBytes = 8;
const filler = 0xffffffff;

/** @param bytes of data, a power of two. All are touched here, so that they count as used memory from the start. */
export function createRing(bytes: number): SharedArrayBuffer {
  if (bytes < 1024 || (bytes & (bytes - 1)) !== 0) throw new RangeError(`ring of ${bytes} bytes: not a power of two`);
  const shared = new SharedArrayBuffer(controlBytes + bytes);
  new Uint8Array(shared).fill(0);
  // A new reader has read nothing yet, so the first record must ring.
  new Int32Array(shared)[asleepAt] = 1;
  return shared;
}

/** The largest body that fits a ring of this many bytes, wherever its head is. */
export function ringRecordMax(bytes: number): number {
  return bytes / 2 - 2 * recordHeaderBytes;
}

export class RingWriter {
  /** The ring's data. `reserve` returns where a record's body starts. */
  readonly bytes: Buffer;
  readonly #control: Int32Array;
  readonly #mask: number;
  #head = 0; // the reader's position at the last look
  #tail = 0;
  #at = 0; // where the reserved record starts

  constructor(shared: SharedArrayBuffer) {
    this.#control = new Int32Array(shared, 0, controlBytes / 4);
    this.bytes = Buffer.from(shared, controlBytes);
    this.#mask = this.bytes.length - 1;
  }

  /**
   * Reserves room for a body of up to `bodyBytesMax`. Returns where it starts in `bytes`, or -1 while the ring is too
   * full.
   */
  reserve(bodyBytesMax: number): number {
    const need = recordHeaderBytes + align(bodyBytesMax);
    let at = this.#tail & this.#mask;
    const toEnd = this.bytes.length - at;
    const wraps = toEnd < need;
    if (!this.#fits(wraps ? toEnd + need : need)) return -1;
    if (wraps) {
      this.bytes.writeUInt32LE(filler, at);
      this.#tail = (this.#tail + toEnd) >>> 0;
      at = 0;
    }
    this.#at = at;
    return at + recordHeaderBytes;
  }

  /** Publishes the reserved record. True: the reader is asleep, ring its doorbell. */
  commit(kind: number, bodyBytes: number): boolean {
    this.bytes.writeUInt32LE(bodyBytes, this.#at);
    this.bytes.writeUInt32LE(kind, this.#at + 4);
    this.#tail = (this.#tail + recordHeaderBytes + align(bodyBytes)) >>> 0;
    Atomics.store(this.#control, tailAt, this.#tail | 0);
    return Atomics.load(this.#control, asleepAt) === 1 && Atomics.exchange(this.#control, asleepAt, 0) === 1;
  }

  /**
   * Announces that the writer waits for room. False: the reader has already read everything, so no doorbell would come.
   */
  block(): boolean {
    Atomics.store(this.#control, blockedAt, 1);
    return Atomics.load(this.#control, headAt) >>> 0 !== this.#tail;
  }

  /** Bytes that wait to be read. */
  get depth(): number {
    return (this.#tail - (Atomics.load(this.#control, headAt) >>> 0)) >>> 0;
  }

  #fits(need: number): boolean {
    if (this.bytes.length - ((this.#tail - this.#head) >>> 0) >= need) return true;
    this.#head = Atomics.load(this.#control, headAt) >>> 0;
    return this.bytes.length - ((this.#tail - this.#head) >>> 0) >= need;
  }
}

/**
 * Called with one record: its kind, and where its body lies in the ring's `bytes`, valid until it returns. False: not
 * now. Reading stops, and begins with this record the next time.
 */
export type OnRecord = (kind: number, start: number, end: number) => boolean | void;

export class RingReader {
  readonly bytes: Buffer;
  readonly #control: Int32Array;
  readonly #mask: number;
  #head = 0;

  constructor(shared: SharedArrayBuffer) {
    this.#control = new Int32Array(shared, 0, controlBytes / 4);
    this.bytes = Buffer.from(shared, controlBytes);
    this.#mask = this.bytes.length - 1;
  }

  /** Reads up to about `budgetBytes`. True: there may be more. */
  read(budgetBytes: number, onRecord: OnRecord): boolean {
    const tail = Atomics.load(this.#control, tailAt) >>> 0;
    const start = this.#head;
    while (this.#head !== tail && (this.#head - start) >>> 0 < budgetBytes) {
      const at = this.#head & this.#mask;
      const bodyBytes = this.bytes.readUInt32LE(at);
      if (bodyBytes === filler) {
        this.#head = (this.#head + this.bytes.length - at) >>> 0;
        continue;
      }
      const body = at + recordHeaderBytes;
      // A handler that throws must not get the same record again.
      const from = this.#head;
      this.#head = (from + recordHeaderBytes + align(bodyBytes)) >>> 0;
      if (onRecord(this.bytes.readUInt32LE(at + 4), body, body + bodyBytes) !== false) continue;
      this.#head = from;
      break;
    }
    Atomics.store(this.#control, headAt, this.#head | 0);
    return this.#head !== (Atomics.load(this.#control, tailAt) >>> 0);
  }

  /** Asks for a doorbell at the next record. False: one has come meanwhile, read on. */
  sleep(): boolean {
    Atomics.store(this.#control, asleepAt, 1);
    if (Atomics.load(this.#control, tailAt) >>> 0 === this.#head) return true;
    Atomics.store(this.#control, asleepAt, 0);
    return false;
  }

  /** Whether the writer waits for room. Clears the mark. */
  takeBlocked(): boolean {
    return Atomics.load(this.#control, blockedAt) === 1 && Atomics.exchange(this.#control, blockedAt, 0) === 1;
  }
}

function align(bytes: number): number {
  return (bytes + 7) & ~7;
}
