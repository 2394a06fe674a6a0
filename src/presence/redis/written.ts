/**
 * All writes and reads of presence in Redis by this node, in the words of presence. Only this file knows the arguments
 * of the scripts (scripts.ts). Of two writes of the same thing the newer counts. Reads run behind earlier writes.
 */
import type { Command, RedisLink } from "../../redis/redis.ts";
import type { Script } from "../../redis/scripts.ts";
import { Writes, type Write } from "../../redis/writes.ts";
import type { Subject } from "../../facts/facts.ts";
import { randomId } from "../../platform/ids.ts";
import type { BegunSession, LostSession, WantedFacts } from "../presence.ts";
import type { PresenceKeys } from "./keys.ts";
import { scan } from "./scan.ts";
import * as scripts from "./scripts.ts";
import { Unlisted } from "./unlisted.ts";

export interface WrittenOptions {
  readonly redis: RedisLink;
  readonly keys: PresenceKeys;
  readonly node: string;
  readonly graceMs: number;
  readonly namedUsersMax: number;
  readonly namedChangesMax: number;
  readonly lastSeenTtlMs: number;
  readonly waitingMax: number;
  readonly clock: () => number;
  readonly log: { warn(fields: object, text: string): void };
  readonly wanted: WantedFacts;
  /** There may be facts of the subject. */
  onFacts(subject: Subject): void;
  /** A session has left the room. `isLast`: its user has none left there, on any node. */
  left(room: string, isLast: boolean): void;
  wentOffline(user: string): void;
  /** Writes were dropped while Redis was unavailable. */
  dropped(): void;
}

/** Sessions of a room that one script handles. */
const sliceMax = 500;

export class Written {
  /** Names that recently went off this node's lists. */
  readonly unlisted = { room: new Unlisted(), user: new Unlisted() };
  readonly #options: WrittenOptions;
  /** The prefix of this node's sessions. */
  readonly #mine: string;
  readonly #writes: Writes;

  constructor(options: WrittenOptions) {
    const { redis, node, waitingMax, log } = options;
    this.#options = options;
    this.#mine = `${node}/`;
    this.#writes = new Writes({ redis, what: "presence", waitingMax, log, onDone: (write, result) => this.#done(write, result), onDropped: () => options.dropped() });
  }

  /** Writes that wait. */
  get size(): number {
    return this.#writes.size;
  }

  flush(): void {
    this.#writes.flush();
  }

  /** Resolves when all waiting writes are written, or cannot be now. */
  settled(): Promise<void> {
    return this.#writes.settled();
  }

  stop(): Promise<void> {
    return this.#writes.stop();
  }

  // --------------------------------------------------------------------------- rooms

  enter(room: string, user: string, session: string): void {
    this.#writes.put(`e${room}\n${session}\n${user}`, this.#ofRoom(scripts.enterRoom, room, this.#inRoom(user, session), user, ...this.#naming(room)));
  }

  /**
   * The room must be the last argument: see #done. A waiting enter is sent first, since the user was in the room for a
   * moment.
   */
  leave(room: string, user: string, session: string): void {
    this.#writes.put(`l${room}\n${session}\n${user}`, this.#ofRoom(scripts.leaveRoom, room, this.#inRoom(user, session), user, this.#options.graceMs, room));
  }

  follow(room: string): void {
    this.#writes.put(`f${room}`, this.#ofRoom(scripts.followRoom, room, this.#options.node));
  }

  unfollow(room: string): void {
    this.#writes.put(`g${room}`, this.#ofRoom(scripts.unfollowRoom, room, this.#options.node));
  }

  /** A change of the room may have reached no follower. */
  doubt(room: string): void {
    this.#writes.put(`d${room}`, this.#ofRoom(scripts.doubtRoom, room));
  }

