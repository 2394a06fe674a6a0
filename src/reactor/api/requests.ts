/** One request to the HTTP API, as its reactor has it: its body on the way to the main thread, its answer on the way back. */
import type { HttpResponse } from "uWebSockets.js";
import type { RequestId } from "../../link/api.ts";

type Begun = Pick<Asked, "res" | "isHead" | "isChunked" | "address" | "credential" | "startedAt">;

/** A class of one shape, without lists until they are needed: most requests are one record, and so are most answers. */
export class Asked implements RequestId {
  readonly slot: number;
  readonly life: number;
  readonly res: HttpResponse;
  readonly isHead: boolean;
  /** Its body comes in chunks: the connection ends with the answer. */
  readonly isChunked: boolean;
  readonly address: string;
  readonly credential: string;
  readonly startedAt: number;
  /** The main thread has it. */
  isPassed = false;
  /** Pieces of the body that wait, their bytes, and what the main thread takes now. */
  body: Buffer[] | null = null;
  bodyBytes = 0;
  received = 0;
  credit = 0;
  isWhole = false;
  /** Of the answer; 0: none yet. */
  status = 0;
  /** Bytes of the whole answer; -1: a stream. */
  total = 0;
  /** Pieces of the answer that the socket did not take. The first begins at `sentTo` of the answer. */
  pieces: Buffer[] | null = null;
  sentTo = 0;
  isLast = false;
  /** The socket is full. */
  isBlocked = false;
  /** Sent since the main thread was told. */
  untold = 0;
  isOver = false;

  constructor(slot: number, life: number, { res, isHead, isChunked, address, credential, startedAt }: Begun) {
    this.slot = slot;
    this.life = life;
    this.res = res;
    this.isHead = isHead;
    this.isChunked = isChunked;
    this.address = address;
    this.credential = credential;
    this.startedAt = startedAt;
  }
}

/** Requests by slot. Slots are used again. */
export class Requests {
  readonly #all: (Asked | undefined)[] = [];
  readonly #lives: number[] = [];
  readonly #free: number[] = [];
  size = 0;

  /** A slot is taken with `lifeOf` and `add`. */
  freeSlot(): number {
    return this.#free.pop() ?? this.#lives.push(0) - 1;
  }

  /** Of the next request in this slot. */
  lifeOf(slot: number): number {
    return (this.#lives[slot] = (this.#lives[slot]! + 1) >>> 0);
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
