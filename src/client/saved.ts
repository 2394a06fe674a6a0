/**
 * What outlives the page: which session it had and where it was in its rooms. In browsers it is kept in the tab's
 * sessionStorage, so that a reload goes on where it was.
 *
 * A tab that is duplicated gets a copy of that storage, and two pages must not fight for one session. So a page marks
 * what it has saved as its own while it lives, and lets go of it when it is hidden for good (suspend). What is marked
 * belongs to another page, or to one that crashed: a session begins anew then, and only the places in rooms are used.
 */
import type { Cancel, Clock } from "./clock.ts";
import { fluxError } from "./flux-error.ts";
import type { FluxError } from "./flux-error.ts";
import type { Position } from "./rooms/publication.ts";
import { randomKey } from "./random.ts";

/** The part of the Web Storage interface that the SDK uses. */
export interface StorageLike {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** What `ready` gave out. */
export type Credentials = { readonly session: string; readonly resumeToken: string; readonly ticket: string };

export type Place = readonly [room: string, epoch: string, seq: number];

export type SavedSession = {
  readonly user: string;
  readonly credentials: Credentials | null;
  readonly places: readonly Place[];
};

type Stored = SavedSession & { readonly version: 1; readonly isLive: boolean };

export type SavedOwner = {
  /** What is to be kept now. */
  collect(): SavedSession;
  onError(error: FluxError): void;
};

const writeAfterMs = 1000;
/** Keys that clients of this page use: the second one to want a key keeps nothing while the first does. */
const taken = new WeakMap<StorageLike, Set<string>>();

export class Saved {
  readonly #storage: StorageLike | null;
  /** No other client of this page has the key. */
  #isOurs = false;
  readonly #key: string;
  readonly #clock: Clock;
  readonly #owner: SavedOwner;
  /** Places of an earlier page that nobody has asked for yet. */
  readonly #places = new Map<string, Position>();
  /** The session of an earlier page, if it may be gone on with. */
  readonly credentials: Credentials | null = null;
  readonly user: string = "";
  #cancelWrite: Cancel | null = null;
  #hasFailed = false;

  constructor(storage: StorageLike | null, key: string, clock: Clock, owner: SavedOwner) {
    this.#storage = storage;
    this.#key = key;
    this.#clock = clock;
    this.#owner = owner;
    this.#take();
    const stored = this.#read();
    if (stored === null) return;
    this.user = stored.user;
    for (const [room, epoch, seq] of stored.places) this.#places.set(room, { epoch, seq });
    if (!stored.isLive) this.credentials = stored.credentials;
    this.#write({ ...stored, isLive: true });
  }

  /** Where an earlier page was in a room; known until it is taken. */
  takePlace(room: string): Position | null {
    const place = this.#places.get(room) ?? null;
    this.#places.delete(room);
    return place;
  }

  get places(): ReadonlyMap<string, Position> {
    return this.#places;
  }

  /** Something is different: it is written in a while, together with what changes until then. */
  changed(): void {
    if (this.#isOurs) this.#cancelWrite ??= this.#clock.after(writeAfterMs, () => this.keep());
  }

  /** Writes what there is. */
  keep(): void {
    this.#stopWaiting();
    this.#take();
    this.#write({ ...this.#owner.collect(), version: 1, isLive: true });
  }

  /** Writes what there is, for the next page. */
  release(): void {
    this.#stopWaiting();
    this.#write({ ...this.#owner.collect(), version: 1, isLive: false });
    this.#letGo();
  }

  /** The session is over. */
  clear(): void {
    this.#stopWaiting();
    if (this.#isOurs) this.#storage?.removeItem(this.#key);
    this.#letGo();
  }

  #take(): void {
    if (this.#storage === null || this.#isOurs) return;
    const keys = taken.get(this.#storage) ?? new Set();
    taken.set(this.#storage, keys);
    this.#isOurs = !keys.has(this.#key);
    keys.add(this.#key);
  }

  #letGo(): void {
    if (this.#isOurs && this.#storage !== null) taken.get(this.#storage)?.delete(this.#key);
    this.#isOurs = false;
  }

  #stopWaiting(): void {
    this.#cancelWrite?.();
    this.#cancelWrite = null;
  }

  #read(): Stored | null {
    const text = this.#isOurs ? (this.#storage?.getItem(this.#key) ?? null) : null;
    if (text === null) return null;
    try {
      const stored: unknown = JSON.parse(text);
      return isStored(stored) ? stored : null;
    } catch {
      return null; // not ours: it is written over
    }
  }

  #write(stored: Stored): void {
    if (!this.#isOurs) return;
    try {
      this.#storage?.setItem(this.#key, JSON.stringify(stored));
      this.#hasFailed = false;
    } catch (error) {
      // Full, or forbidden to this page. Once is enough to say so.
      if (!this.#hasFailed) this.#owner.onError(fluxError("not_saved", `the session cannot be kept for a reload: ${String(error)}`));
      this.#hasFailed = true;
    }
  }
}

function isStored(value: unknown): value is Stored {
  const stored = value as Partial<Stored> | null;
  return stored?.version === 1 && typeof stored.user === "string" && Array.isArray(stored.places);
}

/** The storage of this tab; null outside of pages, and where the page may not use it. */
export function tabStorage(): StorageLike | null {
  return pageStorage("sessionStorage");
}

/** A name of this browser that stays; "" where there is nowhere to keep it. */
export function deviceName(): string {
  const storage = pageStorage("localStorage");
  if (storage === null) return "";
  try {
    const known = storage.getItem(deviceKey);
    if (known !== null) return known;
    const made = randomKey();
    storage.setItem(deviceKey, made);
    return made;
  } catch {
    return ""; // full: a device without a name gets every message of the inbox again
  }
}

const deviceKey = "flux-device";

function pageStorage(name: "sessionStorage" | "localStorage"): StorageLike | null {
  if (typeof document === "undefined") return null;
  try {
    return globalThis[name];
  } catch {
    return null; // a page in a sandbox: even to look at it is forbidden
  }
}
