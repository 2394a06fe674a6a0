/**
 * Reads a stream from a sequence on, for the archive: through one consumer that stays, with requests for batches, so that
 * no more is on the way than fits here. A lost message, a consumer that is gone, or another position makes a new consumer.
 */
import type { Msg, NatsConnection } from "nats";
import type { Feed, FeedContent, FeedPiece, FeedPublication, FeedState } from "../../../archive/feed.ts";
import { nameOfRoom, tenantOfRoom } from "../../../protocol/roomkeys.ts";
import { epochOf, type Stream, type Streams } from "../streams/streams.ts";
import { nodeTokenBytes, readEnvelope } from "../wire/envelope.ts";
import { nameHeader, roomOf } from "../wire/names.ts";
import { Consumer } from "./consumer.ts";
import { placeInStream, type Pull, type Pulls } from "./pulls.ts";

export interface FeedOptions {
  readonly connection: NatsConnection;
  readonly streams: Streams;
  readonly pulls: Pulls;
  /** Number of the connection: requests of an earlier one are lost. */
  readonly connections: () => number;
}

/** One request, and what may wait here besides the messages of one. */
const batch = 1000;
const batchBytesMax = 1024 * 1024;
const waitingMax = 2000;
const waitingBytesMax = 4 * 1024 * 1024;
/** Publications wait so long for others. */
const lingerMs = 200;
/** A read without any publication ends after this time. The request for the next ones lasts longer. */
const idleMs = 2_000;
const requestMs = 10_000;
/** A request without any answer for this long has been lost. */
const lostMs = requestMs + 2_000;
const nanosecondsPerMs = 1e6;
const nanosecondsPerSecond = 1e9;
/** No node: the archive has no publications of its own. */
const nobody = Buffer.alloc(nodeTokenBytes);

const config = {
  deliver_policy: "by_start_sequence",
  ack_policy: "none",
  replay_policy: "instant",
  inactive_threshold: 60 * nanosecondsPerSecond,
  mem_storage: true,
  num_replicas: 1,
};

/** A consumer, and what has arrived from it. */
interface Reading {
  readonly connection: number;
  readonly consumer: Consumer;
  readonly name: string;
  pull: Pull | null;
  /** Everything up to here was given to the caller. */
  after: number;
  /** Number of the last message that arrived, from 1, and its sequence. */
  place: number;
  seq: number;
  readonly waiting: FeedPublication[];
  bytes: number;
  /** Messages that the server may still send, and bytes that arrived, for the request under way. */
  asked: number;
  arrived: number;
  askedAt: number;
  /** Messages in the stream after the last that arrived. */
  pending: number;
  broken: boolean;
}

export class StreamFeed implements Feed {
  readonly #options: FeedOptions;
  readonly #stream: Stream;
  #reading: Reading | null = null;
  #paused = false;
  #arrivedOne: () => void = () => undefined;

