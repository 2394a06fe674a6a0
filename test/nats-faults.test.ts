/** What becomes of rooms when a real nats-server stops, is paused, or comes back without what it kept. */
import t from "tap";
import { connectNats, watchNats } from "../src/broker/nats/connection/connection.ts";
import { startNats } from "./support/nats.ts";
import { startProxy } from "./support/proxy.ts";
import { brokerOptions, durable, ephemeral, startBroker, textOf, value } from "./support/natsbroker.ts";
import { until } from "./support/until.ts";

const names = (count: number, from = 0) => Array.from({ length: count }, (_, i) => String(from + i));

t.test("a server that was stopped and is back: durable rooms have lost nothing and doubled nothing", async (t) => {
  const nats = await startNats(t);
  const options = { ...brokerOptions(nats), timeoutMs: 20_000 };
  const [a, b] = [await startBroker(t, options), await startBroker(t, options)];
  for (const one of [a, b]) value(await one.open("x"));
  for (const name of names(20)) value(await a.publish("x", name));
  await nats.stop();
  await until(() => a.broker.nats().away && b.broker.nats().away, "the loss to be noticed");
  const meanwhile = names(20, 20).map((name) => a.publish("x", name));
  await nats.start();
  for (const answer of await Promise.all(meanwhile)) value(answer);
  for (const name of names(20, 40)) value(await b.publish("x", name));
  for (const one of [a, b]) {
    await until(() => one.texts("x").length >= 60, "all publications");
    t.same(one.texts("x"), names(60), "each once, in order");
    const seqs = one.delivered.map(({ publication }) => publication.seq);
    t.same(one.delivered.slice(1).map(({ publication }) => publication.prev), seqs.slice(0, -1), "without a hole");
    t.same(one.moved, []);
  }
});

t.test("what was published while one node was cut off is delivered there before anything later", async (t) => {
  const nats = await startNats(t);
  const proxy = await startProxy(t, nats.port);
  const options = brokerOptions(nats);
  const [a, b] = [await startBroker(t, options), await startBroker(t, { ...options, servers: [`nats://127.0.0.1:${proxy.port}`] })];
  for (const one of [a, b]) value(await one.open("x"));
  value(await a.publish("x", "0"));
  await until(() => b.texts("x").length === 1, "the first");
  proxy.refuse(true);
  proxy.cut();
  await until(() => b.broker.nats().away, "the loss to be noticed");
  for (const name of names(500, 1)) value(await a.publish("x", name));
  proxy.refuse(false);
  await until(() => b.texts("x").length >= 501, "what was missed");
  value(await a.publish("x", "501"));
  await until(() => b.texts("x").length >= 502, "the last");
  t.same(b.texts("x"), names(502));
  const seqs = b.delivered.map(({ publication }) => publication.seq);
  t.same(b.delivered.slice(1).map(({ publication }) => publication.prev), seqs.slice(0, -1), "members see no gap");
  t.ok(b.broker.nats().filled >= 500, "they were read from the stream");
});

t.test("more than a room keeps was missed: there is a hole, and members can see it", async (t) => {
  const nats = await startNats(t);
  const proxy = await startProxy(t, nats.port);
  const options = brokerOptions(nats);
  const small = { ...durable, historySize: 10 };
  const [a, b] = [await startBroker(t, options), await startBroker(t, { ...options, servers: [`nats://127.0.0.1:${proxy.port}`] })];
  for (const one of [a, b]) value(await one.open("x", small));
  value(await a.publish("x", "first", { retention: small }));
  await until(() => b.texts("x").length === 1, "the first");
  proxy.refuse(true);
  proxy.cut();
  await until(() => b.broker.nats().away, "the loss to be noticed");
  for (const name of names(40)) value(await a.publish("x", name, { retention: small }));
  proxy.refuse(false);
  await until(() => b.texts("x").at(-1) === "39", "the newest");
  const [first, second] = b.delivered.map(({ publication }) => publication);
  t.ok(second!.prev > first!.seq, "the second does not follow the first");
  t.equal(b.texts("x").length, 1 + 11);
});

