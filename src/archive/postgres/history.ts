/** Reads the history of a room from PostgreSQL, through all epochs of its stream. */
import type { Pool } from "pg";
import type { ArchivePage, ArchiveQuery } from "../archive.ts";
import { pageOf, type Epoch, type Found, type Known, type Piece } from "../pages.ts";
import { endPool, openPool, textFor, type Sql } from "../../postgres/connection.ts";

const readsAtOnce = 4;
/** Reads that wait for a connection. More are refused. */
const waitingMax = 64;
const readMs = 5_000;

export class ArchiveReader {
  readonly #pool: Pool;

  constructor(url: string, name: string) {
    this.#pool = openPool({ url, name: `${name} history`, connectionsMax: readsAtOnce, statementMs: readMs });
  }

  async read(query: ArchiveQuery): Promise<ArchivePage | null> {
    if (this.#pool.waitingCount >= waitingMax) throw new Error("too many reads of the archive at once");
    const client = await this.#pool.connect();
    let failure: Error | undefined;
    try {
      const rows = (epoch: string, seq: number, isForward: boolean, limit: number, bytesMax: number) => rowsOf(client, query, { epoch, seq, isForward, limit, bytesMax });
      return await pageOf(query, await knownOf(client, query.stream), rows, (epoch, seq) => hasRow(client, query, epoch, seq));
    } catch (error) {
      failure = error as Error;
      throw error;
    } finally {
      client.release(failure);
    }
  }

  stop(): Promise<void> {
    return endPool(this.#pool);
  }
}

/** How far an epoch `e` of a room in a journal is archived. */
export const endOfEpoch = `greatest(e.complete_from - 1,
  (SELECT max(p.seq) FROM flux_publications p WHERE p.stream = e.stream AND p.epoch = e.epoch),
  (SELECT max(g.to_seq) FROM flux_gaps g WHERE g.stream = e.stream AND g.epoch = e.epoch))`;

/** Rooms in a journal have no cursor of their own. */
async function knownOf(sql: Sql, stream: string): Promise<Known> {
  const { rows } = await sql.query(
    `SELECT e.epoch, e.complete_from, coalesce(s.epoch, e.epoch) AS now, coalesce(s.seq, ${endOfEpoch}) AS seq, (SELECT json_agg(json_build_array(from_seq, to_seq)) FROM flux_gaps g WHERE g.stream = e.stream AND g.epoch = e.epoch) AS gaps
     FROM flux_epochs e LEFT JOIN flux_streams s ON s.stream = e.stream WHERE e.stream = $1 ORDER BY e.number`,
    [stream],
  );
  const epochs = rows.map((row): Epoch => {
    const gaps = (row.gaps ?? []) as [number, number | null][];
    return { epoch: String(row.epoch), completeFrom: Number(row.complete_from), gaps: gaps.map(([from, to]) => ({ from, to: to ?? Infinity })) };
  });
  const last = rows.at(-1);
  return { epochs, cursor: { epoch: String(last?.now ?? ""), seq: Number(last?.seq ?? 0), at: 0, completeFrom: 0 } };
}

interface Asked {
  readonly epoch: string;
  readonly seq: number;
  readonly isForward: boolean;
  readonly limit: number;
  readonly bytesMax: number;
}

/** The bytes of data are counted before any is read. */
async function rowsOf(sql: Sql, { tenant, room, bytesEach = 0 }: ArchiveQuery, { epoch, seq, isForward, limit, bytesMax }: Asked): Promise<Piece> {
  const [beyond, order] = isForward ? [">", "ASC"] : ["<", "DESC"];
  const { rows } = await sql.query(
    `SELECT seq, sender, (extract(epoch FROM published) * 1000)::bigint AS time, format, key, data, beyond FROM (
       SELECT *, sum(octet_length(data) + $6::int) OVER nearest AS bytes, row_number() OVER nearest AS place, lead(seq) OVER nearest AS beyond FROM (
         SELECT seq, sender, published, format, key, data FROM flux_publications
         WHERE tenant = $1 AND room = $2 AND epoch = $3 AND seq ${beyond} $4 ORDER BY seq ${order} LIMIT $5
       ) listed WINDOW nearest AS (ORDER BY seq ${order})
     ) counted WHERE place = 1 OR (place <= $7 AND bytes <= $8) ORDER BY place`,
    [textFor(tenant), textFor(room), epoch, seq, limit + 1, bytesEach, limit, bytesMax],
  );
  const found = rows.map((row): Found => {
    return { epoch, seq: Number(row.seq), sender: String(row.sender), time: Number(row.time), format: Number(row.format), payload: row.data as Buffer, key: String(row.key) };
  });
  const next = rows.at(-1)?.beyond ?? null;
  return { rows: found, beyond: next === null ? null : Number(next) };
}

async function hasRow(sql: Sql, { tenant, room }: ArchiveQuery, epoch: string, seq: number): Promise<boolean> {
  const { rows } = await sql.query("SELECT 1 FROM flux_publications WHERE tenant = $1 AND room = $2 AND epoch = $3 AND seq = $4 LIMIT 1", [textFor(tenant), textFor(room), epoch, seq]);
  return rows.length > 0;
}
