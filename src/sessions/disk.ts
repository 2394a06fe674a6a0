/**
 * The embedded sessions of one node, in memory and in a journal on disk. The node reads the journal at start, and
 * appends every change to it, together with its neighbours. A failed write is not lost: memory has it, and the journal
 * is rewritten from memory when the disk works again.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Answer } from "../broker/broker.ts";
import type { DiskUsage, Journal, JournalLog, Waiting } from "../disk/journal.ts";
import { openJournal } from "../disk/opening.ts";
import type { ErrorCode } from "../errors.ts";
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
const segmentBytes = 64 * 1024 * 1024;
/** The journal is rewritten once it has this size, and has grown by this factor since the last rewrite. */
const rewriteBytesMin = 4 * 1024 * 1024;
const rewriteFactor = 3;
/** Lines that a rewrite writes in one turn of the loop. */
const sliceLines = 1000;
const lineHeadBytes = 4;

export async function createDiskSessions(options: DiskSessionsOptions): Promise<DiskSessions> {
  const { ttlMs, sessionsMax, cursorsMax, clock = Date.now } = options;
  /** Nothing expires while the journal is read. */
  let loadingAt: number | null = 0;
  let aliveAt = 0;
  const time = () => loadingAt ?? clock();
  const onForgotten = (id: string) => write(["end", id]);
  const table = new Table({ ttlMs, max: sessionsMax, clock: time, onForgotten });
  const cursors = new Cursors(cursorsMax);
  const signOuts = new SignOuts(cursorsMax);
  const assignments = new Assignments(assignedMax);
  const tables: Tables = { table, cursors, signOuts, assignments };
  const journal = await openJournal({ ...options, segmentBytes }, (record) => {
    const line = JSON.parse(record.toString("utf8", lineHeadBytes)) as Line;
    aliveAt = Math.max(aliveAt, apply(tables, line));
  });
  // Each of them had a socket when the node last ran, or was still within its TTL.
  const found = table.ids().map((id) => [id, table.get(id) ?? ""] as const);
  loadingAt = aliveAt;
  for (const [id, text] of found) table.put(id, text);
  loadingAt = null;
  const writer = new Writer(journal, tables, options, clock);
  table.expire();
  cursors.expire(clock());

  function write(line: Line): void {
    if (loadingAt === null) writer.write(line);
  }

  const sweeper = setInterval(() => {
    table.expire();
    cursors.expire(clock());
    if (table.size > 0) write(["alive", clock()]);
    writer.tidy();
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
      writer.store(["assign", user, room], () => assignments.add(user, room, max), done);
    },

    unassign(user, room, done) {
      writer.store(["unassign", user, room], () => (assignments.remove(user, room), null), done);
    },

    disk() {
      const { bytes, uncommittedBytes, failing, counts } = journal;
      return { bytes, uncommittedBytes, failing, counts };
    },

    async stop() {
      clearInterval(sweeper);
      write(["alive", clock()]);
      await writer.stop();
      await journal.close();
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

class Writer implements Waiting {
  readonly #journal: Journal;
  readonly #tables: Tables;
  readonly #log: JournalLog;
  readonly #uncommittedBytesMax: number;
  readonly #clock: () => number;
  /** Some change is only in memory: everything has to be written again. */
  #behind = false;
  #rewriting: Promise<void> | null = null;
  #rewrittenBytes: number;
  #stopped = false;

  constructor(journal: Journal, tables: Tables, { log, uncommittedBytesMax }: DiskSessionsOptions, clock: () => number) {
    this.#journal = journal;
    this.#tables = tables;
    this.#log = log;
    this.#uncommittedBytesMax = uncommittedBytesMax;
    this.#clock = clock;
    this.#rewrittenBytes = journal.bytes / rewriteFactor;
  }

  write(line: Line): void {
    const text = JSON.stringify(line);
    const length = lineHeadBytes + Buffer.byteLength(text);
    if (this.#journal.refusal(length) !== null) this.#behind = true;
    else this.#journal.append(length, this).write(text, lineHeadBytes);
  }

  /**
   * Like `write`, and answers when the disk has it. If the commit fails, memory has it, and a rewrite brings it to disk.
   * @param change changes memory, or says why it does not
   */
  store(line: Line, change: () => ErrorCode | null, done: (answer: Answer<null>) => void): void {
    const text = JSON.stringify(line);
    const length = lineHeadBytes + Buffer.byteLength(text);
    const error = this.#journal.refusal(length) ?? change();
    if (error !== null) return done({ error });
    const failed = () => {
      this.#behind = true;
      done({ error: "unavailable" });
    };
    this.#journal.append(length, { committed: () => done({ value: null }), failed }).write(text, lineHeadBytes);
  }

  committed(): void {}

  failed(): void {
    this.#behind = true;
  }

  /** Rewrites the journal where that is due. */
  tidy(): void {
    const grown = this.#journal.bytes > Math.max(rewriteBytesMin, rewriteFactor * this.#rewrittenBytes);
    if (this.#stopped || this.#rewriting !== null || !(grown || this.#behind)) return;
    this.#rewriting = this.#rewrite()
      .catch((error: unknown) => this.#log.error({ err: error }, "rewriting the sessions journal failed: the old files stay and the node retries"))
      .finally(() => (this.#rewriting = null));
  }

  async stop(): Promise<void> {
    await this.#rewriting;
    if (this.#behind) await this.#rewrite();
    this.#stopped = true;
    await this.#journal.idle();
    if (this.#behind) this.#log.error({}, "sessions and inbox cursors could not be written to disk before the exit: the latest changes are lost");
  }

  /**
   * Writes everything into a new file, then removes the older ones. A change made meanwhile lies behind the line that
   * this writes about the same thing. Each line is made from the current state when it is written, and every wait comes
   * before that.
   */
  async #rewrite(): Promise<void> {
    this.#behind = false;
    const old = this.#journal.segments.slice();
    this.#journal.roll();
    const lines = this.#lines();
    for (let n = 1; ; n++) {
      if (n % sliceLines === 0) await nextTurn();
      // Half of the queue is left to changes made meanwhile: if one were refused, all would have to be written again.
      if (this.#journal.refusal(this.#uncommittedBytesMax / 2) === "overloaded") await this.#journal.settled();
      const next = lines.next();
      if (next.done === true) break;
      this.write(next.value);
      if (this.#behind) return;
    }
    await this.#journal.settled();
    if (this.#behind) return;
    for (const segment of old) await this.#journal.remove(segment);
    this.#rewrittenBytes = this.#journal.bytes;
  }

  *#lines(): Generator<Line> {
    const { table, cursors, signOuts, assignments } = this.#tables;
    const out = signOuts.all();
    yield ["floor", signOuts.floor];
    for (const [user, time] of out) yield ["out", user, time];
    for (const user of assignments.users()) for (const room of assignments.of(user)) yield ["assign", user, room];
    for (const key of cursors.keys()) {
      const cursor = cursors.find(key);
      if (cursor !== undefined) yield ["cursor", key, cursor.epoch, cursor.seq, cursor.at];
    }
    for (const id of table.ids()) {
      const text = table.get(id);
      if (text !== null) yield ["put", id, text, 0];
    }
    yield ["alive", this.#clock()];
  }
}
