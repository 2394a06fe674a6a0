/** What a node that fails exits with: whatever watches it restarts it only where that is not 0. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import t, { type Test } from "tap";
import { bin } from "./support/command.ts";
import { within } from "./support/rawsocket.ts";
import { open } from "./support/session.ts";

/** Throws outside of everything that could catch it, as a bug would. */
const bugs = 'process.on("SIGUSR2", () => { throw new Error("a bug"); });\nprocess.on("SIGWINCH", () => void Promise.reject(new Error("a promise nobody waits for")));\n';
/** The last of the node's parts that is closed, its admin port, made not to be, or to fail at it. */
const closing = (doing: string) => `import { Server } from "node:http";\nServer.prototype.close = ${doing};\n`;
const never = "() => undefined";

interface Failing {
  readonly pid: number;
  readonly port: number;
  readonly adminUrl: string;
  readonly ended: Promise<number | NodeJS.Signals | null>;
  says(words: string): Promise<void>;
}

async function start(t: Test, preload: string, flags: string[] = []): Promise<Failing> {
  const file = join(t.testdir({ "preload.mjs": preload }), "preload.mjs");
  const args = [`--import=${pathToFileURL(file).href}`, bin, "start", "--port", "0", "--admin-port", "0", "--no-demo", "--reactors", "1", "--drain-ms", "0", "--log-format", "json", ...flags];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"], env: { PATH: process.env.PATH ?? "" } });
  t.teardown(() => child.kill("SIGKILL"));
  const lines: string[] = [];
  const heard: (() => void)[] = [];
  createInterface(child.stdout).on("line", (line) => {
    lines.push(line);
    for (const look of heard) look();
  });
  const ended: Failing["ended"] = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
  const says = (words: string) => {
    const said = new Promise<void>((resolve, reject) => {
      const look = () => lines.some((line) => line.includes(words)) && resolve();
      heard.push(look);
      look();
      void ended.then((code) => reject(new Error(`it ended (${String(code)}) and never said ${words}:\n${lines.join("\n")}`)));
    });
    return within(said, `the node to say ${words}`, 180_000);
  };
  await says("flux-gateway is running");
  const { metrics, websocket } = JSON.parse(lines.find((line) => line.includes("is running"))!) as { metrics: string; websocket: string };
  return { pid: child.pid!, port: Number(new URL(websocket).port), adminUrl: new URL(metrics).origin, ended, says };
}

const end = (node: Failing) => within(node.ended, "the node to end", 180_000);

for (const [what, signal] of [["throws what nobody catches", "SIGUSR2"], ["rejects a promise that nobody waits for", "SIGWINCH"]] as const) {
  t.test(`a node that ${what} closes and exits with 1, and used to exit with 0`, async (t) => {
    const node = await start(t, bugs);
    process.kill(node.pid, signal);
    await node.says("uncaught error");
    t.equal(await end(node), 1);
  });
}

t.test("so does one that fails while it drains, and the drain is cut short", async (t) => {
  const node = await start(t, bugs, ["--drain-ms", "1h"]);
  const session = await open(node);
  process.kill(node.pid, "SIGTERM");
  await node.says("draining within");
  process.kill(node.pid, "SIGUSR2");
  t.match(await session.closed(), { code: 3001 });
  t.equal(await end(node), 1);
});

t.test("a node whose closing hangs after a failure exits with 1", async (t) => {
  const node = await start(t, bugs + closing(never));
  process.kill(node.pid, "SIGUSR2");
  t.not(await end(node), 0);
});

t.test("a second signal while it hangs does not make that a 0", async (t) => {
  const node = await start(t, bugs + closing(never));
  process.kill(node.pid, "SIGUSR2");
  await node.says("uncaught error");
  process.kill(node.pid, "SIGTERM");
  process.kill(node.pid, "SIGINT");
  t.not(await end(node), 0);
});

t.test("a node that is drained from outside and cannot close exits with 1", async (t) => {
  const node = await start(t, closing('() => { throw new Error("no"); }'));
  await fetch(`${node.adminUrl}/drain`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" }).then((answer) => answer.text()).catch(() => "");
  t.equal(await end(node), 1);
});

for (const [what, flag, scheme, signal] of [["NATS", "--nats", "nats", "SIGTERM"], ["Redis", "--redis", "redis", "SIGINT"]] as const) {
  t.test(`a node that is still waiting for ${what} when it is told to end, ends at once, with 0`, async (t) => {
    const silent = createServer(() => {}).listen(0, "127.0.0.1");
    t.teardown(() => silent.close());
    await once(silent, "listening");
    // It accepts and never answers. A start that gives up by itself would exit with 1.
    const url = `${scheme}://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const args = [bin, "start", "--port", "0", "--admin-port", "0", "--no-demo", "--reactors", "1", "--log-format", "json", "--resume-secret", "r".repeat(32), flag, url];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"], env: { PATH: process.env.PATH ?? "" } });
    t.teardown(() => child.kill("SIGKILL"));
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    const ended = new Promise((resolve) => child.once("close", (code, by) => resolve(code ?? by)));
    const [waiting] = (await within(once(silent, "connection"), "the node to ask", 180_000)) as [Socket];
    waiting.on("error", () => {});
    child.kill(signal);
    t.equal(await within(ended, "the node to end", 180_000), 0);
    t.match(out, new RegExp(`"msg":"${signal}: stopped before the node was running"`));
    t.notMatch(out, /is running"/);
  });
}