  constructor(stream: Stream, options: FeedOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  get stream(): string {
    return this.#stream.name;
  }

  async state(): Promise<FeedState> {
    const info = await this.#options.streams.info(this.#stream);
    return { epoch: epochOf(this.#stream.name, info), first: info.state.first_seq, last: info.state.last_seq };
  }

  async timeAt(seq: number): Promise<number | null> {
    const found = seq === 0 ? null : await this.#options.streams.message(this.#stream, { seq });
    return found?.time === undefined ? null : microseconds(found.time);
  }

  async read(after: number, at: number, limit: number): Promise<FeedPiece> {
    this.#paused = false;
    const reading = await this.#at(after, at);
    this.#ask(reading);
    await this.#wait(reading, Math.min(limit, waitingMax));
    const publications = reading.waiting.splice(0, limit);
    for (const { content } of publications) reading.bytes -= content?.payload.length ?? 0;
    reading.after = publications.at(-1)?.seq ?? reading.after;
    return { publications, pending: reading.waiting.length + reading.pending };
  }

  pause(): void {
    this.#paused = true;
    this.#end();
    this.#arrivedOne();
  }

  async #at(after: number, at: number): Promise<Reading> {
    const known = this.#reading;
    const { connection, streams, pulls, connections } = this.#options;
    const isLost = known !== null && (known.connection !== connections() || (known.asked > 0 && performance.now() > known.askedAt + lostMs));
    if (known !== null && known.after === after && !known.broken && !isLost) return known;
    this.#end();
    await this.#compare(after, at);
    const number = connections();
    const consumer = new Consumer(connection, streams, this.#stream, { ...config, opt_start_seq: after + 1 });
    try {
      const { name, num_pending: pending } = await consumer.info;
      const reading: Reading = { connection: number, consumer, name, pull: null, after, place: 0, seq: after, waiting: [], bytes: 0, asked: 0, arrived: 0, askedAt: 0, pending, broken: false };
      reading.pull = pulls.begin(this.#stream.name, name, (message) => this.#arrived(reading, message));
      this.#reading = reading;
      return reading;
    } catch (error) {
      consumer.end();
      throw error;
    }
  }

  /** A stream that was set back and has no new epoch yet: no node that knows its end has looked at it since. */
  async #compare(after: number, at: number): Promise<void> {
    if (after === 0) return;
    const { last } = await this.state();
    const time = at === 0 || last < after ? null : await this.timeAt(after);
    if (last >= after && (time === null || time === at)) return;
    await this.#options.streams.refresh(this.#stream, true);
    throw new Error(`the stream ${this.#stream.name} was set back`);
  }

  /** Asks for the next batch, where there is room for it and none is on its way. */
  #ask(reading: Reading, alone = false): void {
    if (reading.asked > 0 || reading.broken || isFull(reading)) return;
    reading.asked = alone ? 1 : batch;
    reading.arrived = 0;
    reading.askedAt = performance.now();
    const question = { batch: reading.asked, ...(!alone && { max_bytes: batchBytesMax }), expires: requestMs * nanosecondsPerMs };
    this.#options.connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${this.#stream.name}.${reading.name}`, JSON.stringify(question), { reply: reading.pull!.reply });
  }

  #arrived(reading: Reading, message: Msg): void {
    const found = placeInStream(message);
    if (found === null) return this.#answered(reading, message.headers?.code ?? 0);
    const { seq, place, pending, time, subject } = found;
    if (place <= reading.place || seq <= reading.seq) return; // sent twice
    if (place !== reading.place + 1) return this.#break(reading);
    reading.place = place;
    reading.seq = seq;
    reading.pending = pending;
    reading.arrived++;
    const content = contentOf(message, subject);
    reading.waiting.push({ seq, at: time, content });
    reading.bytes += content?.payload.length ?? 0;
    if (--reading.asked <= 0) this.#ask(reading);
    this.#arrivedOne();
  }

  /** The server ends a request: nothing came in time, the bytes are used up, or the consumer is gone. */
  #answered(reading: Reading, code: number): void {
    const { asked, arrived } = reading;
    reading.asked = 0;
    if (code === 409 && asked === batch && arrived === 0) return this.#ask(reading, true);
    if (code === 404 || code === 408 || (code === 409 && arrived > 0)) return void (this.#ask(reading), this.#arrivedOne());
    this.#break(reading);
  }

  #break(reading: Reading): void {
    reading.broken = true;
    this.#arrivedOne();
  }

  /** Until the batch is full, the publications have waited long enough for others, or none came. */
  async #wait(reading: Reading, limit: number): Promise<void> {
    const began = performance.now();
    let firstAt = reading.waiting.length > 0 ? began : 0;
    for (;;) {
      const { length } = reading.waiting;
      const now = performance.now();
      if (length > 0 && firstAt === 0) firstAt = now;
      const leftMs = length > 0 ? firstAt + lingerMs - now : began + idleMs - now;
      if (this.#paused || reading.broken || length >= limit || leftMs <= 0 || (reading.asked === 0 && isFull(reading))) return;
      await this.#nextArrival(reading, leftMs, length > 0 ? limit : 1);
    }
  }

  /** Returns after a time, or when so many wait, or when no more come. */
  #nextArrival(reading: Reading, withinMs: number, wanted: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.ceil(withinMs));
      this.#arrivedOne = () => {
        if (!this.#paused && !reading.broken && reading.waiting.length < wanted && reading.asked > 0) return;
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #end(): void {
    this.#reading?.pull?.end();
    this.#reading?.consumer.end();
    this.#reading = null;
  }
}

function isFull({ waiting, bytes }: Reading): boolean {
  return waiting.length > waitingMax - batch || bytes >= waitingBytesMax;
}

function contentOf(message: Msg, subject: string): FeedContent | null {
  const envelope = readEnvelope(nobody, message.data);
  if (envelope === null || !Number.isSafeInteger(envelope.time) || envelope.time < 0) return null;
  const key = roomOf(subject, () => message.headers?.get(nameHeader) ?? "");
  const { sender, time, format, key: idempotencyKey, payload } = envelope;
  return { tenant: tenantOfRoom(key), room: nameOfRoom(key), sender, time, format, key: idempotencyKey, payload };
}

/** Of an RFC 3339 time with nanoseconds. */
function microseconds(time: string): number {
  const [, seconds = "", fraction = "0"] = /^(.*?)(?:\.(\d+))?(?:Z|[+-]\d\d:\d\d)$/.exec(time) ?? [];
  const zone = /(?:Z|[+-]\d\d:\d\d)$/.exec(time)?.[0] ?? "Z";
  return Date.parse(`${seconds}${zone}`) * 1000 + Math.floor(Number(fraction.padEnd(9, "0").slice(0, 9)) / 1000);
}
