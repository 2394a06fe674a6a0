/** The rooms into which the application has joined users, in memory, bounded. Nothing is evicted: it must hold. */
import type { ErrorCode } from "../errors.ts";

/** Rooms of all users together. */
export const assignedMax = 1_000_000;

const none: readonly string[] = [];

export class Assignments {
  readonly #max: number;
  readonly #byUser = new Map<string, readonly string[]>();
  #size = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#size;
  }

  of(user: string): readonly string[] {
    return this.#byUser.get(user) ?? none;
  }

  /** Why the user cannot have the room, or null: the user has it now. */
  add(user: string, room: string, max: number): ErrorCode | null {
    const rooms = this.of(user);
    if (rooms.includes(room)) return null;
    if (rooms.length >= max) return "too_many_rooms";
    if (this.#size >= this.#max) return "overloaded";
    this.#byUser.set(user, [...rooms, room]);
    this.#size++;
    return null;
  }

  remove(user: string, room: string): void {
    const rooms = this.of(user);
    const left = rooms.filter((one) => one !== room);
    this.#size -= rooms.length - left.length;
    if (left.length > 0) this.#byUser.set(user, left);
    else this.#byUser.delete(user);
  }

  users(): string[] {
    return [...this.#byUser.keys()];
  }

  clear(): void {
    this.#byUser.clear();
    this.#size = 0;
  }
}
