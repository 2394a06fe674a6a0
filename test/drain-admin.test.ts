/** Draining a node from outside: the admin port's /drain, and the command that uses it. */
import { spawn } from "node:child_process";
import t from "tap";
import { plainly } from "./support/command.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const hour = 3_600_000;

function post(node: { adminPort: number }, body: string, headers: Record<string, string> = { "Content-Type": "application/json" }): Promise<Response> {
  return fetch(`http://127.0.0.1:${node.adminPort}/drain`, { method: "POST", headers, body });
}

interface Ran {
  code: number | null;
  out: string;
  err: string;
}

function command(args: readonly string[]): Promise<Ran> & { so: { out: string } } {
  const child = spawn("env", plainly(["drain", ...args]), { stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env.PATH ?? "" } });
  const so = { out: "", err: "" };
  child.stdout.on("data", (chunk: Buffer) => (so.out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (so.err += chunk.toString()));
  return Object.assign(new Promise<Ran>((resolve) => child.once("close", (code) => resolve({ code, ...so }))), { so });
}

t.test("POST /drain tells how far it is until it is over, and the node ends", async (t) => {
  const node = await startNode(t, { drainMs: hour });
  t.match(await (await fetch(`http://127.0.0.1:${node.adminPort}/drain`)).json(), { state: "serving", left: 0, windowMs: hour });
  const sessions = await Promise.all(Array.from({ length: 6 }, () => open(node)));
  const response = await post(node, '{"windowMs":1200,"url":"ws://other.example/ws"}');
  t.equal(response.status, 200);
  const lines = (await response.text()).trim().split("\n").map((line) => JSON.parse(line) as { state: string; sessions: number; left: number });
  t.match(lines[0], { state: "draining", sessions: 6, windowMs: 1200 });
  t.match(lines.at(-1), { state: "over", sessions: 6, left: 0 });
  const left = lines.map((line) => line.left);
  t.same(left, [...left].sort((a, b) => b - a), "ever fewer");
  for (const session of sessions) {
    t.match(await session.closed(), { code: 3001 });
    t.match(session.events.at(-1)?.reconnect, { url: "ws://other.example/ws" });
  }
  await node.ended;
  await t.rejects(post(node, "{}"), "the node is gone");
});

t.test("what a page could send drains nothing, and what is not understood is said", async (t) => {
  const node = await startNode(t, { reactors: 1 });
  const json = { "Content-Type": "application/json" };
  const refused: [number, string, Record<string, string>, RegExp][] = [
    [403, "{}", { ...json, Origin: "https://evil.example" }, /pages/],
    [403, "{}", { ...json, "Sec-Fetch-Site": "same-origin" }, /pages/],
    [415, "{}", { "Content-Type": "text/plain" }, /Content-Type/],
    [400, "", json, /body/],
    [400, '{"windowMs":-1}', json, /windowMs/],
    [400, '{"windowMs":"30s"}', json, /windowMs/],
    [400, '{"url":"https://other.example"}', json, /url: must be a ws/],
    [400, '{"url":"nothing"}', json, /url/],
    [400, '{"window":1}', json, /window/],
  ];
  for (const [status, body, headers, why] of refused) {
    const response = await post(node, body, headers);
    t.equal(response.status, status, body);
    t.match(await response.text(), why);
  }
  t.equal((await fetch(`http://127.0.0.1:${node.adminPort}/drain`, { method: "DELETE" })).status, 405);
  t.match(await (await fetch(`http://127.0.0.1:${node.adminPort}/drain`)).json(), { state: "serving" });
  t.equal((await fetch(`http://127.0.0.1:${node.port}/ready`)).status, 200);
});

t.test("the command shows how far it is, and a second one joins it", async (t) => {
  const node = await startNode(t, { reactors: 1 });
  const sessions = await Promise.all(Array.from({ length: 3 }, () => open(node)));
  const port = ["--admin-port", String(node.adminPort)];
  const first = command([...port, "--window", "1h"]);
  await until(() => /of 3 left/.test(first.so.out), "the first to have begun");
  const second = command([...port, "--json"]);
  await until(() => second.so.out !== "", "the second to have joined it");
  // They do not wait for their turns.
  await Promise.all(sessions.map((session) => session.bye()));
  t.match(await first, { code: 0, out: /^\d of 3 left, \d\.\d s of 3600\.0 s\n(.*\n)*drained: 3 sessions closed in \d+\.\d s; the node exits\n$/, err: "" });
  const { code, out } = await second;
  t.equal(code, 0);
  t.match(JSON.parse(out.trim().split("\n").at(-1) ?? ""), { state: "over", sessions: 3, left: 0, windowMs: 3_600_000 });
  await node.ended;
});

t.test("a node that ends before it is through is told, and so is one that is not there", async (t) => {
  const node = await startNodeProcess();
  t.teardown(() => node.kill());
  const adminPort = new URL(node.adminUrl).port;
  await open(node);
  const draining = command(["--admin-port", adminPort, "--window", "1h"]);
  await until(() => /of 1 left/.test(draining.so.out), "the drain to begin");
  await node.kill();
  t.match(await draining, { code: 1, err: /^error: .*the node exited before the drain was complete, with 1 of its sessions left\n$/ });
  t.match(await command(["--admin-port", adminPort]), { code: 1, err: /^error: --admin-port: no node answers at / });
  t.match(await command(["--window", "soon"]), { code: 1, err: /^error: --window: must be a time/ });
});

t.test("a node that is started by the command ends with 0 when it was drained from outside", async (t) => {
  const node = await startNodeProcess(["--drain-ms", "200ms"]);
  t.teardown(() => node.kill());
  const session = await open(node);
  t.match(await command(["--admin-port", new URL(node.adminUrl).port]), { code: 0 });
  t.match(await session.closed(), { code: 3001 });
  await until(() => node.ended !== undefined, "the node to end");
  t.equal(node.ended, 0);
});
