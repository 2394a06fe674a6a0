/**
 * What a node leaves behind when it dies: one of the others takes it back, room by room and user by user. Where Redis went
 * away before that was done, it is done when Redis is back, and where that other died over it, when its lease is over;
 * unless the node is back by then.
 */
import type { RedisLink } from "../redis/redis.ts";
import type { PresenceKeys } from "./keys.ts";

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
/** Rooms and users of a node that is gone, read at once. */
const scanCount = 500;

export class Remains {
  readonly #options: RemainsOptions;
  /** Nodes that are gone, and are not known to have been seen to. */
  readonly #owed = new Set<string>();
  readonly #underWay = new Set<string>();
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
    if (gone === node || this.#stopped || this.#underWay.has(gone)) return;
    this.#owed.add(gone);
    this.#underWay.add(gone);
    const seen = this.#see(gone).then(
      (waitMs) => (waitMs === 0 ? this.#owed.delete(gone) : this.#lookAgain(gone, waitMs)),
      (error: unknown) => log.warn({ peer: gone, problem: String(error) }, "what a node has left could not be taken back; it is tried again when Redis is back"),
    );
    void seen.finally(() => this.#underWay.delete(gone));
  }

  nodeBack(node: string): void {
    this.#owed.delete(node);
  }

  #lookAgain(gone: string, waitMs: number): void {
    setTimeout(() => {
      if (this.#owed.has(gone)) this.nodeGone(gone);
    }, waitMs).unref();
  }

  /** Answers 0 when nothing is left, else how long to wait for another node that does it. */
  async #see(gone: string): Promise<number> {
    const { redis, keys, node } = this.#options;
    const lease = keys.lease(gone);
    const claimed = await redis.run("set", lease, node, "nx", "px", leaseMs);
    // It may be one's own from before Redis was away.
    if (claimed !== "OK" && (await redis.run("get", lease)) !== node) return Math.max(0, Number(await redis.run("pttl", lease))) + lateMs;
    await this.takeBack(gone);
    await redis.run("del", lease);
    return 0;
  }

  /**
   * Everything that a node had: its sessions leave, each with a grace. Should it be there after all, what it says meanwhile
   * may be taken back as well: so its mark goes last once more, upon which it says all of it again.
   */
  async takeBack(gone: string): Promise<void> {
    const { redis, keys } = this.#options;
    await redis.run("del", keys.alive(gone));
    await this.#drop(gone, () => true);
    await redis.run("del", keys.roomsOf(gone));
    await redis.run("del", keys.usersOf(gone));
    await redis.run("del", keys.alive(gone));
  }

  /** What Redis has of this node in rooms and of users that it has not. They go off its lists with their graces. */
  async takeBackStale(has: { room(room: string): boolean; user(user: string): boolean }): Promise<void> {
    await this.#drop(this.#options.node, (kind, name) => !has[kind](name));
  }

  async #drop(gone: string, isMeant: (kind: "room" | "user", name: string) => boolean): Promise<void> {
    const { keys, dropRoom, dropUser } = this.#options;
    for await (const room of this.#membersOf(keys.roomsOf(gone))) if (isMeant("room", room)) await dropRoom(room, gone);
    for await (const user of this.#membersOf(keys.usersOf(gone))) if (isMeant("user", user)) await dropUser(user, gone);
  }

  async *#membersOf(set: string): AsyncGenerator<string> {
    let cursor = "0";
    do {
      const [next, names] = (await this.#options.redis.run("sscan", set, cursor, "count", scanCount)) as [string, string[]];
      yield* names;
      cursor = next;
    } while (cursor !== "0");
  }

  stop(): void {
    this.#stopped = true;
    this.#owed.clear();
  }
}