  /** This node's entries of the room in Redis, a page at a time. @throws where Redis is unavailable */
  async *mineIn(room: string): AsyncGenerator<[user: string, session: string][]> {
    const [all] = this.#options.keys.room(room);
    for await (const page of scan(this.#options.redis, all!)) {
      const mine = page.filter((text) => text.startsWith(this.#mine)).map((text) => text.slice(this.#mine.length));
      yield mine.map((text) => [text.slice(text.indexOf("\n") + 1), text.slice(0, text.indexOf("\n"))]);
    }
  }

  /** All sessions of a node leave the room, with a grace, in slices: a script blocks Redis for all its clients. */
  async dropRoom(room: string, gone: string): Promise<void> {
    let cursor = "0";
    do cursor = String(await this.#options.redis.run(...this.#ofRoom(scripts.dropNode, room, `${gone}/`, this.#options.graceMs, gone, cursor, sliceMax)));
    while (cursor !== "0");
  }

  /** Announces the room's changes. Null: it failed. */
  tell(room: string): Promise<unknown> {
    return this.#ask(this.#ofRoom(scripts.tellRoom, room, this.#options.keys.channel, room));
  }

  /** Ends due graces. Resolves with the number of members still within theirs; null where unknown. */
  async endGraces(room: string): Promise<number | null> {
    for (;;) {
      const naming = this.#naming(room);
      const answer = await this.#ask(this.#ofRoom(scripts.endGraces, room, ...naming));
      this.#roomFacts(room, naming.at(-1));
      if (!Array.isArray(answer)) return null;
      const [left, due] = answer.map(Number);
      if (due === 0) return left!;
    }
  }

  /** In the form that `pageOf` takes. @throws where Redis is unavailable */
  async readRoom(room: string, after: string | number, count: number): Promise<(string | number)[]> {
    this.flush();
    const naming = this.#naming(room);
    const read = (await this.#options.redis.run(...this.#ofRoom(scripts.readRoom, room, after, count, ...naming))) as (string | number)[];
    this.#roomFacts(room, naming.at(-1), false);
    return read;
  }

  // --------------------------------------------------------------------------- users

  online(user: string, session: string, about?: BegunSession): void {
    this.#writes.put(`b${user}\n${session}`, this.#online(user, session, about?.id ?? "", about?.isNew === true ? 1 : 0));
  }

  /** Redis may have lost it, or another node have taken it for ended. */
  onlineAgain(user: string, session: string, id: string): void {
    const of = `b${user}\n${session}`;
    this.#writes.put(of, this.#writes.take(of) ?? this.#online(user, session, id, 2));
  }

  offline(user: string, session: string, about?: LostSession): void {
    const { graceMs, clock, wanted: { sessionTtlMs } } = this.#options;
    const id = this.#wantsUsers ? about?.id ?? "" : "";
    this.#writes.put(`o${user}\n${session}`, this.#ofUser(scripts.userOffline, user, this.#mine + session, graceMs, clock(), this.#wantedOfUser(), id, about?.isOver === true ? 1 : 0, sessionTtlMs, user));
  }

  #online(user: string, session: string, id: string, how: 0 | 1 | 2): Command {
    return this.#ofUser(scripts.userOnline, user, this.#mine + session, this.#options.keys.channel, user, this.#wantedOfUser(), this.#wantsUsers ? id : "", how);
  }

  /** The user's sessions without a socket end. */
  endLost(user: string): void {
    if (this.#wantsUsers) this.#writes.put(`z${user}`, this.#ofUser(scripts.endLost, user, this.#wantedOfUser(), user));
  }

  /** Ends sessions that were not resumed in time. Resolves with the time until the next is due, 0 for none; null where unknown. */
  async endSessions(user: string): Promise<number | null> {
    const wanted = this.#wantedOfUser();
    const due = await this.#ask(this.#ofUser(scripts.endSessions, user, wanted));
    this.#userFacts(user, wanted);
    return typeof due === "number" ? due : null;
  }

  /** All sessions of the user on this node end, with a grace. Those that are still open begin again. */
  offlineAll(user: string): void {
    this.#writes.put(`y${user}`, this.#dropUser(user, this.#options.node));
  }

  async dropUser(user: string, gone: string): Promise<void> {
    await this.#options.redis.run(...this.#dropUser(user, gone));
  }

  /** Resolves with 0 when the grace is over; anything else: not over, or unknown. */
  async endUserGrace(user: string): Promise<unknown> {
    const remembering = this.#remembering(user);
    const within = await this.#ask(this.#ofUser(scripts.endUserGrace, user, ...remembering));
    this.#userFacts(user, remembering.at(-1));
    return within;
  }

  /** For each user: online, last seen, version, or the error of Redis. @throws where Redis is unavailable */
  async readUsers(users: readonly string[]): Promise<((string | null)[] | Error)[]> {
    const commands = users.map((user) => this.#ofUser(scripts.readUser, user, ...this.#remembering(user)));
    const answers = await this.#options.redis.runEach(commands);
    for (const [i, user] of users.entries()) this.#userFacts(user, commands[i]!.at(-1), false);
    return answers as ((string | null)[] | Error)[];
  }

  // --------------------------------------------------------------------------- lists for cleaning up after this node

  listRoom(room: string): void {
    this.#list("sadd", this.#options.keys.roomsOf(this.#options.node), room);
  }

  unlistRoom(room: string): void {
    this.unlisted.room.add(room);
    this.#list("srem", this.#options.keys.roomsOf(this.#options.node), room);
  }

  listUser(user: string): void {
    this.#list("sadd", this.#options.keys.usersOf(this.#options.node), user);
  }

  unlistUser(user: string): void {
    this.unlisted.user.add(user);
    this.#list("srem", this.#options.keys.usersOf(this.#options.node), user);
  }

  markAlive(): Promise<unknown> {
    return this.#ask(["set", this.#options.keys.alive(this.#options.node), "1"]);
  }

  /** False: the node was declared dead, or Redis has lost everything. Null: unknown. */
  async isAlive(): Promise<boolean | null> {
    const found = await this.#ask(["exists", this.#options.keys.alive(this.#options.node)]);
    return found === null ? null : found !== 0;
  }

  // --------------------------------------------------------------------------- commands

  #list(command: "sadd" | "srem", set: string, name: string): void {
    this.#writes.put(`${set}${name}`, [command, set, name]);
  }

  #dropUser(user: string, gone: string): Command {
    const { graceMs, clock, wanted: { sessionTtlMs } } = this.#options;
    return this.#ofUser(scripts.dropUser, user, `${gone}/`, graceMs, clock(), sessionTtlMs);
  }

  #ofRoom(script: Script, room: string, ...args: (string | number)[]): Command {
    return [script, ...this.#options.keys.room(room), ...args];
  }

  #ofUser(script: Script, user: string, ...args: (string | number)[]): Command {
    return [script, ...this.#options.keys.user(user), ...args];
  }

  #inRoom(user: string, session: string): string {
    return `${this.#mine}${session}\n${user}`;
  }

  /** The limits for names, the channel for announcements, and the facts that somebody wants. */
  #naming(room: string): (string | number)[] {
    const { namedUsersMax, namedChangesMax, keys, wanted } = this.#options;
    return [namedUsersMax, namedChangesMax, keys.channel, room, this.#withEpoch(wanted.ofRoom(room))];
  }

  /** The channel for announcements, how long last-seen times are kept, and the facts that somebody wants. */
  #remembering(user: string): (string | number)[] {
    const { keys, lastSeenTtlMs } = this.#options;
    return [keys.channel, user, Math.max(1, lastSeenTtlMs), this.#wantedOfUser()];
  }

  #wantedOfUser(): string {
    return this.#withEpoch(this.#options.wanted.ofUsers);
  }

  /** With an epoch for a list that has none. While too many facts wait, none is wanted. */
  #withEpoch(letters: string): string {
    return letters === "" || this.#options.wanted.isFull() ? "" : `${letters}:${randomId(9)}`;
  }

  get #wantsUsers(): boolean {
    return this.#options.wanted.ofUsers !== "";
  }

