/** The embedded sessions of one node, in memory: gone with the process, upon which signed resume tokens have to do. */
import { Cursors, advances, cursorKey } from "./cursors.ts";
import type { Sessions } from "./sessions.ts";
import { SignOuts } from "./signouts.ts";
import { Table } from "./table.ts";
import { clearTables, readingOf } from "./tables.ts";
import { prefixOf, textOf } from "./text.ts";

export interface MemorySessionsOptions {
  /** How long a session outlives its socket. */
  readonly ttlMs: number;
  /** Sessions kept at most; past it the longest unwritten are forgotten. */
  readonly sessionsMax: number;
  /** Cursors kept at most, and users whose sign-out is. */
  readonly cursorsMax: number;
  /** Replaced in tests. Nothing here outlives the process, so it is one that nobody sets. */
  readonly clock?: () => number;
}

const sweepMs = 5_000;

export function createMemorySessions({ ttlMs, sessionsMax, cursorsMax, clock = () => performance.now() }: MemorySessionsOptions): Sessions {
  const table = new Table({ ttlMs, max: sessionsMax, clock });
  const cursors = new Cursors(cursorsMax);
  const signOuts = new SignOuts(cursorsMax);
  const tables = { table, cursors, signOuts };
  const sweeper = setInterval(() => {
    table.expire();
    cursors.expire(clock());
  }, sweepMs).unref();

  return {
    outlivesProcess: false,
    ...readingOf(tables),

    put(record) {
      table.put(record.id, textOf(record));
    },

    end(id) {
      table.delete(id);
    },

    endAll(tenant, user) {
      table.deleteAll(prefixOf(tenant, user));
    },

    acknowledge(user, device, position) {
      const key = cursorKey(user, device);
      if (advances(cursors.get(key), position)) cursors.set(key, position, clock());
    },

    signOut(user, time) {
      signOuts.set(user, time);
    },

    async stop() {
      clearInterval(sweeper);
      clearTables(tables);
    },
  };
}
