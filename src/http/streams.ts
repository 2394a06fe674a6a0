/** The rooms that are followed as Server-Sent Events: how many, of whom, and their ends. */
import { ApiError } from "../api/error.ts";
import { idOf, type ApiCaller } from "../auth/apikeys.ts";
import type { Grant } from "../auth/grants.ts";
import { userKey } from "../protocol/roomkeys.ts";
import { EventStream, type Opened } from "./eventstream.ts";
import type { Exchange } from "./exchange/exchange.ts";

/** Each stream has a connection of its own. */
export interface StreamBounds {
  readonly all: number;
  readonly ofKey: number;
  /** With tokens, of all users: keys find room. */
  readonly ofTokens: number;
  /** Of one user with a token. */
  readonly ofUser: number;
}

export const streamBounds: StreamBounds = { all: 256, ofKey: 128, ofTokens: 128, ofUser: 16 };
/** Browsers may be the clients: more of them, and none has many. */
export const publicStreamBounds: StreamBounds = { all: 512, ofKey: 128, ofTokens: 384, ofUser: 16 };
/** Before a client of a drained node connects again. */
const drainRetryMs = { least: 500, most: 3_000 };
const retryMs = 2_000;
/** Node's timers take no longer time. */
const timerMsMax = 2 ** 31 - 1;

export class Streams {
  readonly #bounds: StreamBounds;
  readonly #places = new Set<Place>();
  readonly #ofCaller = new Map<string, number>();
  #ofTokens = 0;
  #isLeaving = false;

  constructor(bounds: StreamBounds) {
    this.#bounds = bounds;
  }

  get count(): number {
    return this.#places.size;
  }

  /** @throws ApiError */
  take(caller: ApiCaller): Place {
    if (this.#isLeaving) throw new ApiError("unavailable", "the node drains; another node has the room as well");
    const { grant } = caller;
    const { all, ofKey, ofTokens, ofUser } = this.#bounds;
    const who = idOf(caller);
    const before = this.#ofCaller.get(who) ?? 0;
    const max = grant === null ? ofKey : ofUser;
    if (this.#places.size >= all) throw new ApiError("overloaded", `${all} streams are open already`);
    if (grant !== null && this.#ofTokens >= ofTokens) throw new ApiError("overloaded", `${ofTokens} streams with tokens are open already`);
    if (before >= max) throw new ApiError("overloaded", `this ${grant === null ? "key" : "user"} has ${max} streams already`);
    const place: Place = new Place(grant, () => this.#free(place, who));
    this.#places.add(place);
    if (grant !== null) this.#ofTokens++;
    this.#ofCaller.set(who, before + 1);
    return place;
  }

  #free(place: Place, who: string): void {
    this.#places.delete(place);
    if (place.userKey !== null) this.#ofTokens--;
    const left = this.#ofCaller.get(who)! - 1;
    if (left > 0) this.#ofCaller.set(who, left);
    else this.#ofCaller.delete(who);
  }

  /** The application has disconnected the user, or has signed the user out: the streams with the user's tokens end. */
  closed(userKey: string): void {
    for (const place of [...this.#places]) if (place.userKey === userKey) place.end("disconnected", retryMs);
  }

  /** Ends all streams, spread over the time, and takes no new ones. */
  drain(windowMs: number): void {
    this.#isLeaving = true;
    for (const place of this.#places) {
      const comeBackMs = Math.round(drainRetryMs.least + Math.random() * (drainRetryMs.most - drainRetryMs.least));
      setTimeout(() => place.end("the node drains", comeBackMs), Math.random() * windowMs).unref();
    }
  }
}

/** A place among the streams, taken before the room is opened. */
export class Place {
  /** Of a user with a token; null: the caller has a key. */
  readonly userKey: string | null;
  readonly #expiresAt: number;
  readonly #freed: () => void;
  #stream: EventStream | null = null;
  #isTaken = true;
  /** It ended before it began. */
  #isOver: { readonly reason: string; readonly retryMs: number } | null = null;
  #expiry: NodeJS.Timeout | null = null;

  /** @param grant of a client's token */
  constructor(grant: Grant | null, freed: () => void) {
    this.userKey = grant === null ? null : userKey(grant.tenant, grant.user);
    this.#expiresAt = grant?.expiresAt ?? 0;
    this.#freed = freed;
  }

  /** @param exchange whose head is written. */
  begin(exchange: Exchange, opened: Opened): void {
    this.#stream = new EventStream(exchange, opened, () => this.free());
    if (this.#isOver !== null) this.#stream.end(this.#isOver.reason, this.#isOver.retryMs);
    else if (this.#expiresAt > 0 && this.#isTaken) this.#awaitExpiry();
  }

  /** The client shall come again, in `retryMs`. */
  end(reason: string, retryMs: number): void {
    if (this.#stream !== null) this.#stream.end(reason, retryMs);
    else this.#isOver ??= { reason, retryMs };
  }

  /** Once is enough, and twice does no harm. */
  free(): void {
    if (!this.#isTaken) return;
    this.#isTaken = false;
    if (this.#expiry !== null) clearTimeout(this.#expiry);
    this.#freed();
  }

  #awaitExpiry(): void {
    const leftMs = this.#expiresAt - Date.now();
    if (leftMs <= 0) return this.end("token_expired", retryMs);
    this.#expiry = setTimeout(() => this.#awaitExpiry(), Math.min(leftMs, timerMsMax)).unref();
  }
}
