/** What both embedded stores hold, and how it is read: one has it in memory alone, the other on disk as well. */
import type { Cursors } from "./cursors.ts";
import { cursorKey } from "./cursors.ts";
import type { Sessions } from "./sessions.ts";
import type { SignOuts } from "./signouts.ts";
import type { Table } from "./table.ts";
import { recordOf } from "./text.ts";

export interface Tables {
  readonly table: Table;
  readonly cursors: Cursors;
  readonly signOuts: SignOuts;
}

type Reading = Pick<Sessions, "keep" | "take" | "cursor" | "signedOutAt" | "usage">;

export function readingOf({ table, cursors, signOuts }: Tables): Reading {
  return {
    keep(id) {
      table.keep(id);
    },

    take(id, done) {
      const text = table.get(id);
      done({ value: text === null ? null : recordOf(id, text) }, 0);
    },

    cursor(user, device, done) {
      done({ value: cursors.get(cursorKey(user, device)) });
    },

    signedOutAt(user, done) {
      done({ value: signOuts.get(user) });
    },

    usage() {
      return { sessions: table.size, cursors: cursors.size };
    },
  };
}

export function clearTables({ table, cursors, signOuts }: Tables): void {
  table.clear();
  cursors.clear();
  signOuts.clear();
}
