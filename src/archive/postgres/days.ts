/** The partitions of the archive: one for each day, by the time at which streams stored the publications. */
import type { Pool } from "pg";
import { inTransaction, type Sql } from "../../postgres/connection.ts";
import { lockKey } from "./migrations.ts";

export const dayMs = 86_400_000;
/** Made before they are needed: nobody waits for a lock at midnight. */
const daysAhead = 2;
/** A report that runs for hours holds a lock on the table. What waits for it would hold up everything behind. */
const lockMs = 2_000;

export class Days {
  readonly #pool: Pool;
  /** Days, counted from 1970, with a partition. */
  readonly #known = new Set<number>();

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Makes sure that rows of these times, in microseconds, have a partition. */
  async ensure(times: readonly number[]): Promise<void> {
    const missing = new Set(times.map((at) => Math.floor(at / 1000 / dayMs)).filter((day) => !this.#known.has(day)));
    for (const day of missing) await this.#make(day);
  }

  /** Another node may have deleted a partition that is known here. */
  forget(): void {
    this.#known.clear();
  }

  async prepare(now: number): Promise<void> {
    const today = Math.floor(now / dayMs);
    this.forget();
    for (let day = today; day <= today + daysAhead; day++) await this.#make(day);
  }

  /** Deletes whole days that ended before a time, the oldest first. */
  async deleteBefore(time: number): Promise<number> {
    let deleted = 0;
    for (const name of await this.#names()) {
      if (endOf(name) > time) break;
      await this.#inLock(async (sql) => {
        // First: from here on nobody takes the history for complete.
        await sql.query(`UPDATE flux_epochs e SET complete_from = last.seq + 1
          FROM (SELECT number, (SELECT max(seq) FROM ${name} p WHERE p.stream = f.stream AND p.epoch = f.epoch) AS seq FROM flux_epochs f) last
          WHERE last.number = e.number AND last.seq >= e.complete_from`);
        await sql.query(`DROP TABLE IF EXISTS ${name}`);
      });
      deleted++;
    }
    this.forget();
    return deleted;
  }

  async #make(day: number): Promise<void> {
    const name = `flux_publications_${new Date(day * dayMs).toISOString().slice(0, 10).replaceAll("-", "")}`;
    const { rows: [there] } = await this.#pool.query("SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass($1)", [name]);
    if (there === undefined) {
      await this.#inLock(async (sql) => {
        // Attaching takes a weaker lock than creating it as a partition: reads of the table go on.
        await sql.query(`CREATE TABLE IF NOT EXISTS ${name} (LIKE flux_publications INCLUDING ALL)`);
        const { rows: [attached] } = await sql.query("SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass($1)", [name]);
        if (attached !== undefined) return;
        await sql.query(`ALTER TABLE flux_publications ATTACH PARTITION ${name} FOR VALUES FROM ('${startOf(day)}') TO ('${startOf(day + 1)}')`);
      });
    }
    this.#known.add(day);
  }

  /** The oldest first. */
  async #names(): Promise<string[]> {
    const { rows } = await this.#pool.query("SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'flux_publications'::regclass");
    return rows.map(({ relname }) => String(relname)).filter((name) => /^flux_publications_\d{8}$/.test(name)).sort();
  }

  #inLock(work: (sql: Sql) => Promise<void>): Promise<void> {
    return inTransaction(this.#pool, async (sql) => {
      await sql.query(`SET LOCAL lock_timeout = ${lockMs}`);
      await sql.query("SELECT pg_advisory_xact_lock($1)", [lockKey]);
      await work(sql);
    });
  }
}

function startOf(day: number): string {
  return `${new Date(day * dayMs).toISOString().slice(0, 10)} 00:00:00+00`;
}

/** Milliseconds since 1970 at which the day of a partition ended. */
function endOf(name: string): number {
  const [, year, month, day] = /_(\d{4})(\d{2})(\d{2})$/.exec(name) ?? [];
  return Date.UTC(Number(year), Number(month) - 1, Number(day)) + dayMs;
}
