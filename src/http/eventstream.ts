/**
 * A room as Server-Sent Events. Each publication has its position as `id`, so a client that reconnects says with
 * `Last-Event-ID` from where it reads on. A reader that is too slow, or whose node drains, is told to come again.
 */
import { ApiError } from "../api/error.ts";
import type { Kept, Publication } from "../api/publication.ts";
import type { RoomStream, StreamEvent } from "../api/stream.ts";
import type { Position } from "../broker/broker.ts";
import { cursorOf } from "./cursor.ts";
import type { Exchange } from "./exchange/exchange.ts";
import { shownText } from "./payload.ts";

/** A stream whose first event has come. */
export interface Opened {
  readonly stream: RoomStream;
  readonly first: Extract<StreamEvent, { kind: "open" }>;
  /** The position that the client had, where the history no longer covers it. */
  readonly lost: string | null;
  /** Why the client may not read any more; null: it may. Never rejects. */
  revoked(): Promise<string | null>;
}

/** Interval at which it is looked whether the client may still read. */
export const lookMs = 5_000;
/** A comment comes with every so many looks. */
const looksPerBeat = 3;
/** Until an EventSource connects again, unless the end of the stream says otherwise. */
const retryMs = 2_000;
/** After its end, a client that reads nothing is disconnected. */
const lingerMs = 10_000;

export const streamHead = ["Content-Type", "text/event-stream", "Cache-Control", "no-store", "X-Accel-Buffering", "no", "X-Content-Type-Options", "nosniff"] as const;

export class EventStream {
  readonly #exchange: Exchange;
  readonly #stream: RoomStream;
  readonly #ended: () => void;
  readonly #revoked: Opened["revoked"];
  readonly #timer: NodeJS.Timeout;
  #looks = 0;
  #isOver = false;

  /** @param exchange whose head is written. @param ended called once. */
  constructor(exchange: Exchange, { stream, first, lost, revoked }: Opened, ended: () => void) {
    this.#exchange = exchange;
    this.#stream = stream;
    this.#ended = ended;
    this.#revoked = revoked;
    this.#timer = setInterval(() => void this.#look(), lookMs).unref();
    // The client may have disconnected while the stream was opened.
    if (exchange.isOver) this.#close();
    else this.#begin(first, lost);
  }

  #begin(first: Opened["first"], lost: string | null): void {
    this.#exchange.onOver(() => this.#close());
    this.#exchange.write(`retry: ${retryMs}\n\n`);
    this.#say(lost === null ? "open" : "gap", first.position, lost === null ? {} : { after: lost });
    void this.#run();
  }

  /** The client shall come again, in `retryMs`: the node drains. */
  end(reason: string, retryMs: number): void {
    if (this.#isOver) return;
    this.#exchange.write(`retry: ${retryMs}\nevent: end\ndata: ${JSON.stringify({ reason })}\n\n`);
    this.#finish();
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        const { value: event, done } = await this.#stream.next();
        if (done === true || this.#isOver) return this.#finish();
        switch (event.kind) {
          case "open": break;
          case "publication": {
            this.#write(`id: ${cursorOf(event.position)}\ndata: ${oneLine(event.data as Kept)}\n\n`);
            if (this.#exchange.isFull) await this.#exchange.drained();
            break;
          }
          // It has a position to go on from, which the history may still cover.
          case "gap": return this.end("too slow, or the room began again", retryMs);
        }
      }
    } catch (error) {
      this.end(error instanceof ApiError ? error.code : "internal", retryMs);
    }
  }

  #say(event: string, position: Position, more: object): void {
    const at = cursorOf(position);
    this.#write(`id: ${at}\nevent: ${event}\ndata: ${JSON.stringify({ position: at, ...more })}\n\n`);
  }

  #write(text: string): void {
    if (!this.#isOver) this.#exchange.write(text);
  }

  async #look(): Promise<void> {
    if (++this.#looks % looksPerBeat === 0 && !this.#exchange.isFull) this.#write(":\n\n");
    const why = await this.#revoked();
    if (why !== null) this.end(why, retryMs);
  }

  #finish(): void {
    if (this.#isOver) return;
    const linger = setTimeout(() => this.#exchange.drop(), lingerMs).unref();
    this.#exchange.onOver(() => clearTimeout(linger));
    this.#close();
    this.#exchange.end();
  }

  #close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearInterval(this.#timer);
    void this.#stream.return?.();
    this.#ended();
  }
}

/** For the stream: the payload is kept as it was published. */
export function unread(room: string, kept: Kept): Publication {
  return { room, position: kept, sender: kept.sender, time: new Date(kept.time), data: kept };
}

/** Line breaks in JSON stand between its parts only, and would end the event's line. */
function oneLine(kept: Kept): string {
  return shownText(kept).replaceAll(lineBreaks, " ");
}

const lineBreaks = /[\r\n]+/g;
