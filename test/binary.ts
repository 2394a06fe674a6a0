/**
 * `npm run test:binary`: the single executable file, alone in an empty folder, with an empty PATH and none of the project beside it: the main job, the
 * demo, a drain, a kill, the health check, NATS and Redis; and folders that are read-only, full, open to others or were tampered with.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, chmodSync, copyFileSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { freePort } from "../src/node/ports.ts";
import { startNats } from "./support/nats.ts";
import { startRedis } from "./support/redis.ts";
import { root } from "./support/root.ts";
import { open } from "./support/session.ts";
import { createTeardowns } from "./support/teardowns.ts";
import { until } from "./support/until.ts";

const name = `flux-gateway-${process.platform}-${process.arch}`;
const t = createTeardowns();
try {
  const folder = t.testdir();
  const file = join(folder, name);
  copyFileSync(join(root, "build", name), file);
  const home = join(folder, "home");
  mkdirSync(home);
  await mainJob(file, home);
  await services(file, home);
  await places(file, folder);
  console.log(`${(statSync(file).size / 2 ** 20).toFixed(1)} MiB; CPU seconds of --version: ${startTimes(file, folder)}`);
} finally {
  await t.end();
}
process.exit(0);

async function mainJob(file: string, home: string): Promise<void> {
  const port = await freePort();
  const flags = ["--port", String(port), "--drain-ms", "500", "--data-dir", join(home, "data"), "--namespaces", '{"chat":{"durable":true}}'];
  const node = await start(file, home, flags);
  check((await (await fetch(`http://127.0.0.1:${port}/`)).text()).includes("<html"), "the demo page");
  check((await fetch(`http://127.0.0.1:${port}/flux-client.js`)).ok, "the served client");
  const [ann, bob] = await Promise.all([open({ port }, {}), open({ port }, { json: true })]);
  await Promise.all([ann.join("chat:a"), bob.join("chat:a")]);
  await ann.publish("chat:a", '"hello"');
  await bob.waitFor(() => bob.publications.length === 1, "the publication");
  const health = run(file, home, ["health"], { FLUX_PORT: String(port) });
  check(health.status === 0 && health.stdout.startsWith("healthy"), `health: ${health.stdout}`);
  console.log("ok: main job, demo page, served client, health check");

  const exit = once(node, "exit");
  node.kill("SIGTERM");
  const ending = await ann.closed();
  check(typeof ending === "object" && ending.code === 3001, `a drain closes with 3001, not ${JSON.stringify(ending)}`);
  check((await exit)[0] === 0, "a drain exits with 0");
  check(run(file, home, ["health"], { FLUX_PORT: String(port) }).status === 1, "nobody is healthy");
  const again = await start(file, home, flags);
  const died = once(again, "exit");
  again.kill("SIGKILL");
  await died;
  const third = await start(file, home, flags);
  const reader = await open({ port }, {});
  const { missed } = await reader.join("chat:a", { history: 10 });
  check(missed.length === 1, "the history is there after a kill");
  third.kill("SIGKILL");
  console.log("ok: a drain, a kill, and the history after both");
}

async function services(file: string, home: string): Promise<void> {
  const [nats, redis] = await Promise.all([startNats(t), startRedis(t)]);
  const shared = ["--nats", nats.url, "--redis", redis.url, "--namespaces", '{"chat":{"durable":true,"presence":"members"}}'];
  const ports = [await freePort(), await freePort()];
  await Promise.all(ports.map((port, i) => start(file, home, [...shared, "--node-id", `n${i}`, "--port", String(port)])));
  const [ann, bob] = await Promise.all(ports.map((port) => open({ port }, {})));
  await Promise.all([ann!.join("chat:a"), bob!.join("chat:a")]);
  await ann!.publish("chat:a", '"over NATS"');
  await bob!.waitFor(() => bob!.publications.length === 1, "the publication of the other node");
  const { presence } = await bob!.request({ presence: { room: "chat:a" } }) as { presence?: { total?: number } };
  check(presence !== undefined, "presence from Redis, whose scripts are in the file");
  console.log("ok: two nodes on NATS and Redis");
}

/** Where it unpacks to. Each start has a HOME of its own. */
async function places(file: string, folder: string): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  const home = (of: string) => {
    mkdirSync(join(folder, of));
    return join(folder, of);
  };
  const version = (at: string, env: NodeJS.ProcessEnv = {}) => run(file, at, ["--version"], env);

  const good = home("good");
  check(version(good).status === 0, "it starts");
  const cache = join(good, ".cache/flux-gateway");
  check((statSync(cache).mode & 0o777) === 0o700, "the folder is private");
  const [id] = readdirSync(cache);
  appendFileSync(join(cache, id!, "dist/cli/main.js"), "\n// tampered");
  const tampered = version(good);
  check(tampered.status === 1 && /was changed after it was unpacked.*delete/.test(tampered.stderr), `tampered: ${tampered.stderr}`);
  rmSync(join(cache, id!, "node_modules"), { recursive: true });
  check(/it is missing|content differs/.test(version(good).stderr), "missing files");
  rmSync(join(cache, id!), { recursive: true });
  check(version(good).status === 0, "and after the folder is deleted it starts again");
  chmodSync(cache, 0o777);
  check(version(good).status === 0, "a folder that others may write to is passed over: the temporary one is used");

  if (isRoot) {
    for (const [what, options] of [["full", "size=1m"], ["read-only", "ro"]] as const) {
      const at = home(what);
      if (spawnSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", at]).status !== 0) throw new Error("mount failed");
      t.teardown(() => spawnSync("umount", [at]));
      check(version(at).status === 0, `${what}: another folder is used`);
      // In a namespace of mounts of its own, every place is like that.
      const everywhere = spawnSync("unshare", ["-m", "sh", "-c", 'mount --bind "$HOME" /dev/shm && exec "$0" --version', file], { encoding: "utf8", env: { HOME: at, TMPDIR: at, PATH: "/usr/bin:/bin:/usr/sbin:/sbin" } });
      check(everywhere.status === 1 && /cannot be unpacked.*XDG_CACHE_HOME.*Tried/.test(everywhere.stderr), `${what} everywhere: ${everywhere.stderr}`);
    }
  }
  console.log("ok: folders that are tampered with, open to others, full and read-only");
}

