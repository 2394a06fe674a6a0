/** A node that is told to end: it takes nothing new, and sends its sessions away one after the other. */
import t from "tap";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { openTcp } from "./support/rawtcp.ts";
import { exchange } from "./support/rawsocket.ts";
import { open, type TestSession } from "./support/session.ts";

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
  for (const windowMs of [0, 50]) {
    const node = await startNode(t, { drainMs: minute });
    const sessions = await Promise.all(Array.from({ length: 20 }, () => open(node)));
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
