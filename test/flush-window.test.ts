/** Flush windows: publications that wait to leave together, and that nobody misses one or gets one twice for it. */
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { Counters, createCounters } from "../src/link/counters.ts";
import { Link } from "../src/link/link.ts";
import { nobody, writeDeliver } from "../src/link/publications.ts";
import { createRing } from "../src/link/ring.ts";
import type { Context } from "../src/reactor/context.ts";
import { Deliveries } from "../src/reactor/rooms/deliveries.ts";
import { Fanout } from "../src/reactor/rooms/fanout.ts";
import { addMember, createSession, type ReactorRoom } from "../src/reactor/session/session.ts";
import { Audiences, type Socket } from "../src/reactor/transport/socket.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { encoded } from "./support/publications.ts";
import { open, type OpenOptions, type TestSession } from "./support/session.ts";
import { startLoad } from "./support/load.ts";
import { opcodes } from "./support/rawsocket.ts";
import { until } from "./support/until.ts";

/** Long: what waits in such a window leaves for another reason than time. */
const never = 10_000;
const namespaces = {
  long: { durable: true, flushMs: never },
  short: { durable: true, flushMs: 20 },
  cursor: { durable: false, flushMs: 20 },
} as const;
const payload = Buffer.from("x");
const node = (t: Parameters<typeof startNode>[0], options: object = {}) =>
  startNode(t, { reactors: 1, commandsPerSecond: 0, namespaces, ...options });

const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);
const seqsOf = (session: TestSession): number[] => session.publications.map(({ seq }) => seq);

async function members(gateway: { port: number }, room: string, ...options: OpenOptions[]): Promise<TestSession[]> {
  const sessions = await Promise.all(options.map((one) => open(gateway, one)));
  for (const session of sessions) await session.join(room);
  return sessions;
}

t.test("publications that come within the window leave in one message, in order", async (t) => {
  const gateway = await node(t);
  const sessions = await members(gateway, "short:a", {}, {}, { json: true }, { json: "arrays" });
  const [writer] = sessions as [TestSession];
  for (let i = 0; i < 10; i++) await Promise.all(Array.from({ length: 10 }, () => writer.publish("short:a", payload)));
  for (const session of sessions) {
    await session.waitFor(() => session.publications.length === 100, "all of them");
    t.strictSame(seqsOf(session), upTo(100));
  }
  // Counted once a window and format; each alone would be 300.
  const left = sumOf(await gateway.metrics(), "flux_fanout_seconds_count");
  t.ok(left <= 150, `${left} times something left`);
});

t.test("a window takes what fits a message: what is too large, or too much, leaves at once and in order", async (t) => {
  const gateway = await node(t);
  const sessions = await members(gateway, "long:a", {}, {}, { json: true }, { json: "arrays" });
  const [writer] = sessions as [TestSession];
  const sizes = [10, 4_000, 30_000, 10, 16_300, 10, 10, 15_000, 20_000, 10];
  for (let i = 0; i < 40; i++) await writer.publish("long:a", Buffer.alloc(sizes[i % sizes.length]!));
  // Larger than any window, so that nothing waits.
  await writer.publish("long:a", Buffer.alloc(20_000));
  for (const session of sessions) {
    await session.waitFor(() => session.publications.length === 41, "all of them");
    t.strictSame(seqsOf(session), upTo(41));
  }
});

t.test("who joins while a window is open gets what is in it once: with joined, or live", async (t) => {
  const gateway = await node(t);
  for (const json of [false, true, "arrays"] as const) {
    const room = `long:${json}`;
    const [writer, reader] = await members(gateway, room, { json }, { json }) as [TestSession, TestSession];
    const { epoch } = await writer.publish(room, payload);
    await writer.publish(room, payload);
    t.strictSame(seqsOf(reader), [], "they wait");
    const late = await open(gateway, { json });
    const { missed } = await late.join(room, { recover: { epoch, seq: 0 } });
    t.strictSame(missed.map(({ seq }) => seq), [1, 2]);
    // The window closed for those who were there.
    await reader.waitFor(() => reader.publications.length === 2, "what waited");
    await writer.publish(room, payload);
    const last = await open(gateway, { json });
    await last.join(room);
    for (const session of [reader, late]) await session.waitFor(() => session.publications.length === 3, "the third");
    for (const session of [reader, late]) t.strictSame(seqsOf(session), [1, 2, 3]);
    t.strictSame(seqsOf(last), []);
  }
});