/** CPU in seconds of `--version`, the first time, when it unpacks, and the median after it; beside it the program without the file, and through npx. */
function startTimes(file: string, folder: string): string {
  const at = join(folder, "timed");
  mkdirSync(at);
  const env = { HOME: at, TMPDIR: temporary(at), PATH: process.env.PATH ?? "" };
  const cpu = (command: string): number => {
    const { stdout } = spawnSync("/bin/sh", ["-c", `${command} --version >/dev/null 2>&1; times`], { encoding: "utf8", cwd: root, env });
    const ofChildren = stdout.trim().split("\n").at(-1)!;
    return [...ofChildren.matchAll(/(\d+)m([\d.]+)s/g)].reduce((sum, [, minutes, seconds]) => sum + 60 * Number(minutes) + Number(seconds), 0);
  };
  const median = (command: string): number => Array.from({ length: 5 }, () => cpu(command)).sort((one, other) => one - other)[2]!;
  const first = cpu(`'${file}'`);
  const all = { first, file: median(`'${file}'`), node: median(`'${process.execPath}' dist/cli/main.js`), npx: median("npx --offline flux-gateway") };
  return Object.entries(all).map(([name, seconds]) => `${name} ${seconds.toFixed(2)}`).join(", ");
}

/** Beside HOME: the machine's own folder is left alone. */
function temporary(home: string): string {
  const folder = join(home, "../temporary");
  mkdirSync(folder, { recursive: true });
  return folder;
}

function run(file: string, home: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  return spawnSync(file, args, { encoding: "utf8", cwd: home, env: { HOME: home, PATH: "", TMPDIR: temporary(home), ...env } });
}

async function start(file: string, home: string, flags: readonly string[]): Promise<ChildProcess> {
  const child = spawn(file, ["start", "--reactors", "2", "--admin-port", "0", "--allow-anonymous", "--log-format", "json", ...flags], { cwd: home, env: { HOME: home, PATH: "", TMPDIR: temporary(home) }, stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => child.kill("SIGKILL"));
  let isUp = false;
  createInterface(child.stdout!).on("line", (line) => (isUp ||= line.includes('"websocket"')));
  await until(async () => isUp || child.exitCode !== null, "the node to start", 60_000);
  check(child.exitCode === null, "the node starts");
  return child;
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`failed: ${what}`);
}