t.test("a server that comes back without its store: another epoch, and what follows is delivered", async (t) => {
  const nats = await startNats(t);
  const warnings: object[] = [];
  const log = { info() {}, error() {}, warn: (fields: object, text: string) => void (/lost what it kept/.test(text) && warnings.push(fields)) };
  const options = { ...brokerOptions(nats), timeoutMs: 20_000, log };
  const [a, b] = [await startBroker(t, options), await startBroker(t, { ...options, log: brokerOptions(nats).log })];
  const before = value(await a.open("x"));
  value(await b.open("x"));
  t.equal(a.broker.nats().restarts, 0);
  for (const name of names(5)) value(await a.publish("x", name));
  await nats.kill();
  nats.wipe();
  await until(() => a.broker.nats().away && b.broker.nats().away, "the loss to be noticed");
  const waiting = a.publish("x", "new");
  await nats.start();
  const { epoch } = value(await waiting);
  t.not(epoch, before.epoch);
  for (const one of [a, b]) {
    await until(() => one.texts("x").includes("new"), "the new one");
    t.same(one.moved.map(({ room, position }) => [room, position.epoch]), [["x", epoch]], "its node was told");
    t.equal(one.delivered.at(-1)!.publication.epoch, epoch);
  }
  for (const one of [a, b]) await until(() => one.broker.nats().restarts === options.partitions, "each stream to be counted, on each node");
  t.same(warnings.map((fields) => (fields as { stream: string }).stream.replace(/^.*_/, "")).sort(), ["0", "1"], "the log names each");
  const old = { epoch: before.epoch, seq: before.seq };
  t.same(await b.history("x", { direction: "since", position: old }), { error: "unrecoverable_position" });
  t.same(value(await b.history("x", { direction: "newest" })).publications.map(textOf), ["new"]);
});

t.test("a stream that was set back begins another epoch on every node", async (t) => {
  const nats = await startNats(t);
  const options = { ...brokerOptions(nats), timeoutMs: 20_000 };
  const [a, b] = [await startBroker(t, options), await startBroker(t, options)];
  const before = value(await a.open("x"));
  value(await b.open("x"));
  for (const name of names(5)) value(await a.publish("x", name));
  await nats.stop();
  const copy = nats.copyStore();
  await nats.start();
  await until(() => !a.broker.nats().away && !b.broker.nats().away, "them to be back");
  for (const name of names(5, 5)) value(await a.publish("x", name));
  await until(() => b.texts("x").length === 10, "all ten");
  await nats.kill();
  copy.putBack();
  await nats.start();
  await until(() => a.moved.length > 0 && b.moved.length > 0, "both to notice");
  const epochOf = async (one: typeof a) => value(await one.publish("x", "after")).epoch;
  await until(async () => (await epochOf(a)) === (await epochOf(b)), "both to go by the same epoch");
  t.not(await epochOf(a), before.epoch);
  t.equal(b.delivered.at(-1)!.publication.epoch, await epochOf(b));
  for (const one of [a, b]) t.ok(one.broker.nats().restarts >= 1, "it is counted");
  t.same(await b.history("x", { direction: "since", position: { epoch: before.epoch, seq: before.seq } }), { error: "unrecoverable_position" });
});

t.test("while NATS is away publishes are refused after a time, and go again when it is back", async (t) => {
  const nats = await startNats(t);
  const a = await startBroker(t, { ...brokerOptions(nats), timeoutMs: 300 });
  value(await a.open("x"));
  value(await a.open("live", ephemeral));
  await nats.stop();
  await until(() => a.broker.nats().away, "the loss to be noticed");
  const refused = { error: "unavailable" };
  t.same(await a.publish("x", "1"), refused);
  t.same(await a.publish("live", "1", { retention: ephemeral }), refused);
  t.same(await a.publish("closed", "1", { retention: ephemeral }), refused);
  t.same(await a.open("y"), refused);
  await nats.start();
  await until(async () => "value" in (await a.publish("x", "2")), "publishing to be possible again");
  t.equal(a.texts("x").at(-1), "2");
  t.notOk(a.texts("x").includes("1"), "what was refused before it left was not published");
});

