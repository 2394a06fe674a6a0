/**
 * Which nodes belong into the table. A node that has just come up waits until it has been up for a while: people should
 * not move to a node that fails at once. A member stays one while it is up. A node that drains or is down is none.
 *
 * A node that has just started may not know all members yet, if Redis has lost the registry at the same time. So a
 * member that was never seen stays one, for as long as it takes to know that it is gone.
 */
import type { RegisteredNode } from "../registry/registry.ts";
import { weightOf, type Table } from "./table.ts";
import type { Member } from "./ring.ts";

interface Seen {
  readonly started: number;
  readonly since: number;
  readonly firstBeat: number;
  /** Its entry has changed since: it is alive, and not only remembered. */
  beats: boolean;
}

export interface MembersOptions {
  readonly self: string;
  /** A node must be up for so long before it becomes a member. */
  readonly stableMs: number;
  /** A member that this node has not seen in so long is gone. */
  readonly unseenMs: number;
  /** Monotonic. */
  readonly clock: () => number;
}

export class Members {
  readonly #self: string;
  readonly #stableMs: number;
  readonly #unseenMs: number;
  readonly #clock: () => number;
  readonly #seen = new Map<string, Seen>();
  /** All nodes that were ever listed, for as long as they may be missing. */
  readonly #known = new Set<string>();
  #lookingSince: number | null = null;

  constructor({ self, stableMs, unseenMs, clock }: MembersOptions) {
    this.#self = self;
    this.#stableMs = stableMs;
    this.#unseenMs = unseenMs;
    this.#clock = clock;
  }

  /** Notes how long each node has been up. Call it with every look at the registry. */
  look(nodes: readonly RegisteredNode[]): void {
    const now = this.#clock();
    const up = new Set<string>();
    this.#lookingSince ??= now;
    if (!this.#mayMiss(now)) this.#known.clear();
    else for (const { id } of nodes) this.#known.add(id);
    for (const { id, started, state, last_heartbeat: beat } of nodes) {
      if (state !== "up") continue;
      up.add(id);
      const seen = this.#seen.get(id);
      if (seen === undefined || seen.started !== started) this.#seen.set(id, { started, since: now, firstBeat: beat, beats: id === this.#self });
      else seen.beats ||= seen.firstBeat !== beat;
    }
    for (const id of this.#seen.keys()) if (!up.has(id)) this.#seen.delete(id);
  }

  /** The members of the next table, sorted by id. @param table the one in use */
  of(nodes: readonly RegisteredNode[], table: Table | null): Member[] {
    const members = new Set(table?.members.map(({ id }) => id));
    const now = this.#clock();
    const isStable = (id: string) => {
      const seen = this.#seen.get(id);
      return seen !== undefined && seen.beats && now - seen.since >= this.#stableMs;
    };
    const unseen = this.#mayMiss(now) ? (table?.members ?? []).filter(({ id }) => !this.#known.has(id)) : [];
    return nodes
      .filter(({ id, state }) => state === "up" && (table === null || members.has(id) || isStable(id)))
      .map(({ id, weight }) => ({ id, weight: weightOf(weight) }))
      .concat(unseen)
      .filter(({ weight }) => weight > 0)
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  #mayMiss(now: number): boolean {
    return this.#lookingSince === null || now - this.#lookingSince < this.#unseenMs;
  }
}
