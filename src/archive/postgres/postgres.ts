/** The archive in PostgreSQL. docs/archive.md describes its tables. */
import type { Archive, ArchivedRow, BegunEpoch, Cursor, Gap, Taken } from "../archive.ts";
import { RowRefused } from "../archive.ts";
import { endPool, inTransaction, openPool, textFor } from "../../postgres/connection.ts";
import { codeOf } from "../../postgres/errors.ts";
import { Days } from "./days.ts";
import { ArchiveReader, endOfEpoch } from "./history.ts";
import { migrate } from "./migrations.ts";
import { microseconds } from "../../postgres/times.ts";

export interface PostgresArchiveOptions {
  /** postgres://user:password@host:5432/database */
  readonly url: string;
  /** Names the gateway that owns the tables. */
  readonly gateway: string;
  /** Of the connections. */
  readonly name: string;
}

const writesAtOnce = 4;
const writeMs = 30_000;

/** Connects at the first use. Each method rejects while PostgreSQL is unavailable, or its tables are not usable. */
export function createPostgresArchive({ url, gateway, name }: PostgresArchiveOptions): Archive & { /** @throws PostgresProblem */ prepare(): Promise<void> } {
  const pool = openPool({ url, name, connectionsMax: writesAtOnce, statementMs: writeMs });
  const days = new Days(pool);
  const reader = new ArchiveReader(url, name);
  let migrating: Promise<unknown> | null = null;
  const prepare = async (): Promise<void> => {
    migrating ??= migrate(pool, gateway);
    try {
      await migrating;
    } catch (error) {
      migrating = null;
      throw error;
    }
  };
  const knownStreams = new Set<string>();

  return {
    prepare,

    async take(streams, holder, leaseMs, max) {
      await prepare();
      const fresh = streams.filter((stream) => !knownStreams.has(stream));
      if (fresh.length > 0) await pool.query("INSERT INTO flux_streams (stream) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", [fresh]);
      for (const stream of fresh) knownStreams.add(stream);
      const { rows } = await pool.query(takeStreams, [streams, holder, leaseMs, max]);
      return rows.map((row): Taken => {
        const { stream, epoch, seq, at, complete_from: completeFrom } = row as Record<string, string | null>;
        const cursor = epoch === "" ? null : { epoch: epoch!, seq: Number(seq), at: Number(at ?? 0), completeFrom: Number(completeFrom ?? 1) };
        return { stream: stream!, cursor };
      });
    },

    async epochs(streams) {
      const { rows } = await pool.query("SELECT stream, epoch FROM flux_streams WHERE stream = ANY($1)", [streams]);
      return new Map(rows.map(({ stream, epoch }) => [String(stream), String(epoch)]));
    },

    async release(streams, holder) {
      await pool.query("UPDATE flux_streams SET holder = '', leased_until = '-infinity' WHERE stream = ANY($1) AND holder = $2", [streams, holder]);
    },

    begin(stream, from, to, lost) {
      return inTransaction(pool, async (sql): Promise<Cursor | null> => {
        const { rowCount } = await sql.query("UPDATE flux_streams SET epoch = $4, seq = $5, at = timestamptz 'epoch' + nullif($6::bigint, 0) * interval '1 microsecond' WHERE stream = $1 AND epoch = $2 AND seq = $3", [stream, from?.epoch ?? "", from?.seq ?? 0, to.epoch, to.seq, to.at]);
        if (rowCount === 0) return null;
        if (lost !== null) await sql.query("INSERT INTO flux_gaps (stream, epoch, from_seq, to_seq, reason) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", [stream, lost.epoch, lost.from, lost.to, lost.reason]);
        const { rowCount: made } = await sql.query("INSERT INTO flux_epochs (stream, epoch, complete_from) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", [stream, to.epoch, to.completeFrom]);
        if (made === 1) return to;
        const { rows: [row] } = await sql.query(continueEpoch, [stream, to.epoch]);
        const { seq, at, complete_from: completeFrom } = row as Record<string, string>;
        return { epoch: to.epoch, seq: Number(seq), at: Number(at ?? 0), completeFrom: Number(completeFrom) };
      });
    },

    async append(stream, from, to, rows, gaps, begun = []) {
      await days.ensure(rows.map(({ at }) => at));
      try {
        const { rows: [answer] } = await pool.query(appendRows, valuesOf(stream, from, to, rows, gaps, begun));
        return answer?.moved === 1;
      } catch (error) {
        const code = codeOf(error);
        if (code === noPartition) days.forget();
        else if (/^(?:22|54)/.test(code)) throw new RowRefused((error as Error).message);
        throw error;
      }
    },

    async ends(streams) {
      const { rows } = await pool.query(`SELECT stream, epoch, ${endOfEpoch} AS seq FROM (SELECT DISTINCT ON (stream) * FROM flux_epochs WHERE stream = ANY($1) ORDER BY stream, number DESC) e`, [streams]);
      return new Map(rows.map(({ stream, epoch, seq }) => [String(stream), { epoch: String(epoch), seq: Number(seq) }]));
    },

    async rowBefore(stream, epoch, seq) {
      const { rows: [row] } = await pool.query(`SELECT seq, ${microseconds("at")} AS at FROM flux_publications WHERE stream = $1 AND epoch = $2 AND seq <= $3 ORDER BY seq DESC LIMIT 1`, [stream, epoch, seq]);
      return row === undefined ? null : { seq: Number(row.seq), at: Number(row.at) };
    },

    history: (query) => reader.read(query),

    async tidy(now, keepMs) {
      await prepare();
      await days.prepare(now);
      if (keepMs === 0) return;
      // A clock that is ahead, of the node or of the server, does not delete what is young by the other.
      const { rows: [row] } = await pool.query("SELECT extract(epoch FROM now()) * 1000 AS now");
      await days.deleteBefore(Math.min(now, Number(row!.now)) - keepMs);
    },

    async stop() {
      await Promise.all([endPool(pool), reader.stop()]);
    },
  };
}

