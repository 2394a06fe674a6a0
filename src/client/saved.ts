/**
 * Stores the session and its positions in rooms outside the page. In browsers the storage is the tab's sessionStorage,
 * so that a reload continues the session.
 *
 * A duplicated tab gets a copy of that storage, and two pages must not compete for one session. So a page marks the
 * saved session as its own while it lives, and releases it when it is hidden for good (suspend). A marked session
 * belongs to another page or to one that crashed. The client then starts a new session and uses only the positions in
 * rooms.
 */
import type { Cancel, Clock } from "./clock.ts";
import { fluxError } from "./flux-error.ts";
import type { FluxError } from "./flux-error.ts";
import type { Position } from "./rooms/publication.ts";
import { randomKey } from "./random.ts";
import { deviceProblem } from "./values.ts";

/** The part of the Web Storage interface that the SDK uses. */
export interface StorageLike {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** Values from `ready` that resume a session. */
export type Credentials = {
  readonly session: string;
  readonly resumeToken: string;
  readonly ticket: string;
  /** Most bytes of a frame that the node takes. Older versions of the SDK did not save it. */
  readonly frameBytesMax?: number;
};

export type Place = readonly [room: string, epoch: string, seq: number];

export type SavedSession = {
  readonly user: string;
  readonly credentials: Credentials | null;
  readonly places: readonly Place[];
};

type Stored = SavedSession & { readonly version: 1; readonly isLive: boolean };

export type SavedOwner = {
  /** Returns the state to save. */
  collect(): SavedSession;
  onError(error: FluxError): void;
};

const writeAfterMs = 1000;
/** Storage keys in use by clients of this page. */
const taken = new WeakMap<StorageLike, Set<string>>();

export class Saved {
  readonly #storage: StorageLike | null;
  /** Whether the key is taken for this client. */
  #isOurs = false;
  readonly #name: string;
  #key: string;
  readonly #clock: Clock;
  readonly #owner: SavedOwner;
  /** Positions of an earlier page that no join has taken yet. */
  readonly #places = new Map<string, Position>();
  /** The session of an earlier page, if it may be resumed. */
  readonly credentials: Credentials | null = null;
  readonly user: string = "";
  #cancelWrite: Cancel | null = null;
  #hasFailed = false;

  constructor(storage: StorageLike | null, name: string, clock: Clock, owner: SavedOwner) {
    this.#storage = storage;
    this.#name = this.#key = name;
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

  /** Position of an earlier page in a room; returned once. */
  takePlace(room: string): Position | null {
    const place = this.#places.get(room) ?? null;
    this.#places.delete(room);
    return place;
  }

  get places(): ReadonlyMap<string, Position> {
    return this.#places;
  }

  /** Schedules a save, together with the changes until then. */
  changed(): void {
    if (this.#isOurs) this.#cancelWrite ??= this.#clock.after(writeAfterMs, () => this.keep());
  }

  /** Saves now. */
  keep(): void {
    this.#stopWaiting();
    this.#take();
    this.#write({ ...this.#owner.collect(), version: 1, isLive: true });
  }

  /** Saves now and releases the session for the next page. */
  release(): void {
    this.#stopWaiting();
    this.#write({ ...this.#owner.collect(), version: 1, isLive: false });
    this.#letGo();
  }

  /** Deletes the saved session, which has ended. */
  clear(): void {
    this.#stopWaiting();
    if (this.#isOurs) this.#storage?.removeItem(this.#key);
    this.#letGo();
  }

  /** Clients of one name in a page have keys of their own, by the order in which they began: after a reload it is the same. */
  #take(): void {
    if (this.#storage === null || this.#isOurs) return;
    const keys = taken.get(this.#storage) ?? new Set();
    taken.set(this.#storage, keys);
    // After suspend(), another client may have the key.
    for (let number = 2; keys.has(this.#key); number++) this.#key = `${this.#name} ${number}`;
    this.#isOurs = true;
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
      return null; // not ours: will be overwritten
    }
  }

  #write(stored: Stored): void {
    if (!this.#isOurs) return;
    try {
      this.#storage?.setItem(this.#key, JSON.stringify(stored));
      this.#hasFailed = false;
    } catch (error) {
      // The storage is full, or forbidden to this page. Reported once.
      if (!this.#hasFailed) this.#owner.onError(fluxError("not_saved", `the session cannot be saved for a reload: ${String(error)}`));
      this.#hasFailed = true;
    }
  }
}

function isStored(value: unknown): value is Stored {
  const stored = value as Partial<Stored> | null;
  return stored?.version === 1 && typeof stored.user === "string" && Array.isArray(stored.places);
}

/** The tab's sessionStorage. Null outside of pages, and where the page may not use it. */
export function tabStorage(): StorageLike | null {
  return pageStorage("sessionStorage");
}

/** A stable name of this browser; "" where it cannot be stored. */
export function deviceName(): string {
  const storage = pageStorage("localStorage");
  if (storage === null) return "";
  try {
    const known = storage.getItem(deviceKey);
    if (known !== null && deviceProblem(known) === null) return known;
    const made = randomKey();
    storage.setItem(deviceKey, made);
    return made;
  } catch {
    return ""; // full: without a name, the device receives every message of the inbox again
  }
}

const deviceKey = "flux-device";

function pageStorage(name: "sessionStorage" | "localStorage"): StorageLike | null {
  if (typeof document === "undefined") return null;
  try {
    return globalThis[name];
  } catch {
    return null; // a sandboxed page: even reading the property throws
  }
}
