/**
 * The rooms with the most publications and deliveries now. Nothing is counted for it: while somebody looks, all rooms
 * are read every few seconds, and how far each has come since then is its rate. A node may have 100,000 rooms, so it
 * reads them in slices, between which the loop goes on.
 */
import type { Said } from "./answers.ts";

interface Room {
  readonly key: string;
  readonly handle: number;
  readonly epoch: string;
  readonly seq: number;
  readonly members: number;
}

export interface HotRoomsOptions {
  rooms(): Iterable<Room>;
  named(key: string): { readonly room: string; readonly tenant: string };
  /** Replaced in tests. */
  readonly clock?: () => number;
}

const sliceRooms = 2_000;
const listedMax = 50;
/** A rate over less means nothing; what was read longer ago is dropped. */
const apartMs = 1_000;
const keptMs = 15_000;

interface Read {
  readonly at: number;
  readonly heads: ReadonlyMap<number, { readonly epoch: string; readonly seq: number }>;
}

export class HotRooms {
  readonly #options: HotRoomsOptions;
  readonly #clock: () => number;
  #before: Read | null = null;
  #last: Said<"hot"> = { isNew: true, rooms: [] };
  #reading: Promise<Said<"hot">> | null = null;
  #forget: NodeJS.Timeout | null = null;

  constructor(options: HotRoomsOptions) {
    this.#options = options;
    this.#clock = options.clock ?? (() => performance.now());
  }

  /** The rates since it was asked before. */
  list(): Promise<Said<"hot">> {
    if (this.#before !== null && this.#clock() - this.#before.at < apartMs) return Promise.resolve(this.#last);
    this.#reading ??= this.#readAll().finally(() => (this.#reading = null));
    return this.#reading;
  }

  stop(): void {
    if (this.#forget !== null) clearTimeout(this.#forget);
    this.#forget = null;
    this.#before = null;
  }

  async #readAll(): Promise<Said<"hot">> {
    const before = this.#before;
    const at = this.#clock();
    const seconds = before === null ? 0 : (at - before.at) / 1_000;
    const heads = new Map<number, { epoch: string; seq: number }>();
    let found: { room: Room; perSecond: number; deliveries: number }[] = [];
    let seen = 0;
    for (const room of this.#options.rooms()) {
      if (++seen % sliceRooms === 0) await new Promise(setImmediate);
      const { handle, epoch, seq, members } = room;
      heads.set(handle, { epoch, seq });
      const head = before?.heads.get(handle);
      if (head === undefined || head.epoch !== epoch || seq <= head.seq) continue;
      const perSecond = (seq - head.seq) / seconds;
      found.push({ room, perSecond, deliveries: perSecond * members });
      if (found.length >= 10 * listedMax) found = hottest(found);
    }
    this.#before = { at, heads };
    const rooms = hottest(found).map(({ room: { key, members }, perSecond, deliveries }) => ({ ...this.#options.named(key), members, perSecond: rounded(perSecond), deliveries: rounded(deliveries) }));
    this.#last = { isNew: before === null, rooms };
    if (this.#forget !== null) clearTimeout(this.#forget);
    this.#forget = setTimeout(() => this.stop(), keptMs).unref();
    return this.#last;
  }
}

function hottest<T extends { readonly perSecond: number; readonly deliveries: number }>(rooms: readonly T[]): T[] {
  return [...rooms].sort((a, b) => b.deliveries - a.deliveries || b.perSecond - a.perSecond).slice(0, listedMax);
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
