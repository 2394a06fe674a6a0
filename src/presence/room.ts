/**
 * The members of one room, and their changes to announce. A member keeps its number while it is in the room, and pages
 * are ordered by that number. So a member that stays is on one page, and reading a page costs only its own members.
 */
import { countOf, withoutOne, withOne, type Held } from "../platform/held.ts";
import type { MembersQuery, RoomChange, RoomMember, RoomPresence } from "./presence.ts";

export interface PresenceMember {
  readonly room: PresenceRoom;
  readonly user: string;
  /** Grows with every member that comes. */
  readonly number: number;
  /** Null within the grace, and for a member that is gone. */
  sessions: Held<string>;
  gone: boolean;
}

/** Above these, changes carry counts only. */
export interface NamedMax {
  readonly users: number;
  readonly changes: number;
}

/** Gone members stay in the list until they are this many and half of it. */
const goneMin = 32;

export class PresenceRoom {
  readonly key: string;
  followed = false;
  version: number;
  sessions = 0;
  readonly #members = new Map<string, PresenceMember>();
  /** By number; includes some that are gone. */
  #order: PresenceMember[] = [];
  #lastNumber = 0;
  /** User → joined or left, since the last announced change. Null: none yet. */
  #changes: Map<string, boolean> | null = null;
  /** There are too many changes to name. */
  #crowded = false;
  /** A page was answered since the last announced change. */
  #answered = false;

  constructor(key: string, version: number) {
    this.key = key;
    this.version = version;
  }

  get users(): number {
    return this.#members.size;
  }

  member(user: string): PresenceMember | undefined {
    return this.#members.get(user);
  }

  /** True: the user was not in the room before. */
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
  leave(user: string, session: string): PresenceMember | null {
    const member = this.#members.get(user);
    if (member === undefined || member.sessions === null) return null;
    const before = countOf(member.sessions);
    member.sessions = withoutOne(member.sessions, session);
    this.sessions += countOf(member.sessions) - before;
    return member.sessions === null ? member : null;
  }

  /** The grace of a member without sessions is over. */
  remove(member: PresenceMember): void {
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

  /** The first index behind the member with this number, by binary search. */
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

  // ------------------------------------------------------------------------------- changes

  /** Notes a user's join or leave for the next change. */
  note(user: string, joined: boolean, namedMax: NamedMax): void {
    if (this.#crowded) return;
    this.#changes ??= new Map();
    // Undone before it was announced: nothing to announce, unless an answer has shown it.
    if (this.#changes.get(user) === !joined && !this.#answered) this.#changes.delete(user);
    else this.#changes.set(user, joined);
    if (this.#changes.size <= namedMax.changes && this.users <= namedMax.users) return;
    this.#changes = null;
    this.#crowded = true;
  }

  /** The changes since the last call; null for none. */
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
