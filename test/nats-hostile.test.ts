/** What others do to streams behind our back, and what they put into them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, headers, type NatsConnection } from "nats";
import t, { type Test } from "tap";
import { startNats } from "./support/nats.ts";
import { readAnswer, readPubAck, readStreamInfo } from "../src/broker/nats/wire/answers.ts";
import { connectNats } from "../src/broker/nats/connection/connection.ts";
import { readEnvelope, writeEnvelope } from "../src/broker/nats/wire/envelope.ts";
import { Format } from "../src/protocol/messages.ts";
import { ackedSeq } from "../src/broker/nats/wire/raw.ts";
import { Listening } from "../src/broker/nats/listening.ts";
import { Pulls } from "../src/broker/nats/history/pulls.ts";
import { Refusals } from "../src/broker/nats/refusals.ts";
import { Reader } from "../src/broker/nats/history/reading.ts";
import { Streams, type Stream } from "../src/broker/nats/streams/streams.ts";
import { brokerOptions, durable, ephemeral, startBroker, textOf, value } from "./support/natsbroker.ts";
import { startProxy } from "./support/proxy.ts";
import { until } from "./support/until.ts";

const nats = await startNats(t);
const onePartition = (server = nats) => ({ ...brokerOptions(server), partitions: 1 });
const streamOf = ({ prefix }: { readonly prefix: string }) => `${prefix.toUpperCase()}_test_0`;

async function stranger(t: Pick<Test, "teardown">, port = nats.port): Promise<NatsConnection> {
  const connection = await connect({ servers: `127.0.0.1:${port}` });
  t.teardown(() => connection.close());
  return connection;
}

t.test("a stream that is deleted and made again while all run begins another epoch on nodes that only listen too", async (t) => {
  const options = onePartition();
  const [a, b] = [await startBroker(t, options), await startBroker(t, options)];
  const old = value(await a.open("x"));
  value(await b.open("x"));
  for (const name of ["1", "2", "3", "4", "5"]) value(await a.publish("x", name));
  await (await stranger(t)).request(`$JS.API.STREAM.DELETE.${streamOf(options)}`);
  const { epoch } = value(await a.publish("x", "new"));
  t.not(epoch, old.epoch);
  for (const one of [a, b]) {
    await until(() => one.texts("x").includes("new"), "what the new stream has");
    t.equal(one.delivered.at(-1)!.publication.epoch, epoch);
    t.same(one.moved.map(({ position }) => position.epoch), [epoch]);
  }
  t.equal(value(await b.publish("x", "end")).epoch, epoch);
});

for (const who of ["listens", "publishes"]) {
  t.test(`a stream that was made again by somebody else is noticed by a node that ${who}`, async (t) => {
    const options = onePartition();
    const a = await startBroker(t, options);
    const old = value(await a.open("x"));
    for (const name of ["1", "2", "3"]) value(await a.publish("x", name));
    const other = await stranger(t);
    const name = streamOf(options);
    const { config } = (await other.request(`$JS.API.STREAM.INFO.${name}`)).json<{ config: object }>();
    await other.request(`$JS.API.STREAM.DELETE.${name}`);
    await other.request(`$JS.API.STREAM.CREATE.${name}`, JSON.stringify(config));
    if (who === "publishes") {
      t.not(value(await a.publish("x", "new")).epoch, old.epoch);
    } else {
      await other.request(`${options.prefix}.in.0.test.x`, "anything");
      await until(() => a.moved.length > 0, "it to notice");
    }
    await until(() => a.moved.length > 0 && a.moved[0]!.position.epoch !== old.epoch, "another epoch");
  });
}

t.test("a stream that was set back and filled past what a node knows begins another epoch", async (t) => {
  const server = await startNats(t);
  const proxy = await startProxy(t, server.port);
  const options = { ...onePartition(server), timeoutMs: 20_000 };
  const a = await startBroker(t, { ...options, servers: [`nats://127.0.0.1:${proxy.port}`] });
  const old = value(await a.open("x"));
  for (const name of ["1", "2", "3"]) value(await a.publish("x", name));
  await server.stop();
  const copy = server.copyStore();
  await server.start();
  await until(() => !a.broker.nats().away, "it to be back");
  for (const name of ["lost 4", "lost 5", "lost 6"]) value(await a.publish("x", name));
  proxy.refuse(true);
  proxy.cut();
  await server.kill();
  copy.putBack();
  await server.start();
  const b = await startBroker(t, options);
  for (const name of ["4", "5", "6", "7", "8"]) value(await b.publish("x", name));
  t.same(a.moved, []);
  proxy.refuse(false);
  await until(() => a.moved.length > 0, "it to notice");
  const { epoch } = value(await a.publish("x", "end"));
  t.not(epoch, old.epoch);
  await until(() => a.texts("x").at(-1) === "end", "what comes then");
  await until(async () => value(await b.publish("x", "both")).epoch === epoch, "both nodes to go by the same epoch");
});

t.test("messages that cannot be read are passed over: by open rooms, with a hole, and by history", async (t) => {
  const options = onePartition();
  const [a, b] = [await startBroker(t, options), await startBroker(t, options)];
  value(await a.open("x"));
  const first = value(await a.publish("x", "1"));
  const other = await stranger(t);
  for (let i = 0; i < 600; i++) await other.request(`${options.prefix}.in.0.test.x`, "not an envelope");
  const second = value(await a.publish("x", "2"));
  t.equal(second.seq, first.seq + 600 + 1);
  t.same(a.texts("x"), ["1", "2"]);
  t.equal(a.delivered.at(-1)!.publication.prev, second.seq - 1, "members see that something is between");
  // One that has missed them reads them.
  const late = value(await b.open("x"));
  t.equal(late.seq, second.seq);
  for (const one of [a, b]) {
    const since = value(await one.history("x", { direction: "since", position: first }));
    t.same([since.publications.map(textOf), since.more], [["2"], false]);
    const before = value(await one.history("x", { direction: "before", position: second, limit: 100 }));
    t.same([before.publications.map(textOf), before.more], [["1"], false]);
  }
});

t.test("a copy whose place cannot be, or is another stream's, is none", async (t) => {
  const options = onePartition();
  const a = await startBroker(t, options);
  const { epoch } = value(await a.open("x"));
  value(await a.publish("x", "1"));
  const other = await stranger(t);
  const envelope = Buffer.alloc(30);
  envelope[0] = 1;
  const claim = (seq: string, before: string, stream = streamOf(options)) => {
    const place = headers();
    place.set("Nats-Stream", stream);
    place.set("Nats-Sequence", seq);
    place.set("Nats-Last-Sequence", before);
    other.publish(`${options.prefix}.out.test.x`, envelope, { headers: place });
  };
  claim("x", "0");
  claim("7", "y");
  claim("7", "-1");
  claim("7", "7");
  claim("1e3", "1.5");
  claim("99999999999999999999999", "0");
  claim("9007199254740000", "0");
  claim("7", "1", "ANOTHER_test_0");
  await other.flush();
  for (const name of ["2", "3"]) t.equal(value(await a.publish("x", name)).epoch, epoch);
  other.publish(`${options.prefix}.streams`);
  await other.flush();
  value(await a.publish("x", "4"));
  t.same(a.texts("x"), ["1", "2", "3", "4"]);
  t.same(a.delivered.map(({ publication }) => publication.seq), [1, 2, 3, 4]);
  t.same(a.moved, []);
});

for (const [kind, retention] of [["an ephemeral", ephemeral], ["a durable", durable]] as const) {
  t.test(`${kind} room whose subject the account may not listen to cannot be opened, and nothing else is disturbed`, async (t) => {
    const prefix = "guarded";
    const folder = mkdtempSync(join(tmpdir(), "flux-nats-conf-"));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const file = join(folder, "nats.conf");
    const permissions = `{ publish: ">", subscribe: { allow: [">"], deny: ["${prefix}.out.test.bad"] } }`;
    writeFileSync(file, `authorization { users = [{ user: u, password: p, permissions: ${permissions} }] }`);
    const server = await startNats(t, { flags: ["-c", file] });
    const problems: object[] = [];
    const log = { info() {}, warn: (fields: object) => void problems.push(fields), error: (fields: object) => void problems.push(fields) };
    const a = await startBroker(t, { ...onePartition(server), prefix, user: "u", password: "p", log });
    value(await a.open("good", retention));
    for (let i = 0; i < 3; i++) {
      t.same(await a.open("bad", retention), { error: "unavailable" });
      value(await a.publish("good", String(i), { retention }));
    }
    t.same(a.texts("good"), ["0", "1", "2"]);
    t.equal(a.broker.nats().reconnects, 0);
    t.equal(a.broker.usage().rooms, 1);
    t.match(problems, [{ room: "bad", subject: `${prefix}.out.test.bad`, problem: /Permissions Violation/ }], "one line");
  });
}

t.test("an answer that is no stream's is an error of that publication and of nothing else", async (t) => {
  const options = onePartition();
  const a = await startBroker(t, options);
  value(await a.open("x"));
  value(await a.publish("x", "1"));
  const other = await stranger(t);
  await other.request(`$JS.API.STREAM.DELETE.${streamOf(options)}`);
  const answers = [
    "hello", "null", "7", "[]", '{"stream":"ANOTHER_test_0", "seq":7}', `{"error":{"code":400,"description":"no"},"stream":"${streamOf(options)}","seq":7}`,
  ];
  for (const answer of answers) {
    other.subscribe(`${options.prefix}.in.>`, { max: 1, callback: (_error, message) => void message.respond(answer) });
    await other.flush();
    t.same(await a.publish("x", answer), { error: "unavailable" });
    await until(async () => "value" in (await a.publish("x", "again")), "publishing to be possible again");
    await other.request(`$JS.API.STREAM.DELETE.${streamOf(options)}`);
  }
  t.equal(a.broker.nats().reconnects, 0);
});

t.test("a node without rooms asks how far a stream is, and reads nothing of what others published", async (t) => {
  const options = onePartition();
  const a = await startBroker(t, { ...options, quietLookMs: 3_600_000 });
  value(await a.open("x"));
  const b = await startBroker(t, { ...options, quietLookMs: 50 });
  // Only streams of rooms that were open here are asked for at all.
  value(await b.open("y"));
  b.broker.close("y");
  const other = await stranger(t);
  let looks = 0;
  const reads: string[] = [];
  other.subscribe(`$JS.API.STREAM.INFO.${streamOf(options)}`, { callback: () => void looks++ });
  for (const subject of ["$JS.API.CONSUMER.>", "$JS.API.STREAM.MSG.GET.>", "$JS.API.DIRECT.GET.>"]) other.subscribe(subject, { callback: (_, message) => void (message.subject.includes(streamOf(options)) && reads.push(message.subject)) });
  await other.flush();
  for (let i = 0; i < 30; i++) {
    const before = looks;
    value(await a.publish("x", `${i}`));
    if (i % 10 === 0) await until(() => looks > before + 1, "the other to look");
  }
  t.same(reads, []);
});

t.test("a stream that is not there is tried again, and each thing that is wrong with it is logged once until it is right", async (t) => {
  const options = { ...onePartition(), quietLookMs: 3_600_000 };
  const warnings: { readonly fields: object; readonly text: string }[] = [];
  const told: string[] = [];
  const log = { info: (_: object, text: string) => void told.push(text), warn: (fields: object, text: string) => void warnings.push({ fields, text }), error() {} };
  const a = await startBroker(t, { ...options, log });
  value(await a.open("x"));
  const other = await stranger(t);
  let tries = 0;
  other.subscribe(`$JS.API.STREAM.CREATE.${streamOf(options)}`, { callback: () => void tries++ });
  // It cannot be made: another one has what it would keep.
  await other.request(`$JS.API.STREAM.DELETE.${streamOf(options)}`);
  await other.request(`$JS.API.STREAM.CREATE.${options.prefix}`, JSON.stringify({ name: options.prefix, subjects: [`${options.prefix}.in.>`], storage: "memory" }));
  other.publish(`${options.prefix}.streams`);
  for (const answer of await Promise.all(["a", "b", "c"].map((room) => a.open(room)))) t.same(answer, { error: "unavailable" });
  await until(() => tries >= 4, "it to be tried several times");
  await other.request(`$JS.API.STREAM.DELETE.${options.prefix}`);
  await until(() => told.includes("NATS: all streams can be checked again"), "it to be looked at");
  value(await a.open("a"));
  t.same(warnings.map(({ text }) => text).sort(), [
    "NATS: a stream cannot be checked: its rooms wait while the node retries; check the NATS servers",
    "NATS: a stream cannot be read: its rooms wait, and joins of new ones fail, until it can; check the NATS servers",
    "NATS: a stream lost what it kept and starts a new epoch: history and idempotency keys of its rooms or inboxes are lost, and members get a gap; check the store of NATS",
  ]);
  for (const { fields, text } of warnings) t.same(Object.keys(fields), /lost what it kept/.test(text) ? ["stream"] : ["stream", "problem"], "without a stack");
  t.same([...told].sort(), ["NATS: all streams can be checked again", "NATS: all streams can be read again"]);
});

t.test("two nodes that create a stream at the same time both use it, though the server refuses one of them", async (t) => {
  const options = onePartition();
  const connection = await connectNats(options, "late");
  t.teardown(() => connection.close());
  const listening = new Listening({ connection, refusals: new Refusals(options.log), log: options.log });
  const overlap = { error: { code: 400, err_code: 10065, description: "subjects overlap with an existing stream" } };
  let refused = 0;
  // nats-server 2.9 says so about the very stream that the other node is creating (3 of 900 creates from six connections).
  const late = {
    ...connection,
    publish: () => undefined,
    request: async (subject: string, ...rest: [Uint8Array | string, { timeout: number }]) => {
      const answer = await connection.request(subject, ...rest);
      if (!subject.includes("STREAM.CREATE")) return answer;
      refused++;
      return { string: () => JSON.stringify(overlap) };
    },
  } as unknown as NatsConnection;
  const streams = new Streams(late, options, listening, options.log, () => undefined);
  const [stream] = await streams.prepare("test", durable) as [Stream];
  t.equal(refused, 1);
  t.match(stream.epoch, /./);
  await connection.request(`$JS.API.STREAM.DELETE.${stream.name}`);
  // One that does overlap is told.
  await connection.request(`$JS.API.STREAM.CREATE.OTHER`, JSON.stringify({ name: "OTHER", subjects: [`${options.prefix}.in.>`], storage: "memory" }));
  await t.rejects(new Streams(connection, options, listening, options.log, () => undefined).prepare("test", durable), /cannot be created: subjects overlap/);
  await connection.request(`$JS.API.STREAM.DELETE.OTHER`);
});

t.test("a clock that is set back keeps no publication waiting", async (t) => {
  const server = await startNats(t);
  const a = await startBroker(t, { ...onePartition(server), timeoutMs: 500 });
  value(await a.open("x"));
  await server.pause();
  const before = a.publish("x", "before");
  const { now } = Date;
  t.teardown(() => void (Date.now = now));
  Date.now = () => now() - 3_600_000;
  t.same(await before, { error: "unavailable" });
  server.resume();
  await until(async () => "value" in (await a.publish("x", "after")), "publishing to be possible again");
});

t.test("where a stream has replicas its leader is asked where a room is, for others may be late", async (t) => {
  const options = { ...onePartition(), quietLookMs: 3_600_000 };
  const a = await startBroker(t, options);
  value(await a.publish("x", "1"));
  const { seq } = value(await a.publish("x", "2"));
  value(await a.publish("y", "3"));
  const connection = await connectNats(options, "reader");
  t.teardown(() => connection.close());
  const listening = new Listening({ connection, refusals: new Refusals(options.log), log: options.log });
  const one = new Streams(connection, options, listening, options.log, () => undefined);
  const [stream] = await one.prepare("test", durable);
  const replicated = new Streams(connection, { ...options, replicas: 3 }, listening, options.log, () => undefined);
  for (const [streams, asked] of [[one, "DIRECT.GET"], [replicated, "STREAM.MSG.GET"]] as const) {
    const other = await stranger(t);
    const calls: string[] = [];
    other.subscribe("$JS.API.>", { callback: (_error, { subject }) => void calls.push(subject) });
    await other.flush();
    const reader = new Reader(connection, streams, new Pulls(listening));
    t.equal(await reader.last(stream!, `${options.prefix}.in.0.test.x`), seq);
    t.equal(await reader.last(stream!, `${options.prefix}.in.0.test.nothing`), 0);
    await other.flush();
    t.same(new Set(calls), new Set([`$JS.API.${asked}.${stream!.name}`]));
    await other.close();
  }
});

t.test("a server that is cut off from the others may say for a while that a stream is shorter: it got a new epoch, and members lost what was acknowledged", async (t) => {
  const options = { ...onePartition(), replicas: 3 };
  let [now, last] = [0, 10];
  const updates: string[] = [];
  const connection = {
    isClosed: () => false,
    publish: () => undefined,
    request: async (subject: string, body: string) => {
      if (subject.includes("UPDATE")) updates.push(body);
      const config = { ...streamConfig, ...(subject.includes("UPDATE") && JSON.parse(body) as object) };
      const answer = { config, created: "2026-01-01T00:00:00Z", state: { messages: last, bytes: 1, first_seq: 1, last_seq: last } };
      return { string: () => JSON.stringify(answer) };
    },
  } as unknown as NatsConnection;
  let streamConfig: object = {};
  const streams = new Streams(connection, { ...options, now: () => now }, { listen: () => undefined } as unknown as Listening, options.log, () => undefined);
  streamConfig = {
    name: "X", description: "flux-gateway, partition 0 of 1", subjects: [`${options.prefix}.in.0.test.*`], retention: "limits", storage: "file", num_replicas: 3,
    max_msgs_per_subject: durable.historySize + 1, max_age: durable.historyTtlMs * 1e6, duplicate_window: Math.min(options.keyWindowMs, durable.historyTtlMs) * 1e6,
    discard: "old", allow_direct: true, republish: { src: `${options.prefix}.in.0.test.*`, dest: `${options.prefix}.out.test.{{wildcard(1)}}` },
  };
  const [stream] = await streams.prepare("test", durable) as [Stream];
  const { epoch } = stream;
  last = 5;
  for (let i = 0; i < 40; i++, now += 250) await t.rejects(streams.refresh(stream), /ends at 5, but was at 10 before/);
  last = 10;
  await streams.refresh(stream);
  t.equal(stream.epoch, epoch, "after ten seconds it was not true");
  last = 5;
  await t.rejects(streams.refresh(stream), { name: "NotCertain" });
  now += 60_000;
  for (let i = 0; i < 8; i++) await t.rejects(streams.refresh(stream), { name: "NotCertain" }, "a node that stood still has not asked often enough");
  t.same(updates, []);
  await streams.refresh(stream);
  t.not(stream.epoch, epoch, "what all answers say is true");
  t.equal(updates.length, 1);
});

t.test("a room that lost nothing is read from position 0, whatever went of other rooms before it", async (t) => {
  const small = { ...durable, historySize: 3 };
  const options = { ...onePartition(), namespaces: new Map([["test", small]]) };
  const a = await startBroker(t, options);
  for (let i = 0; i < 8; i++) value(await a.publish("busy", String(i), { retention: small }));
  const publish = (text: string) => a.publish("new", text, { retention: small });
  for (const text of ["1", "2", "3"]) value(await publish(text));
  const { epoch } = value(await a.open("new", small));
  const since = () => a.history("new", { direction: "since", position: { epoch, seq: 0 } }, small);
  t.same(value(await since()).publications.map(textOf), ["1", "2", "3"]);
  for (const text of ["4", "5"]) value(await publish(text));
  t.same(await since(), { error: "unrecoverable_position" });
});

for (const [kind, retention] of [["an ephemeral", ephemeral], ["a durable", durable]] as const) {
  t.test(`what is too large for this node, or not of this program, is not delivered in ${kind} room: a gap, and replays pass over it`, async (t) => {
    const warnings: object[] = [];
    const options = onePartition();
    const log = { ...options.log, warn: (fields: object) => void warnings.push(fields) };
    const a = await startBroker(t, { ...options, log });
    // A peer with larger frames.
    const b = await startBroker(t, { ...options, arrivingBytesMax: 900_000, payloadBytesMax: 800_000 });
    for (const one of [a, b]) value(await one.open("x", retention));
    const publish = async (text: string) => value(await b.publish("x", text, { retention }));
    const first = await publish("1");
    await until(() => a.texts("x").length === 1, "the first");
    await publish("2".repeat(500_000));
    const other = await stranger(t);
    const subject = retention.durable ? `${options.prefix}.in.0.test.x` : `${options.prefix}.out.test.x`;
    const envelope = Buffer.alloc(40);
    envelope[0] = 1;
    const withTime = (time: number) => (envelope.writeDoubleLE(time, 2), Buffer.from(envelope));
    const forged = [Buffer.alloc(0), "hello", withTime(NaN), withTime(-1), withTime(1e300), withTime(0.5)];
    for (const bytes of forged) other.publish(subject, bytes);
    await other.flush();
    await publish("3");
    await until(() => a.texts("x").length === 2, "what came then");
    t.same(a.texts("x"), ["1", "3"]);
    t.ok(a.delivered[1]!.publication.prev > a.delivered[0]!.publication.seq, "a gap");
    t.equal(a.broker.nats().undeliverable, 1 + forged.length);
    t.same(warnings.map((fields) => Object.keys(fields)), [["room", "bytes", "bytesMax"]], "said once");
    if (!retention.durable) return t.equal(a.moved.length, 1 + forged.length, "members are told at once");
    const since = value(await a.history("x", { direction: "since", position: first }));
    t.same([since.publications.map(textOf), since.more], [["3"], false]);
    t.same(value(await a.history("x", { direction: "newest" })).publications.map(textOf), ["1", "3"]);
  });
}

t.test("an acknowledgement is all of one, of the stream that was asked, with a sequence", (t) => {
  const bytes = (text: string) => Buffer.from(text);
  t.equal(ackedSeq(bytes('{"stream":"S_0", "seq":7}'), "S_0"), 7);
  t.equal(ackedSeq(bytes('{"stream":"S_0","seq":7}'), "S_0"), 7);
  const strange = [
    "", "}", "7}", '"seq":7}', '{"seq":7}', '{"stream":"S_1", "seq":7}', '{"stream":"S_0", "seq":0}', '{"stream":"S_0", "seq":}', '{"stream":"S_0", "seq":7.5}',
    '{"stream":"S_0", "seq":99999999999999999999}', '{"error":{"code":500},"stream":"S_0","seq":7}', '{"stream":"S_0","x":1,"seq":7}',
  ];
  for (const text of strange) t.equal(ackedSeq(bytes(text), "S_0"), -1, text);
  t.same(readPubAck('{"stream":"S_0", "seq":7,"duplicate": true}', "S_0"), { seq: 7, duplicate: true });
  t.same(readPubAck('{"stream":"S_0","domain":"hub","seq":7}', "S_0"), { seq: 7, duplicate: false });
  for (const text of [...strange.slice(0, -1), "null", "[]", '{"stream":"S_0","seq":7,"duplicate":"yes"}', '{"error":"no","stream":"S_0","seq":7}']) {
    t.match(readPubAck(text, "S_0"), { error: "unavailable", reason: "other" }, text);
  }
  t.end();
});

t.test("an answer of JetStream's API without what is read of it is an error", (t) => {
  const stream = { config: { subjects: [] }, created: "2026", state: { first_seq: 1, last_seq: 2 } };
  const say = (value: unknown) => () => readAnswer("STREAM.INFO.S", typeof value === "string" ? value : JSON.stringify(value), readStreamInfo);
  t.match(say(stream)(), stream);
  const strange = ["", "hello", null, 7, [], {}, { ...stream, state: {} }, { ...stream, config: null }, { ...stream, state: { first_seq: -1, last_seq: 2 } }, { ...stream, state: { ...stream.state, subjects: { x: "1" } } }];
  for (const value of strange) t.throws(say(value), /STREAM.INFO.S: the answer is not from JetStream/);
  t.throws(say({ ...stream, error: { code: 404, err_code: 10059, description: "stream not found" } }), { name: "ApiFailure", code: 10059 });
  t.throws(say({ ...stream, error: "no" }), { name: "ApiFailure" });
  t.end();
});

t.test("JSON of another program that is none is handed on as bytes: it would spoil the messages of others", async (t) => {
  const [node, other] = [Buffer.alloc(8, 1), Buffer.alloc(8, 2)];
  const formatOf = (payload: Uint8Array, reader = node) =>
    readEnvelope(reader, writeEnvelope(other, 1, 1, { sender: "", payload, format: Format.JSON, key: "", origin: "" }))!.format;
  t.equal(formatOf(Buffer.from('{"a":"ä"}')), Format.JSON);
  for (const payload of [Buffer.from([0x22, 0xff, 0x22]), Buffer.from("{"), Buffer.from('1,{"publication":{}}'), Buffer.alloc(0), Buffer.from("\ufeff1")]) {
    t.equal(formatOf(payload), Format.BINARY, payload.toString());
  }
  t.equal(formatOf(Buffer.from("{"), other), Format.JSON, "a node has checked its own");
});
