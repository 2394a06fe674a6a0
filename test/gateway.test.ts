import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import t from "tap";
import { ConfigError, createGateway } from "../dist/index.js";
import { startNode } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { open, type TestSession } from "./support/session.ts";
import { until } from "./support/until.ts";

async function get(port: number, path: string, init: RequestInit = {}) {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
  const text = await response.text();
  return { status: response.status, headers: response.headers, text };
}

/** Values of the metrics whose line begins so, summed. */
async function metric(node: { adminPort: number }, begins: string): Promise<number> {
  const { text } = await get(node.adminPort, "/metrics");
  const lines = text.split("\n").filter((line) => line.startsWith(begins));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}

/** Waits until so many reactors have been replaced and two serve. */
async function replaced(node: { adminPort: number }, times: number, reactors = 2): Promise<void> {
  while ((await metric(node, "flux_reactor_restarts_total")) < times || (await metric(node, "flux_reactors ")) < reactors);
}

async function untilMetric(node: { adminPort: number }, begins: string, holds: (value: number) => boolean): Promise<void> {
  const end = performance.now() + 30_000;
  while (!holds(await metric(node, begins))) {
    if (performance.now() > end) throw new Error(`waited in vain for ${begins}: ${await metric(node, begins)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Another program that listens on the port as soon as the node leaves it. */
async function taking(port: number): Promise<Server> {
  for (const end = performance.now() + 20_000; performance.now() < end; ) {
    const server = createServer((socket) => socket.destroy());
    const error = await new Promise<Error | null>((resolve) => server.once("error", resolve).listen(port, "127.0.0.1", () => resolve(null)));
    if (error === null) return server;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`the node does not leave port ${port}`);
}

/** Sessions on both reactors: the kernel spreads sockets as it likes, so some more are opened until it has. */
async function openOnBoth(node: { port: number; adminPort: number }): Promise<TestSession[]> {
  const sessions: TestSession[] = [];
  while (sessions.length < 8 || (await metric(node, 'flux_sockets{reactor="0"')) < 2 || (await metric(node, 'flux_sockets{reactor="1"')) < 2) {
    sessions.push(await open(node));
  }
  return sessions;
}

t.test("health and readiness answer on the public port, other paths and methods get JSON errors", async (t) => {
  const node = await startNode(t);
  t.match(await get(node.port, "/health"), { status: 200, text: /"ok"/ });
  t.match(await get(node.port, "/ready"), { status: 200, text: /"ready"/ });
  for (const [path, method, status] of [["/nothing", "GET", 404], ["/health", "POST", 405], ["/ws", "GET", 426], ["/", "GET", 404]] as const) {
    const answer = await get(node.port, path, { method });
    t.equal(answer.status, status, `${method} ${path}`);
    const { error } = JSON.parse(answer.text) as { error: { code: string; text: string; retryable: boolean } };
    t.type(error.code, "string");
    t.equal(error.retryable, false);
  }
});

t.test("HEAD of health and readiness is answered as GET is, without a body: some balancers ask so", async (t) => {
  const node = await startNode(t);
  for (const path of ["/health", "/ready"]) t.match(await get(node.port, path, { method: "HEAD" }), { status: 200, text: /^$/ }, path);
  t.equal((await get(node.port, "/nothing", { method: "HEAD" })).status, 404);
});

t.test("the demo page comes with the SDK, under a strict content security policy", async (t) => {
  const node = await startNode(t, { demo: true });
  const page = await get(node.port, "/");
  t.equal(page.status, 200);
  t.match(page.headers.get("content-security-policy"), /default-src 'self'/);
  const files = [...page.text.matchAll(/(?:src|href)="(?!data:|#)([^"]+)"/g)].map(([, file]) => file!.replace(/^\.?\//, "/"));
  t.ok(files.length > 1);
  for (const file of [...files, "/flux-client.js"]) t.equal((await get(node.port, file)).status, 200, file);
});

t.test("one scrape counts the sockets, frames and publications of all reactors", async (t) => {
  const node = await startNode(t);
  const sessions = await Promise.all(Array.from({ length: 8 }, () => open(node)));
  for (const session of sessions) await session.join("live:counted");
  await sessions[0]!.publish("live:counted", "1");
  for (const session of sessions) await session.waitFor(() => session.publications.length === 1);
  t.equal(await metric(node, "flux_sockets{"), 8);
  t.equal(await metric(node, "flux_members{"), 8);
  t.equal(await metric(node, "flux_publications_total"), 1);
  t.equal(await metric(node, "flux_deliveries_total"), 8);
  t.equal(await metric(node, "flux_frames_received_total"), 8 + 8 + 1);
  t.equal(await metric(node, "flux_frames_sent_total"), 8 + 8 + 8 + 1);
  t.equal(await metric(node, "flux_fanout_seconds_count"), await metric(node, 'flux_fanout_seconds_bucket{reactor="0",le="+Inf"}') + await metric(node, 'flux_fanout_seconds_bucket{reactor="1",le="+Inf"}'));
  t.ok((await metric(node, "process_resident_memory_bytes")) > 0);
  t.ok((await metric(node, "flux_context_switches_total")) > 0);
  for (const session of sessions) await session.bye();
  t.equal(await metric(node, "flux_sockets{"), 0);
  t.equal(await metric(node, "flux_members{"), 0);
});

t.test("a publisher that leaves itself out is not counted as a delivery, which it used to be", async (t) => {
  const node = await startNode(t);
  const sessions = await Promise.all(Array.from({ length: 6 }, (_, i) => open(node, { json: i % 2 === 1 })));
  const [binary, json, ...others] = sessions;
  for (const session of sessions) await session.join("live:excluded");
  await binary!.publish("live:excluded", "1", { excludeSelf: true });
  await json!.publish("live:excluded", "2", { excludeSelf: true });
  for (const session of others) await session.waitFor(() => session.publications.length === 2);
  for (const session of [binary!, json!]) await session.waitFor(() => session.publications.length === 1);
  t.equal(await metric(node, "flux_deliveries_total"), 5 + 5);
  t.equal(await metric(node, "flux_frames_sent_total"), 6 + 6 + 2 + 10);
});

t.test("no label of a metric comes from a client", async (t) => {
  const node = await startNode(t);
  const session = await open(node, { hello: { client: "evil-client-name" } });
  await session.join("chat:evil-room-name");
  const { text } = await get(node.adminPort, "/metrics");
  t.notMatch(text, /evil/);
});

t.test("a free port is none that the system takes for outgoing connections, which may have it first", async (t) => {
  const { port, tcpPort } = await startNode(t, { tcpPort: 0 });
  for (const one of [port, tcpPort!]) t.ok(one >= 20_000 && one < 32_768, `${one}`);
});

t.test("a taken port is refused by name, be it another program's or another node's", async (t) => {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  t.teardown(() => other.close());
  const { port } = other.address() as AddressInfo;
  const node = await startNode(t);
  const quiet = { logLevel: "silent", demo: false, reactors: 1 } as const;
  for (const [options, problem] of [
    [{ port, adminPort: 0 }, `--port ${port}`],
    [{ port: node.port, adminPort: 0 }, `--port ${node.port}`],
    [{ port: 0, adminPort: port }, `--admin-port ${port}`],
  ] as const) {
    const error = await createGateway({ ...quiet, ...options }).then(
      (started) => started.close().then(() => null),
      (error: unknown) => error,
    );
    t.ok(error instanceof ConfigError && error.problems[0]!.startsWith(problem), String(error));
  }
});

t.test("closing a node closes its sessions with 3001, frees its ports, and can be asked for twice", async (t) => {
  const node = await startNode(t);
  const sessions = await Promise.all([open(node), open(node, { json: true })]);
  await Promise.all([node.close(), node.close()]);
  for (const session of sessions) t.match(await session.closed(), { code: 3001, reason: "shutdown" });
  for (const port of [node.port, node.adminPort]) {
    const [error] = (await once(connect(port, "127.0.0.1"), "error")) as [NodeJS.ErrnoException];
    t.equal(error.code, "ECONNREFUSED");
  }
});

t.test("a reactor that throws is replaced, and the others keep every socket and every publication", async (t) => {
  const node = await startNode(t, { reactors: 2 });
  const sessions = await openOnBoth(node);
  for (const session of sessions) await session.join("chat:steady");
  const onSecond = await metric(node, 'flux_sockets{reactor="1"');

  const survivors = new Set(sessions);
  for (const session of sessions) void session.closed().then(() => survivors.delete(session));
  node.failReactor(0);
  await until(() => survivors.size === onSecond, "its sockets are gone");
  const [talker, ...others] = [...survivors];
  await talker!.publish("chat:steady", '"still here"');
  for (const session of others) await session.waitFor(() => session.publications.length === 1);
  t.equal(survivors.size, onSecond, "nobody else was closed");

  await replaced(node, 1);
  const again = await openOnBoth(node);
  for (const session of again) await session.join("chat:steady", { history: 1 });
  await again[0]!.publish("chat:steady", '"welcome back"');
  for (const session of [...survivors, ...again]) {
    await session.waitFor(() => session.publications.at(-1)?.payload.toString() === '"welcome back"');
  }
});

t.test("what throws while uWS works on a socket ends one reactor, and the process goes on", async (t) => {
  const node = await startNode(t, { reactors: 1, socketQueueBytesMax: 65_536, commandsPerSecond: 0, bytesPerSecond: 0 });
  const [reader, writer] = [await open(node), await open(node)];
  await Promise.all([reader.join("full"), writer.join("full")]);
  reader.raw.pause();
  node.failReactor(0, true);
  // Small enough for uWS to note it: what is noted is written when uWS, not a publish of ours, comes to it.
  const block = Buffer.alloc(7_000, 0x61);
  // Until the reader's queue is full, and the node hears of it.
  let isOver = false;
  const over = writer.raw.ended.then(() => (isOver = true));
  while (!isOver) {
    const publishing = Array.from({ length: 25 }, () => writer.publish("full", block).catch(() => null)); // it may be refused, or lost
    await Promise.race([over, Promise.all(publishing)]);
    await nextTurn();
  }
  await replaced(node, 1, 1);
  const next = await open(node);
  t.ok((await next.request({ ping: {} })).pong, "another one serves");
  reader.raw.destroy();
});

t.test("a reactor that fails again and again is replaced every time", async (t) => {
  const node = await startNode(t, { reactors: 2 });
  for (let round = 1; round <= 4; round++) {
    node.failReactor(1);
    await replaced(node, round);
  }
  const sessions = await Promise.all(Array.from({ length: 4 }, () => open(node)));
  t.equal(sessions.length, 4);
});

t.test("a reactor that finds its port taken when it is replaced tries until it gets it, and used to be given up", async (t) => {
  const node = await startNode(t, { reactors: 1 });
  t.equal(await metric(node, "flux_ready "), 1);
  node.failReactor(0);
  const taker = await taking(node.port);
  t.teardown(() => taker.close());
  await untilMetric(node, "flux_ready ", (value) => value === 0);
  await untilMetric(node, "flux_reactor_restarts_total", (value) => value >= 3);
  t.equal(await metric(node, "flux_reactors "), 0, "nobody serves meanwhile");
  await new Promise((resolve) => taker.close(resolve));
  await untilMetric(node, "flux_ready ", (value) => value === 1);
  t.equal(await metric(node, "flux_reactors "), 1);
  t.match(await get(node.port, "/ready"), { status: 200 });
  const session = await open(node);
  await session.join("live:again");
  await session.publish("live:again", "1");
});

t.test("thousands of connections that come while nobody accepts are all served, and none is dropped", async (t) => {
  const node = await startNodeProcess();
  t.teardown(() => node.stop());
  process.kill(node.pid, "SIGSTOP"); // the worst of bursts: none is accepted before all have come
  const sockets = Array.from({ length: 3000 }, () => connect(node.port, "127.0.0.1"));
  t.teardown(() => sockets.forEach((socket) => socket.destroy()));
  await Promise.all(sockets.map((socket) => once(socket, "connect"))).finally(() => process.kill(node.pid, "SIGCONT"));
  const drops = listenDrops(node.port);
  t.ok(drops.length > 0, "sockets that listen");
  t.same(drops.filter((count) => count > 0), []);
  const last = await open(node);
  t.match(await last.request({ ping: { time: 1 } }), { pong: { time: 1 } });
});

/** Connections that the kernel has dropped, for each socket that listens on a port. */
function listenDrops(port: number): number[] {
  const said = execFileSync("ss", ["-Hltnm", `sport = :${port}`], { encoding: "utf8" });
  return [...said.matchAll(/skmem:\([^)]*,d(\d+)\)/g)].map(([, drops]) => Number(drops));
}
