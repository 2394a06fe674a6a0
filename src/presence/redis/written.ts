/**
 * What this node writes to Redis of its sessions, and asks there, in the words of presence: what each script (scripts.ts)
 * is given is here and nowhere else. Of two writes of the same the newer counts; what is asked is asked behind them.
 */
import type { Command, RedisLink } from "../../redis/redis.ts";
import type { Script } from "../../redis/scripts.ts";
import { Writes, type Write } from "../../redis/writes.ts";
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
  /** A session has left the room; its user has none left there, on any node. */
  left(room: string, isLast: boolean): void;
  wentOffline(user: string): void;
  /** Writes were dropped while Redis was away. */
  dropped(): void;
}

/** Sessions of a room that one script looks at. */
const sliceMax = 500;

export class Written {
  /** What this node would not leave behind any more. */
  readonly unlisted = { room: new Unlisted(), user: new Unlisted() };
  readonly #options: WrittenOptions;
  /** What the sessions of this node begin with. */
  readonly #mine: string;
  readonly #writes: Writes;

  constructor(options: WrittenOptions) {
    const { redis, node, waitingMax, log } = options;
    this.#options = options;
    this.#mine = `${node}/`;
    this.#writes = new Writes({ redis, what: "presence", waitingMax, log, onDone: (write, result) => this.#done(write, result), onDropped: () => options.dropped() });
  }

  /** Those that wait. */
  get size(): number {
    return this.#writes.size;
  }

  flush(): void {
    this.#writes.flush();
  }

  /** When all that waits is written, or cannot be now. */
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

  /** The room comes last: see #done. An enter that waits goes first: a user who was there for a moment was there. */
  leave(room: string, user: string, session: string): void {
    this.#writes.put(`l${room}\n${session}\n${user}`, this.#ofRoom(scripts.leaveRoom, room, this.#inRoom(user, session), user, this.#options.graceMs, room));
  }

  follow(room: string): void {
    this.#writes.put(`f${room}`, this.#ofRoom(scripts.followRoom, room, this.#options.node));
  }

  unfollow(room: string): void {
    this.#writes.put(`g${room}`, this.#ofRoom(scripts.unfollowRoom, room, this.#options.node));
  }

  /** Something of it may have been told to nobody. */
  doubt(room: string): void {
    this.#writes.put(`d${room}`, this.#ofRoom(scripts.doubtRoom, room));
  }

  /** What Redis has of this node in it, a page at a time. @throws where Redis is away */
  async *mineIn(room: string): AsyncGenerator<[user: string, session: string][]> {
    const [all] = this.#options.keys.room(room);
    for await (const page of scan(this.#options.redis, all!)) {
      const mine = page.filter((text) => text.startsWith(this.#mine)).map((text) => text.slice(this.#mine.length));
      yield mine.map((text) => [text.slice(text.indexOf("\n") + 1), text.slice(0, text.indexOf("\n"))]);
    }
  }

  /** All that a node has in it leaves, with a grace, a slice at a time: Redis serves nobody else while a script runs. */
  async dropRoom(room: string, gone: string): Promise<void> {
    let cursor = "0";
    do cursor = String(await this.#options.redis.run(...this.#ofRoom(scripts.dropNode, room, `${gone}/`, this.#options.graceMs, gone, cursor, sliceMax)));
    while (cursor !== "0");
  }

  /** Null: it could not be told. */
  tell(room: string): Promise<unknown> {
    return this.#ask(this.#ofRoom(scripts.tellRoom, room, this.#options.keys.channel, room));
  }

  /** How many are still within their grace; null where that cannot be known. */
  async endGraces(room: string): Promise<number | null> {
    for (;;) {
      const answer = await this.#ask(this.#ofRoom(scripts.endGraces, room, ...this.#naming(room)));
      if (!Array.isArray(answer)) return null;
      const [left, due] = answer.map(Number);
      if (due === 0) return left!;
    }
  }

  /** As `pageOf` wants it. @throws where Redis is away */
  async readRoom(room: string, after: string | number, count: number): Promise<(string | number)[]> {
    this.flush();
    return (await this.#options.redis.run(...this.#ofRoom(scripts.readRoom, room, after, count, ...this.#naming(room)))) as (string | number)[];
  }

  // --------------------------------------------------------------------------- users

  online(user: string, session: string): void {
    this.#writes.put(`b${user}\n${session}`, this.#ofUser(scripts.userOnline, user, this.#mine + session, this.#options.keys.channel, user));
  }

  offline(user: string, session: string): void {
    const { graceMs, clock } = this.#options;
    this.#writes.put(`o${user}\n${session}`, this.#ofUser(scripts.userOffline, user, this.#mine + session, graceMs, clock(), user));
  }

  /** All of the user's sessions here are over, with a grace: those that are not begin again. */
  offlineAll(user: string): void {
    this.#writes.put(`y${user}`, this.#dropUser(user, this.#options.node));
  }

  async dropUser(user: string, gone: string): Promise<void> {
    await this.#options.redis.run(...this.#dropUser(user, gone));
  }

  /** Anything but 0: it is not over, or that cannot be known. */
  endUserGrace(user: string): Promise<unknown> {
    return this.#ask(this.#ofUser(scripts.endUserGrace, user, ...this.#remembering(user)));
  }

  /** Whether each user is online, else since when not, and the version of that; or what it is refused with. @throws where Redis is away */
  async readUsers(users: readonly string[]): Promise<((string | null)[] | Error)[]> {
    const answers = await this.#options.redis.runEach(users.map((user) => this.#ofUser(scripts.readUser, user, ...this.#remembering(user))));
    return answers as ((string | null)[] | Error)[];
  }

  // --------------------------------------------------------------------------- what it would leave behind

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

  /** False: it was taken for dead, or Redis has forgotten everything; null: that cannot be known. */
  async isAlive(): Promise<boolean | null> {
    const found = await this.#ask(["exists", this.#options.keys.alive(this.#options.node)]);
    return found === null ? null : found !== 0;
  }

  // --------------------------------------------------------------------------- commands

  #list(command: "sadd" | "srem", set: string, name: string): void {
    this.#writes.put(`${set}${name}`, [command, set, name]);
  }

  #dropUser(user: string, gone: string): Command {
    const { graceMs, clock } = this.#options;
    return this.#ofUser(scripts.dropUser, user, `${gone}/`, graceMs, clock());
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

  /** Up to how many are named, and where that is told. */
  #naming(room: string): (string | number)[] {
    const { namedUsersMax, namedChangesMax, keys } = this.#options;
    return [namedUsersMax, namedChangesMax, keys.channel, room];
  }

  /** Where it is told, and how long it is known when the user was seen. */
  #remembering(user: string): (string | number)[] {
    const { keys, lastSeenTtlMs } = this.#options;
    return [keys.channel, user, Math.max(1, lastSeenTtlMs)];
  }

  #done({ command }: Write, result: unknown): void {
    const of = String(command.at(-1));
    if (command[0] === scripts.leaveRoom) this.#options.left(of, result === 1);
    if (command[0] === scripts.userOffline) this.#options.wentOffline(of);
  }

  /** Null: Redis is away. What is missed then is made good when all is said again. */
  async #ask(command: Command): Promise<unknown> {
    this.flush();
    try {
      return await this.#options.redis.run(...command);
    } catch {
      return null;
    }
  }
}
