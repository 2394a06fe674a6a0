/**
 * The outbox in PostgreSQL: its tables, flux.publish(), and the rows of the shards that this node has. A shard belongs to
 * the node whose connection holds its advisory lock, so it is free at once when the connection is gone.
 */
import { Client } from "pg";
import { openPool, type Sql } from "../postgres/connection.ts";
import { lasting, PostgresProblem } from "../postgres/errors.ts";
import type { Finished, OutboxRow, OutboxRows } from "./outbox.ts";

/** Rooms are spread over so many shards. The function knows the number. */
const shards = 16;
const lockClass = 0x666c7578;
const lockOfTables = -1;
const version = 1;
const statementMs = 30_000;
const connectMs = 5_000;
const lookForShardsMs = 1_000;
const keyCharsMax = 128;

const tables = `
CREATE TABLE flux.outbox_version (singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton), version integer NOT NULL, gateway text NOT NULL);
CREATE TABLE flux.outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  shard smallint NOT NULL,
  tenant text NOT NULL,
  room text NOT NULL CONSTRAINT outbox_room_is_not_empty CHECK (room <> ''),
  data text NOT NULL,
  key text NOT NULL CONSTRAINT outbox_key_has_at_most_${keyCharsMax}_characters CHECK (char_length(key) <= ${keyCharsMax}),
  called timestamptz NOT NULL DEFAULT now(),
  sent timestamptz
) WITH (fillfactor = 60);
CREATE TABLE flux.outbox_refused (id bigint PRIMARY KEY, tenant text NOT NULL, room text NOT NULL, data text NOT NULL, key text NOT NULL, called timestamptz NOT NULL, refused timestamptz NOT NULL DEFAULT now(), code text NOT NULL, detail text NOT NULL);
CREATE FUNCTION flux.publish(room text, data jsonb, key text DEFAULT NULL, tenant text DEFAULT '') RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO flux.outbox (shard, tenant, room, data, key)
  VALUES ((hashtext(coalesce(tenant, '') || chr(31) || room) & ${shards - 1})::smallint, coalesce(tenant, ''), room, data::text, coalesce(nullif(key, ''), gen_random_uuid()::text))
  RETURNING id
$$;
REVOKE ALL ON FUNCTION flux.publish(text, jsonb, text, text) FROM PUBLIC;
`;

export interface OutboxPlace {
  readonly url: string;
  readonly gateway: string;
  readonly name: string;
}

/** Makes the tables and the function, where they are missing. @throws PostgresProblem for what stays until an operator acts */
export async function prepareOutbox({ url, gateway, name }: OutboxPlace): Promise<void> {
  const pool = openPool({ url, name, connectionsMax: 1, statementMs });
  try {
    const client = await pool.connect();
    try {
      await client.query("BEGIN");
      await prepare(client, gateway);
      await client.query("COMMIT");
    } finally {
      client.release(true);
    }
  } catch (error) {
    throw lasting(error) ?? error;
  } finally {
    await pool.end();
  }
}

async function prepare(sql: Sql, gateway: string): Promise<void> {
  await sql.query("SELECT pg_advisory_xact_lock($1, $2)", [lockClass, lockOfTables]);
  const { rows: [there] } = await sql.query("SELECT to_regclass('flux.outbox_version') IS NOT NULL AS found");
  if (there?.found !== true) {
    await sql.query("CREATE SCHEMA IF NOT EXISTS flux");
    await sql.query(tables);
    await sql.query("INSERT INTO flux.outbox_version (version, gateway) VALUES ($1, $2)", [version, gateway]);
  }
  const { rows: [found] } = await sql.query("SELECT version, gateway FROM flux.outbox_version");
  if (Number(found?.version) !== version) throw new PostgresProblem(`the outbox has version ${String(found?.version)}, and this program knows ${version}; update this node`);
  if (found?.gateway !== gateway) throw new PostgresProblem(`the outbox belongs to another gateway (${String(found?.gateway)}, and this one is ${gateway}); use another database for each`);
  await sql.query("UPDATE flux.outbox SET sent = sent WHERE false");
  await sql.query("DELETE FROM flux.outbox WHERE false");
  await sql.query("INSERT INTO flux.outbox_refused SELECT * FROM flux.outbox_refused WHERE false");
}

