/**
 * Users watched by sessions of this node, with the last announced status of each: answers are never older than that.
 */
import type { Status } from "../presence.ts";

interface Entry {
  watchers: number;
  version: number;
  /** Null until a status was announced or answered. */
  status: Status | null;
}

export class Watched {
  readonly #users = new Map<string, Entry>();
  readonly #changed: (status: Status) => void;

  /** @param changed called when the last announced or answered status no longer holds */
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

  /** Users with a known status. */
  *known(): Generator<string> {
    for (const [user, { status }] of this.#users) if (status !== null) yield user;
  }

  /** Redis has published this status. */
  announced(status: Status, version: number): void {
    const entry = this.#users.get(status.user);
    if (entry === undefined || version <= entry.version) return;
    const holds = entry.status !== null && isSame(entry.status, status);
    Object.assign(entry, { version, status });
    if (!holds) this.#changed(status);
  }

  /** Redis has answered this status. Returns the status to answer with. */
  read(status: Status, version: number): Status {
    const entry = this.#users.get(status.user);
    // The announced status is newer.
    if (entry?.status && version < entry.version) return entry.status;
    if (entry === undefined) return status;
    const before = entry.status;
    Object.assign(entry, { version, status });
    // Earlier watchers get the news now: the announcement that follows will find no change.
    if (before !== null && !isSame(before, status)) this.#changed(status);
    return status;
  }
}

function isSame(a: Status, b: Status): boolean {
  return a.online === b.online && a.lastSeen === b.lastSeen;
}
