/**
 * Pulls the messages of one queue through its holder's consumer, in order. Acknowledging a message at the server
 * acknowledges all before it. So one acknowledgement is sent for all messages of a short time, and only up to the first
 * message that is not acknowledged here. Each costs a write here and a write of the consumer's state at the server. What
 * the server was not told when this node crashes is delivered again, and devices discard it.
 *
 * Requests for messages may be lost, as when another server becomes the leader. The server sends a heartbeat while it
 * has no messages. After silence the request is repeated.
 */
import type { Msg, NatsConnection } from "nats";
import type { PlaceInStream } from "../history/pulls.ts";

/** A message of a queue. */
export interface QueuedPublication {
  readonly seq: number;
  readonly subject: string;
  readonly data: Uint8Array;
  /** Messages of the queue behind this one, when it was sent. */
  readonly pending: number;
}

export interface PullingOptions {
  readonly connection: NatsConnection;
  readonly stream: string;
  readonly consumer: string;
  /** Subject for the consumer's statuses. */
  readonly reply: string;
  message(publication: QueuedPublication): void;
  /** The consumer is gone, or a message may have been skipped. Called once at most. */
  lost(reason: string): void;
  /** Whether the consumer still exists. Rejects where that is not known now. */
  exists(): Promise<boolean>;
}

interface HandedOver {
  readonly seq: number;
  readonly reply: string;
  isAcknowledged: boolean;
}

const batch = 256;
/** Each request that expires costs a message and another request. */
const expiresMs = 120_000;
const heartbeatMs = 3_000;
const silentMs = 7_000;
const retryMs = 250;
/** The server is told of acknowledgements after so long, or after so many of them. */
const tellMs = 1_000;
const untoldMax = 1024;
/** Requests in a row that nobody answered, after which the consumer may be gone. */
const unansweredMax = 8;
const nanosecondsPerMs = 1e6;

export class Pulling {
  readonly #options: PullingOptions;
  /** Messages that the consumer may still send for requests. */
  #requested = 0;
  /** Number of the last message among those that the consumer has sent; 0 before the first. A consumer is pulled once. */
  #place = 0;
  #lastSeq = 0;
  /** In order; the first is not acknowledged. */
  readonly #open: HandedOver[] = [];
  /** Reply subject of the newest message up to which everything is acknowledged, and whether the server was told. */
  #upTo = "";
  #isTold = true;
  #untold = 0;
  /** When the consumer was heard or asked last, and when it was heard. */
  #heardAt = performance.now();
  #answeredAt = -Infinity;
  #unanswered = 0;
  #checking = false;
  #state: "pulling" | "stopped" | "closed" = "pulling";
  /** Messages of the queue behind the last one, when that was sent. */
  pending = 0;

  constructor(options: PullingOptions) {
    this.#options = options;
    this.#request();
  }

  /** Takes nothing more. What was handed over can still be acknowledged. */
  stop(): void {
    if (this.#state === "pulling") this.#state = "stopped";
  }

  close(): void {
    this.#tell();
    this.#state = "closed";
  }

  /** Everything that the queue had a moment ago is acknowledged here: the server would say that it has nothing more. */
  get isCaughtUp(): boolean {
    return this.#state === "pulling" && this.#open.length === 0 && this.pending === 0 && performance.now() - this.#answeredAt < silentMs;
  }

  acknowledge(seq: number): void {
    const open = this.#open;
    const handed = open[0]?.seq === seq ? open[0] : open.find((one) => one.seq === seq);
    if (handed === undefined) return;
    handed.isAcknowledged = true;
    while (open[0]?.isAcknowledged === true) {
      this.#upTo = open.shift()!.reply;
      this.#untold++;
    }
    if (this.#untold === 0) return;
    if (this.#untold < untoldMax) return this.#tellSoon();
    this.#isTold = false;
    this.#tell();
  }

  /** Asks again if the consumer has been silent for too long. Call it now and then. */
  look(): void {
    if (performance.now() - this.#heardAt >= silentMs) this.interrupted();
  }

  /** Requests may have been lost, and the consumer with a server that was restarted. */
  interrupted(): void {
    if (this.#state !== "pulling") return;
    this.#check();
    this.#requested = 0;
    this.#request();
  }

  end(reason: string): void {
    if (this.#state !== "pulling") return;
    this.#state = "stopped";
    this.#options.lost(reason);
  }

  onMessage({ data }: Msg, { place, seq, pending, subject, reply }: PlaceInStream): void {
    if (this.#state !== "pulling") return;
    this.#heardAt = this.#answeredAt = performance.now();
    this.#requested--;
    this.#unanswered = 0;
    if (place > this.#place + 1) return this.end("messages were lost on the way from NATS");
    // Another server leads it, or was restarted. What it sent between that and this may be lost as well.
    if (place <= this.#place) return this.end("the consumer knows less than it has sent");
    this.#place = place;
    this.pending = pending;
    // Sent again: the acknowledgement was late, or lost.
    if (seq <= this.#lastSeq) this.#tellSoon(true);
    else {
      this.#lastSeq = seq;
      this.#open.push({ seq, reply, isAcknowledged: false });
      this.#options.message({ seq, subject, data, pending });
    }
    if (this.#requested <= batch / 2) this.#request();
  }

  onStatus({ headers }: Msg): void {
    if (this.#state !== "pulling") return;
    this.#heardAt = performance.now();
    // A heartbeat of the consumer, which has nothing more, or the end of a request that it had nothing for.
    const code = headers?.code ?? 100;
    if (code === 100 || code === 408) this.#answeredAt = this.#heardAt;
    if (headers === undefined || code === 100) return;
    if (code === 409 && /consumer deleted/i.test(headers.description)) return this.end("the consumer was deleted");
    this.#requested = 0;
    // It has expired.
    if (code === 408) return this.#request();
    // The consumer has no leader now, or does not exist: a server that was restarted has none.
    if (this.#unanswered++ % unansweredMax === 0) this.#check();
    setTimeout(() => this.#request(), retryMs).unref();
  }

  #check(): void {
    if (this.#checking) return;
    this.#checking = true;
    this.#options.exists().then(
      (exists) => {
        this.#checking = false;
        if (!exists) this.end("the consumer does not exist any more");
      },
      () => void (this.#checking = false), // NATS is unavailable: asked again after the next silence
    );
  }

  #request(): void {
    const { connection, stream, consumer, reply } = this.#options;
    if (this.#state !== "pulling" || connection.isClosed() || this.#requested > batch / 2) return;
    this.#requested += batch;
    this.#heardAt = performance.now();
    const question = { batch, expires: expiresMs * nanosecondsPerMs, idle_heartbeat: heartbeatMs * nanosecondsPerMs };
    connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, JSON.stringify(question), { reply });
  }

  /** @param again the server was told, and seems not to know. */
  #tellSoon(again = false): void {
    if (this.#upTo === "" || (!this.#isTold && !again)) return;
    if (this.#isTold) setTimeout(() => this.#tell(), tellMs).unref();
    this.#isTold = false;
  }

  #tell(): void {
    const { connection } = this.#options;
    if (this.#isTold || this.#state === "closed" || connection.isClosed()) return;
    this.#isTold = true;
    this.#untold = 0;
    connection.publish(this.#upTo);
  }
}
