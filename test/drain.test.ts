/** A node that is told to end: it takes nothing new, sends its sessions away one after the other, and loses nothing. */
import t from "tap";
import { startNode } from "./support/node.ts";
import { startNodeProcess, sumOf } from "./support/nodeprocess.ts";
import { openTcp } from "./support/rawtcp.ts";
import { resumeOf, words } from "./support/resume.ts";
import { exchange, openRawSocket } from "./support/rawsocket.ts";
import { open, type TestSession } from "./support/session.ts";
import { until } from "./support/until.ts";

const minute = 60_000;

async function get(port: number, path: string): Promise<{ status: number; text: string; retryAfter: string | null }> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`);
  return { status: response.status, text: await response.text(), retryAfter: response.headers.get("retry-after") };
}

/** What the node says to an upgrade that it does not grant. */
async function refusedUpgrade(port: number): Promise<string> {
  const request = [
    "GET /ws HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket",
    "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "",
  ];
  return (await exchange(port, request.join("\r\n"), (received) => received.includes("101 Switching"))).toString();
}

const toldTo = (session: TestSession) => session.events.find(({ reconnect }) => reconnect)?.reconnect;

t.test("while it drains it is alive, not ready, and takes no sockets", async (t) => {
  const node = await startNode(t, { tcpPort: 0, drainMs: minute });
  const session = await open(node);
  void node.drain();
  t.match(await get(node.port, "/ready"), { status: 503, text: /draining/, retryAfter: "1" }, "at once");
  t.match(await get(node.port, "/health"), { status: 200 });
  t.match(await refusedUpgrade(node.port), /^HTTP\/1\.1 503 [^]*\r\nRetry-After: [1-5]\r\n[^]*"code":"unavailable"[^]*"retryable":true/i);
  const onTcp = await openTcp(node, { hello: null });
  t.match(await onTcp.closed(), { code: 3001, reason: "shutdown" });
  t.equal(sumOf(await node.metrics(), "flux_sockets_refused_leaving_total"), 2);
  t.equal(sumOf(await node.metrics(), "flux_draining"), 1);
  t.equal(sumOf(await node.metrics(), "flux_ready"), 0);
  t.equal(sumOf(await node.metrics(), "flux_drain_sessions_left"), 1);
  t.ok((await session.request({ ping: {} })).pong, "who is in is served until it is their turn");
  await node.close();
  t.match(await session.closed(), { code: 3001 }, "close() does not wait for the window");
  await node.drain();
});

t.test("each session is told when and where to come back, and closed with 3001; then the node is gone", async (t) => {
  const node = await startNode(t, { tcpPort: 0, reactors: 2 });
  const binary = await Promise.all(Array.from({ length: 10 }, () => open(node)));
  const json = await Promise.all(Array.from({ length: 10 }, () => open(node, { json: true })));
  const tcp = await Promise.all(Array.from({ length: 5 }, () => openTcp(node)));
  const all = [...binary, ...json, ...tcp];
  const drained = node.drain({ windowMs: 500, url: "wss://other.example/ws" });
  for (const session of all) t.match(await session.closed(), { code: 3001, reason: "shutdown" });
  for (const session of all) {
    t.match(toldTo(session), { reason: "drain", url: "wss://other.example/ws" });
    t.ok((toldTo(session)?.delayMs ?? 0) < 1000);
  }
  await drained;
  await node.ended;
  await t.rejects(get(node.port, "/health"));
});

t.test("without a window everybody is sent away at once", async (t) => {
  for (const windowMs of [0, 1, 50]) {
    const node = await startNode(t, { drainMs: minute });
    const sessions = await Promise.all(Array.from({ length: 50 }, () => open(node)));
    await node.drain({ windowMs });
    for (const session of sessions) {
      t.match(await session.closed(), { code: 3001 });
      t.ok(toldTo(session));
    }
  }
});

t.test("nobody waits for those who have gone by themselves", async (t) => {
  const node = await startNode(t, { drainMs: 24 * 60 * minute });
  const sessions = await Promise.all(Array.from({ length: 10 }, () => open(node)));
  const drained = node.drain();
  await Promise.all(sessions.map((session) => session.bye()));
  await drained;
  t.pass("a day's window ends when nobody is left");
});

t.test("a node without sessions does not wait for anybody", async (t) => {
  const node = await startNode(t, { drainMs: 24 * 60 * minute });
  await node.drain();
  t.pass("it is over");
});

t.test("who has not said hello is sent away too, and who is in the middle of it may finish", async (t) => {
  const node = await startNode(t);
  const silent = await open(node, { hello: null });
  const raw = await openRawSocket({ port: node.port, subprotocol: "flux.v1.json" });
  await node.drain({ windowMs: 300 });
  t.match(await silent.closed(), { code: 3001 });
  t.match(await raw.ended, { code: 3001 });
});

t.test("what waits in a flush window is delivered before the close", async (t) => {
  const node = await startNode(t, { namespaces: { slow: { flushMs: 10_000 } } });
  const [reader, writer] = [await open(node, { json: true }), await open(node)];
  for (const session of [reader, writer]) await session.join("slow:a");
  await writer.publish("slow:a", '"last words"');
  await node.drain({ windowMs: 200 });
  t.match(await reader.closed(), { code: 3001 });
  t.same(words(reader.publications), ["last words"]);
  t.ok(reader.events.findIndex(({ publication }) => publication) < reader.events.findIndex(({ reconnect }) => reconnect));
});

t.test("no publish is left in doubt: what was read is answered, what is refused is not there, and what was not read neither", async (t) => {
  const dataDir = t.testdir();
  const namespaces = { chat: { historySize: 100_000 } };
  const node = await startNode(t, { dataDir, namespaces, commandsPerSecond: 0 });
  const writers = await Promise.all([false, true, false, true].map((json) => open(node, { json })));
  const answers = new Map<string, string>();
  const { position: beginning } = await (await open(node)).join("chat:a");
  for (const [w, writer] of writers.entries()) {
    await writer.join("chat:a");
    writer.onEvent(({ id, published, error }) => {
      if (id && id > 1000) answers.set(`${w}-${id}`, published ? "published" : (error?.code ?? ""));
    });
  }
  let drained: Promise<void> | null = null;
  for (let n = 1; n <= 2000; n++) {
    for (const [w, writer] of writers.entries()) {
      const payload = Buffer.from(JSON.stringify(`${w}-${1000 + n}`));
      void writer.send({ publish: { room: "chat:a", payload, format: 1 } }, 1000 + n).catch(() => undefined); // the socket may be gone
    }
    if (n % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    if (n === 400) drained = node.drain({ windowMs: 20 });
  }
  await drained;
  for (const writer of writers) t.match(await writer.raw.ended, { code: 3001 });
  const again = await startNode(t, { dataDir, namespaces });
  const { missed } = await (await open(again)).join("chat:a", { recover: beginning });
  const kept = new Set(words(missed));
  const published = [...answers].filter(([, answer]) => answer === "published").map(([id]) => id);
  t.ok(published.length > 0, "some were answered");
  t.same(published.filter((id) => !kept.has(id)), [], "what was acknowledged is there");
  t.same([...kept].filter((id) => answers.get(id) !== "published"), [], "what is there was acknowledged");
  t.same([...new Set(answers.values())].filter((answer) => answer !== "published" && answer !== "unavailable"), []);
});

t.test("after the node has been started again sessions are resumed, with all that was missed", async (t) => {
  const dataDir = t.testdir();
  const node = await startNode(t, { dataDir });
  const sessions = await Promise.all(Array.from({ length: 20 }, (_, i) => open(node, { json: i % 2 === 0 })));
  for (const session of sessions) await session.join("chat:a");
  const here = new Set(sessions);
  for (const session of sessions) void session.raw.ended.then(() => here.delete(session));
  const drained = node.drain({ windowMs: 1000 });
  for (let n = 0; here.size > 0; n++) {
    const [session] = here;
    // Refused in its turn, or without an answer since the socket is gone: another goes on.
    await session!.request({ publish: { room: "chat:a", payload: Buffer.from(String(n)), format: 1 } }).catch(() => null);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await drained;
  const again = await startNode(t, { dataDir });
  const { position } = await (await open(again)).join("chat:a");
  t.ok(position.seq > 20);
  for (const session of sessions) {
    const last = session.publications.at(-1);
    const at = last ? [{ room: "chat:a", position: { epoch: last.epoch, seq: last.seq } }] : [];
    const back = await open(again, { hello: resumeOf(session, at) });
    t.equal(back.ready?.resumed, true);
    t.equal(back.ready?.session, session.ready?.session);
    const seqs = () => [...session.publications, ...back.publications].map(({ seq }) => seq);
    await back.waitFor(() => seqs().at(-1) === position.seq, "what it missed");
    t.same(seqs(), Array.from({ length: position.seq }, (_, i) => i + 1), "nothing missed and nothing twice");
    await back.bye();
  }
});

t.test("a reactor that fails meanwhile is not replaced, and does not keep the node", async (t) => {
  const node = await startNode(t, { reactors: 2, drainMs: minute });
  const sessions = await Promise.all(Array.from({ length: 16 }, () => open(node)));
  const drained = node.drain();
  node.failReactor(0);
  node.failReactor(1);
  await drained;
  await Promise.all(sessions.map(({ raw }) => raw.ended));
  t.pass("everybody is away");
});

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
  await until(async () => (await get(node.port, "/ready")).status === 503, "the drain to begin");
  process.kill(node.pid, "SIGINT");
  for (const session of sessions) t.match(await session.closed(), { code: 3001 });
  await until(() => node.ended !== undefined, "the node to end");
  t.equal(node.ended, 1);
});
