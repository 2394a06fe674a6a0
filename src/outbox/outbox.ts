/**
 * The SQL outbox: publishes what applications gave to flux.publish(), once their transactions have committed.
 *
 * Rows are read in the order of their ids and deleted after their acknowledgement. Ids are handed out before a commit, so
 * there is no cursor that could step over a late one: an open transaction delays its own rows only. Within a room the next
 * row is published after the answer to the one before. A row that may have been sent before is sent again with its key.
 */
import { ApiError } from "../api/error.ts";
import type { Answer, Published } from "../broker/broker.ts";
import { textOf } from "../postgres/errors.ts";
import { endedWithin } from "../platform/ended.ts";

export interface OutboxRow {
  /** A 64-bit number. */
  readonly id: string;
  readonly tenant: string;
  readonly room: string;
  /** JSON. */
  readonly data: string;
  readonly key: string;
  /** It was read for the first time now; if not, so long ago. */
  readonly isFresh: boolean;
  readonly sentAgoMs: number;
}

export interface Refused {
  readonly id: string;
  readonly code: string;
  readonly detail: string;
}

export interface Finished {
  /** Published: their rows go. */
  readonly published: readonly string[];
  /** They can never be published: their rows are kept apart, with the reason. */
  readonly refused: readonly Refused[];
  /** Read and not sent. */
  readonly untouched: readonly string[];
}

/** The rows of the shards that this node has. Each method rejects while PostgreSQL is unavailable. */
export interface OutboxRows {
  /** @param waiting rooms to leave out, as `roomOf` names them */
  take(limit: number, waiting: readonly string[]): Promise<readonly OutboxRow[]>;
  finish(finished: Finished): Promise<void>;
  stop(): Promise<void>;
}

export interface OutboxOptions {
  readonly rows: OutboxRows;
  /** @throws ApiError where the row is invalid */
  publish(row: OutboxRow, done: (answer: Answer<Published>) => void): void;
  /** Whether the room has a publication with this key from the last so many milliseconds; null: nobody can tell. */
  find(row: OutboxRow, withinMs: number): Promise<boolean | null>;
  readonly keyWindowMs: number;
  readonly pollMs?: number;
  readonly retryMs?: number;
  /** Milliseconds on a clock that never steps back, for rooms that wait. */
  readonly now?: () => number;
  readonly log: { info(fields: object, text: string): void; warn(fields: object, text: string): void; error(fields: object, text: string): void };
}

export interface OutboxUsage {
  readonly published: number;
  readonly refused: number;
  readonly repeated: number;
  readonly doubled: number;
  readonly failures: number;
  readonly up: boolean;
}

export interface Outbox {
  usage(): OutboxUsage;
  /** Ends after the row that each room has under way, or after a time without their answers. */
  stop(): Promise<void>;
}

const batch = 500;
/** How often an empty outbox is looked at. */
const pollEveryMs = 40;
const retryAfterMs = 1_000;
/** Before the end of the key window: a publish may be under way for some time. */
const keyMarginMs = 15_000;
const clockMarginMs = 60_000;
const stopMs = 3_000;