export function openOutboxRows(place: OutboxPlace): OutboxRows {
  let client: Client | null = null;
  let owned: number[] = [];
  let lookedAt = -Infinity;
  let isPrepared = false;
  let isStopped = false;

  const lose = (lost: Client): void => {
    if (client === lost) client = null;
    owned = [];
    lost.end().catch(() => undefined);
  };

  const connected = async (): Promise<Client> => {
    if (isStopped) throw new Error("the outbox is stopped"); // what was sent is sent again, with its keys
    if (client !== null) return client;
    if (!isPrepared) await prepareOutbox(place);
    isPrepared = true;
    const fresh = new Client({ connectionString: place.url, application_name: place.name, connectionTimeoutMillis: connectMs, statement_timeout: statementMs, query_timeout: statementMs + connectMs, keepAlive: true });
    fresh.on("error", () => lose(fresh));
    await fresh.connect();
    if (isStopped) {
      await fresh.end();
      throw new Error("the outbox is stopped");
    }
    lookedAt = -Infinity;
    return (client = fresh);
  };

  /** What fails ends the connection, and with it the locks: another node goes on. */
  const using = async <T>(work: (sql: Client) => Promise<T>): Promise<T> => {
    const sql = await connected();
    try {
      return await work(sql);
    } catch (error) {
      lose(sql);
      throw error;
    }
  };

  const lookForShards = async (sql: Client): Promise<void> => {
    if (owned.length === shards || performance.now() < lookedAt + lookForShardsMs) return;
    lookedAt = performance.now();
    const others = Array.from({ length: shards }, (_, i) => i).filter((shard) => !owned.includes(shard));
    const { rows } = await sql.query("SELECT shard FROM unnest($2::int[]) AS shard WHERE pg_try_advisory_lock($1, shard)", [lockClass, others]);
    owned = [...owned, ...rows.map(({ shard }) => Number(shard))];
  };

  return {
    take: (limit, waiting) => using(async (sql) => {
      await lookForShards(sql);
      if (owned.length === 0) return [];
      const { rows } = await sql.query(takeRows, [owned, limit, waiting]);
      return rows
        .map((row): OutboxRow => ({ id: String(row.id), tenant: String(row.tenant), room: String(row.room), data: String(row.data), key: String(row.key), isFresh: row.fresh === true, sentAgoMs: Math.max(0, Number(row.ago)) }))
        .sort((a, b) => (BigInt(a.id) < BigInt(b.id) ? -1 : 1));
    }),

    finish: ({ published, refused, untouched }: Finished) => using(async (sql) => {
      if (refused.length > 0) {
        await sql.query(
          `WITH gone AS (DELETE FROM flux.outbox o USING unnest($1::bigint[], $2::text[], $3::text[]) AS r(id, code, detail) WHERE o.id = r.id RETURNING o.*, r.code, r.detail)
           INSERT INTO flux.outbox_refused (id, tenant, room, data, key, called, code, detail) SELECT id, tenant, room, data, key, called, code, detail FROM gone`,
          [refused.map(({ id }) => id), refused.map(({ code }) => code), refused.map(({ detail }) => detail)],
        );
      }
      if (untouched.length > 0) await sql.query("UPDATE flux.outbox SET sent = NULL WHERE id = ANY($1::bigint[])", [untouched]);
      if (published.length > 0) await sql.query("DELETE FROM flux.outbox WHERE id = ANY($1::bigint[])", [published]);
    }),

    async stop() {
      isStopped = true;
      const last = client;
      client = null;
      await last?.end().catch(() => undefined);
    },
  };
}

/** Reading a row notes that it is about to be sent, and commits, before it is. */
const takeRows = `
UPDATE flux.outbox o SET sent = coalesce(o.sent, clock_timestamp())
FROM (SELECT id FROM flux.outbox WHERE shard = ANY($1::smallint[]) AND NOT (tenant || chr(31) || room) = ANY($3::text[]) ORDER BY id LIMIT $2) due
WHERE o.id = due.id
RETURNING o.id, o.tenant, o.room, o.data, o.key, o.sent >= now() AS fresh, extract(epoch FROM now() - o.sent) * 1000 AS ago`;
