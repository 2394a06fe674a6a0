/** Members of a room as the node reports them: read page by page, or kept up to date by events. */
import type { ClientFrame, PresenceChanged, PresencePage as WirePage } from "../../protocol/messages.ts";
import { backoffMs } from "../clock.ts";
import type { Cancel, Clock } from "../clock.ts";
import type { OnReply } from "../connection/commands.ts";
import { Emitter } from "../emitter.ts";
import type { Unsubscribe } from "../emitter.ts";
import type { FluxError } from "../flux-error.ts";

/** A user in a room. */
export type Member = {
  /** Name of the user. */
  readonly user: string;
  /** Sessions of the user in the room; 0: the last one has just left, and the grace period runs. */
  readonly sessions: number;
};

export type PresenceOptions = {
  /** Counts without names. */
  countsOnly?: boolean;
  /** `next` of the previous page. */
  after?: string;
  /** Users in the page. By default the node decides. */
  limit?: number;
  /** Gives up waiting: the promise rejects with its reason. */
  signal?: AbortSignal;
};

/** One page of the members of a room. */
export type PresencePage = {
  /** Users in the room. */
  readonly users: number;
  /** Sessions in the room. */
  readonly sessions: number;
  /** Members of this page. */
  readonly members: readonly Member[];
  /** Cursor for the next page, to give as `after`; null: this is the last page. */
  readonly next: string | null;
};

/** A change of the members of a room. */
export type MembersChange = {
  /** Users who joined. */
  readonly joined: readonly string[];
  /** Users who left. */
  readonly left: readonly string[];
  /** The client found the change by reading the members, at first or after a loss. It may have happened earlier. */
  readonly asked: boolean;
};

export type MembersEvents = {
  /** Users joined or left, or the counts changed. */
  changed: MembersChange;
  /** The node refused to list the members. */
  error: FluxError;
};

export type MembersOwner = {
  send(command: ClientFrame, onReply: OnReply): void;
  clock: Clock;
  random: () => number;
  onStop(): void;
};

/** Shortest interval between reads, in rooms that change too much for names in events. */
const askEveryMs = 2000;
const retryBackoff = { baseMs: 500, capMs: 10_000 };

/**
 * Members of a room, kept up to date. `room.members()` returns it.
 */
// Pages and the events between and after them are applied as sets, in order of arrival. A missing version, as after a
// loss, means reading again.
export class Members {
  readonly #emitter = new Emitter<MembersEvents>();
  readonly #room: string;
  readonly #usersMax: number;
  readonly #owner: MembersOwner;
  #members = new Map<string, Member>();
  #users = 0;
  #sessions = 0;
  #version = 0;
  /** Members in the pages read so far; null while nothing is being read. */
  #pages: Map<string, Member> | null = null;
  /** Something learnt while reading requires another read. */
  #isStale = false;
  #isStopped = false;
  #cancelAsk: Cancel | null = null;
  #askedAt = -Infinity;
  #refusals = 0;

  /** Created by room.members(). @internal */
  constructor(room: string, usersMax: number, owner: MembersOwner) {
    this.#room = room;
    this.#usersMax = usersMax;
    this.#owner = owner;
  }

  /** Users in the room. */
  get users(): number {
    return this.#users;
  }

  /** Sessions in the room. */
  get sessions(): number {
    return this.#sessions;
  }

  /** The members; in a room with more than `max` users, `max` of them. */
  get list(): readonly Member[] {
    return [...this.#members.values()];
  }

  /** Whether the list has this user. */
  has(user: string): boolean {
    return this.#members.has(user);
  }

  /** Adds a listener. Returns a function that removes it. */
  on<Name extends keyof MembersEvents>(name: Name, listener: (event: MembersEvents[Name]) => void): Unsubscribe {
    return this.#emitter.on(name, listener);
  }

  /** Stops updating the list. */
  stop(): void {
    this.#isStopped = true;
    this.interrupt();
    this.#owner.onStop();
  }

  // ------------------------------------------------------------ for the room

  /** The room is live: its events arrive from now on. @internal */
  live(): void {
    this.interrupt();
    this.#ask();
  }

  /** Changes were not sent, and no later version may reveal them. @internal */
  missed(): void {
    if (!this.#isStopped) this.#askSoon();
  }

  /** The session is lost. @internal */
  interrupt(): void {
    this.#pages = null;
    this.#isStale = false;
    this.#refusals = 0;
    this.#cancelAsk?.();
    this.#cancelAsk = null;
  }

  /** @internal */
  onChange({ version, users, sessions, joined, left, countsOnly }: PresenceChanged): void {
    if (this.#isStopped) return;
    const isNext = version === this.#version + 1;
    this.#version = version ?? 0;
    this.#users = users ?? 0;
    this.#sessions = sessions ?? 0;
    const came = (joined ?? []).filter((user) => !this.#members.has(user));
    const went = (left ?? []).filter((user) => this.#members.has(user));
    for (const members of [this.#members, this.#pages]) {
      for (const user of joined ?? []) if (members && members.size < this.#usersMax) members.set(user, { user, sessions: 1 });
      for (const user of left ?? []) members?.delete(user);
    }
    this.#emitter.emit("changed", { joined: came, left: went, asked: false });
    if (!isNext || countsOnly) this.#askSoon();
  }

  // ------------------------------------------------------------ asking

  #askSoon(): void {
    if (this.#pages !== null) this.#isStale = true;
    else this.#wait(this.#askedAt + askEveryMs - this.#owner.clock.now());
  }

  #wait(ms: number): void {
    this.#cancelAsk ??= this.#owner.clock.after(Math.max(0, ms), () => {
      this.#cancelAsk = null;
      this.#ask();
    });
  }

  #ask(): void {
    if (this.#isStopped) return;
    this.#isStale = false;
    this.#askedAt = this.#owner.clock.now();
    this.#pages = new Map();
    this.#askPage(this.#pages, "");
  }

  #askPage(pages: Map<string, Member>, after: string): void {
    this.#owner.send({ presence: { room: this.#room, after } }, (answer) => {
      if (this.#pages !== pages) return; // interrupted
      if ("error" in answer) return this.#onRefused(answer.error);
      const { version, users, sessions, members, next } = answer.reply.presence ?? {};
      this.#version = version ?? 0;
      this.#users = users ?? 0;
      this.#sessions = sessions ?? 0;
      for (const member of members ?? []) if (pages.size < this.#usersMax) pages.set(member.user ?? "", toMember(member));
      if (next && pages.size < this.#usersMax) this.#askPage(pages, next);
      else this.#onPages(pages);
    });
  }

  #onPages(pages: Map<string, Member>): void {
    const before = this.#members;
    this.#members = pages;
    this.#pages = null;
    this.#refusals = 0;
    const joined = [...pages.keys()].filter((user) => !before.has(user));
    const left = [...before.keys()].filter((user) => !pages.has(user));
    this.#emitter.emit("changed", { joined, left, asked: true });
    if (this.#isStale) this.#askSoon();
  }

  #onRefused(error: FluxError): void {
    this.#pages = null;
    if (error.code === "disconnected") return; // repeated when the room is live again
    if (error.retryable) this.#wait(backoffMs(this.#refusals++, retryBackoff, this.#owner.random));
    else this.#emitter.emit("error", error);
  }
}

export function toPresencePage({ users, sessions, members, next }: WirePage): PresencePage {
  return { users: users ?? 0, sessions: sessions ?? 0, members: (members ?? []).map(toMember), next: next || null };
}

function toMember({ user, sessions }: NonNullable<WirePage["members"]>[number]): Member {
  return { user: user ?? "", sessions: sessions ?? 0 };
}
