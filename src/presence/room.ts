/**
 * The members of one room, and what is to be told of them. A member keeps its number from when it came until it is
 * gone, and pages go by that number: whoever stays is on one page, and a page costs what is on it.
 */
import { countOf, withoutOne, withOne, type Held } from "../platform/held.ts";
import type { MembersQuery, RoomChange, RoomMember, RoomPresence } from "./presence.ts";

export interface Member {
  readonly room: Room;
  readonly user: string;
  /** Grows with every member that comes. */
  readonly number: number;
  /** Null within the grace, and for one that is gone. */
  sessions: Held<string>;
  gone: boolean;
}

/** Above these it is not told who came and went, only how many there are. */
export interface NamedMax {
  readonly users: number;
  readonly changes: number;
}

/** Gone members keep their place among the others until they are this many and half of all. */
const goneMin = 32;

export class Room {
  readonly key: string;
  followed = false;
  version: number;
  sessions = 0;
  readonly #members = new Map<string, Member>();
  /** By number; with some that are gone. */
  #order: Member[] = [];
  #lastNumber = 0;
  /** User → joined or left, since the last change was told. Null: nothing yet. */
  #changes: Map<string, boolean> | null = null;
  /** Too many to name. */
  #crowded = false;
  /** Someone was answered since the last change was told. */
  #answered = false;

  constructor(key: string, version: number) {
    this.key = key;
    this.version = version;
  }

  get users(): number {
    return this.#members.size;
  }

  member(user: string): Member | undefined {
    return this.#members.get(user);
  }

  /** True: a user has come who was not here. */
  enter(user: string, session: string): boolean {
    let member = this.#members.get(user);
    const isNew = member === undefined;
    if (member === undefined) {
      member = { room: this, user, number: ++this.#lastNumber, sessions: null, gone: false };
      this.#members.set(user, member);
      this.#order.push(member);
    }
    // A Set is changed in place, so it is counted before.
    const before = countOf(member.sessions);
    member.sessions = withOne(member.sessions, session);
    this.sessions += countOf(member.sessions) - before;
    return isNew;
  }

  /** The member whose last session this was. */
  leave(user: string, session: string): Member | null {
    const member = this.#members.get(user);
    if (member === undefined || member.sessions === null) return null;
    const before = countOf(member.sessions);
    member.sessions = withoutOne(member.sessions, session);
    this.sessions += countOf(member.sessions) - before;
    return member.sessions === null ? member : null;
  }

  /** The grace of a member without sessions is over. */
  remove(member: Member): void {
    member.gone = true;
    this.#members.delete(member.user);
    const gone = this.#order.length - this.#members.size;
    if (gone > goneMin && gone * 2 > this.#order.length) this.#order = this.#order.filter((one) => !one.gone);
  }

  page({ after, limit, bytesMax, bytesEach }: MembersQuery): RoomPresence | null {
    if (!/^\d{0,15}$/.test(after)) return null;
    this.#answered = true;
    const { version, users, sessions } = this;
    const members: RoomMember[] = [];
    let bytes = 0;
    let last = Number(after);
    for (let i = limit === 0 ? this.#order.length : this.#firstAfter(last); i < this.#order.length; i++) {
      const member = this.#order[i]!;
      if (member.gone) continue;
      bytes += Buffer.byteLength(member.user) + bytesEach;
      if (members.length === limit || (members.length > 0 && bytes > bytesMax)) {
        return { version, users, sessions, members, next: String(last) };
      }
      members.push({ user: member.user, sessions: countOf(member.sessions) });
      last = member.number;
    }
    return { version, users, sessions, members, next: "" };
  }

  /** The first place behind the member with this number, by halving. */
  #firstAfter(number: number): number {
    let low = 0;
    let high = this.#order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#order[middle]!.number > number) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  // ------------------------------------------------------------------------------- what is told

  /** A user came or went, and it is to be told. */
  note(user: string, joined: boolean, namedMax: NamedMax): void {
    if (this.#crowded) return;
    this.#changes ??= new Map();
    // Undone before it was told: nothing to tell, but to those who have seen it in an answer.
    if (this.#changes.get(user) === !joined && !this.#answered) this.#changes.delete(user);
    else this.#changes.set(user, joined);
    if (this.#changes.size <= namedMax.changes && this.users <= namedMax.users) return;
    this.#changes = null;
    this.#crowded = true;
  }

  /** What has changed since this was asked last; null for nothing. */
  takeChange(): RoomChange | null {
    const changes = this.#changes ?? [];
    const countsOnly = this.#crowded;
    this.forgetChange();
    const joined: string[] = [];
    const left: string[] = [];
    for (const [user, came] of changes) (came ? joined : left).push(user);
    if (!countsOnly && joined.length + left.length === 0) return null;
    return { version: ++this.version, users: this.users, sessions: this.sessions, joined, left, countsOnly };
  }

  forgetChange(): void {
    this.#changes = null;
    this.#crowded = false;
    this.#answered = false;
  }
}
