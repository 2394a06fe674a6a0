/**
 * One end of the connection between a reactor and the hub: a ring out, a ring in, and a doorbell for each.
 *
 * Writing a record is `begin`, the fields in order, `end`. Reading takes the same fields in the same order from
 * `record` (records.ts has one pair of functions a kind). When the ring is full, records wait in order in an overflow
 * queue of at most `overflowBytesMax`. Beyond it `begin` refuses records that may be refused.
 */
import { Doorbell } from "./doorbell.ts";
import { RingReader, ringRecordMax, RingWriter } from "./ring.ts";

export interface LinkOptions {
  readonly out: SharedArrayBuffer;
  readonly in: SharedArrayBuffer;
  readonly overflowBytesMax: number;
  /** How many bytes are read before other events of the loop get their turn. */
  readonly readBudgetBytes: number;
  /** Wakes the other end: it must call `wake` soon. */
  ringDoorbell(): void;
  /** Least milliseconds between two rings (doorbell.ts). Default: 0. */
  readonly wakeRestMs?: number;
  /** Handles one record. Read its fields from `record` before returning. False: not in this turn, again in the next. */
  onRecord(kind: number, record: RecordReader): boolean | void;
  /** A turn of the loop in which reading goes on begins. */
  onTurn?(): void;
  /** The overflow queue is empty: there is room in the ring again. */
  onRoom?(): void;
  /** The records of one batch have been handled. */
  onBatchEnd(): void;
}

export class Link {
  readonly #out: RingWriter;
  readonly #in: RingReader;
  readonly #options: LinkOptions;
  readonly #doorbell: Doorbell;
  readonly #record: RecordReader;
  readonly #recordMax: number;
  /** Waiting records, the first at `#first`: removing from the front of a long array would copy it each time. */
  #overflow: { kind: number; body: Buffer }[] = [];
  #first = 0;
  #overflowBytes = 0;
  /** The next turn of reading and writing is scheduled. At most one is, however often the doorbell rings. */
  #scheduled = false;
  /** A record was written whose end of the turn is to wake the other end. */
  #ringDue = false;
  #closed = false;
  /** Overflow buffers allocated so far. */
  overflowed = 0;

