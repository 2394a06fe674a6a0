/** A real redis-server for tests: on a free port, with nothing on disk; stopped, paused and started again at will. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Redis } from "ioredis";
import type { Test } from "tap";
import { freePort } from "../../src/node/ports.ts";
import { until } from "./until.ts";

export interface TestRedis {
  readonly port: number;
  /** Of the process that runs now; 0 for none. */
  readonly pid: number;
  readonly url: string;
  /** For looking at what is in it, and for changing it behind the nodes' backs. */
  readonly client: Redis;
  /** It goes, with everything in it; connections are closed. */
  stop(): Promise<void>;
  /** It comes again, on the same port: empty, or with what it had when it was told to save. */
  start(options?: { saved: boolean }): Promise<void>;
  save(): Promise<void>;
  /** It is there and does nothing, until `resume`. */
  pause(): void;
  resume(): void;
}

export interface TestRedisOptions {
  /** Further arguments of redis-server. */
  readonly args?: readonly string[];
  readonly password?: string;
}

let prefixes = 0;

/** Of one test alone: tests of a file share a server. */
export function freshPrefix(): string {
  return `t${process.pid}-${++prefixes}:`;
}

/** A port may be taken between looking and listening. */
const triesMax = 5;

export async function startRedis(t: Pick<Test, "teardown" | "testdir">, options: TestRedisOptions = {}): Promise<TestRedis> {
  const dir = t.testdir();
  for (let tries = 1; ; tries++) {
    const redis = await startOn(t, await freePort(), dir, options).catch((error: unknown) => {
      if (tries === triesMax) throw error;
    });
    if (redis !== undefined) return redis;
  }
}

async function startOn(t: Pick<Test, "teardown">, port: number, dir: string, { args = [], password = "" }: TestRedisOptions): Promise<TestRedis> {
  const client = new Redis({ port, host: "127.0.0.1", ...(password !== "" && { password }), lazyConnect: true, retryStrategy: () => 20, maxRetriesPerRequest: null });
  client.on("error", () => undefined); // it is stopped on purpose
  let child: ChildProcess | null = null;
  const redis: TestRedis = {
    port,
    url: `redis://${password === "" ? "" : `:${password}@`}127.0.0.1:${port}`,
    client,
    get pid() { return child?.pid ?? 0; },

    async start({ saved } = { saved: false }) {
      if (!saved) rmSync(join(dir, "dump.rdb"), { force: true });
      child = await serve(["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir, ...(password === "" ? [] : ["--requirepass", password]), ...args]);
      const ended = once(child, "exit").then(() => Promise.reject(new Error(`redis-server ended at once: is port ${port}, or one of ${args.join(" ")}, in use?`)));
      // The client waits for a server for as long as it takes.
      await Promise.race([until(async () => (await client.ping().catch(() => "")) === "PONG", "redis-server to answer"), ended]);
      ended.catch(() => undefined);
    },

    async save() {
      await client.save();
    },

    async stop() {
      if (child === null || child.exitCode !== null || child.signalCode !== null) return;
      const exit = once(child, "exit");
      child.kill("SIGKILL");
      await exit;
    },

    pause() {
      child?.kill("SIGSTOP");
    },

    resume() {
      child?.kill("SIGCONT");
    },
  };
  t.teardown(async () => {
    client.disconnect();
    await redis.stop();
  });
  await redis.start();
  return redis;
}

async function serve(args: readonly string[]): Promise<ChildProcess> {
  const child = spawn("redis-server", args, { stdio: "ignore" });
  const failed = once(child, "error").then(([error]) => {
    throw new Error(`redis-server cannot be run (${String(error)}): install it with "bash test/support/services.sh"`);
  });
  await Promise.race([once(child, "spawn"), failed]);
  failed.catch(() => undefined);
  return child;
}

/** Lets time go by for all keys of this prefix: they live so much shorter. */
export async function passInRedis({ client }: TestRedis, prefix: string, ms: number): Promise<void> {
  for (const key of await client.keys(`${prefix}*`)) {
    const left = await client.pttl(key);
    if (left < 0) continue;
    if (left <= ms) await client.del(key);
    else await client.pexpire(key, left - ms);
  }
}
