/**
 * Members whose sockets do not keep up, under each policy: what they get, what they are told, and in which order.
 * They stop reading while so much is published that their queue overflows, whatever the kernel holds for them.
 */
import t from "tap";
import type { Gateway } from "../dist/index.js";
import { Counters, createCounters } from "../src/link/counters.ts";
import type { Context } from "../src/reactor/context.ts";
import { Queues } from "../src/reactor/rooms/queuereport.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { open, type OpenOptions } from "./support/session.ts";
import { large, node, nobodyBehind, overflow, publishMany, small, smallInJson, upTo, watch } from "./support/slow.ts";
import { until } from "./support/until.ts";

for (const json of [false, true, "arrays"] as const) {
  const format = json === "arrays" ? "JSON arrays" : json ? "JSON" : "binary";
  const bytes = json === true ? large : json ? smallInJson : small;
  const reader = (gateway: Gateway, options: OpenOptions = {}) => open(gateway, { json, keep: false, ...options });

  t.test(`catch-up, ${format}: a reader that stalled gets everything, in order and once, also what is published meanwhile`, async (t) => {
    const gateway = await node(t);
    const [slow, other, writer] = [await reader(gateway), await reader(gateway), await open(gateway, { keep: false })];
    const [got, others] = [watch(slow, "log:a"), watch(other, "log:a")];
    for (const session of [slow, other, writer]) await session.join("log:a");
    slow.raw.pause();
    const behindAt = await overflow(gateway, writer, "log:a", "flux_members_behind", bytes);
    await publishMany(writer, "log:a", 50);
    slow.raw.resume();
    const last = await publishMany(writer, "log:a", 300, bytes);
    t.ok(last.seq > behindAt.seq);
    await slow.waitFor(() => got.seqs.at(-1) === last.seq, "everything");
    await other.waitFor(() => others.seqs.at(-1) === last.seq, "everything, at the other");
    t.strictSame(got.seqs, upTo(last.seq));
    t.strictSame(others.seqs, upTo(last.seq));
    t.strictSame([got.syncs, others.syncs], [[], []]);
    // Live again, not only replayed to.
    await nobodyBehind(gateway);
    const { seq } = await publishMany(writer, "log:a", 1);
    await slow.waitFor(() => got.seqs.at(-1) === seq, "a live publication");
    t.ok(sumOf(await gateway.metrics(), "flux_slow_rooms_total") >= 1);
  });

  // Which publication a lost array began with is found while catching up. The rest is the same in all formats.
  if (json === "arrays") continue;

  t.test(`drop, ${format}: a reader that stalled misses publications, is told of them, and gets new ones`, async (t) => {
    const gateway = await node(t);
    const [slow, writer] = [await reader(gateway), await open(gateway, { keep: false })];
    const got = watch(slow, "cursor:a");
    for (const session of [slow, writer]) await session.join("cursor:a");
    slow.raw.pause();
    await overflow(gateway, writer, "cursor:a", "flux_members_behind", bytes);
    const missed = await publishMany(writer, "cursor:a", 50);
    slow.raw.resume();
    await slow.waitFor(() => got.syncs.length > 0, "sync");
    const complete = got.seqs.length;
    t.strictSame(got.seqs, upTo(complete), "in order up to the gap");
    t.equal(got.syncs[0], missed.seq, "the head");
    const last = await publishMany(writer, "cursor:a", 10);
    await slow.waitFor(() => got.seqs.at(-1) === last.seq, "new publications");
    t.strictSame(got.seqs, [...upTo(complete), ...upTo(last.seq, missed.seq + 1)]);
    t.equal(sumOf(await gateway.metrics(), "flux_publications_skipped_total"), missed.seq - complete);
  });

  t.test(`disconnect, ${format}: a reader that stalled is closed 3008 and has everything up to the gap`, async (t) => {
    const gateway = await node(t);
    const [slow, writer] = [await reader(gateway), await open(gateway, { keep: false })];
    const got = watch(slow, "strict:a");
    for (const session of [slow, writer]) await session.join("strict:a");
    slow.raw.pause();
    const last = await overflow(gateway, writer, "strict:a", "flux_slow_consumers_total", bytes);
    slow.raw.resume();
    t.same(await slow.closed(), { code: 3008, reason: "slow_consumer" });
    t.strictSame(got.seqs, upTo(got.seqs.length));
    t.ok(got.seqs.length < last.seq);
  });
}

t.test("a node that fills up while all sockets are looked at goes on in larger steps: it used to take a tenth of a second for each", async (t) => {
  let [looks, ends] = [0, 0];
  const sessions = { get end() { return ++ends === 1 ? 2 : 1000; }, at: () => null };
  const context = { config: { socketQueueBytesMax: 1 }, counters: new Counters(createCounters()), sessions };
  const queues = new Queues(context as unknown as Context, () => void looks++, () => 1);
  t.teardown(() => queues.stop());
  await until(() => looks > 0, "a look at all of them", 20_000);
});

t.test("while nothing is sent, empty queues are looked at twice, and then no more", async (t) => {
  let [looks, asked, sent, bytes] = [0, 0, 1, 0];
  const session = { id: "", grant: null, state: "ready", members: null, socket: { getBufferedAmount: () => bytes } };
  const context = { config: { socketQueueBytesMax: 1 }, counters: new Counters(createCounters()), sessions: { end: 1, at: () => session } };
  const queues = new Queues(context as unknown as Context, () => void looks++, () => (asked++, sent));
  t.teardown(() => queues.stop());
  await until(() => asked >= 6, "six times to look");
  t.equal(looks, 2, "at the second, what uWS had only noted is in the queues");
  [sent, bytes] = [2, 5];
  await until(() => looks >= 5, "a queue that is not empty is looked at again and again");
  t.equal(context.counters.get("queueLongestBytes"), 5);
  bytes = 0;
  await until(() => context.counters.get("queueLongestBytes") === 0, "until it is empty");
});
