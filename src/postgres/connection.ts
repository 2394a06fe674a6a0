/** Connections to PostgreSQL, and what its errors mean for the operator. */
import { Pool, type PoolClient, type Result } from "pg";

/** An error that stays until an operator acts, with the way to mend it. */
export class PostgresProblem extends Error {
  override readonly name = "PostgresProblem";
}

/** Runs statements: a pool, or one connection of it. */
export interface Sql {
  query(text: string, values?: readonly unknown[]): Promise<Result>;
}

export interface PoolOptions {
  readonly url: string;
  readonly name: string;
  readonly connectionsMax: number;
  readonly statementMs: number;
}

const connectMs = 5_000;
/** A server that does not answer at all is given up this long after it should have stopped the statement itself. */
const graceMs = 5_000;
const keepAliveMs = 10_000;
const idleMs = 60_000;
const endMs = 2_000;

export function openPool({ url, name, connectionsMax, statementMs }: PoolOptions): Pool {
  const pool = new Pool({
    connectionString: url,
    application_name: name,
    max: connectionsMax,
    connectionTimeoutMillis: connectMs,
    idleTimeoutMillis: idleMs,
    statement_timeout: statementMs,
    query_timeout: statementMs + graceMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveMs,
    allowExitOnIdle: true,
  });
  // An idle connection that the server closes. The next query takes another.
  pool.on("error", () => undefined);
  return pool;
}

/** All statements of `work`, or none. */
export async function inTransaction<T>(pool: Pool, work: (sql: Sql) => Promise<T>): Promise<T> {
  const client: PoolClient = await pool.connect();
  let failure: Error | undefined;
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    failure = error as Error;
    await client.query("ROLLBACK").then(() => (failure = undefined), () => undefined);
    throw error;
  } finally {
    // A connection whose state is unknown is closed.
    client.release(failure);
  }
}

/** Waits for statements under way, but not for a server that does not answer. */
export async function endPool(pool: Pool): Promise<void> {
  await endedWithin(pool.end(), endMs);
}

/** Returns when the work is done, or after a time. */
export async function endedWithin(work: Promise<unknown>, ms: number): Promise<void> {
  let timer!: NodeJS.Timeout;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)));
  await Promise.race([work.catch(() => undefined), late]);
  clearTimeout(timer);
}

/** What an error says. One for several addresses of a host has a code only. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message || codeOf(error) || error.name : String(error);
}

export function codeOf(error: unknown): string {
  return String((error as { readonly code?: unknown }).code ?? "");
}

/** PostgreSQL's text does not take NUL, and half of a surrogate pair is no UTF-8. */
export function textFor(text: string): string {
  return text.includes("\0") ? text.replaceAll("\0", "\ufffd") : text;
}

/** Explains an error that stays until an operator acts; null: it may pass. */
export function lasting(error: unknown): PostgresProblem | null {
  if (error instanceof PostgresProblem) return error;
  const { message } = error as Error;
  const text = explanations[codeOf(error)] ?? (/SSL|TLS|certificate/i.test(message) ? "check sslmode and sslrootcert in the address" : undefined);
  return text === undefined ? null : new PostgresProblem(`${message}; ${text}`);
}

const explanations: Readonly<Record<string, string>> = {
  "28P01": "correct user and password in the address",
  "28000": "the server does not let this user in; correct the address, or pg_hba.conf of the server",
  "3D000": "create the database, or correct its name in the address",
  "42501": "grant the user what it lacks, or use the owner of the tables",
  "3F000": "the schema does not exist; correct search_path of the user or in the address",
  "25006": "the database is read-only; use the address of the primary server",
  "42P01": "a table is missing; restore the database, or use an empty one",
  "42703": "a column is missing; restore the database, or use an empty one",
  "0A000": "the server does not support it; PostgreSQL 14 or later is needed",
};
