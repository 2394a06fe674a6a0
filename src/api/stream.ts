/**
 * Follows a room for the embedding program: what it missed since a position, then what is published from now on. The
 * queue is bounded. A reader that is too slow gets a gap as its last event, and can begin again at the gap's position.
 */
import type { Answer, Page, Position, Stored } from "../broker/broker.ts";
import type { ErrorCode } from "../errors.ts";
import type { HistoryQuery } from "../hub/recovery/history.ts";
import type { RoomListener } from "../hub/rooms.ts";
import { pageSizeMax } from "../protocol/limits.ts";
import { ApiError } from "./error.ts";
import type { Kept as Shown, Publication } from "./publication.ts";

/**
 * What a stream yields. `open` is the first event: publications after its position follow, which is `since`, or else the
 * newest position of the room. `gap` is the last one: publications after its position are missing.
 */
export type StreamEvent =
  | { readonly kind: "open"; readonly position: Position }
  | ({ readonly kind: "publication" } & Publication)
  | { readonly kind: "gap"; readonly position: Position };

/** The events of a room. Iterate over it once, with `for await`. */
export type RoomStream = AsyncIterableIterator<StreamEvent, undefined>;

/** Bytes of the payloads that all streams of a node hold. */
export class QueueBytes {
  used = 0;
  readonly max: number;

  constructor(max: number) {
    this.max = max;
  }
}

export interface StreamSource {
  /** Deliveries begin. The listener is told of the position, also where that is known at once. */
  listen(listener: RoomListener): void;
  unlisten(listener: RoomListener): void;
  history(query: HistoryQuery, done: (answer: Answer<Page>) => void): void;
  /** Null, or why no stream may begin. Counts it until `ended`. */
  begin(stream: Stream): ApiError | null;
  ended(stream: Stream, code: ErrorCode | "ok"): void;
  failed(error: unknown): ApiError;
}

export interface StreamSettings {
  readonly room: string;
  readonly since: Position | null;
  readonly queueMax: number;
  readonly bytes: QueueBytes;
  /** Makes what the reader gets. */
  readonly show: (room: string, kept: Shown) => Publication;
}

interface Reader {
  resolve(result: IteratorResult<StreamEvent, undefined>): void;
  reject(error: ApiError): void;
}

/** Calls of next() that may wait at once: for-await makes one. */
const readersMax = 16;
type Kept = Pick<Stored, "epoch" | "seq" | "prev" | "sender" | "time" | "payload" | "format">;

/**
 * new: not begun. replaying: reads pages up to the head; `#live` holds what is published meanwhile. live. ended: the
 * queue is still read out. over: nothing follows.
 */
type State = "new" | "opening" | "replaying" | "live" | "ended" | "over";

export class Stream implements RoomStream, RoomListener {
  readonly #source: StreamSource;
  readonly #settings: StreamSettings;
  #state: State = "new";
  /** Of the first event, once it can be read. */
  #opened: Position | null = null;
  readonly #queue: Kept[] = [];
  /** Published while pages are read. */
  readonly #live: Kept[] = [];
  /** What the reader has, or will have from the queue; and the head as deliveries tell it. */
  #at: Position = { epoch: "", seq: 0 };
  #head: Position = { epoch: "", seq: 0 };
  #reading = false;
  /** `#live` did not take everything since the page was asked for: another page has it. */
  #skipped = false;
  /** How it ends once the queue is read out: with a gap, an error, or in peace. */
  #gap = false;
  #error: ApiError | null = null;
  readonly #readers: Reader[] = [];

