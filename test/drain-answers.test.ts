/** What a session that is sent away still gets: the answers to what it has asked, and everything that was meant for it. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import t from "tap";
import { startNats } from "./support/nats.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { openTcp } from "./support/rawtcp.ts";
import { resumeOf, words } from "./support/resume.ts";
import { open, type TestSession } from "./support/session.ts";
import { keyPair, signed } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const toldTo = (session: TestSession) => session.events.find(({ reconnect }) => reconnect)?.reconnect;

t.test("who has not said hello is sent away too, and who is in the middle of it has the answer first", async (t) => {
  const pair = keyPair("P-256");
  // The keys come when the test says so: until then hello waits for them.
  let answer: (() => void) | null = null;
  const provider = createServer((_, res) => {
    answer = () => res.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ keys: [{ ...pair.jwk, kid: "k", alg: "ES256" }] }));
  }).listen(0, "127.0.0.1");
  await once(provider, "listening");
  t.teardown(() => void (provider.close(), provider.closeAllConnections()));
  const authJwksUrl = `http://127.0.0.1:${(provider.address() as AddressInfo).port}/jwks.json`;
  const node = await startNode(t, { reactors: 1, authJwksUrl });
  const [silent, late] = [await open(node, { hello: null }), await open(node, { hello: null })];
  const hello = late.request({ hello: { version: 1, token: await signed({ sub: "ann" }, pair.private, { alg: "ES256", kid: "k" }) } });
  await until(() => answer !== null, "the node to ask for keys");
  await until(async () => sumOf(await node.metrics(), "flux_frames_received_total") === 1, "hello to have come");
  const drained = node.drain({ windowMs: 0 });
  t.match(await silent.closed(), { code: 3001 });
  answer!();
  t.match(await hello, { ready: { user: "ann" } });
  t.match(await late.closed(), { code: 3001 });
  await drained;
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
  // Writers are no members, so that each is sent its answers only, and has read them before its time is over.
  const namespaces = { chat: { historySize: 100_000, publish: "anyone" as const } };
  const node = await startNode(t, { dataDir, namespaces, commandsPerSecond: 0 });
  const writers = await Promise.all([false, true, false, true].map((json) => open(node, { json })));
  const answers = new Map<string, string>();
  const { position: beginning } = await (await open(node)).join("chat:a");
  for (const [w, writer] of writers.entries()) {
    writer.onEvent(({ id, published, error }) => {
      if (id && id > 1000) answers.set(`${w}-${id}`, published ? "published" : (error?.code ?? ""));
    });
  }
  // Each goes on for a while after it was asked to leave, and no longer: who writes to a node that has ended is reset.
  const sent = writers.map(() => 0);
  const late = writers.map(() => 0);
  let drained: Promise<void> | null = null;
  while (late.some((count) => count < 20) && sent[0]! < 20_000) {
    for (const [w, writer] of writers.entries()) {
      if (toldTo(writer) && ++late[w]! > 20) continue;
      const id = 1000 + ++sent[w]!;
      const payload = Buffer.from(JSON.stringify(`${w}-${id}`));
      void writer.send({ publish: { room: "chat:a", payload, format: 1 } }, id).catch(() => undefined); // the socket may be gone
    }
    if (sent[0]! % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    if (sent[0] === 300) drained ??= node.drain({ windowMs: 20 });
  }
  await drained;
  for (const writer of writers) t.match(await writer.raw.ended, { code: 3001 });
  const again = await startNode(t, { dataDir, namespaces });
  const { missed } = await (await open(again)).join("chat:a", { recover: beginning });
  const kept = new Set(words(missed));
  const published = [...answers].filter(([, answer]) => answer === "published").map(([id]) => id);
  t.ok(published.length > 0, "some were answered");
  t.ok(kept.size < sent.reduce((sum, count) => sum + count, 0), "and some came too late");
  t.same(published.filter((id) => !kept.has(id)), [], "what was acknowledged is there");
  t.same([...kept].filter((id) => answers.get(id) !== "published"), [], "what is there was acknowledged");
  t.same([...new Set(answers.values())].filter((answer) => answer !== "published" && answer !== "unavailable"), []);
});

t.test("a publish that NATS does not take is refused before the close, however long that takes", async (t) => {
  const nats = await startNats(t);
  const node = await startNode(t, { nats: [nats.url], natsTimeoutMs: 1500, reactors: 1 });
  const session = await open(node);
  await session.join("chat:a");
  await session.publish("chat:a", "1");
  await nats.pause();
  const waiting = session.request({ publish: { room: "chat:a", payload: Buffer.from("2"), format: 1 } });
  // Behind the publish, and answered by the reactor: the hub has been asked.
  await session.request({ ping: {} });
  t.match(await session.request({ ack: { position: { epoch: "e", seq: 1 } } }), { error: { code: "not_joined" } }, "of another command, which has its own answer");
  const drained = node.drain({ windowMs: 0 });
  await session.waitFor(() => toldTo(session) !== undefined, "its turn");
  t.match(await session.request({ publish: { room: "chat:a", payload: Buffer.from("3"), format: 1 } }), { error: { code: "unavailable", retryable: true } });
  t.match(await waiting, { error: { code: "unavailable", retryable: true } });
  t.match(await session.closed(), { code: 3001 });
  nats.resume();
  await drained;
});

t.test("a reader with much queued for it is given that before the close, if it takes it", async (t) => {
  const node = await startNode(t, { reactors: 1, tcpPort: 0, namespaces: { feed: { slowReaders: "drop" } } });
  const [writer, onWeb, onTcp] = [await open(node), await open(node), await openTcp(node)];
  const readers = [onWeb, onTcp];
  for (const session of [writer, ...readers]) await session.join("feed:a");
  for (const { raw } of readers) raw.pause();
  for (let i = 0; i < 40; i++) await writer.publish("feed:a", Buffer.alloc(20_000, i));
  const drained = node.drain({ windowMs: 0 });
  await writer.closed();
  for (const { raw } of readers) raw.resume();
  await drained;
  for (const session of readers) {
    t.match(await session.closed(), { code: 3001 });
    t.same(session.publications.map(({ payload }) => payload[0]), Array.from({ length: 40 }, (_, i) => i));
  }
});

t.test("after the node has been started again sessions are resumed, with all that was missed", async (t) => {
  const dataDir = t.testdir();
  const node = await startNode(t, { dataDir });
  const sessions = await Promise.all(Array.from({ length: 20 }, (_, i) => open(node, { json: i % 2 === 0 })));
  for (const session of sessions) await session.join("chat:a");
  for (let n = 0; n < 20; n++) await sessions[n]!.publish("chat:a", String(n));
  const here = new Set(sessions);
  for (const session of sessions) void session.raw.ended.then(() => here.delete(session));
  const drained = node.drain({ windowMs: 1000 });
  for (let n = 20; here.size > 0; n++) {
    const [session] = here;
    // Refused in its turn, or without an answer since the socket is gone: another goes on.
    await session!.request({ publish: { room: "chat:a", payload: Buffer.from(String(n)), format: 1 } }).catch(() => null);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await drained;
  const again = await startNode(t, { dataDir });
  const { position } = await (await open(again)).join("chat:a");
  t.ok(position.seq >= 20);
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