export function startOutbox(options: OutboxOptions): Outbox {
  const { rows, keyWindowMs, pollMs = pollEveryMs, retryMs = retryAfterMs, now: clock = () => performance.now(), log } = options;
  const counts = { published: 0, refused: 0, repeated: 0, doubled: 0, failures: 0 };
  /** Rooms that take nothing now, and until when they are left alone. */
  const waiting = new Map<string, number>();
  let up = true;
  let stopped = false;
  let wake: () => void = () => undefined;

  const publish = (row: OutboxRow) => new Promise<Answer<Published>>((resolve, reject) => {
    try {
      options.publish(row, resolve);
    } catch (error) {
      reject(error as Error);
    }
  });

  /** Whether a row that was sent before the key window is published already. */
  const isThere = async (row: OutboxRow): Promise<boolean> => {
    if (row.isFresh) return false;
    counts.repeated++;
    if (row.sentAgoMs < keyWindowMs - keyMarginMs) return false;
    const found = await options.find(row, row.sentAgoMs + clockMarginMs);
    if (found === null) {
      counts.doubled++;
      log.warn({ room: row.room, key: row.key }, "outbox: a publication was sent long ago without an answer, and nobody can tell whether it arrived; it is published again");
    }
    return found === true;
  };

  /** Publishes the rows of one room in their order, until one is not taken now. */
  const publishRoom = async (name: string, mine: readonly OutboxRow[], finished: Finishing): Promise<void> => {
    for (const [i, row] of mine.entries()) {
      if (stopped) return keep(mine.slice(i), finished);
      const refusal = await (async () => {
        try {
          if (await isThere(row)) return null;
          const answer = await publish(row);
          return "error" in answer ? new ApiError(answer.error) : null;
        } catch (error) {
          return error instanceof ApiError ? error : new ApiError("internal");
        }
      })();
      if (refusal === null) {
        finished.published.push(row.id);
      } else if (refusal.retryable) {
        waiting.set(name, clock() + retryMs);
        // The rows behind it were not sent; it may have been.
        return keep(mine.slice(i + 1), finished);
      } else {
        log.error({ room: row.room, key: row.key, code: refusal.code, problem: refusal.text }, "outbox: a publication can never be published; it is in flux.outbox_refused");
        finished.refused.push({ id: row.id, code: refusal.code, detail: refusal.text });
      }
    }
  };

  const round = async (): Promise<boolean> => {
    const now = clock();
    for (const [name, until] of waiting) if (until <= now) waiting.delete(name);
    const taken = await rows.take(batch, [...waiting.keys()]);
    if (taken.length === 0) return false;
    const byRoom = new Map<string, OutboxRow[]>();
    for (const row of taken) {
      const name = roomOf(row);
      const mine = byRoom.get(name);
      if (mine === undefined) byRoom.set(name, [row]);
      else mine.push(row);
    }
    const finished: Finishing = { published: [], refused: [], untouched: [] };
    await Promise.all([...byRoom].map(([name, mine]) => publishRoom(name, mine, finished)));
    await rows.finish(finished);
    counts.published += finished.published.length;
    counts.refused += finished.refused.length;
    return taken.length === batch && finished.published.length + finished.refused.length > 0;
  };

  const run = async (): Promise<void> => {
    while (!stopped) {
      let pauseMs = pollMs;
      try {
        if (await round()) pauseMs = 0;
        if (!up) log.info({}, "outbox: PostgreSQL is available again");
        up = true;
      } catch (error) {
        if (stopped) return;
        counts.failures++;
        if (up) log.warn({ problem: textOf(error) }, "outbox: PostgreSQL is unavailable; publications wait there, and the node retries");
        up = false;
        pauseMs = retryMs;
      }
      if (pauseMs > 0 && !stopped) await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pauseMs);
        wake = () => (clearTimeout(timer), resolve());
      });
    }
  };
  const ended = run();

  return {
    usage: () => ({ ...counts, up }),
    async stop() {
      stopped = true;
      wake();
      // A server that does not answer does not hold up the node that stops.
      await endedWithin(ended, stopMs);
      await endedWithin(rows.stop(), stopMs);
      // Nor does a publication that is not answered.
      await endedWithin(ended, stopMs);
    },
  };
}

interface Finishing {
  readonly published: string[];
  readonly refused: Refused[];
  readonly untouched: string[];
}

/** They were not sent. */
function keep(rows: readonly OutboxRow[], { untouched }: Finishing): void {
  for (const { id, isFresh } of rows) if (isFresh) untouched.push(id);
}

/** A room's name with its tenant. */
export function roomOf({ tenant, room }: Pick<OutboxRow, "tenant" | "room">): string {
  return `${tenant}\u001f${room}`;
}
