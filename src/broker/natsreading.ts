/**
 * Reading what a stream has kept of one subject. There is no query for that in NATS 2.9 but a consumer, which is made
 * for each read and pushes no more than is asked for: it waits for acknowledgements that never come.
 */
import { createInbox, type Msg, type NatsConnection } from "nats";
import { Consumer } from "./natsconsumer.ts";
import { apiTimeoutMs, type Stream, type Streams } from "./natsstreams.ts";

/** A message of a stream, as it was published. */
export interface Kept {
  readonly seq: number;
  /** What it is called in the stream; "" where its data was read. */
  readonly subject: string;
  readonly data: Uint8Array;
}

export interface Piece {
  /** In the order of the stream, from the one asked for on. */
  readonly kept: readonly Kept[];
  /** There are no more of this subject. */
  readonly ended: boolean;
}

interface ReadOptions {
  /** Sequence to begin with. */
  readonly from: number;
  readonly limit: number;
  /** Sequences and subjects only, no data. */
  readonly seqsOnly?: boolean;
}

/** Reads at once; others wait for their turn. */
const readsMax = 32;
/** How often one is tried whose beginning does not arrive. */
const attemptsMax = 5;
const nanosecondsPerSecond = 1e9;

export class Reader {
  readonly #connection: NatsConnection;
  readonly #streams: Streams;
  #reading = 0;
  readonly #queue: (() => void)[] = [];
  #reads = 0;

  constructor(connection: NatsConnection, streams: Streams) {
    this.#connection = connection;
    this.#streams = streams;
  }

  get reads(): number {
    return this.#reads;
  }

  /** @param subject undefined: of all rooms of the stream */
  async read(stream: Stream, subject: string | undefined, options: ReadOptions): Promise<Piece> {
    // Who ends hands its turn on: one that came in between would be one too many.
    if (this.#reading < readsMax) this.#reading++;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    this.#reads++;
    try {
      for (let n = 0; n < attemptsMax; n++) {
        const piece = await this.#read(stream, subject, options);
        if (piece !== null) return piece;
      }
      throw new Error(`what ${stream.name} pushed for a read was lost on its way, ${attemptsMax} times`);
    } finally {
      const next = this.#queue.shift();
      if (next === undefined) this.#reading--;
      else next();
    }
  }

  /** Sequence of the newest message of a subject, 0 where there is none. */
  async last(stream: Stream, subject: string): Promise<number> {
    // One that is no leader may answer a direct question, and be late.
    if (this.#streams.isReplicated) return this.#streams.last(stream, subject);
    const body = JSON.stringify({ last_by_subj: subject });
    const { headers } = await this.#connection.request(`$JS.API.DIRECT.GET.${stream.name}`, body, { timeout: apiTimeoutMs });
    if (headers === undefined || headers.code === 404) return 0;
    if (headers.code >= 400) throw new Error(`DIRECT.GET of ${stream.name}: ${headers.code} ${headers.description}`);
    return Number(headers.get("Nats-Sequence"));
  }

  /** How many messages of a subject there are from `from` on. */
  async count(stream: Stream, subject: string, from: number): Promise<number> {
    const consumer = this.#consumer(stream, { ...pull, filter_subject: subject, opt_start_seq: Math.max(1, from) });
    try {
      return (await consumer.info).num_pending;
    } finally {
      consumer.end();
    }
  }

  /**
   * Null: something was pushed that did not arrive. In a cluster a consumer may begin on a server that has heard of who
   * listens, while servers on the way there have not.
   */
  async #read(stream: Stream, subject: string | undefined, { from, limit, seqsOnly = false }: ReadOptions): Promise<Piece | null> {
    const inbox = createInbox();
    const kept: Kept[] = [];
    let chosen = "";
    let finish!: (ended: boolean | null) => void;
    let fail!: (error: Error) => void;
    const finished = new Promise<boolean | null>((resolve, reject) => {
      finish = resolve;
      fail = reject;
    });
    const subscription = this.#connection.subscribe(inbox, {
      callback: (error, message) => {
        if (error !== null) return fail(error);
        const { consumer, seq, place, pending } = placeInStream(message);
        if (!Number.isSafeInteger(seq)) return; // it does not come from a stream
        // There may be another consumer that was asked for as well: each brings all.
        chosen ||= consumer;
        if (consumer !== chosen) return;
        if (place !== kept.length + 1) return finish(null);
        kept.push(seqsOnly ? { seq, subject: message.subject, data: nothing } : { seq, subject: "", data: message.data });
        if (pending === 0 || kept.length >= limit) finish(pending === 0);
      },
    });
    const timer = setTimeout(() => fail(new Error(`a read of ${stream.name} was not answered in time`)), apiTimeoutMs);
    finished.catch(() => undefined); // awaited below, but only when the consumer is there
    const consumer = this.#consumer(stream, {
      ...push,
      deliver_subject: inbox,
      filter_subject: subject,
      opt_start_seq: Math.max(1, from),
      max_ack_pending: limit,
      headers_only: seqsOnly,
    });
    try {
      const { num_pending: pending, delivered } = await consumer.info;
      if (pending === 0 && delivered.consumer_seq === 0 && kept.length === 0) finish(true);
      const ended = await finished;
      return ended === null ? null : { kept, ended };
    } finally {
      consumer.end();
      clearTimeout(timer);
      subscription.unsubscribe();
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
const push = common;
const pull = { ...common, max_ack_pending: 1 };

/**
 * Which message of the stream it is, and which (from 1 on) of those that its consumer has pushed.
 *
 * From the subject that a consumer wants its acknowledgement at: `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<n>.<time>.<pending>`,
 * in newer servers with a domain and an account before the stream.
 */
function placeInStream({ reply = "" }: Msg): { consumer: string; seq: number; place: number; pending: number } {
  const tokens = reply.split(".");
  const shift = tokens.length > 9 ? 2 : 0;
  return { consumer: tokens[3 + shift] ?? "", seq: Number(tokens[5 + shift]), place: Number(tokens[6 + shift]), pending: Number(tokens[8 + shift]) };
}
