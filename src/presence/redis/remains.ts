/**
 * What a node leaves behind when it dies: one of the others takes it back, room by room and user by user. Where Redis went
 * away before that was done, it is done when Redis is back, and where that other died over it, when its lease is over;
 * unless the node is back by then.
 */
import type { RedisLink } from "../../redis/redis.ts";
import type { PresenceKeys } from "./keys.ts";
import { pagesOf, scan } from "./scan.ts";
import type { Unlisted } from "./unlisted.ts";

export interface RemainsOptions {
  readonly redis: RedisLink;
  readonly keys: PresenceKeys;
  /** This node. */
  readonly node: string;
  readonly log: { warn(fields: object, text: string): void };
  /** Its sessions leave the room, each with a grace. */
  dropRoom(room: string, gone: string): Promise<void>;
  dropUser(user: string, gone: string): Promise<void>;
}

/** Who takes back what a node has left has so long for it. */
const leaseMs = 60_000;
/** A lease is looked at this long after it should be over. */
const lateMs = 50;
/** Rooms or users that are taken back at the same time, each by a script. */
const dropsMax = 100;
/** One for the rooms, one for the users. */
interface Kinds<T> {
  readonly room: T;
  readonly user: T;
}

export class Remains {
  readonly #options: RemainsOptions;
  /** Nodes that are gone, and are not known to have been seen to. */
  readonly #owed = new Set<string>();
  /** Nodes that are being seen to; stopped where one is back. */
  readonly #underWay = new Map<string, AbortController>();
  #stopped = false;

  constructor(options: RemainsOptions) {
    this.#options = options;
    options.redis.onUp(() => {
      for (const gone of this.#owed) this.nodeGone(gone);
    });
  }

  /** A node is dead or has left: what it had is taken back, unless another node does so already. */
  nodeGone(gone: string): void {
    const { node, log } = this.#options;
    if (gone === node || this.#stopped) return;
    this.#owed.add(gone);
    if (this.#underWay.has(gone)) return;
    const until = new AbortController();
    this.#underWay.set(gone, until);
    const seen = this.#see(gone, until.signal).then(
      (waitMs) => (waitMs === 0 ? this.#owed.delete(gone) : this.#lookAgain(gone, waitMs)),
      (error: unknown) => log.warn({ peer: gone, problem: String(error) }, "what a node has left could not be taken back; it is tried again when Redis is back"),
    );
    void seen.finally(() => this.#underWay.delete(gone));
  }

  /** What is under way ends with the rooms or users that it is at. */
  nodeBack(node: string): void {
    this.#owed.delete(node);
    this.#underWay.get(node)?.abort();
  }

  #lookAgain(gone: string, waitMs: number): void {
    setTimeout(() => {
      if (this.#owed.has(gone)) this.nodeGone(gone);
    }, waitMs).unref();
  }

  /** Answers 0 when nothing is left, else after how long it is looked at again, should it be gone still. */
  async #see(gone: string, until: AbortSignal): Promise<number> {
    const { redis, keys, node } = this.#options;
    const lease = keys.lease(gone);
    const claimed = await redis.run("set", lease, node, "nx", "px", leaseMs);
    // It may be one's own from before Redis was away.
    if (claimed !== "OK" && (await redis.run("get", lease)) !== node) return Math.max(0, Number(await redis.run("pttl", lease))) + lateMs;
    await this.takeBack(gone, until);
    await redis.run("del", lease);
    return until.aborted ? lateMs : 0;
  }

  /**
   * Everything that a node had: its sessions leave, each with a grace. Should it be there after all, what it says meanwhile
   * may be taken back as well: so its mark goes last once more, upon which it says all of it again.
   */
  async takeBack(gone: string, until?: AbortSignal): Promise<void> {
    const { redis, keys } = this.#options;
    await redis.run("del", keys.alive(gone));
    await this.#drop(gone, () => true, until);
    const lists = until?.aborted === true ? [] : [keys.roomsOf(gone), keys.usersOf(gone)];
    for (const list of lists) await redis.run("del", list);
    await redis.run("del", keys.alive(gone));
  }

  /**
   * What Redis has of this node in rooms and of users that it has not, by its lists and what went off them lately. They go
   * off its lists with their graces.
   */
  async takeBackStale(has: Kinds<(name: string) => boolean>, unlisted: Kinds<Unlisted>): Promise<void> {
    const { node } = this.#options;
    await this.#drop(node, (kind, name) => !has[kind](name));
    // Only now: some may have gone off a list before it was read.
    for (const kind of ["room", "user"] as const) {
      for (const names of pagesOf(unlisted[kind].names())) await this.#dropPage(kind, names.filter((name) => !has[kind](name)), node);
    }
  }

  /** A page at a time; each name of it is a command of its own, for all together may take longer than Redis may be silent. */
  async #drop(gone: string, isMeant: (kind: keyof Kinds<unknown>, name: string) => boolean, until?: AbortSignal): Promise<void> {
    const { redis, keys } = this.#options;
    const lists = { room: keys.roomsOf(gone), user: keys.usersOf(gone) };
    for (const kind of ["room", "user"] as const) {
      for await (const names of scan(redis, lists[kind])) {
        if (until?.aborted === true) return;
        await this.#dropPage(kind, names.filter((name) => isMeant(kind, name)), gone, until);
      }
    }
  }

  async #dropPage(kind: keyof Kinds<unknown>, names: readonly string[], gone: string, until?: AbortSignal): Promise<void> {
    const { dropRoom, dropUser } = this.#options;
    const drop = kind === "room" ? dropRoom : dropUser;
    for (const some of pagesOf(names, dropsMax)) {
      if (until?.aborted === true) return;
      await Promise.all(some.map((name) => drop(name, gone)));
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#owed.clear();
  }
}
