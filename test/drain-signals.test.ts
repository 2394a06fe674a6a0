/** What a node does when it is sent a signal. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import t from "tap";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { open, type TestSession } from "./support/session.ts";
import { until } from "./support/until.ts";

const toldTo = (session: TestSession) => session.events.find(({ reconnect }) => reconnect)?.reconnect;

t.test("SIGTERM drains and exits with 0", async (t) => {
  const node = await startNodeProcess(["--drain-ms", "400ms"]);
  t.teardown(() => node.kill());
  const sessions = await Promise.all(Array.from({ length: 8 }, () => open(node)));
  process.kill(node.pid, "SIGTERM");
  for (const session of sessions) {
    t.match(await session.closed(), { code: 3001 });
    t.ok(toldTo(session));
  }
  await until(() => node.ended !== undefined, "the node to end");
  t.equal(node.ended, 0);
});

t.test("a second signal in the middle of a drain ends it at once, with 1", async (t) => {
  const node = await startNodeProcess(["--drain-ms", "1h"]);
  t.teardown(() => node.kill());
  const sessions = await Promise.all(Array.from({ length: 4 }, () => open(node)));
  process.kill(node.pid, "SIGTERM");
  await until(async () => (await fetch(`http://127.0.0.1:${node.port}/ready`)).status === 503, "the drain to begin");
  process.kill(node.pid, "SIGINT");
  for (const session of sessions) t.match(await session.closed(), { code: 3001 });
  await until(() => node.ended !== undefined, "the node to end");
  t.equal(node.ended, 1);
});

t.test("Ctrl+C at a terminal does not wait for a drain", async (t) => {
  // script gives the command a terminal, and hands on what it exits with. A shell in between may die of the Ctrl+C itself.
  const bin = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
  const flags = "start --port 0 --admin-port 0 --no-demo --drain-ms 1h --log-format json --reactors 1";
  const child = spawn("script", ["-qec", `exec ${bin} ${flags}`, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
  t.teardown(() => child.kill("SIGKILL"));
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  await until(() => /"websocket":"ws:/.test(said), "the node to run");
  const session = await open({ port: Number(/"websocket":"ws:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[1]) });
  child.stdin.write("\x03");
  t.match(await session.closed(), { code: 3001 });
  t.equal(await ended, 0);
  t.match(said, /SIGINT: closing/);
});