t.test("who leaves, is disconnected, or is there when the node closes, gets what waits first", async (t) => {
  const gateway = await node(t);
  const [writer, leaver, kicked, stayer] = await members(gateway, "long:a", {}, {}, {}, {}) as [TestSession, TestSession, TestSession, TestSession];
  await writer.publish("long:a", payload);
  await leaver.leave("long:a");
  t.strictSame(seqsOf(leaver), [1]);
  await writer.publish("long:a", payload);
  t.equal((await gateway.disconnect(kicked.ready?.user ?? "")).sessions, 1);
  t.same(await kicked.closed(), { code: 3504, reason: "disconnected" });
  t.strictSame(seqsOf(kicked), [1, 2]);
  t.strictSame(seqsOf(leaver), [1]);
  await writer.publish("long:a", payload);
  await gateway.close();
  t.same(await stayer.closed(), { code: 3001, reason: "shutdown" });
  t.strictSame(seqsOf(stayer), [1, 2, 3]);
});

t.test("the last to leave takes an open window along: who joined next got it, from before its position", async (t) => {
  const gateway = await node(t);
  const late: TestSession[] = [];
  for (const json of [false, true, "arrays"] as const) {
    const room = `long:${json}`;
    const [leaver] = await members(gateway, room, { json }) as [TestSession];
    await leaver.publish(room, payload);
    await leaver.leave(room);
    t.strictSame(seqsOf(leaver), [1]);
    late.push(...await members(gateway, room, { json }));
  }
  // What waits leaves before the node does.
  await gateway.close();
  for (const session of late) {
    t.same(await session.closed(), { code: 3001, reason: "shutdown" });
    t.strictSame(seqsOf(session), []);
  }
});

t.test("flux.v1.json-arrays: each message is an array, and a window leaves in one: plain JSON has a message for each frame", async (t) => {
  const gateway = await node(t);
  const [writer, plain, arrays] = await members(gateway, "long:a", {}, { json: true }, { json: "arrays" }) as [TestSession, TestSession, TestSession];
  const texts = [plain, arrays].map(({ raw }) => {
    const heard: string[] = [];
    raw.onFrame(({ opcode, payload: text }) => void (opcode === opcodes.text && heard.push(text.toString())));
    return heard;
  });
  for (const n of upTo(10)) await writer.publish("long:a", JSON.stringify(`[${n}],]`));
  t.strictSame(texts, [[], []], "all of it waits");
  await (await open(gateway)).join("long:a");
  for (const heard of texts) await until(() => heard.join().includes("[10],]"), "the last");
  const [objects, [array, ...others]] = texts.map((heard) => heard.map((text) => JSON.parse(text) as unknown)) as [unknown[], unknown[]];
  t.match(objects, upTo(10).map((n) => ({ publication: { seq: String(n), data: `[${n}],]` } })));
  t.strictSame([array, others], [objects, []]);

  const sockets = async (format: string) => [...(await gateway.metrics()).matchAll(new RegExp(`^flux_format_sockets{reactor="0",format="${format}"} (\\d+)$`, "gm"))].map(([, count]) => Number(count));
  t.strictSame(await Promise.all(["binary", "json", "json-arrays"].map(sockets)), [[2], [1], [1]]);
  await arrays.bye();
  await until(async () => (await sockets("json-arrays"))[0] === 0, "the socket to be gone");
});

t.test("a publisher that excludes itself gets everything but its own, everybody else everything", async (t) => {
  const gateway = await node(t);
  const [writer, other, reader] = await members(gateway, "cursor:a", {}, { json: true }, {}) as [TestSession, TestSession, TestSession];
  for (let i = 0; i < 30; i++) {
    await (i % 3 === 0 ? other : writer).publish("cursor:a", payload, { excludeSelf: i % 2 === 0 });
  }
  await reader.waitFor(() => reader.publications.length === 30, "all of them");
  t.strictSame(seqsOf(reader), upTo(30));
  const of = (excluded: (i: number) => boolean): number[] => upTo(30).filter((seq) => !excluded(seq - 1));
  for (const one of [writer, other]) await one.waitFor(() => one.publications.at(-1)?.seq === 30, "the last");
  t.strictSame(seqsOf(writer), of((i) => i % 2 === 0 && i % 3 !== 0));
  t.strictSame(seqsOf(other), of((i) => i % 2 === 0 && i % 3 === 0));
});

