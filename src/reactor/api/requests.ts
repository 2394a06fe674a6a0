/** One request to the HTTP API, as its reactor has it: its body on the way to the main thread, its answer on the way back. */
import type { HttpResponse } from "uWebSockets.js";
import type { RequestId } from "../../link/api.ts";

export interface Asked extends RequestId {
  readonly res: HttpResponse;
  readonly isHead: boolean;
  readonly address: string;
  readonly credential: string;
  readonly startedAt: number;
  /** The main thread has it. */
  isPassed: boolean;
  /** Pieces of the body that wait, their bytes, and what the main thread takes now. */
  readonly body: Buffer[];
  bodyBytes: number;
  received: number;
  credit: number;
  isWhole: boolean;
  /** Of the answer; 0: none yet. */
  status: number;
  /** Bytes of the whole answer; -1: a stream. */
  total: number;
  /** Pieces of the answer that the socket did not take. The first begins at `sentTo` of the answer. */
  readonly pieces: Buffer[];
  sentTo: number;
  isLast: boolean;
  /** The socket is full. */
  isBlocked: boolean;
  /** Sent since the main thread was told. */
  untold: number;
  isOver: boolean;
}

export function newRequest(id: RequestId, res: HttpResponse, from: Pick<Asked, "isHead" | "address" | "credential">, startedAt: number): Asked {
  return {
    ...id, res, ...from, startedAt, isPassed: false, body: [], bodyBytes: 0, received: 0, credit: 0, isWhole: false, status: 0, total: 0, pieces: [], sentTo: 0,
    isLast: false, isBlocked: false, untold: 0, isOver: false,
  };
}

/** Requests by slot. Slots are used again. */
export class Requests {
  readonly #all: (Asked | undefined)[] = [];
  readonly #lives: number[] = [];
  readonly #free: number[] = [];
  size = 0;

  take(): RequestId {
    const slot = this.#free.pop() ?? this.#lives.push(0) - 1;
    this.#lives[slot] = (this.#lives[slot]! + 1) >>> 0;
    return { slot, life: this.#lives[slot]! };
  }

  add(asked: Asked): void {
    this.#all[asked.slot] = asked;
    this.size++;
  }

  find({ slot, life }: RequestId): Asked | undefined {
    const asked = this.#all[slot];
    return asked?.life === life ? asked : undefined;
  }

  remove({ slot }: RequestId): void {
    this.#all[slot] = undefined;
    this.#free.push(slot);
    this.size--;
  }

  *all(): Generator<Asked> {
    for (const asked of this.#all) if (asked !== undefined) yield asked;
  }
}
