/** Users whose status somebody on this node watches, and what was told of each last: what is answered is never older. */
import type { Status } from "../presence.ts";

interface Entry {
  watchers: number;
  version: number;
  /** Null until something was told or answered. */
  status: Status | null;
}

export class Watched {
  readonly #users = new Map<string, Entry>();
  readonly #changed: (status: Status) => void;

  /** @param changed what was told or answered last no longer holds. */
  constructor(changed: (status: Status) => void) {
    this.#changed = changed;
  }

  watch(user: string): void {
    const entry = this.#users.get(user);
    if (entry === undefined) this.#users.set(user, { watchers: 1, version: 0, status: null });
    else entry.watchers++;
  }

  unwatch(user: string): void {
    const entry = this.#users.get(user);
    if (entry !== undefined && --entry.watchers <= 0) this.#users.delete(user);
  }

  /** Users of whom something was told. */
  *known(): Generator<string> {
    for (const [user, { status }] of this.#users) if (status !== null) yield user;
  }

  /** Redis has published it. */
  told(status: Status, version: number): void {
    const entry = this.#users.get(status.user);
    if (entry === undefined || version <= entry.version) return;
    const holds = entry.status !== null && isSame(entry.status, status);
    Object.assign(entry, { version, status });
    if (!holds) this.#changed(status);
  }

  /** Redis has answered it; what is to be answered in turn. */
  read(status: Status, version: number): Status {
    const entry = this.#users.get(status.user);
    // What was told is no older.
    if (entry?.status && version < entry.version) return entry.status;
    if (entry === undefined) return status;
    const before = entry.status;
    Object.assign(entry, { version, status });
    // Who asked before is told now: what is published of it is no news any more.
    if (before !== null && !isSame(before, status)) this.#changed(status);
    return status;
  }
}

function isSame(a: Status, b: Status): boolean {
  return a.online === b.online && a.lastSeen === b.lastSeen;
}
