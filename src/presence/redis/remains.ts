/**
 * Removes the presence entries of a dead node, room by room and user by user. One of the other nodes does it. If Redis
 * becomes unavailable meanwhile, the work continues when it is available again. If the working node dies, another
 * continues when its lease has expired. If the dead node returns, the work stops.
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
  /** The dead node's sessions leave the room, each with a grace. */
  dropRoom(room: string, gone: string): Promise<void>;
  dropUser(user: string, gone: string): Promise<void>;
}

/** How long a node may take to remove another's entries. */
const leaseMs = 60_000;
/** A lease is checked this long after its end. */
const lateMs = 50;
/** After an error. Redis may be available all the while, and only a part of it refuse. */
const retryMs = 5_000;
/** Rooms or users cleaned up at the same time, each by a script. */
const dropsMax = 100;
/** One value for rooms, one for users. */
interface Kinds<T> {
  readonly room: T;
  readonly user: T;
}

export class Remains {
  readonly #options: RemainsOptions;
  /** Dead nodes whose entries may not be removed yet. */
  readonly #owed = new Set<string>();
  /** Those of which the log says that it failed. */
  readonly #told = new Set<string>();
  /** Cleanups under way; aborted when the node is back. */
  readonly #underWay = new Map<string, AbortController>();
  #stopped = false;

  constructor(options: RemainsOptions) {
    this.#options = options;
    options.redis.onUp(() => {
      for (const gone of this.#owed) this.nodeGone(gone);
    });
  }

  /** A node is dead or has left: its entries are removed, unless another node is already doing so. */
  nodeGone(gone: string): void {
    const { node, log } = this.#options;
    if (gone === node || this.#stopped) return;
    this.#owed.add(gone);
    if (this.#underWay.has(gone)) return;
    const until = new AbortController();
    this.#underWay.set(gone, until);
    const seen = this.#see(gone, until.signal).then(
      (waitMs) => {
        this.#told.delete(gone);
        if (waitMs === 0) this.#owed.delete(gone);
        else this.#lookAgain(gone, waitMs);
      },
      (error: unknown) => {
        if (!this.#told.has(gone)) log.warn({ peer: gone, problem: String(error) }, "presence entries of a dead node could not be removed: its users stay listed; the node retries when Redis is available");
        this.#told.add(gone);
        this.#lookAgain(gone, retryMs);
      },
    );
    void seen.finally(() => this.#underWay.delete(gone));
  }

  /** A cleanup under way stops after the rooms or users it is working on. */
  nodeBack(node: string): void {
    this.#owed.delete(node);
    this.#told.delete(node);
    this.#underWay.get(node)?.abort();
  }

  #lookAgain(gone: string, waitMs: number): void {
    setTimeout(() => {
      if (this.#owed.has(gone)) this.nodeGone(gone);
    }, waitMs).unref();
  }

  /** Resolves with 0 when no entry is left, else with the time until the next attempt. */
  async #see(gone: string, until: AbortSignal): Promise<number> {
    const { redis, keys, node } = this.#options;
    const lease = keys.lease(gone);
    const claimed = await redis.run("set", lease, node, "nx", "px", leaseMs);
    // The lease may be this node's own, from before Redis was unavailable.
    if (claimed !== "OK" && (await redis.run("get", lease)) !== node) return Math.max(0, Number(await redis.run("pttl", lease))) + lateMs;
    await this.takeBack(gone, until);
    await redis.run("del", lease);
    return until.aborted ? lateMs : 0;
  }

  /**
   * Removes all entries of a node: its sessions leave, each with a grace. If the node is alive after all, its entries
   * of the meantime may be removed as well. So its mark is removed once more at the end, which makes it write all of
   * them again.
   *
   * Names stay on this node's own lists: they go off when their graces are over, and their facts told.
   */
  async takeBack(gone: string, until?: AbortSignal): Promise<void> {
    const { redis, keys, node } = this.#options;
    await redis.run("del", keys.alive(gone));
    await this.#drop(gone, () => true, until);
    const lists = until?.aborted === true || gone === node ? [] : [keys.roomsOf(gone), keys.usersOf(gone)];
    for (const list of lists) await redis.run("del", list);
    await redis.run("del", keys.alive(gone));
  }

  /**
   * Removes the entries of this node in Redis that it does not have itself. It finds them by its lists in Redis and by
   * the names that recently went off those lists. They go off the lists when their graces end.
   */
  async takeBackStale(has: Kinds<(name: string) => boolean>, unlisted: Kinds<Unlisted>): Promise<void> {
    const { node } = this.#options;
    await this.#drop(node, (kind, name) => !has[kind](name));
    // Only now: some names may have gone off a list before it was read.
    for (const kind of ["room", "user"] as const) {
      for (const names of pagesOf(unlisted[kind].names())) await this.#dropPage(kind, names.filter((name) => !has[kind](name)), node);
    }
  }

  /**
   * Reads the list page by page. Each name is a command of its own: one for all could block Redis longer than it may be
   * silent.
   */
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
