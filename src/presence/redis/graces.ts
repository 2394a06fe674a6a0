/**
 * Graces of those who have no session left, on any node: when one should be over it is looked whether it is. Each node
 * looks after those that began here, and after those that began on a node that is gone.
 */
import { Due } from "../due.ts";

export interface GracesOptions {
  readonly graceMs: number;
  /** How many of the room are still within theirs; anything but a number where that cannot be known. */
  endRoom(room: string): Promise<unknown>;
  /** Anything but 0: it is not over, or that cannot be known. */
  endUser(user: string): Promise<unknown>;
  /** Calls what follows an answer, and keeps what that throws from ending the node. */
  contain(callback: () => void): void;
  /** Nobody of the room is in a grace any more. */
  roomOver(room: string): void;
  userOver(user: string): void;
}

/** A grace is looked at this long after it should be over. */
const lateMs = 5;

export class Graces {
  /** Members whose grace began here and is not over. */
  members = 0;
  readonly #options: GracesOptions;
  /** Rooms, by how many of those they have. */
  readonly #inGrace = new Map<string, number>();
  readonly #rooms: Due<string>;
  readonly #users: Due<string>;
  #stopped = false;

  constructor(options: GracesOptions) {
    this.#options = options;
    this.#rooms = new Due(options.graceMs + lateMs, (room) => this.#endRoom(room));
    this.#users = new Due(options.graceMs + lateMs, (user) => this.#endUser(user));
  }

  /** Rooms with such members. */
  rooms(): Iterable<string> {
    return this.#inGrace.keys();
  }

  /** A member's grace has begun here. */
  begin(room: string): void {
    this.members++;
    this.#add(room, 1);
  }

  /** Somebody of the room may be in a grace. */
  lookAtRoom(room: string): void {
    this.#rooms.put(room);
  }

  lookAtUser(user: string): void {
    this.#users.put(user);
  }

  stop(): void {
    this.#stopped = true;
    this.#rooms.clear();
    this.#users.clear();
  }

  /** It is one timer for all who left the room: whoever left after the first needs another. */
  #endRoom(room: string): Promise<void> {
    const left = this.#inGrace.get(room) ?? 0;
    this.#inGrace.delete(room);
    return this.#options.endRoom(room).then((within) => this.#options.contain(() => {
      const still = typeof within === "number" ? within : Infinity;
      this.members -= left - Math.min(left, still);
      if (this.#stopped) return;
      if (still > 0) {
        this.#add(room, Math.min(left, still));
        this.#rooms.put(room);
      } else if (!this.#inGrace.has(room)) this.#options.roomOver(room);
    }));
  }

  #endUser(user: string): Promise<void> {
    return this.#options.endUser(user).then((within) => this.#options.contain(() => {
      if (this.#stopped) return;
      if (within !== 0) this.#users.put(user);
      else this.#options.userOver(user);
    }));
  }

  #add(room: string, count: number): void {
    this.#inGrace.set(room, (this.#inGrace.get(room) ?? 0) + count);
  }
}
