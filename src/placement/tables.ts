/** Where the table is stored for all nodes. */
import type { Table } from "./table.ts";

export interface Tables {
  /** The stored table. Null: there is none. MUST reject while the store is unavailable. */
  read(): Promise<Table | null>;
  /**
   * Stores the table where none of its number or a higher one is stored, and tells the other nodes at once. Resolves
   * with the table that is stored then. MUST be atomic.
   */
  write(table: Table): Promise<Table>;
  /** Calls `listener` when another node has stored a table. */
  onWritten(listener: (table: Table) => void): void;
}

/** The table of a node without others. */
export function createMemoryTables(): Tables {
  let stored: Table | null = null;
  const listeners: ((table: Table) => void)[] = [];
  return {
    read: async () => stored,

    async write(table) {
      if (stored !== null && stored.number >= table.number) return stored;
      stored = table;
      for (const listener of listeners) listener(table);
      return table;
    },

    onWritten(listener) {
      listeners.push(listener);
    },
  };
}
