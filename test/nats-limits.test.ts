/** What nats-server refuses: nothing that it did not take is acknowledged, and no refusal ends a node. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type NatsConnection } from "nats";
import t, { type Test } from "tap";
import type { Answer, Published } from "../src/broker/broker.ts";
import { startNats, type NatsServer } from "./support/nats.ts";
import { brokerOptions, durable, ephemeral, startBroker, textOf, value, type TestBroker } from "./support/natsbroker.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

interface Line {
  readonly fields: Record<string, unknown>;
  readonly text: string;
}

/** A log that is kept. */
function keptLog() {
  const lines: Line[] = [];
  const keep = (fields: object, text: string) => void lines.push({ fields: fields as Line["fields"], text });
  return { lines, log: { info: keep, warn: keep, error: keep } };
}

/** A server with a configuration that can be replaced. */
async function startWith(t: Test, text: string, jetStream = true): Promise<{ server: NatsServer; configure(text: string): void }> {
  const folder = mkdtempSync(join(tmpdir(), "flux-nats-conf-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "nats.conf");
  const configure = (text: string) => writeFileSync(file, text);
  configure(text);
  return { server: await startNats(t, { jetStream, flags: ["-c", file] }), configure };
}

async function operator(t: Test, { port }: NatsServer): Promise<NatsConnection> {
  const connection = await connect({ servers: `127.0.0.1:${port}` });
  t.teardown(() => connection.close());
  return connection;
}

/** Changes the configuration of the one stream, as an operator does. */
async function edit(t: Test, server: NatsServer, { prefix }: { readonly prefix: string }, change: object): Promise<void> {
  const connection = await operator(t, server);
  const name = `${prefix.toUpperCase()}_test_0`;
  const { config } = (await connection.request(`$JS.API.STREAM.INFO.${name}`)).json<{ config: object }>();
  const { error } = (await connection.request(`$JS.API.STREAM.UPDATE.${name}`, JSON.stringify({ ...config, ...change }))).json<{ error?: object }>();
  t.equal(error, undefined);
}

/** Publishes until it is refused. What was acknowledged until then. */
async function fill(one: TestBroker, text: string): Promise<{ kept: Published[]; refused: Answer<Published> }> {
  const kept: Published[] = [];
  for (;;) {
    const answer = await one.publish("x", text, { key: `k${kept.length}` });
    if ("error" in answer || kept.length > 100) return { kept, refused: answer };
    kept.push(answer.value);
  }
}

t.test("a JetStream that is full: what it does not keep is overloaded, logged once with the server's words, and counted", async (t) => {
  const { server } = await startWith(t, "jetstream { max_file: 262144 }");
  const { lines, log } = keptLog();
  const options = { ...brokerOptions(server), partitions: 1, log };
  const [a, b] = [await startBroker(t, options), await startBroker(t, options)];
  for (const one of [a, b]) value(await one.open("x"));
  const { kept, refused } = await fill(a, "x".repeat(20_000));
  t.same(refused, { error: "overloaded" });
  t.ok(kept.every(({ seq, epoch }) => seq > 0 && epoch !== ""));
  for (let i = 0; i < 20; i++) t.same(await a.publish("x", "x".repeat(20_000), { key: `more ${i}` }), { error: "overloaded" });
  t.same(await a.publish("never opened", "x".repeat(20_000), { asksFirst: true }), { error: "overloaded" });
  await until(() => b.delivered.length === kept.length, "the other node to have what was kept");
  t.equal(a.delivered.length, kept.length, "what was not kept is not delivered");
  const told = lines.filter(({ text }) => /storage is full/.test(text));
  t.match(told, [{ fields: { problem: /insufficient resources/ } }], "one line");
  t.equal(a.broker.nats().refused.storage, 22);
});

t.test("a stream with discard new that is full: overloaded", async (t) => {
  const server = await startNats(t);
  const options = { ...brokerOptions(server), partitions: 1 };
  const a = await startBroker(t, options);
  value(await a.open("x"));
  await edit(t, server, options, { discard: "new", max_bytes: 100_000 });
  const { kept, refused } = await fill(a, "x".repeat(20_000));
  t.same(refused, { error: "overloaded" });
  t.equal(a.delivered.length, kept.length);
  t.equal(a.broker.nats().refused.storage, 1);
});

t.test("a stream with a max_msg_size: what is larger is too_large, what is not is kept", async (t) => {
  const server = await startNats(t);
  const options = { ...brokerOptions(server), partitions: 1 };
  const a = await startBroker(t, options);
  value(await a.open("x"));
  await edit(t, server, options, { max_msg_size: 10_000 });
  for (const key of ["", "k"]) {
    t.same(await a.publish("x", "x".repeat(20_000), { key }), { error: "too_large" });
    t.ok(value(await a.publish("x", "small", { key })).seq > 0);
  }
  t.equal(a.broker.nats().refused.size, 2);
});

t.test("a server that is back with a smaller max_payload: what does not fit is too_large, and the node goes on", async (t) => {
  const { server, configure } = await startWith(t, "");
  const { lines, log } = keptLog();
  const options = { ...brokerOptions(server), partitions: 1, timeoutMs: 20_000, log };
  const a = await startBroker(t, options);
  for (const [room, retention] of [["x", durable], ["e", ephemeral]] as const) value(await a.open(room, retention));
  value(await a.publish("x", "x".repeat(40_000)));
  await server.stop();
  await until(() => a.broker.nats().away, "the loss to be noticed");
  // These wait, with and without a key, and do not fit when they leave.
  const waiting = [a.publish("x", "x".repeat(40_000)), a.publish("x", "x".repeat(40_000), { key: "k" }), a.publish("e", "x".repeat(40_000), { retention: ephemeral })];
  configure("max_payload: 16384");
  await server.start();
  for (const one of waiting) t.same(await one, { error: "too_large" });
  await until(() => !a.broker.nats().away, "it to be back");
  for (const [room, retention] of [["x", durable], ["e", ephemeral], ["nobody", ephemeral]] as const) {
    for (const key of ["", "k2"]) {
      t.same(await a.publish(room, "x".repeat(40_000), { key, retention }), { error: "too_large" });
      for (const size of [16_384, 16_300, 16_200]) {
        const answer = await a.publish(room, "x".repeat(size), { retention, key: key && key + size });
        t.ok("value" in answer || answer.error === "too_large");
      }
    }
    value(await a.publish(room, "x".repeat(16_000), { retention }));
  }
  t.equal(a.broker.nats().reconnects, 1, "the server was sent nothing that it does not take");
  t.ok(a.broker.nats().refused.payload >= 9);
  const told = lines.filter(({ text }) => /max_payload/.test(text));
  t.match(told, [{ fields: { max_payload: 16_384 } }, { fields: { max_payload: 16_384 } }], "one line of publications, one of the configuration");
  t.equal(new Set(told.map(({ text }) => text)).size, 2);
});

t.test("a node on a NATS that takes no more: publish and direct messages are answered, counted, and end nothing", async (t) => {
  const { server, configure } = await startWith(t, "jetstream { max_file: 262144 }");
  const node = await startNode(t, { nats: [server.url], natsPartitions: 1, bytesPerSecond: 0, namespaces: { kept: { durable: true } } });
  const ann = await open(node);
  await ann.join("kept:x");
  const bytes = (count: number) => ({ payload: Buffer.alloc(count, "1"), format: 1 });
  const publish = (count: number) => ann.request({ publish: { room: "kept:x", key: String(Math.random()), ...bytes(count) } });
  let last = await publish(20_000);
  for (let i = 0; i < 50 && last.published != null; i++) last = await publish(20_000);
  t.match(last.error, { code: "overloaded", retryable: true });
  t.match((await ann.request({ send: { user: "bob", ...bytes(20_000) } })).error, { code: "overloaded" });
  t.equal(sumOf(await node.metrics(), 'flux_nats_refused_total{reason="storage"}'), 2);
  await server.stop();
  await until(async () => sumOf(await node.metrics(), "flux_nats_connected") === 0, "the loss to be noticed");
  configure("max_payload: 16384");
  await server.start();
  await until(async () => sumOf(await node.metrics(), "flux_nats_connected") === 1, "it to be back");
  for (let i = 0; i < 3; i++) {
    t.match((await publish(40_000)).error, { code: "too_large", retryable: false });
    t.match((await ann.request({ send: { user: "bob", ...bytes(40_000) } })).error, { code: "too_large" });
  }
  t.equal(sumOf(await node.metrics(), 'flux_nats_refused_total{reason="payload"}'), 6);
  await until(async () => (await publish(1_000)).published != null, "what fits to be taken");
});

const rooms = (count: number) => Array.from({ length: count }, (_, i) => `room ${i}`);

for (const [kind, retention] of [["ephemeral", ephemeral], ["durable", durable]] as const) {
  t.test(`${kind} rooms past max_subscriptions are refused, the log names one, and what was opened hears all`, async (t) => {
    const { server } = await startWith(t, "max_subscriptions: 30");
    const { lines, log } = keptLog();
    const options = { ...brokerOptions(server), partitions: 1 };
    const [a, b] = [await startBroker(t, { ...options, log }), await startBroker(t, options)];
    const answers = await Promise.all(rooms(45).map((room) => a.open(room, retention)));
    const opened = rooms(45).filter((_, i) => "value" in answers[i]!);
    t.ok(opened.length >= 20 && opened.length < 30, String(opened.length));
    for (const answer of answers) if ("error" in answer) t.same(answer, { error: "overloaded" });
    t.equal(a.broker.usage().rooms, opened.length);
    for (const room of opened) value(await b.publish(room, room, { retention }));
    await until(() => a.delivered.length === opened.length, "every room that was opened to hear");
    const told = lines.filter(({ text }) => /max_subscriptions/.test(text));
    t.match(told, [{ fields: { room: /^room /, problem: /maximum subscriptions/ } }], "one line");
    t.equal(a.broker.nats().refused.subscriptions, 45 - opened.length);
    // A place that is given up is another's.
    a.broker.close(opened[0]!);
    value(await a.open("another", retention));
    t.same(await a.open("one more", retention), { error: "overloaded" });
    t.equal(a.broker.nats().unheard, 0);
  });
}

t.test("open rooms that a server takes no subscriptions of when it is back are counted, tried again, and hear again", async (t) => {
  const { server, configure } = await startWith(t, "");
  const { lines, log } = keptLog();
  const options = { ...brokerOptions(server), partitions: 1, timeoutMs: 20_000 };
  const [a, b] = [await startBroker(t, { ...options, log }), await startBroker(t, options)];
  const all = rooms(40);
  const retentionOf = (room: string) => (Number(room.slice(5)) % 2 === 0 ? ephemeral : durable);
  for (const room of all) value(await a.open(room, retentionOf(room)));
  const restart = async (text: string) => {
    await server.stop();
    await until(() => [a, b].every(({ broker }) => broker.nats().away), "the loss to be noticed");
    configure(text);
    await server.start();
    await until(() => [a, b].every(({ broker }) => !broker.nats().away), "it to be back");
  };
  const publishAll = async (text: string) => {
    for (const room of all) await until(async () => "value" in (await b.publish(room, text, { retention: retentionOf(room) })), "it to be taken");
  };
  await restart("max_subscriptions: 25");
  await until(() => a.broker.nats().unheard >= 15, "what is lost to be found");
  t.match(lines.find(({ text }) => /max_subscriptions/.test(text)), { fields: { room: /^room /, isOpen: true } });
  await publishAll("while few are heard");
  await restart("");
  await until(() => a.broker.nats().unheard === 0, "all to be heard again");
  await publishAll("when all are heard");
  for (const room of all) {
    await until(() => a.texts(room).includes("when all are heard"), room);
    if (retentionOf(room) === durable) t.same(a.texts(room), ["while few are heard", "when all are heard"], "nothing is lost of what is kept");
  }
});

t.test("a user that may not hear answers is told so at the start", async (t) => {
  const prefix = "deaf";
  const { server } = await startWith(t, `authorization { users = [{ user: u, password: p, permissions: { publish: ">", subscribe: { deny: ["_INBOX.>"] } } }] }`);
  const start = startBroker(t, { ...brokerOptions(server), prefix, user: "u", password: "p" });
  await t.rejects(start, { name: "NatsProblem", message: /_INBOX/ });
});

t.test("a user that may not publish: its publications are unavailable at once, and counted", async (t) => {
  const prefix = "mute";
  const { server } = await startWith(t, `authorization { users = [{ user: u, password: p, permissions: { publish: { deny: ["${prefix}.in.*.test.x", "${prefix}.out.test.e"] }, subscribe: ">" } }] }`);
  const { lines, log } = keptLog();
  const a = await startBroker(t, { ...brokerOptions(server), prefix, user: "u", password: "p", timeoutMs: 600_000, log });
  for (const [room, retention] of [["x", durable], ["e", ephemeral]] as const) {
    value(await a.open(room, retention));
    t.same(await a.publish(room, "1", { retention }), { error: "unavailable" });
  }
  t.equal(a.broker.nats().refused.permission, 2);
  t.match(lines.filter(({ text }) => /permissions/.test(text)), [{ fields: { room: "x", problem: /may not publish to/ } }]);
});

t.test("at max_subscriptions durable rooms can be read all the same, many at once", async (t) => {
  const { server } = await startWith(t, "max_subscriptions: 30");
  const options = { ...brokerOptions(server), partitions: 1 };
  const [a, b] = [await startBroker(t, options), await startBroker(t, options)];
  const answers = await Promise.all(rooms(45).map((room) => a.open(room, durable)));
  t.same(answers.at(-1), { error: "overloaded" }, "there are no more");
  for (const room of rooms(45)) value(await b.publish(room, `in ${room}`));
  // Those that are open, and those that never were.
  const pages = await Promise.all(rooms(45).map((room) => a.history(room, { direction: "newest" })));
  t.same(pages.map((page) => value(page).publications.map(textOf)), rooms(45).map((room) => [`in ${room}`]));
  t.equal(a.broker.nats().unheard, 0);
});

t.test("a user that may not hear notices of streams: each refusal counts, it is asked for again, and heard when it may", async (t) => {
  const prefix = "unnoticed";
  const users = (subscribe: string) => `authorization { users = [{ user: o, password: p, permissions: { publish: ">", subscribe: ">" } }, { user: u, password: p, permissions: { publish: ">", subscribe: ${subscribe} } }] }`;
  const { server, configure } = await startWith(t, users(`{ allow: [">"], deny: ["${prefix}.streams"] }`));
  const { lines, log } = keptLog();
  const a = await startBroker(t, { ...brokerOptions(server), prefix, user: "u", password: "p", partitions: 1, noticeRetryMs: 20, log });
  const refused = () => a.broker.nats().refused.permission;
  await until(() => refused() >= 3, "it to be asked for again");
  t.match(lines.filter(({ text }) => /permissions of its user/.test(text)), [{ fields: { subject: `${prefix}.streams` } }], "one line");
  await server.stop();
  configure(users('">"'));
  await server.start();
  const someone = await connect({ servers: server.url, user: "o", pass: "p" });
  t.teardown(() => someone.close());
  // Without a subscription the server says at once that there is nobody.
  const isHeard = () => someone.request(`${prefix}.streams`, "", { timeout: 50 }).then(() => true, ({ code }: { code?: string }) => code === "TIMEOUT");
  await until(isHeard, "notices to be heard");
});

t.test("what nobody answers is bounded too, while NATS reads nothing", async (t) => {
  const nats = await startNats(t);
  const { publish } = await startBroker(t, brokerOptions(nats));
  const text = "x".repeat(2 ** 19);
  t.match(await publish("live:a", text, { retention: ephemeral }), { value: {} });
  await nats.pause();
  const answers = await Promise.all(Array.from({ length: 200 }, () => publish("live:a", text, { retention: ephemeral })));
  const refused = answers.filter((answer) => "error" in answer && answer.error === "overloaded").length;
  t.ok(refused >= 60, `${refused} of 200 refused: 64 MiB may be on their way`);
  nats.resume();
  await until(async () => "value" in (await publish("live:a", text, { retention: ephemeral })), "it to go on");
});
