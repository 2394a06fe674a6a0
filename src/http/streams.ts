/** The rooms that are followed as Server-Sent Events: how many, of whom, and their end when the node drains. */
import type { ServerResponse } from "node:http";
import { ApiError } from "../api/error.ts";
import { EventStream, type Opened } from "./eventstream.ts";

/** Each has a connection of its own. */
export const streamsMax = 256;
export const streamsOfOneMax = 128;
/** Before a client of a drained node connects again. */
const retryMs = { least: 500, most: 3_000 };

/** A place among the streams. */
export interface Place {
  begin(res: ServerResponse, opened: Opened): void;
  /** Once is enough, and twice does no harm. */
  free(): void;
}

export class Streams {
  readonly #open = new Set<EventStream>();
  readonly #ofCaller = new Map<string, number>();
  #taken = 0;
  #isLeaving = false;

  get count(): number {
    return this.#taken;
  }

  /** @throws ApiError */
  take(caller: string): Place {
    if (this.#isLeaving) throw new ApiError("unavailable", "the node drains; another node has the room as well");
    const before = this.#ofCaller.get(caller) ?? 0;
    if (this.#taken >= streamsMax) throw new ApiError("overloaded", `${streamsMax} streams are open already`);
    if (before >= streamsOfOneMax) throw new ApiError("overloaded", `this key has ${streamsOfOneMax} streams already`);
    this.#taken++;
    this.#ofCaller.set(caller, before + 1);
    let isTaken = true;
    let stream: EventStream | null = null;
    const free = () => {
      if (!isTaken) return;
      isTaken = false;
      this.#taken--;
      const left = this.#ofCaller.get(caller)! - 1;
      if (left > 0) this.#ofCaller.set(caller, left);
      else this.#ofCaller.delete(caller);
      if (stream !== null) this.#open.delete(stream);
    };
    const begin = (res: ServerResponse, opened: Opened) => {
      stream = new EventStream(res, opened, free);
      if (isTaken) this.#open.add(stream);
    };
    return { begin, free };
  }

  /** Ends all streams, spread over the time, and takes no new ones. */
  drain(windowMs: number): void {
    this.#isLeaving = true;
    for (const stream of this.#open) {
      const comeBackMs = Math.round(retryMs.least + Math.random() * (retryMs.most - retryMs.least));
      setTimeout(() => stream.end("the node drains", comeBackMs), Math.random() * windowMs).unref();
    }
  }
}
