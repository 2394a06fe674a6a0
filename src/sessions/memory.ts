/** The embedded sessions of one node, in memory: gone with the process, upon which signed resume tokens have to do. */
import { Cursors, advances, cursorKey } from "./cursors.ts";
import type { Sessions } from "./sessions.ts";
import { SignOuts } from "./signouts.ts";
import { Table } from "./table.ts";
import { prefixOf, recordOf, textOf } from "./text.ts";

export interface MemorySessionsOptions {
  /** How long a session outlives its socket. */
  readonly ttlMs: number;
  /** Sessions kept at most; past it the longest unwritten are forgotten. */
  readonly sessionsMax: number;
  /** Cursors kept at most, and users whose sign-out is. */
  readonly cursorsMax: number;
  /** Replaced in tests. */
  readonly clock?: () => number;
}

const sweepMs = 5_000;

export function createMemorySessions({ ttlMs, sessionsMax, cursorsMax, clock = Date.now }: MemorySessionsOptions): Sessions {
  const table = new Table({ ttlMs, max: sessionsMax, clock });
  const cursors = new Cursors(cursorsMax);
  const signOuts = new SignOuts(cursorsMax);
  const sweeper = setInterval(() => {
    table.expire();
    cursors.expire(clock());
  }, sweepMs).unref();

  return {
    put(record) {
      table.put(record.id, textOf(record));
    },

    keep(id) {
      table.keep(id);
    },

    take(id, done) {
      const text = table.get(id);
      done({ value: text === null ? null : recordOf(id, text) });
    },

    end(id) {
      table.delete(id);
    },

    endAll(tenant, user) {
      table.deleteAll(prefixOf(tenant, user));
    },

    cursor(user, device, done) {
      done({ value: cursors.get(cursorKey(user, device)) });
    },

    acknowledge(user, device, position) {
      const key = cursorKey(user, device);
      if (advances(cursors.get(key), position)) cursors.set(key, position, clock());
    },

    signOut(user, time) {
      signOuts.set(user, time);
    },

    signedOutAt(user, done) {
      done({ value: signOuts.get(user) });
    },

    usage() {
      return { sessions: table.size, cursors: cursors.size };
    },

    async stop() {
      clearInterval(sweeper);
      table.clear();
      cursors.clear();
      signOuts.clear();
    },
  };
}
