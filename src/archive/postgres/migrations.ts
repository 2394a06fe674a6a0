/** The tables of the archive, made and changed by numbered migrations under a lock. */
import type { Pool } from "pg";
import { inTransaction, type Sql } from "../../postgres/connection.ts";
import { PostgresProblem, lasting } from "../../postgres/errors.ts";

/**
 * `flux_publications` has a partition for each day of `at`, the stream's own time. Its key contains `at` because a
 * partitioned table requires it; `seq` is unique in an epoch of a stream without it.
 */
const migrations: readonly string[] = [
  `
  CREATE TABLE flux_archive (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version integer NOT NULL,
    gateway text NOT NULL
  );
  CREATE TABLE flux_streams (
    stream text PRIMARY KEY,
    epoch text NOT NULL DEFAULT '',
    seq bigint NOT NULL DEFAULT 0,
    at timestamptz,
    holder text NOT NULL DEFAULT '',
    leased_until timestamptz NOT NULL DEFAULT '-infinity'
  );
  CREATE TABLE flux_epochs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream text NOT NULL,
    epoch text NOT NULL,
    complete_from bigint NOT NULL,
    began timestamptz NOT NULL DEFAULT now(),
    UNIQUE (stream, epoch)
  );
  CREATE TABLE flux_gaps (
    stream text NOT NULL,
    epoch text NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint,
    reason text NOT NULL,
    noticed timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, epoch, from_seq)
  );
  CREATE TABLE flux_publications (
    stream text NOT NULL,
    epoch text NOT NULL,
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    tenant text NOT NULL,
    room text NOT NULL,
    sender text NOT NULL,
    published timestamptz NOT NULL,
    format smallint NOT NULL,
    key text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (stream, epoch, seq, at)
  ) PARTITION BY RANGE (at);
  CREATE INDEX flux_publications_room ON flux_publications (tenant, room, epoch, seq);
  `,
];

export const schemaVersion = migrations.length;
const oldestServer = 140_000;
/** Any number, the same in every version. */
export const lockKey = 7_355_608_101;

/**
 * Makes the tables what this program needs, and checks that they are this gateway's and that this user may use them.
 * @returns the version before: 0 for none
 * @throws PostgresProblem for what stays until an operator acts
 */
export async function migrate(pool: Pool, gateway: string): Promise<number> {
  try {
    await checkServer(pool);
    const found = (await versionIn(pool)) ?? { version: 0, gateway };
    const before = found.version < schemaVersion ? await inTransaction(pool, (sql) => migrated(sql, gateway)) : found;
    const { version } = before;
    if (version > schemaVersion) throw new PostgresProblem(`the tables have version ${version}, and this program knows ${schemaVersion}: a newer flux-gateway changed them; update this node`);
    if (before.gateway !== gateway) throw new PostgresProblem(`the tables belong to another gateway (${before.gateway}, and this one is ${gateway}); use another database or schema for each`);
    await checkRights(pool);
    return version;
  } catch (error) {
    throw lasting(error) ?? error;
  }
}

interface Version {
  readonly version: number;
  readonly gateway: string;
}

/** Null: there are no tables yet. */
async function versionIn(sql: Sql): Promise<Version | null> {
  const { rows: [there] } = await sql.query("SELECT to_regclass('flux_archive') IS NOT NULL AS found");
  if (there?.found !== true) return null;
  const { rows: [row] } = await sql.query("SELECT version, gateway FROM flux_archive");
  if (row === undefined) throw new PostgresProblem("the table flux_archive is empty; restore the database, or use an empty one");
  return row as unknown as Version;
}

/** @returns the version before, of the gateway that the tables belong to */
async function migrated(sql: Sql, gateway: string): Promise<Version> {
  await sql.query("SELECT pg_advisory_xact_lock($1)", [lockKey]);
  const found = await versionIn(sql);
  const { version, gateway: owner } = found ?? { version: 0, gateway };
  if (owner !== gateway || version >= schemaVersion) return { version, gateway: owner };
  for (const migration of migrations.slice(version)) await sql.query(migration);
  if (found === null) await sql.query("INSERT INTO flux_archive (version, gateway) VALUES ($1, $2)", [schemaVersion, gateway]);
  else await sql.query("UPDATE flux_archive SET version = $1", [schemaVersion]);
  return { version, gateway: owner };
}

async function checkServer(sql: Sql): Promise<void> {
  const { rows: [row] } = await sql.query("SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding, current_setting('transaction_read_only') AS read_only, current_schema() AS schema");
  const { version, encoding, read_only: readOnly, schema } = row as { version: number; encoding: string; read_only: string; schema: string | null };
  if (version < oldestServer) throw new PostgresProblem(`the server is PostgreSQL ${Math.floor(version / 10_000)}; the archive needs 14 or later`);
  if (encoding !== "UTF8") throw new PostgresProblem(`the database has the encoding ${encoding}, and names are Unicode; create one with ENCODING 'UTF8'`);
  if (readOnly === "on") throw new PostgresProblem("the database is read-only; use the address of the primary server");
  if (schema === null) throw new PostgresProblem("no schema of the user's search_path exists; create one, or set search_path in the address (?options=-csearch_path%3Dflux)");
}

/** Statements that change nothing, but need the same rights as those that do. */
async function checkRights(sql: Sql): Promise<void> {
  const { rows: [row] } = await sql.query("SELECT pg_has_role(current_user, relowner, 'USAGE') AS owns, current_user::text AS name FROM pg_class WHERE oid = 'flux_publications'::regclass");
  const { owns, name } = row as { owns: boolean; name: string };
  if (!owns) throw new PostgresProblem(`the user ${name} does not own the table flux_publications, and makes a partition of it each day; use its owner, or make ${name} a member of that role`);
  await sql.query("INSERT INTO flux_publications SELECT * FROM flux_publications WHERE false");
  await sql.query("INSERT INTO flux_gaps SELECT * FROM flux_gaps WHERE false");
  await sql.query("UPDATE flux_streams SET seq = seq WHERE false");
  await sql.query("UPDATE flux_epochs SET complete_from = complete_from WHERE false");
}