  constructor(source: StreamSource, settings: StreamSettings) {
    this.#source = source;
    this.#settings = settings;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<StreamEvent, undefined>> {
    if (this.#readers.length >= readersMax) return Promise.reject(new ApiError("overloaded", `${readersMax} calls of next() wait already`));
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject });
      if (this.#state === "new") this.#begin();
      this.#serve();
    });
  }

  /** Ends the stream, also while next() waits. */
  return(): Promise<IteratorResult<StreamEvent, undefined>> {
    this.#end(null);
    this.#finish();
    return Promise.resolve(done);
  }

  throw(error: unknown): Promise<never> {
    void this.return();
    return Promise.reject(error as Error);
  }

  /** The node closes, or the stream is refused. What is queued is dropped. */
  fail(error: ApiError): void {
    this.#drop();
    this.#end(error);
    this.#serve();
  }

  // ------------------------------------------------------------------------------- what the hub tells

  opened(position: Position): void {
    if (this.#state !== "opening") return;
    const { since } = this.#settings;
    this.#head = position;
    this.#at = since ?? position;
    this.#state = since === null || isSame(since, position) ? "live" : "replaying";
    if (this.#state === "live") this.#opened = this.#at;
    this.#serve();
  }

  refused(code: ErrorCode): void {
    this.fail(new ApiError(code));
  }

  delivered({ epoch, seq, prev, sender, time, payload, format }: Stored): void {
    if (this.#state !== "live" && this.#state !== "replaying") return;
    const isNext = epoch === this.#head.epoch && prev === this.#head.seq;
    this.#head = { epoch, seq };
    // While pages are read, they tell what is missing.
    if (!isNext && this.#state === "live") return this.#endWithGap();
    const { queueMax, bytes } = this.#settings;
    const queue = this.#state === "live" ? this.#queue : this.#live;
    if (queue.length >= queueMax || bytes.used + payload.length > bytes.max) {
      if (this.#state === "live") return this.#endWithGap();
      // The pages have them.
      this.#skipped = true;
      return this.#release(this.#live.splice(0));
    }
    queue.push({ epoch, seq, prev, sender, time, payload: new Uint8Array(payload), format });
    bytes.used += payload.length;
    if (this.#state === "live") this.#at = this.#head;
    this.#serve();
  }

  moved(position: Position): void {
    if (this.#state === "live" && !isSame(position, this.#head)) return this.#endWithGap();
    this.#head = position;
  }

  // ------------------------------------------------------------------------------- reading

  #begin(): void {
    const refused = this.#source.begin(this);
    if (refused !== null) {
      this.#state = "over";
      this.#error = refused;
      return;
    }
    this.#state = "opening";
    try {
      this.#source.listen(this);
    } catch (error) {
      this.fail(this.#source.failed(error));
    }
  }

  /** Gives readers what there is. */
  #serve(): void {
    while (this.#readers.length > 0) {
      const event = this.#take();
      if (event !== null) this.#readers.shift()!.resolve({ value: event, done: false });
      else if (this.#state === "ended" || this.#state === "over") return this.#finish();
      else return this.#state === "replaying" ? this.#readPage() : undefined;
    }
  }

  #take(): StreamEvent | null {
    if (this.#opened !== null) {
      const position = this.#opened;
      this.#opened = null;
      return { kind: "open", position };
    }
    const next = this.#queue.shift();
    if (next !== undefined) {
      this.#release([next]);
      return { kind: "publication", ...this.#settings.show(this.#settings.room, next) };
    }
    if (!this.#gap) return null;
    this.#gap = false;
    return { kind: "gap", position: this.#at };
  }

  /** One page at a time, and only when the reader has taken the one before. */
  #readPage(): void {
    if (this.#reading) return;
    this.#reading = true;
    this.#skipped = false;
    const { epoch, seq } = this.#at;
    try {
      this.#source.history({ direction: "since", epoch, seq, limit: pageSizeMax, recovers: true }, (answer) => {
        this.#reading = false;
        if (this.#state !== "replaying") return;
        if ("value" in answer) this.#onPage(answer.value);
        // Before the first publication the program gave the position, afterwards the history was trimmed under a slow reader.
        else if (answer.error === "unrecoverable_position" && this.#at !== this.#settings.since) this.#endWithGap();
        else this.fail(new ApiError(answer.error));
        this.#serve();
      });
    } catch (error) {
      this.#reading = false;
      this.fail(this.#source.failed(error));
    }
  }

  #onPage({ publications, position, more }: Page): void {
    const from = this.#at;
    if (from === this.#settings.since) this.#opened = from;
    for (const { epoch, seq, prev, sender, time, payload, format } of publications) {
      this.#queue.push({ epoch, seq, prev, sender, time, payload: new Uint8Array(payload), format });
      this.#at = { epoch, seq };
      this.#settings.bytes.used += payload.length;
    }
    if (!more && position.seq > this.#at.seq) this.#at = position;
    this.#release(this.#live.splice(0, this.#live.findLastIndex(({ seq }) => seq <= this.#at.seq) + 1));
    const [first] = this.#live;
    const follows = first === undefined ? this.#at.seq >= this.#head.seq : first.prev <= this.#at.seq;
    if (this.#head.epoch === this.#at.epoch && follows && !more) {
      this.#queue.push(...this.#live.splice(0));
      this.#at = this.#head;
      this.#state = "live";
    } else if (isSame(from, this.#at) && !this.#skipped) {
      // Nothing more can be read, though there is more.
      this.#endWithGap();
    }
  }

  // ------------------------------------------------------------------------------- the end

  #endWithGap(): void {
    this.#gap = true;
    this.#release(this.#live.splice(0));
    this.#end(null);
    this.#serve();
  }

  #end(error: ApiError | null): void {
    if (this.#state === "ended" || this.#state === "over") return;
    const hasBegun = this.#state !== "new";
    this.#state = "ended";
    this.#error = error;
    if (!hasBegun) return;
    this.#source.unlisten(this);
    this.#source.ended(this, error?.code ?? "ok");
  }

  /** Nothing follows. The error is given once, as a generator does. */
  #finish(): void {
    this.#state = "over";
    this.#drop();
    for (const reader of this.#readers.splice(0)) {
      const error = this.#error;
      this.#error = null;
      if (error === null) reader.resolve(done);
      else reader.reject(error);
    }
  }

  #drop(): void {
    this.#opened = null;
    this.#gap = false;
    this.#release([...this.#queue.splice(0), ...this.#live.splice(0)]);
  }

  #release(kept: readonly Kept[]): void {
    for (const { payload } of kept) this.#settings.bytes.used -= payload.length;
  }
}

const done = { value: undefined, done: true } as const;

function isSame(a: Position, b: Position): boolean {
  return a.epoch === b.epoch && a.seq === b.seq;
}
