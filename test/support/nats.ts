/** A real nats-server for one test: on a free port, with a store of its own, gone when the test is. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, connect, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";
import { until } from "./until.ts";

export interface NatsServer {
  readonly port: number;
  readonly url: string;
  /** Ends it in order, and starts it again on the same port, with what it kept unless told otherwise. */
  stop(): Promise<void>;
  start(): Promise<void>;
  /** Takes it away from one moment to the next, as kill -9 does. */
  kill(): Promise<void>;
  /** It does not run, but its sockets stay (SIGSTOP), until it goes on. */
  pause(): void;
  resume(): void;
  /** Only while it is stopped. */
  wipe(): void;
}

export interface NatsServerOptions {
  jetStream?: boolean;
  /** More of its flags. */
  flags?: string[];
}

export async function startNats(t: Pick<Test, "teardown">, { jetStream = true, flags = [] }: NatsServerOptions = {}): Promise<NatsServer> {
  const folder = mkdtempSync(join(tmpdir(), "flux-nats-"));
  const port = await freePort();
  let child: ChildProcess | null = null;

  const start = async (): Promise<void> => {
    const store = jetStream ? ["-js", "-sd", folder] : [];
    const started = spawn("nats-server", ["-a", "127.0.0.1", "-p", String(port), ...store, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    started.stderr.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-4000)));
    let failure: Error | null = null;
    started.once("error", (error: NodeJS.ErrnoException) => {
      const missing = "nats-server is not installed: run `bash test/support/services.sh`";
      failure = error.code === "ENOENT" ? new Error(missing) : error;
    });
    child = started;
    await until(() => {
      if (failure !== null) throw failure;
      if (started.exitCode !== null) throw new Error(`nats-server ended at once:\n${said}`);
      return answers(port);
    }, "nats-server to answer");
  };
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    const running = child;
    child = null;
    if (running === null || running.exitCode !== null || running.pid === undefined) return;
    const exit = once(running, "exit");
    running.kill(signal);
    if (signal !== "SIGKILL") running.kill("SIGCONT");
    await exit;
  };
  await start();
  t.teardown(async () => {
    await end("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    port,
    url: `nats://127.0.0.1:${port}`,
    start,
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    pause: () => void child?.kill("SIGSTOP"),
    resume: () => void child?.kill("SIGCONT"),
    wipe: () => rmSync(join(folder, "jetstream"), { recursive: true, force: true }),
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

/** Whether it greets: a server that listens may not be ready yet. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const end = (answered: boolean) => {
      socket.destroy();
      resolve(answered);
    };
    socket.once("data", (chunk) => end(chunk.toString().startsWith("INFO")));
    socket.once("error", () => end(false));
  });
}
