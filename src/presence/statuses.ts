/** Who is there at all, who was and when, and who is watched. */
import { Due } from "./due.ts";
import { withoutOne, withOne, type Held } from "../held.ts";
import { LastSeen } from "./lastseen.ts";
import type { Status } from "./presence.ts";

interface User {
  readonly key: string;
  /** Null: not there, or within the grace. */
  sessions: Held<string>;
  /** As it was told or would have been: stays true until the grace is over. */
  online: boolean;
  /** When the last session was over. */
  wentAt: number;
  watchers: number;
}

export interface StatusesOptions {
  readonly graceMs: number;
  readonly lastSeenTtlMs: number;
  readonly lastSeenMax: number;
  readonly clock: () => number;
  statusChanged(status: Status): void;
}

export class Statuses {
  /** Users who are online. */
  online = 0;
  readonly #options: StatusesOptions;
  /** Users who are online or watched. */
  readonly #users = new Map<string, User>();
  readonly #lastSeen: LastSeen;
  readonly #leaving: Due<User>;

  constructor(options: StatusesOptions) {
    this.#options = options;
    this.#lastSeen = new LastSeen(options.lastSeenMax, options.lastSeenTtlMs);
    this.#leaving = new Due(options.graceMs, (user) => this.#gone(user));
  }

  begin(key: string, session: string): void {
    const user = this.#user(key);
    user.sessions = withOne(user.sessions, session);
    this.#leaving.take(user);
    if (user.online) return;
    user.online = true;
    this.online++;
    this.#tell(user);
  }

  end(key: string, session: string): void {
    const user = this.#users.get(key);
    if (user === undefined || user.sessions === null) return;
    user.sessions = withoutOne(user.sessions, session);
    if (user.sessions !== null) return;
    user.wentAt = this.#options.clock();
    this.#leaving.put(user);
  }

  watch(key: string): void {
    this.#user(key).watchers++;
  }

  unwatch(key: string): void {
    const user = this.#users.get(key);
    if (user === undefined || user.watchers === 0) return;
    user.watchers--;
    this.#forgetUnless(user);
  }

  statusOf(key: string): Status {
    const online = this.#users.get(key)?.online ?? false;
    return { user: key, online, lastSeen: online ? 0 : this.#lastSeen.get(key, this.#options.clock()) };
  }

  expire(): void {
    this.#lastSeen.expire(this.#options.clock());
  }

  clear(): void {
    this.#leaving.clear();
    this.#users.clear();
    this.#lastSeen.clear();
    this.online = 0;
  }

  #user(key: string): User {
    let user = this.#users.get(key);
    if (user === undefined) {
      user = { key, sessions: null, online: false, wentAt: 0, watchers: 0 };
      this.#users.set(key, user);
    }
    return user;
  }

  #gone(user: User): void {
    user.online = false;
    this.online--;
    this.#lastSeen.set(user.key, user.wentAt);
    this.#tell(user);
    this.#forgetUnless(user);
  }

  #tell(user: User): void {
    if (user.watchers > 0) this.#options.statusChanged(this.statusOf(user.key));
  }

  /** Only who is online or watched has a record. */
  #forgetUnless({ key, online, watchers }: User): void {
    if (!online && watchers === 0) this.#users.delete(key);
  }
}
