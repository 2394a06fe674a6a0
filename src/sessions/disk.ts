/**
 * The embedded sessions of one node, in memory and in a journal on disk. The node reads the journal at start, and
 * appends every change to it, together with its neighbours. A failed write is not lost: memory has it, and the journal
 * is rewritten from memory when the disk works again.
 */
import type { DiskUsage, JournalLog } from "../disk/journal.ts";
import { openLines } from "../disk/lines.ts";
import { steadyClock } from "../platform/steadyclock.ts";
import { Assignments, assignedMax } from "./assignments.ts";
import { Cursors, advances, cursorKey } from "./cursors.ts";
import type { MemorySessionsOptions } from "./memory.ts";
import type { Sessions } from "./sessions.ts";
import { SignOuts } from "./signouts.ts";
import { Table } from "./table.ts";
import { clearTables, readingOf, type Tables } from "./tables.ts";
import { prefixOf, textOf } from "./text.ts";

export interface DiskSessionsOptions extends MemorySessionsOptions {
  readonly folder: string;
  readonly sync: boolean;
  readonly uncommittedBytesMax: number;
  readonly log: JournalLog;
}

export interface DiskSessions extends Sessions {
  readonly disk: () => DiskUsage;
}

/** One line of the journal. `alive`: the node ran at this time, and with it the sessions that had a socket. */
type Line =
  | readonly ["put", id: string, text: string, at: number]
  | readonly ["end", id: string]
  | readonly ["cursor", key: string, epoch: string, seq: number, at: number]
  | readonly ["out", user: string, time: number]
  | readonly ["floor", time: number]
  | readonly ["assign", user: string, room: string]
  | readonly ["unassign", user: string, room: string]
  | readonly ["alive", at: number];

const sweepMs = 5_000;

export async function createDiskSessions(options: DiskSessionsOptions): Promise<DiskSessions> {
  const { ttlMs, sessionsMax, cursorsMax, clock = Date.now } = options;
  const steady = options.clock ?? steadyClock();
  /** Nothing expires while the journal is read. */
  let loadingAt: number | null = 0;
  let aliveAt = 0;
  const time = () => loadingAt ?? steady();
  const onForgotten = (id: string) => write(["end", id]);
  const table = new Table({ ttlMs, max: sessionsMax, clock: time, onForgotten });
  const cursors = new Cursors(cursorsMax);
  const signOuts = new SignOuts(cursorsMax);
  const assignments = new Assignments(assignedMax);
  const tables: Tables = { table, cursors, signOuts, assignments };
  const lines = await openLines<Line>({
    ...options, what: "sessions",
    read: (line) => void (aliveAt = Math.max(aliveAt, apply(tables, line))),
    all: () => linesOf(tables, clock),
  });
  // Each of them had a socket when the node last ran, or was still within its TTL.
  const found = table.ids().map((id) => [id, table.get(id) ?? ""] as const);
  loadingAt = Math.min(aliveAt, steady());
  for (const [id, text] of found) table.put(id, text);
  loadingAt = null;
  table.expire();
  cursors.expire(clock());

  function write(line: Line): void {
    if (loadingAt === null) lines.write(line);
  }

  const sweeper = setInterval(() => {
    table.expire();
    cursors.expire(clock());
    if (table.size > 0) write(["alive", clock()]);
    lines.tidy();
  }, sweepMs).unref();

  return {
    outlivesProcess: true,
    ...readingOf(tables),

    put(record) {
      const text = textOf(record);
      table.put(record.id, text);
      write(["put", record.id, text, clock()]);
    },

    end(id) {
      table.delete(id);
      write(["end", id]);
    },

    endAll(tenant, user) {
      for (const id of table.deleteAll(prefixOf(tenant, user))) write(["end", id]);
    },

    acknowledge(user, device, position) {
      const key = cursorKey(user, device);
      if (!advances(cursors.get(key), position)) return;
      cursors.set(key, position, clock());
      write(["cursor", key, position.epoch, position.seq, clock()]);
    },

    signOut(user, at) {
      signOuts.set(user, at);
      write(["out", user, at]);
    },

    assign(user, room, max, done) {
      lines.store(["assign", user, room], () => assignments.add(user, room, max), (error) => done(error === null ? { value: null } : { error }));
    },

    unassign(user, room, done) {
      lines.store(["unassign", user, room], () => (assignments.remove(user, room), null), (error) => done(error === null ? { value: null } : { error }));
    },

    disk: () => lines.usage(),

    async stop() {
      clearInterval(sweeper);
      write(["alive", clock()]);
      await lines.stop();
      clearTables(tables);
    },
  };
}

/** The time in the line; 0 for none. */
function apply({ table, cursors, signOuts, assignments }: Tables, line: Line): number {
  switch (line[0]) {
    case "put":
      table.put(line[1], line[2]);
      return line[3];
    case "end":
      table.delete(line[1]);
      return 0;
    case "cursor":
      cursors.set(line[1], { epoch: line[2], seq: line[3] }, line[4]);
      return line[4];
    case "out":
      signOuts.set(line[1], line[2]);
      return 0;
    case "floor":
      signOuts.floor = line[1];
      return 0;
    case "assign":
      assignments.add(line[1], line[2], Infinity);
      return 0;
    case "unassign":
      assignments.remove(line[1], line[2]);
      return 0;
    case "alive":
      return line[1];
  }
}

/** From what is there when a line is read: between two lines others may be written. */
export function* linesOf({ table, cursors, signOuts, assignments }: Tables, clock: () => number): Generator<Line> {
  const out = signOuts.all();
  yield ["floor", signOuts.floor];
  for (const [user, time] of out) yield ["out", user, time];
  for (const user of assignments.users()) {
    for (const room of assignments.of(user)) {
      // One that was taken away since must not stand behind its removal.
      if (assignments.of(user).includes(room)) yield ["assign", user, room];
    }
  }
  for (const key of cursors.keys()) {
    const cursor = cursors.find(key);
    if (cursor !== undefined) yield ["cursor", key, cursor.epoch, cursor.seq, cursor.at];
  }
  for (const id of table.ids()) {
    const text = table.get(id);
    if (text !== null) yield ["put", id, text, 0];
  }
  yield ["alive", clock()];
}
