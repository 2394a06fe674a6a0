/**
 * Live traces of rooms: what is published into a room, as a sample of a few publications a second, with the first bytes
 * of each. A trace ends by itself soon after the last page has asked for it, and in any case after ten minutes.
 */
import { Refused } from "../admin/request.ts";
import type { Stored } from "../broker/broker.ts";
import type { RoomListener } from "../hub/rooms.ts";
import { inboxName, roomKey } from "../protocol/roomkeys.ts";
import { preview } from "./preview.ts";

export interface RoomTracesOptions {
  listen(key: string, listener: RoomListener): void;
  unlisten(key: string, listener: RoomListener): void;
}

const perSecondMax = 10;
const eventsMax = 100;
const tracesMax = 8;
const idleMs = 5_000;
const longestMs = 10 * 60_000;
const lookMs = 1_000;

interface Event {
  readonly n: number;
  readonly at: number;
  readonly position: string;
  readonly sender: string;
  readonly bytes: number;
  readonly payload: string;
}

export class RoomTraces {
  readonly #options: RoomTracesOptions;
  readonly #open = new Map<string, RoomTrace>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: RoomTracesOptions) {
    this.#options = options;
  }

  /** @param after the last event that the page has; 0 begins the trace. @throws Refused */
  read(tenant: string, room: string, after: number): object {
    if (room === inboxName) throw new Refused(400, "bad_request", "room: an inbox is shown with its user");
    const key = roomKey(tenant, room);
    let trace = this.#open.get(key);
    // The page's own trace has ended, and another page has begun one since.
    if (trace !== undefined && after > trace.last) return { over: true, unsaid: 0, events: [] };
    if (trace === undefined) {
      // Over: the page is not to begin it again by asking for more.
      if (after > 0) return { over: true, unsaid: 0, events: [] };
      if (this.#open.size >= tracesMax) throw new Refused(503, "unavailable", `${tracesMax} rooms are traced already: stop one, or wait until one has ended`);
      trace = new RoomTrace();
      this.#open.set(key, trace);
      this.#timer ??= setInterval(() => this.#look(), lookMs).unref();
      this.#options.listen(key, trace);
    }
    if (trace.refusal !== "") {
      this.#end(key, trace);
      throw new Refused(400, "bad_request", `the room cannot be followed: ${trace.refusal}`);
    }
    return trace.read(after);
  }

  stop(): void {
    for (const [key, trace] of this.#open) this.#end(key, trace);
  }

  #look(): void {
    for (const [key, trace] of this.#open) if (trace.isOver) this.#end(key, trace);
  }

  #end(key: string, trace: RoomTrace): void {
    this.#options.unlisten(key, trace);
    this.#open.delete(key);
    if (this.#open.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}

/** Called on the data path: beyond its rate it only counts. */
class RoomTrace implements RoomListener {
  refusal = "";
  readonly #since = performance.now();
  #readAt = performance.now();
  #events: Event[] = [];
  #last = 1;
  #second = 0;
  #taken = 0;
  #unsaid = 0;

  get isOver(): boolean {
    const now = performance.now();
    return now - this.#readAt > idleMs || now - this.#since > longestMs;
  }

  /** Number of the newest event. */
  get last(): number {
    return this.#last;
  }

  opened(): void {}

  refused(code: string): void {
    this.refusal = code;
  }

  moved(): void {}

  delivered({ epoch, seq, sender, time, payload }: Stored): void {
    const second = Math.floor(performance.now() / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#taken = 0;
    }
    if (++this.#taken > perSecondMax) {
      this.#unsaid++;
      return;
    }
    if (this.#events.length >= eventsMax) this.#events.shift();
    this.#events.push({ n: ++this.#last, at: time, position: `${epoch}:${seq}`, sender, bytes: payload.length, payload: preview(payload) });
  }

  read(after: number): object {
    this.#readAt = performance.now();
    const unsaid = this.#unsaid;
    this.#unsaid = 0;
    const events = this.#events.filter(({ n }) => n > after);
    // From now on a page that has seen nothing yet is told apart from one that begins.
    return { over: false, unsaid, events, last: this.#last, leftMs: Math.round(this.#since + longestMs - this.#readAt) };
  }
}
