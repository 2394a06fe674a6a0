/**
 * The tables of both embedded stores and their reads. One store has them in memory alone, the other on disk as well.
 */
import type { Assignments } from "./assignments.ts";
import type { Cursors } from "./cursors.ts";
import { cursorKey } from "./cursors.ts";
import type { Sessions } from "./sessions.ts";
import type { SignOuts } from "./signouts.ts";
import type { Table } from "./table.ts";
import { recordOf, textOf } from "./text.ts";

export interface Tables {
  readonly table: Table;
  readonly cursors: Cursors;
  readonly signOuts: SignOuts;
  readonly assignments: Assignments;
}

type Reading = Pick<Sessions, "keep" | "take" | "cursor" | "signedOutAt" | "assigned" | "usage">;

export function readingOf({ table, cursors, signOuts, assignments }: Tables): Reading {
  return {
    keep(id) {
      table.keep(id);
    },

    take(id, known, done) {
      const text = table.get(id);
      if (text === null) return done({ value: null }, known + 1);
      const record = recordOf(id, text);
      const generation = Math.max(known, record.generation) + 1;
      // In memory alone: after a restart no session has a socket, and clients bring their generation.
      table.replace(id, textOf({ ...record, generation }));
      done({ value: record }, generation);
    },

    cursor(user, device, done) {
      done({ value: cursors.get(cursorKey(user, device)) });
    },

    signedOutAt(user, done) {
      done({ value: signOuts.get(user) });
    },

    assigned(user, done) {
      done({ value: assignments.of(user) });
    },

    usage() {
      return { sessions: table.size, cursors: cursors.size };
    },
  };
}

export function clearTables({ table, cursors, signOuts, assignments }: Tables): void {
  table.clear();
  cursors.clear();
  signOuts.clear();
  assignments.clear();
}