/** A row for which there is no partition: another node has deleted it. */
const noPartition = "23514";

const takeStreams = `
WITH free AS (
  SELECT stream FROM flux_streams WHERE stream = ANY($1) AND holder <> $2 AND leased_until < now()
  ORDER BY random() LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE flux_streams s SET holder = $2, leased_until = now() + $3 * interval '1 millisecond'
WHERE (s.stream = ANY($1) AND s.holder = $2) OR s.stream IN (SELECT stream FROM free)
RETURNING s.stream, s.epoch, s.seq, ${microseconds("s.at")} AS at,
  (SELECT complete_from FROM flux_epochs e WHERE e.stream = s.stream AND e.epoch = s.epoch) AS complete_from`;

/** An epoch that is archived already: the cursor goes to its newest row. */
const continueEpoch = `
UPDATE flux_streams s SET seq = greatest(s.seq, newest.seq), at = CASE WHEN newest.seq >= s.seq THEN newest.at ELSE s.at END
FROM (SELECT coalesce(max(seq), 0) AS seq, max(at) AS at FROM flux_publications WHERE stream = $1 AND epoch = $2) newest
WHERE s.stream = $1
RETURNING s.seq, ${microseconds("s.at")} AS at,
  (SELECT complete_from FROM flux_epochs e WHERE e.stream = $1 AND e.epoch = $2) AS complete_from`;

/** One statement is one transaction and one round trip. Without the cursor at its place nothing is stored. */
const appendRows = `
WITH moved AS (
  UPDATE flux_streams SET seq = $4, at = timestamptz 'epoch' + $5::bigint * interval '1 microsecond'
  WHERE stream = $1 AND epoch = $2 AND seq = $3 RETURNING 1
), gaps AS (
  INSERT INTO flux_gaps (stream, epoch, from_seq, to_seq, reason)
  SELECT coalesce(stream, $1), epoch, from_seq, to_seq, reason
  FROM unnest($6::bigint[], $7::bigint[], $8::text[], $18::text[], $19::text[]) AS gaps(from_seq, to_seq, reason, stream, epoch)
  WHERE EXISTS (SELECT FROM moved) ON CONFLICT DO NOTHING
), begun AS (
  INSERT INTO flux_epochs (stream, epoch, complete_from)
  SELECT stream, epoch, max(complete_from) FROM unnest($22::text[], $23::text[], $24::bigint[]) WITH ORDINALITY AS epochs(stream, epoch, complete_from, place)
  WHERE EXISTS (SELECT FROM moved) GROUP BY stream, epoch ORDER BY min(place)
  ON CONFLICT (stream, epoch) DO UPDATE SET complete_from = greatest(flux_epochs.complete_from, excluded.complete_from)
), stored AS (
  INSERT INTO flux_publications (stream, epoch, seq, at, tenant, room, sender, published, format, key, data)
  SELECT coalesce(stream, $1), coalesce(epoch, $2), seq, timestamptz 'epoch' + at * interval '1 microsecond', tenant, room, sender,
    timestamptz 'epoch' + published * interval '1 millisecond', format, key, data
  FROM unnest($9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::smallint[], $16::text[], $17::bytea[], $20::text[], $21::text[])
    AS rows(seq, at, tenant, room, sender, published, format, key, data, stream, epoch)
  WHERE EXISTS (SELECT FROM moved)
  ON CONFLICT DO NOTHING
)
SELECT count(*)::int AS moved FROM moved`;

function valuesOf(stream: string, from: Cursor, to: Cursor, rows: readonly ArchivedRow[], gaps: readonly Gap[], begun: readonly BegunEpoch[]): unknown[] {
  return [
    stream, from.epoch, from.seq, to.seq, to.at,
    gaps.map((gap) => gap.from), gaps.map((gap) => gap.to), gaps.map((gap) => gap.reason),
    rows.map((row) => row.seq), rows.map((row) => row.at), rows.map((row) => textFor(row.tenant)), rows.map((row) => textFor(row.room)), rows.map((row) => textFor(row.sender)),
    rows.map((row) => row.time), rows.map((row) => row.format), rows.map((row) => textFor(row.key)), rows.map((row) => row.payload),
    gaps.map((gap) => gap.stream ?? null), gaps.map((gap) => gap.epoch), rows.map((row) => row.of?.stream ?? null), rows.map((row) => row.of?.epoch ?? null),
    begun.map(({ stream }) => stream), begun.map(({ epoch }) => epoch), begun.map(({ completeFrom }) => completeFrom),
  ];
}
