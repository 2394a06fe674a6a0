/** Connections to PostgreSQL. It loads the client library: what a node loads without PostgreSQL imports errors.ts only. */
import { Pool, type PoolClient, type Result } from "pg";
import { endedWithin } from "../platform/ended.ts";

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
  // One in use that is lost: its statement rejects. The pool listens only where it runs the statement itself.
  pool.on("connect", (client) => void client.on("error", () => undefined));
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

/** PostgreSQL's text does not take NUL, and half of a surrogate pair is no UTF-8. */
export function textFor(text: string): string {
  return text.includes("\0") ? text.replaceAll("\0", "\ufffd") : text;
}