t.test("joining, leaving and publishing in windows, all at once, loses and doubles nothing", async (t) => {
  const gateway = await node(t, { reactors: 2 });
  const load = await startLoad(gateway, { room: "short:busy", members: 4, atLeast: 200, everyMs: 2 });
  const passers = Array.from({ length: 4 }, async (_, n) => {
    for (let i = 0; i < 10; i++) {
      const session = await open(gateway, { json: n % 2 === 0 });
      const { position } = await session.join("short:busy");
      await session.waitFor(() => session.publications.length > 3, "some publications");
      await session.leave("short:busy");
      const seqs = seqsOf(session);
      t.strictSame(seqs, seqs.map((_, at) => position.seq + 1 + at), "from the position joined at, without a gap");
      session.raw.destroy();
      await sleep(5);
    }
  });
  await Promise.all(passers);
  const verdict = await load.stop();
  t.equal(verdict.faults, 0, verdict.report);
  t.ok(sumOf(await gateway.metrics(), "flux_fanout_seconds_count") > 0);
});

t.test("who leaves with full windows of many rooms is given them alone, and a turn of the loop publishes no more than it may: it published all of them", async (t) => {
  let published = 0;
  const sent: string[] = [];
  const audiences = new Audiences();
  audiences.add({ publish: () => (published++, true) });
  const sessions = { find: () => null };
  const context = { counters: new Counters(createCounters()), compressFrom: Infinity, sessions } as unknown as Context;
  const fanout = new Fanout(audiences, Infinity, () => {});
  const rooms = new Map<number, ReactorRoom>(upTo(4).map((handle) => [handle, {
    name: `long:${handle}`, handle, partition: -1, joined: [0, 2], live: [0, 2], firsts: [null, null], eras: [1, 1], topics: ["", ""], presence: [0, 0], presenceTopics: ["", ""], flushMs: never, windows: [null, null],
  }]));
  const deliveries = new Deliveries(context, fanout, rooms);
  t.teardown(() => deliveries.flushAll());
  const [out, back] = [createRing(1 << 16), createRing(1 << 16)];
  const common = { overflowBytesMax: 1e6, readBudgetBytes: 1e6, ringDoorbell: () => {}, onBatchEnd: () => {} };
  const hub = new Link({ ...common, out, in: back, onRecord: () => {} });
  const reactor = new Link({ ...common, out: back, in: out, onRecord: (_, record) => deliveries.onRecord(record) });
  for (const seq of upTo(15)) for (const handle of rooms.keys()) writeDeliver(hub, handle, 1, nobody, 0, 0, seq, seq - 1, encoded({ room: String(handle), seq, prev: seq - 1 }));
  reactor.wake();
  t.equal(published, 0, "all of it waits");

  const session = createSession(audiences, 1, "", "");
  session.state = "ready";
  session.socket = { send: (bytes: Uint8Array) => (sent.push(nameOf(bytes)), 1) } as unknown as Socket;
  for (const room of rooms.values()) {
    addMember(session, { name: room.name, session, state: "live", room, mayPublish: true, seesPresence: false, liveAt: 0, arrival: null, next: null, before: null, after: null });
  }
  deliveries.handOverAll(session);
  t.strictSame(sent, [...rooms.keys()].flatMap((handle) => upTo(15).map((seq) => `${handle}.${seq}`)));
  t.equal(published, 0, "the others' windows are open still");

  deliveries.flushFor(session);
  t.equal(published, 30, "two rooms of four: a turn publishes 31");
  t.strictSame([...rooms.values()].map((room) => deliveries.mayFlush(room, 1)), [true, true, false, false], "nobody becomes live in the others in this turn");
  fanout.turn();
  deliveries.flushFor(session);
  t.equal(published, 60);
});

/** Room and seq of a JSON event. */
function nameOf(message: Uint8Array): string {
  const { publication: { room, seq } } = JSON.parse(Buffer.from(message).toString()) as { publication: { room: string; seq: string } };
  return `${room}.${seq}`;
}
