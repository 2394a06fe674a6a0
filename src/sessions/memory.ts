/**
 * The embedded sessions of one node, in memory. They are lost with the process; then signed resume tokens have to
 * suffice.
 */
import { Assignments, assignedMax } from "./assignments.ts";
import { Cursors, advances, cursorKey } from "./cursors.ts";
import type { Sessions } from "./sessions.ts";
import { SignOuts } from "./signouts.ts";
import { Table } from "./table.ts";
import { clearTables, readingOf } from "./tables.ts";
import { prefixOf, textOf } from "./text.ts";

export interface MemorySessionsOptions {
  /** How long a session outlives its socket. */
  readonly ttlMs: number;
  /** Maximum sessions; above it the longest unwritten are evicted. */
  readonly sessionsMax: number;
  /** Maximum cursors, and maximum users with a sign-out. */
  readonly cursorsMax: number;
  /** Replaced in tests. Steady: the system's clock may be set. */
  readonly clock?: () => number;
}

const sweepMs = 5_000;

export function createMemorySessions({ ttlMs, sessionsMax, cursorsMax, clock = () => performance.now() }: MemorySessionsOptions): Sessions {
  const table = new Table({ ttlMs, max: sessionsMax, clock });
  const cursors = new Cursors(cursorsMax);
  const signOuts = new SignOuts(cursorsMax);
  const assignments = new Assignments(assignedMax);
  const tables = { table, cursors, signOuts, assignments };
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

    assign(user, room, max, done) {
      const error = assignments.add(user, room, max);
      done(error === null ? { value: null } : { error });
    },

    unassign(user, room, done) {
      assignments.remove(user, room);
      done({ value: null });
    },

    async stop() {
      clearInterval(sweeper);
      clearTables(tables);
    },
  };
}
