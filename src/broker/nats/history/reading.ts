/**
 * Reads the messages of one subject from a stream. NATS 2.9 offers only consumers for this. Each read creates a
 * consumer and asks it for as many messages and bytes as it needs. Nothing is acknowledged.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Msg, NatsConnection } from "nats";
import pLimit from "p-limit";
import { Consumer } from "./consumer.ts";
import { placeInStream, type Pulls } from "./pulls.ts";
import { apiTimeoutMs, type Stream, type Streams } from "../streams/streams.ts";

/** A message of a stream, as published. */
export interface Kept {
  readonly seq: number;
  /** Its subject in the stream, where its data was not read. */
  readonly subject: string;
  readonly data: Uint8Array;
  /** Bytes of its data, where data or size was read. */
  readonly size: number;
}

export interface Piece {
  /** In stream order, beginning at the requested sequence. */
  readonly kept: readonly Kept[];
  /**
   * Whether the subject has no more messages. Otherwise the limit or the bytes ended the read, which returns at least
   * one message.
   */
  readonly ended: boolean;
}

type What = "data" | "sizes" | "subjects";

interface ReadOptions {
  /** First sequence to read. */
  readonly from: number;
  readonly limit: number;
  /** Bytes of whole messages, as the server counts. A larger message comes alone. */
  readonly bytesMax?: number;
  /**
   * A sequence known to be the subject's newest, or seen by somebody. A read that ends before it came from a replica
   * that lags, unless the message is gone.
   */
  readonly upTo?: number;
  /** Without "data": only sequences and subjects. Sizes are in headers, which take time to read. */
  readonly what?: What;
}

/** Simultaneous reads, and bytes of one read. Others wait. */
const readsMax = 32;
const readBytesMax = 1024 * 1024;
/** Attempts of a read whose first message does not arrive. */
const attemptsMax = 5;
/** With replicas: attempts of a read from a lagging replica, and the wait between them. */
const behindMax = 15;
const behindPauseMs = 200;
const nanosecondsPerSecond = 1e9;
const nanosecondsPerMs = 1e6;

export class Reader {
  readonly #connection: NatsConnection;
  readonly #streams: Streams;
  readonly #pulls: Pulls;
  readonly #inTurn = pLimit(readsMax);
  #reads = 0;

  constructor(connection: NatsConnection, streams: Streams, pulls: Pulls) {
    this.#connection = connection;
    this.#streams = streams;
    this.#pulls = pulls;
  }

  /** Reads of rooms. */
  get reads(): number {
    return this.#reads;
  }

