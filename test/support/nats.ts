/**
 * A real nats-server for one test: on a free port, with a store of its own, gone when the test is. NATS_SERVER names the
 * program, such as that of another version.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";
import { freePort } from "../../src/node/ports.ts";
import { until } from "./until.ts";

const { NATS_SERVER: program = "nats-server" } = process.env;

export interface NatsServer {
  readonly port: number;
  /** Of the process that runs now; 0 for none. */
  readonly pid: number;
  readonly url: string;
  /** Ends it in order, and starts it again on the same port, with what it kept unless told otherwise. */
  stop(): Promise<void>;
  /** @param configuration in its own language, such as limits; until it is started again */
  start(configuration?: string): Promise<void>;
  /** Takes it away from one moment to the next, as kill -9 does. */
  kill(): Promise<void>;
  /** It does not run, but its sockets stay (SIGSTOP), until it goes on. */
  pause(): Promise<void>;
  resume(): void;
  /** Where it keeps a stream. To be changed only while it is stopped. */
  folderOf(stream: string): string;
  /** What it kept is gone. This and the copies only while it is stopped. */
  wipe(): void;
  copyStore(): { putBack(): void };
  /** Nothing more fits on its disk, until `empty`. Null where it has none of its own. */
  readonly disk: { fill(): void; empty(): void } | null;
}

export interface NatsServerOptions {
  jetStream?: boolean;
  /** More of its flags. */
  flags?: string[];
  /** A disk of its own of this size, where this user may mount one. */
  diskBytes?: number;
}

export async function startNats(t: Pick<Test, "teardown">, { jetStream = true, flags = [], diskBytes = 0 }: NatsServerOptions = {}): Promise<NatsServer> {
  const folder = mkdtempSync(join(tmpdir(), "flux-nats-"));
  const mounted = diskBytes > 0 && spawnSync("mount", ["-t", "tmpfs", "-o", `size=${diskBytes}`, "tmpfs", folder]).status === 0;
  const filler = join(folder, "filler");
  const port = await freePort();
  const store = join(folder, "jetstream");
  const wipe = () => rmSync(store, { recursive: true, force: true });
  let child: ChildProcess | null = null;

  const start = async (configuration = ""): Promise<void> => {
    const kept = jetStream ? ["-js", "-sd", folder] : [];
    if (configuration !== "") {
      writeFileSync(`${folder}.conf`, configuration);
      kept.push("-c", `${folder}.conf`);
    }
    const started = spawn(program, ["-a", "127.0.0.1", "-p", String(port), ...kept, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    started.stderr.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-4000)));
    let failure: Error | null = null;
    started.once("error", (error: NodeJS.ErrnoException) => {
      const missing = `${program} is not installed: run \`bash test/support/services.sh\``;
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
  // Before it runs: one that does not come to answer is not left behind.
  t.teardown(async () => {
    await end("SIGKILL");
    if (mounted) spawnSync("umount", [folder]);
    for (const path of [folder, `${folder}.conf`]) rmSync(path, { recursive: true, force: true });
  });
  await start();
  return {
    port,
    get pid() { return child?.pid ?? 0; },
    url: `nats://127.0.0.1:${port}`,
    start,
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    pause: async () => {
      const { pid } = child!;
      process.kill(pid!, "SIGSTOP");
      // The state is behind the name, which stands in brackets.
      await until(() => / T /.test(readFileSync(`/proc/${pid}/stat`, "utf8").split(")").at(-1)!.slice(0, 3)), "nats-server to be stopped");
    },
    resume: () => void child?.kill("SIGCONT"),
    wipe,
    folderOf: (stream) => join(store, "$G", "streams", stream),
    disk: !mounted ? null : {
      fill: () => {
        const chunk = Buffer.alloc(64 * 1024);
        try {
          for (;;) appendFileSync(filler, chunk);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
        }
      },
      empty: () => rmSync(filler, { force: true }),
    },
    copyStore: () => {
      const copy = mkdtempSync(join(tmpdir(), "flux-nats-copy-"));
      t.teardown(() => rmSync(copy, { recursive: true, force: true }));
      cpSync(store, copy, { recursive: true });
      return {
        putBack() {
          wipe();
          cpSync(copy, store, { recursive: true });
        },
      };
    },
  };
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