t.test("a server that is paused: publishes are refused, and nothing piles up until it goes on", async (t) => {
  const nats = await startNats(t);
  const a = await startBroker(t, { ...brokerOptions(nats), timeoutMs: 300 });
  value(await a.open("x"));
  await nats.pause();
  t.same(await a.publish("x", "1"), { error: "unavailable" });
  await until(() => a.broker.nats().away, "it to be noticed");
  let answer: unknown;
  void a.publish("x", "2").then((given) => (answer = given));
  await new Promise(setImmediate);
  t.same(answer, { error: "unavailable" }, "in the same turn of the loop by now: nothing waits for the server");
  nats.resume();
  await until(async () => "value" in (await a.publish("x", "3")), "publishing to be possible again");
  t.equal(a.texts("x").at(-1), "3");
  t.equal(a.texts("x").filter((text) => text === "3").length, 1);
});

t.test("a publication with a key that was not acknowledged before the connection was lost is kept once", async (t) => {
  const nats = await startNats(t);
  const proxy = await startProxy(t, nats.port);
  const options = brokerOptions(nats);
  const a = await startBroker(t, { ...options, timeoutMs: 20_000, servers: [`nats://127.0.0.1:${proxy.port}`] });
  value(await a.open("x"));
  proxy.pause("toClient"); // what is sent arrives, answers do not
  const publishing = names(10).map((name) => a.publish("x", name, { key: `key ${name}` }));
  const b = await startBroker(t, options);
  value(await b.open("x"));
  await until(async () => value(await b.history("x", { direction: "newest" })).publications.length === 10, "all to be kept");
  proxy.refuse(true);
  proxy.cut();
  await until(() => a.broker.nats().away, "the loss to be noticed");
  proxy.resume("toClient");
  proxy.refuse(false);
  for (const answer of await Promise.all(publishing)) t.equal(value(answer).duplicate, true, "it was there already");
  await until(() => a.texts("x").length >= 10, "all of them");
  t.same(a.texts("x"), names(10));
  t.equal(value(await b.history("x", { direction: "newest" })).publications.length, 10);
});

t.test("what an ephemeral room may have missed while the connection was lost is a hole", async (t) => {
  const nats = await startNats(t);
  const a = await startBroker(t, brokerOptions(nats));
  const { epoch } = value(await a.open("live", ephemeral));
  const first = value(await a.publish("live", "1", { retention: ephemeral }));
  await nats.stop();
  await until(() => a.broker.nats().away, "the loss to be noticed");
  await nats.start();
  await until(() => a.moved.length > 0, "the loss to be told before anything else comes");
  t.match(a.moved, [{ room: "live", position: { epoch } }]);
  t.ok(a.moved[0]!.position.seq > first.seq);
  await until(() => !a.broker.nats().away, "it to be back");
  value(await a.publish("live", "2", { retention: ephemeral }));
  const { publication } = a.delivered.at(-1)!;
  t.equal(publication.prev, a.moved[0]!.position.seq, "what comes follows what was told");
  t.equal(publication.epoch, epoch);
  t.ok(publication.prev > first.seq);
});

t.test("a server that was away at the start is found when the other one goes", async (t) => {
  const [first, second] = [await startNats(t, { jetStream: false }), await startNats(t, { jetStream: false })];
  const proxy = await startProxy(t, second.port);
  proxy.refuse(true);
  const options = { ...brokerOptions(first), servers: [`nats://127.0.0.1:${proxy.port}`, first.url] };
  let back = 0;
  // In which order they are tried is left to chance.
  for (let i = 0; i < 8; i++) {
    const connection = await connectNats(options, `node ${i}`);
    t.teardown(() => connection.close());
    watchNats(connection, options.log, { disconnected() {}, refused() {}, reconnected: () => void back++ });
  }
  proxy.refuse(false);
  await first.kill();
  await until(() => back === 8, "all of them to be connected again");
  t.equal(proxy.open, 8);
});