  /** @param subject undefined: of all rooms of the stream */
  async read(stream: Stream, subject: string | undefined, options: ReadOptions): Promise<Piece> {
    for (let behind = 0; behind < behindMax; behind++) {
      // Other reads take its turn during the pause.
      if (behind > 0) await sleep(behindPauseMs, undefined, { ref: false });
      const piece = await this.#inTurn(() => this.#readWhole(stream, subject, options));
      if (!(await this.#endsEarly(stream, subject, options, piece))) return piece;
    }
    throw new Error(`stream ${stream.name}: the server that answered has a lagging replica; the newest messages are missing`);
  }

  async #readWhole(stream: Stream, subject: string | undefined, options: ReadOptions): Promise<Piece> {
    if (subject !== undefined) this.#reads++;
    for (let lost = 0; lost < attemptsMax; lost++) {
      const piece = await this.#read(stream, subject, options);
      if (piece !== null) return piece;
    }
    throw new Error(`stream ${stream.name}: the messages of a read were lost in transit ${attemptsMax} times`);
  }

  /** NATS gives a consumer to any server with a replica. After a route or a server returns, that replica may lag. */
  async #endsEarly(stream: Stream, subject: string | undefined, { from, upTo = 0 }: ReadOptions, { kept, ended }: Piece): Promise<boolean> {
    const reached = kept.at(-1)?.seq ?? from - 1;
    if (!ended || subject === undefined || reached >= upTo || !this.#streams.isReplicated) return false;
    return (await this.#streams.last(stream, subject)) > reached;
  }

  /** Sequence of a subject's newest message; 0 if there is none. */
  async last(stream: Stream, subject: string): Promise<number> {
    // A follower may answer a direct get, and lag.
    if (this.#streams.isReplicated) return this.#streams.last(stream, subject);
    const body = JSON.stringify({ last_by_subj: subject });
    const { headers } = await this.#connection.request(`$JS.API.DIRECT.GET.${stream.name}`, body, { timeout: apiTimeoutMs });
    if (headers?.code === 404) return 0;
    const seq = headers === undefined || headers.code >= 400 ? NaN : Number(headers.get("Nats-Sequence"));
    if (!Number.isSafeInteger(seq) || seq <= 0) throw new Error(`DIRECT.GET of ${stream.name}: ${headers?.code} ${headers?.description}, and no sequence`);
    return seq;
  }

  /** Number of messages of a subject from `from` on. */
  async count(stream: Stream, subject: string, from: number): Promise<number> {
    const consumer = this.#consumer(stream, { ...common, max_ack_pending: 1, filter_subject: subject, opt_start_seq: Math.max(1, from) });
    try {
      return (await consumer.info).num_pending;
    } finally {
      consumer.end();
    }
  }

  /** Null: a message was lost in transit, or the consumer is gone. */
  async #read(stream: Stream, subject: string | undefined, options: ReadOptions): Promise<Piece | null> {
    const { from, limit, bytesMax = readBytesMax, what = "data" } = options;
    const config = { ...common, filter_subject: subject, opt_start_seq: Math.max(1, from), max_ack_pending: limit, headers_only: what !== "data" };
    const consumer = this.#consumer(stream, config);
    try {
      const { name, num_pending: pending } = await consumer.info;
      if (pending === 0) return { kept: [], ended: true };
      const batch = Math.min(limit, pending);
      const piece = await this.#pull(stream, name, { batch, max_bytes: bytesMax }, what);
      return piece === null || piece.kept.length > 0 ? piece : await this.#pull(stream, name, { batch: 1 }, what);
    } finally {
      consumer.end();
    }
  }

  /** @param asked of the consumer. Nothing received means that the first message is larger than allowed. */
  async #pull(stream: Stream, consumer: string, asked: { batch: number; max_bytes?: number }, what: What): Promise<Piece | null> {
    const { promise, finish, fail } = settled<Piece | null>();
    const kept: Kept[] = [];
    let firstPlace = 0;
    const take = (message: Msg) => {
      const found = placeInStream(message);
      // A status for the pull request. 409: the next message does not fit. Other codes: no more will come.
      if (found === null || !Number.isSafeInteger(found.seq)) return finish(message.headers?.code === 409 ? { kept, ended: false } : null);
      const { seq, place, pending } = found;
      if (kept.length > 0 && seq <= kept.at(-1)!.seq) return;
      firstPlace ||= place;
      if (place !== firstPlace + kept.length) return finish(null);
      if (what === "data") kept.push({ seq, subject: "", data: message.data, size: message.data.length });
      else kept.push({ seq, subject: found.subject, data: nothing, size: what === "sizes" ? Number(message.headers?.get("Nats-Msg-Size")) : 0 });
      if (pending === 0 || kept.length >= asked.batch) finish({ kept, ended: pending === 0 });
    };
    const pull = this.#pulls.begin(stream.name, consumer, take);
    const timer = setTimeout(() => fail(new Error(`stream ${stream.name}: a read got no answer in time`)), apiTimeoutMs);
    try {
      const question = JSON.stringify({ ...asked, expires: apiTimeoutMs * nanosecondsPerMs });
      this.#connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream.name}.${consumer}`, question, { reply: pull.reply });
      return await promise;
    } finally {
      clearTimeout(timer);
      pull.end();
    }
  }

  #consumer(stream: Stream, config: object): Consumer {
    return new Consumer(this.#connection, this.#streams, stream, config);
  }
}

const nothing = new Uint8Array(0);
const common = {
  deliver_policy: "by_start_sequence",
  ack_policy: "explicit",
  ack_wait: 60 * nanosecondsPerSecond,
  max_deliver: 1,
  replay_policy: "instant",
  inactive_threshold: 5 * nanosecondsPerSecond,
  mem_storage: true,
  num_replicas: 1,
};

/** A promise that is settled from outside. */
function settled<T>(): { promise: Promise<T>; finish: (value: T) => void; fail: (error: Error) => void } {
  let finish!: (value: T) => void;
  let fail!: (error: Error) => void;
  const promise = new Promise<T>((resolve, reject) => ((finish = resolve), (fail = reject)));
  return { promise, finish, fail };
}
