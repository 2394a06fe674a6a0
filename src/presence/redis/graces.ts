/** Ends grace periods in Redis. Each node ends those that began on this node or on a dead one. */
import { Due } from "../due.ts";

export interface GracesOptions {
  readonly graceMs: number;
  /**
   * Ends due graces in the room. Resolves with the number of members still within theirs; not a number where unknown.
   */
  endRoom(room: string): Promise<unknown>;
  /** Ends the user's grace if due. Resolves with 0 when it is over; anything else: not over, or unknown. */
  endUser(user: string): Promise<unknown>;
  /** Runs code that handles an answer, and catches its exceptions. */
  contain(callback: () => void): void;
  /** No member of the room is within a grace any more. */
  roomOver(room: string): void;
  userOver(user: string): void;
}

/** A grace is checked this long after its end. */
const lateMs = 5;
/** Where Redis did not answer it is asked again, not sooner. */
const unknownMs = 1_000;

export class Graces {
  /** Members whose grace began here and is not over. */
  members = 0;
  readonly #options: GracesOptions;
  /** Rooms, with their number of such members. */
  readonly #inGrace = new Map<string, number>();
  readonly #rooms: Due<string>;
  readonly #users: Due<string>;
  readonly #roomsAgain: Due<string>;
  readonly #usersAgain: Due<string>;
  #stopped = false;

  constructor(options: GracesOptions) {
    this.#options = options;
    this.#rooms = new Due(options.graceMs + lateMs, (room) => this.#endRoom(room));
    this.#users = new Due(options.graceMs + lateMs, (user) => this.#endUser(user));
    this.#roomsAgain = new Due(Math.max(unknownMs, options.graceMs), (room) => this.#endRoom(room));
    this.#usersAgain = new Due(Math.max(unknownMs, options.graceMs), (user) => this.#endUser(user));
  }

  /** Rooms with such members. */
  rooms(): Iterable<string> {
    return this.#inGrace.keys();
  }

  /** Whether the room, or the user, is to be looked at. */
  has(room: string): boolean {
    return this.#inGrace.has(room) || this.#rooms.has(room) || this.#roomsAgain.has(room);
  }

  hasUser(user: string): boolean {
    return this.#users.has(user) || this.#usersAgain.has(user);
  }

  /** A member's grace has begun here. */
  begin(room: string): void {
    this.members++;
    this.#add(room, 1);
  }

  /** Schedules a check of the room: a member may be within a grace. */
  lookAtRoom(room: string): void {
    this.#rooms.put(room);
  }

  lookAtUser(user: string): void {
    this.#users.put(user);
  }

  stop(): void {
    this.#stopped = true;
    for (const due of [this.#rooms, this.#users, this.#roomsAgain, this.#usersAgain]) due.clear();
  }

  /** One timer covers all members that left the room. If some left after the first, it is set again. */
  #endRoom(room: string): Promise<void> {
    const left = this.#inGrace.get(room) ?? 0;
    this.#inGrace.delete(room);
    return this.#options.endRoom(room).then((within) => this.#options.contain(() => {
      const still = typeof within === "number" ? within : Infinity;
      this.members -= left - Math.min(left, still);
      if (this.#stopped) return;
      if (still > 0) {
        this.#add(room, Math.min(left, still));
        (typeof within === "number" ? this.#rooms : this.#roomsAgain).put(room);
      } else if (!this.#inGrace.has(room)) this.#options.roomOver(room);
    }));
  }

  #endUser(user: string): Promise<void> {
    return this.#options.endUser(user).then((within) => this.#options.contain(() => {
      if (this.#stopped) return;
      if (within !== 0) (within === null ? this.#usersAgain : this.#users).put(user);
      else this.#options.userOver(user);
    }));
  }

  #add(room: string, count: number): void {
    this.#inGrace.set(room, (this.#inGrace.get(room) ?? 0) + count);
  }
}
