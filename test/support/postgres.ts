/** A real PostgreSQL for tests: on a free port, in a folder of its own, as a user that is not root; stopped, killed and started again at will. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client, type Result } from "pg";
import type { Test } from "tap";
import { freePort } from "../../src/node/ports.ts";
import { makeDatabase, postgresPrograms, postgresUser } from "../../tools/demo/postgres.ts";
import { until } from "./until.ts";

export interface TestPostgres {
  readonly port: number;
  /** The database; with a name, a schema of its own in it. */
  url(schema?: string): string;
  /** A schema that nobody else has. */
  freshUrl(): Promise<string>;
  /** Runs a statement as the owner. @param url as `freshUrl` gives it */
  sql(text: string, values?: readonly unknown[], url?: string): Promise<Result["rows"]>;
  stop(): Promise<void>;
  /** As kill -9 of all its processes. */
  kill(): Promise<void>;
  start(): Promise<void>;
  pause(): void;
  resume(): void;
  /** Nothing more fits on its disk, until `empty`. Null where it has none of its own. */
  readonly disk: { fill(): void; empty(): void } | null;
}

function programs(): string {
  const found = postgresPrograms();
  if (found === null) throw new Error("PostgreSQL is not installed: run `bash test/support/services.sh`");
  return found;
}

/** A process that is killed loses nothing by it; only a machine would. */
const cheap = ["fsync=off", "shared_buffers=16MB", "autovacuum=off", "min_wal_size=32MB", "max_wal_size=48MB"].flatMap((one) => ["-c", one]);

/** @param durable with its own settings, for measurements */
export async function startPostgres(t: Pick<Test, "teardown">, { diskBytes = 0, durable = false } = {}): Promise<TestPostgres> {
  const bin = programs();
  const user = postgresUser();
  const folder = mkdtempSync(join(tmpdir(), "flux-postgres-"));
  const mounted = diskBytes > 0 && spawnSync("mount", ["-t", "tmpfs", "-o", `size=${diskBytes}`, "tmpfs", folder]).status === 0;
  const data = join(folder, "data");
  const filler = join(folder, "filler");
  const port = await freePort();
  let child: ChildProcess | null = null;
  let schemas = 0;

  const url = (schema?: string) => `postgres://flux@127.0.0.1:${port}/postgres${schema === undefined ? "" : `?options=-csearch_path%3D${schema}`}`;
  // Tests ask until something is so. A connection for each question would cost more than everything else.
  const clients = new Map<string, Promise<Client>>();
  const forget = (at: string) => {
    void clients.get(at)?.then((client) => client.end()).catch(() => undefined);
    clients.delete(at);
  };
  const connected = async (at: string): Promise<Client> => {
    const client = new Client({ connectionString: at, connectionTimeoutMillis: 5_000, query_timeout: 5_000 });
    client.on("error", () => forget(at));
    await client.connect();
    return client;
  };
  const run = async (at: string, text: string, values: readonly unknown[] = []): Promise<Result["rows"]> => {
    if (!clients.has(at)) clients.set(at, connected(at));
    try {
      return (await (await clients.get(at)!).query(text, values)).rows;
    } catch (error) {
      forget(at);
      throw error;
    }
  };
  const start = async (): Promise<void> => {
    // The processes of a server that was killed go a moment later than it.
    await until(async () => {
      if (child === null || child.exitCode !== null || child.signalCode !== null) {
        child = spawn(join(bin, "postgres"), ["-D", data, "-p", String(port), "-k", folder, "-h", "127.0.0.1", "-c", "max_connections=60", ...(durable ? [] : cheap)], { ...user, stdio: "ignore" });
      }
      return run(url(), "SELECT 1").then(() => true, () => false);
    }, "PostgreSQL to answer");
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    for (const at of [...clients.keys()]) forget(at);
    const running = child;
    child = null;
    if (running === null || running.exitCode !== null || running.signalCode !== null) return;
    const exit = once(running, "exit");
    if (signal === "SIGKILL") for (const pid of childrenOf(running.pid!)) kill(pid, "SIGKILL");
    running.kill(signal);
    running.kill("SIGCONT");
    await exit;
  };
  t.teardown(async () => {
    await end("SIGQUIT");
    if (mounted) spawnSync("umount", [folder]);
    rmSync(folder, { recursive: true, force: true });
  });
  makeDatabase(bin, folder, durable ? [] : ["--wal-segsize=1"]);
  await start();
  return {
    port,
    url,
    freshUrl: async () => {
      const schema = `t${++schemas}`;
      await run(url(), `CREATE SCHEMA ${schema}`);
      return url(schema);
    },
    sql: (text, values, at = url()) => run(at, text, values),
    stop: () => end("SIGINT"),
    kill: () => end("SIGKILL"),
    start,
    pause: () => [child!.pid!, ...childrenOf(child!.pid!)].forEach((pid) => kill(pid, "SIGSTOP")),
    resume: () => [child!.pid!, ...childrenOf(child!.pid!)].forEach((pid) => kill(pid, "SIGCONT")),
    disk: !mounted ? null : {
      fill: () => {
        for (const chunk of [Buffer.alloc(1024 * 1024), Buffer.alloc(4096)]) {
          try {
            for (;;) appendFileSync(filler, chunk);
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
          }
        }
      },
      empty: () => rmSync(filler, { force: true }),
    },
  };
}

function childrenOf(pid: number): number[] {
  return spawnSync("ps", ["-o", "pid=", "--ppid", String(pid)]).stdout.toString().split("\n").map(Number).filter((child) => child > 0);
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it has gone by itself
  }
}