  /** @param asked what the command wanted: see #withEpoch */
  #roomFacts(room: string, asked: unknown, isChange = true): void {
    if (this.#options.wanted.ofRoom(room) !== "") this.#facts(`r${room}`, asked, isChange);
  }

  #userFacts(user: string, asked: unknown, isChange = true): void {
    if (this.#wantsUsers) this.#facts(`u${user}`, asked, isChange);
  }

  #facts(subject: Subject, asked: unknown, isChange: boolean): void {
    const { wanted, redis, onFacts } = this.#options;
    redis.contain(() => {
      if (asked !== "") return onFacts(subject);
      // Too many wait, so the command added none: the subject is not kept either.
      if (isChange) wanted.refused();
    });
  }

  #done({ of: what, command }: Write, result: unknown): void {
    const of = String(command.at(-1));
    // Also where the script found nothing to do: its first answer may have been lost.
    // What each wanted is where its arguments above have it.
    if (command[0] === scripts.enterRoom) this.#roomFacts(what.slice(1, what.indexOf("\n")), command.at(-1));
    if (command[0] === scripts.userOnline) this.#userFacts(what.slice(1, what.indexOf("\n")), command.at(-3));
    if (command[0] === scripts.userOffline) this.#userFacts(of, command.at(-5));
    if (command[0] === scripts.endLost) this.#userFacts(of, command.at(-2));
    if (command[0] === scripts.leaveRoom) this.#options.left(of, result === 1);
    if (command[0] === scripts.userOffline) this.#options.wentOffline(of);
  }

  /** Null: Redis is unavailable. The next full rewrite makes up for what is missed. */
  async #ask(command: Command): Promise<unknown> {
    this.flush();
    try {
      return await this.#options.redis.run(...command);
    } catch {
      return null;
    }
  }
}
