/** Which users are online, when others were last seen, and which are watched. */
import { Due } from "./due.ts";
import { withoutOne, withOne, type Held } from "../platform/held.ts";
import { LastSeen } from "./lastseen.ts";
import type { Status } from "./presence.ts";

export interface StatusesOptions {
  readonly graceMs: number;
  readonly lastSeenTtlMs: number;
  readonly lastSeenMax: number;
  readonly clock: () => number;
  statusChanged(status: Status): void;
  /** Of every user, watched or not. */
  turned(user: string, isOnline: boolean): void;
}

export class Statuses {
  readonly #options: StatusesOptions;
  /** Online users with their sessions; a user within the grace has none. Most users appear only here. */
  readonly #online = new Map<string, Held<string>>();
  /** When users within the grace went. */
  readonly #wentAt = new Map<string, number>();
  readonly #watchers = new Map<string, number>();
  readonly #lastSeen: LastSeen;
  readonly #leaving: Due<string>;

  constructor(options: StatusesOptions) {
    this.#options = options;
    this.#lastSeen = new LastSeen(options.lastSeenMax, options.lastSeenTtlMs);
    this.#leaving = new Due(options.graceMs, (user) => this.#gone(user));
  }

  /** Users who are online. */
  get online(): number {
    return this.#online.size;
  }

  begin(user: string, session: string): void {
    const before = this.#online.get(user);
    this.#online.set(user, withOne(before ?? null, session));
    if (before === undefined) this.#tell(user);
    else if (before === null) this.#back(user);
  }

  end(user: string, session: string): void {
    const before = this.#online.get(user) ?? null;
    if (before === null) return;
    const left = withoutOne(before, session);
    this.#online.set(user, left);
    if (left !== null) return;
    this.#wentAt.set(user, this.#options.clock());
    this.#leaving.put(user);
  }

  watch(user: string): void {
    this.#watchers.set(user, (this.#watchers.get(user) ?? 0) + 1);
  }

  unwatch(user: string): void {
    const left = (this.#watchers.get(user) ?? 0) - 1;
    if (left > 0) this.#watchers.set(user, left);
    else this.#watchers.delete(user);
  }

  statusOf(user: string): Status {
    const online = this.#online.has(user);
    return { user, online, lastSeen: online ? 0 : this.#lastSeen.get(user, this.#options.clock()) };
  }

  expire(): void {
    this.#lastSeen.expire(this.#options.clock());
  }

  clear(): void {
    this.#leaving.clear();
    this.#online.clear();
    this.#wentAt.clear();
    this.#watchers.clear();
    this.#lastSeen.clear();
  }

  /** The user returns within the grace: no watcher is notified. */
  #back(user: string): void {
    this.#leaving.take(user);
    this.#wentAt.delete(user);
  }

  #gone(user: string): void {
    this.#lastSeen.set(user, this.#wentAt.get(user) ?? 0);
    this.#wentAt.delete(user);
    this.#online.delete(user);
    this.#tell(user);
  }

  #tell(user: string): void {
    this.#options.turned(user, this.#online.has(user));
    if (this.#watchers.has(user)) this.#options.statusChanged(this.statusOf(user));
  }
}