  // The record being written: into the ring, or into a buffer of its own that will wait.
  #kind = 0;
  #bytes: Buffer;
  #start = 0;
  #at = 0;
  #blobAt = 0;
  #waits = false;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#doorbell = new Doorbell(() => options.ringDoorbell(), options.wakeRestMs ?? 0);
    this.#out = new RingWriter(options.out);
    this.#recordMax = ringRecordMax(this.#out.bytes.length);
    this.#in = new RingReader(options.in);
    this.#record = new RecordReader(this.#in.bytes);
    this.#bytes = this.#out.bytes;
  }

  /**
   * Starts a record of at most `bodyBytesMax`. False: refused, the other end lags too far. Records that complete an
   * accepted command (`mustPass`) are never refused; their causes are bounded. `@throws RangeError` for a record too
   * large for a ring of this size: a bug of ours.
   */
  begin(kind: number, bodyBytesMax: number, mustPass: boolean): boolean {
    if (bodyBytesMax > this.#recordMax) throw new RangeError(`a record of ${bodyBytesMax} bytes, the ring takes ${this.#recordMax}`);
    if (this.congested && !mustPass) return false;
    this.#kind = kind;
    const at = this.#first === this.#overflow.length ? this.#out.reserve(bodyBytesMax) : -1;
    this.#waits = at < 0;
    this.#bytes = this.#waits ? Buffer.allocUnsafe(bodyBytesMax) : this.#out.bytes;
    this.#start = this.#at = this.#waits ? 0 : at;
    return true;
  }

  u8(value: number): void {
    this.#bytes[this.#at++] = value;
  }

  u32(value: number): void {
    this.#at = this.#bytes.writeUInt32LE(value, this.#at);
  }

  f64(value: number): void {
    this.#at = this.#bytes.writeDoubleLE(value, this.#at);
  }

  /** A whole number up to 2^53. */
  whole(value: number): void {
    this.u32(value % wordValues);
    this.u32(Math.floor(value / wordValues));
  }

  /** `[u32 length][bytes]` */
  blob(value: Uint8Array): void {
    this.u32(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }

  /** `[u32 length][UTF-8]`; takes up to `textBytesMax(value)`. */
  text(value: string): void {
    const length = this.#bytes.write(value, this.#at + 4);
    this.u32(length);
    this.#at += length;
  }

  /** The bytes `start` to `end` as they are. */
  raw(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes.set(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end), this.#at);
    this.#at += end - start;
  }

  /** UTF-8 without a length. */
  rawText(value: string): void {
    this.#at += this.#bytes.write(value, this.#at);
  }

  /** As `blob`, with the bytes that are written until `closeBlob`. */
  openBlob(): void {
    this.#blobAt = this.#at;
    this.#at += 4;
  }

  closeBlob(): void {
    this.#bytes.writeUInt32LE(this.#at - this.#blobAt - 4, this.#blobAt);
  }

  end(): void {
    if (this.#waits) this.#enqueue();
    else if (this.#out.commit(this.#kind, this.#at - this.#start) || this.#ringDue) this.#ring();
  }

  /** As `end`, but the other end is woken at once, whatever the load. */
  endAtOnce(): void {
    this.end();
    this.#doorbell.hurry();
  }

  /**
   * As `end`, but the other end is woken when this turn of the loop ends, or by a record that ends otherwise before that.
   * A wake costs more than handling a small record, and a reader that is woken for each is asleep again before the next.
   */
  endInTurn(): void {
    if (this.#waits) this.#enqueue();
    else if (this.#out.commit(this.#kind, this.#at - this.#start)) {
      this.#ringDue = true;
      setImmediate(this.#ringLate);
    }
  }

  /** The doorbell rang: there are records to read, or there is room to write. */
  wake(): void {
    // The scheduled turn reads and writes, too. A second chain of turns beside it would count the loop's turns twice.
    if (this.#scheduled || this.#closed) return;
    this.#flush();
    do {
      const more = this.#in.read(this.#options.readBudgetBytes, this.#onRecord);
      this.#options.onBatchEnd();
      if (this.#in.takeBlocked()) this.#doorbell.ring();
      if (more) return this.#later();
    } while (!this.#in.sleep());
  }

  /** Whether refusable records are refused now. */
  get congested(): boolean {
    return this.#overflowBytes >= this.#options.overflowBytesMax;
  }

  /** Whether records wait for room in the ring. */
  get full(): boolean {
    return this.#overflowBytes > 0;
  }

  /** Bytes written but not yet read by the other end: in the ring, and waiting for room in it. */
  get depth(): { ring: number; overflow: number } {
    return { ring: this.#out.depth, overflow: this.#overflowBytes };
  }

  close(): void {
    this.#closed = true;
    this.#doorbell.hurry();
  }

  #ring(): void {
    this.#ringDue = false;
    this.#doorbell.ring();
  }

  readonly #ringLate = (): void => {
    if (this.#ringDue) this.#ring();
  };

  #onRecord = (kind: number, start: number, end: number): boolean | void => {
    this.#record.open(start, end);
    return this.#options.onRecord(kind, this.#record);
  };

  #later(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#options.onTurn?.();
      this.wake();
    });
  }

  #enqueue(): void {
    const body = this.#bytes.subarray(0, this.#at);
    // What a record may need is reserved, and may be much more than it has.
    this.#overflow.push({ kind: this.#kind, body: this.#bytes.length - this.#at > slackMax ? Buffer.from(body) : body });
    this.#overflowBytes += this.#at;
    this.overflowed++;
    if (!this.#out.block()) this.#later();
  }

  #flush(): void {
    while (this.#first < this.#overflow.length) {
      const { kind, body } = this.#overflow[this.#first]!;
      const at = this.#out.reserve(body.length);
      if (at < 0) {
        if (!this.#out.block()) continue;
        return;
      }
      body.copy(this.#out.bytes, at);
      if (this.#out.commit(kind, body.length)) this.#doorbell.ring();
      this.#overflow[this.#first++] = sent;
      this.#overflowBytes -= body.length;
      // Under a load that lasts it is never empty. Copied now and then only: each removal from the front would copy all.
      if (this.#first > sentMax && this.#first * 2 > this.#overflow.length && this.#first < this.#overflow.length) {
        this.#overflow = this.#overflow.slice(this.#first);
        this.#first = 0;
      }
    }
    if (this.#first === 0) return;
    this.#overflow = [];
    this.#first = 0;
    this.#options.onRoom?.();
  }
}

/** Takes the place of a record that has left the overflow queue. */
const sent = { kind: 0, body: Buffer.alloc(0) };
/** Places of such records that are kept in any case. */
const sentMax = 1024;

/** Bytes of a waiting record that may be reserved in vain. */
const slackMax = 64;

const wordValues = 2 ** 32;

/** Room that `text(value)` may need. */
export function textBytesMax(value: string): number {
  return 4 + value.length * 3;
}

/** Reads the fields of one record in the order they were written. */
export class RecordReader {
  readonly #bytes: Buffer;
  #at = 0;
  #end = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  open(start: number, end: number): void {
    this.#at = start;
    this.#end = end;
  }

  u8(): number {
    return this.#bytes[this.#at++]!;
  }

  u32(): number {
    const value = this.#bytes.readUInt32LE(this.#at);
    this.#at += 4;
    return value;
  }

  f64(): number {
    const value = this.#bytes.readDoubleLE(this.#at);
    this.#at += 8;
    return value;
  }

  /** For numbers that are stored: V8 keeps a number read as f64 in an object of its own, however small it is. */
  whole(): number {
    const low = this.u32();
    return this.u32() * wordValues + low;
  }

  /** A view into the ring, valid until the record's handler returns. */
  blob(): Buffer {
    const length = this.u32();
    if (this.#at + length > this.#end) throw new RangeError("record: a blob runs over the record's end");
    const view = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return view;
  }

  text(): string {
    const length = this.u32();
    if (length === 0) return "";
    const value = this.#bytes.toString("utf8", this.#at, this.#at + length);
    this.#at += length;
    return value;
  }
}
