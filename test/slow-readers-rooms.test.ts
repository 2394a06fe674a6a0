/** Readers that are behind, and what else can happen to them meanwhile. */
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import type { Gateway } from "../dist/index.js";
import { sumOf } from "./support/nodeprocess.ts";
import { opcodes } from "./support/rawsocket.ts";
import { openTcp } from "./support/rawtcp.ts";
import { open, type TestSession } from "./support/session.ts";
import { large, node, nobodyBehind, overflow, overflowUntil, pingUntilDropped, publishMany, queueBytes, readOn, stalled, upTo, watch } from "./support/slow.ts";

t.test("a session in rooms of two policies keeps everything of the one and is told what it lacks of the other", async (t) => {
  const { gateway, slow, writer, got } = await stalled(t, ["log:a", "cursor:a", "log:quiet"]);
  const tiny = Buffer.from("x");
  // Many rooms' messages in one turn: what was missed of each has to be found.
  const both = async (): Promise<void> =>
    void (await Promise.all(Array.from({ length: 40 }, (_, i) => writer.publish(i % 2 === 0 ? "log:a" : "cursor:a", i % 4 === 0 ? large : tiny))));
  for (let i = 0; i < 60 && sumOf(await gateway.metrics(), "flux_members_behind") < 2; i++) await both();
  t.equal(sumOf(await gateway.metrics(), "flux_members_behind"), 2, "behind in two rooms, not in the quiet one");
  await both();
  slow.raw.resume();
  await nobodyBehind(gateway);
  const quiet = await publishMany(writer, "log:quiet", 1, tiny);
  const [log, cursor] = [await publishMany(writer, "log:a", 5, tiny), await publishMany(writer, "cursor:a", 5, tiny)];
  await slow.waitFor(() => got["log:a"]!.seqs.at(-1) === log.seq && got["cursor:a"]!.seqs.at(-1) === cursor.seq, "the last of both");
  t.strictSame(got["log:a"], { seqs: upTo(log.seq), syncs: [] });
  const { seqs, syncs } = got["cursor:a"]!;
  t.ok(syncs.length > 0);
  t.strictSame(seqs, [...new Set(seqs)].sort((a, b) => a - b), "in order and once");
  const gaps = seqs.map((seq, i) => [seqs[i - 1] ?? 0, seq] as const).filter(([before, seq]) => seq !== before + 1);
  t.strictSame(gaps.map(([, seq]) => seq - 1), syncs, "every gap ends where sync said");
  t.strictSame(got["log:quiet"], { seqs: [quiet.seq], syncs: [] });
});

t.test("a room that must not be missed closes a session that loses something of it, whatever its other rooms allow", async (t) => {
  const { slow, writer, got, gateway } = await stalled(t, ["log:a", "strict:a"]);
  await overflow(gateway, writer, "log:a");
  // Small, so that it is noted with others; the socket is still full.
  await publishMany(writer, "strict:a", 1, Buffer.from("x"));
  while (sumOf(await gateway.metrics(), "flux_slow_consumers_total") === 0) await sleep(10);
  slow.raw.resume();
  t.same(await slow.closed(), { code: 3008, reason: "slow_consumer" });
  t.strictSame(got["log:a"]!.seqs, upTo(got["log:a"]!.seqs.length));
  t.strictSame(got["strict:a"], { seqs: [], syncs: [] });
});

t.test("a reader whose history is gone by the time it reads again is told of the gap and is live", async (t) => {
  const { gateway, slow, writer, got } = await stalled(t, ["short:a"], { tailPublicationsMax: 4 });
  await overflow(gateway, writer, "short:a");
  const missed = await publishMany(writer, "short:a", 200, Buffer.from("x"));
  slow.raw.resume();
  await nobodyBehind(gateway);
  const last = await publishMany(writer, "short:a", 3, Buffer.from("x"));
  const { seqs, syncs } = got["short:a"]!;
  await slow.waitFor(() => seqs.at(-1) === last.seq, "a live publication");
  t.strictSame(syncs, [missed.seq]);
  const complete = seqs.findIndex((seq, i) => seq !== i + 1);
  t.strictSame(seqs, [...upTo(complete), ...upTo(last.seq, missed.seq + 1)]);
});

t.test("who leaves while it is behind gets nothing more, and can come back to what it missed", async (t) => {
  const { gateway, slow, writer, got } = await stalled(t, ["log:a"]);
  const { epoch } = await overflow(gateway, writer, "log:a");
  // Without a reply: that would find no room.
  await slow.send({ leave: { room: "log:a" } });
  await nobodyBehind(gateway);
  const last = await publishMany(writer, "log:a", 5, Buffer.from("x"));
  await readOn(gateway, slow);
  await slow.request({ ping: { time: 1 } });
  const { seqs } = got["log:a"]!;
  t.strictSame(seqs, upTo(seqs.length));
  t.ok(seqs.length < last.seq);
  const { recovered } = await slow.join("log:a", { recover: { epoch, seq: seqs.length } });
  t.equal(recovered, true);
  t.strictSame(seqs, upTo(last.seq));
});

t.test("a socket that is lost while it is behind leaves nothing behind", async (t) => {
  const { gateway, slow, writer } = await stalled(t, ["log:a", "cursor:a"]);
  await overflow(gateway, writer, "log:a");
  slow.raw.destroy();
  await nobodyBehind(gateway);
  while (sumOf(await gateway.metrics(), "flux_members") !== 2) await sleep(10);
  while (sumOf(await gateway.metrics(), "flux_hub_replays") > 0) await sleep(10);
  t.pass("the hub reads nothing for it any more");
});

t.test("a reactor that fails takes those that are behind with it: they resume on the next with nothing missing", async (t) => {
  const { gateway, slow, writer, got } = await stalled(t, ["log:a"]);
  const { epoch } = await overflow(gateway, writer, "log:a");
  gateway.failReactor(0);
  slow.raw.resume();
  await slow.raw.ended;
  const { seqs } = got["log:a"]!;
  t.strictSame(seqs, upTo(seqs.length));
  const again = await reopened(gateway);
  const { position, recovered, missed } = await again.join("log:a", { recover: { epoch, seq: seqs.length } });
  t.equal(recovered, true);
  t.strictSame([...seqs, ...missed.map(({ seq }) => seq)], upTo(position.seq));
  t.equal(sumOf(await gateway.metrics(), "flux_members_behind"), 0);
  t.equal(sumOf(await gateway.metrics(), "flux_hub_replays"), 0);
});

async function reopened(gateway: Gateway): Promise<TestSession> {
  for (;;) {
    const session = await open(gateway).catch(() => null);
    if (session !== null) return session;
    await sleep(50);
  }
}

for (const json of [false, true]) {
  t.test(`pings of a reader that is behind are nothing it missed, whatever is in them: ${json ? "JSON" : "binary"}`, async (t) => {
    const { gateway, slow, writer, got } = await stalled(t, ["log:a"], {}, json);
    await overflow(gateway, writer, "log:a");
    const payloads = ["x", "{", "null", "5", '"x"', new Uint8Array([0, 255, 254]), "\0\0\0\u00ff"];
    await pingUntilDropped(gateway, slow, payloads);
    slow.raw.resume();
    await nobodyBehind(gateway);
    const last = await publishMany(writer, "log:a", 1);
    const { seqs, syncs } = got["log:a"]!;
    await slow.waitFor(() => seqs.at(-1) === last.seq, "a live publication");
    t.strictSame([seqs, syncs], [upTo(last.seq), []]);
    t.equal(sumOf(await gateway.metrics(), "flux_reactor_restarts_total"), 0);
  });
}

for (const kind of ["JSON", "binary", "TCP"] as const) {
  t.test(`a change of who is in a room that a reader misses does not close it, and shows in the next one's version: ${kind}`, async (t) => {
    const gateway = await node(t, { tcpPort: 0, presenceIntervalMs: 20, presenceGraceMs: 20 });
    const slow = kind === "TCP" ? await openTcp(gateway) : await open(gateway, { json: kind === "JSON", keep: false });
    const [writer, witness] = [await open(gateway, { keep: false }), await open(gateway, { keep: false })];
    const rooms = Array.from({ length: 20 }, (_, i) => `log:${i}`);
    const got = Object.fromEntries([...rooms, "seen:a"].map((room) => [room, watch(slow, room)]));
    const versionsOf = (session: TestSession): number[] => {
      const versions: number[] = [];
      session.onEvent(({ presenceChanged }) => void (presenceChanged && versions.push(presenceChanged.version ?? 0)));
      return versions;
    };
    const [versions, witnessed] = [versionsOf(slow), versionsOf(witness)];
    for (const session of [slow, witness]) await session.join("seen:a");
    for (const session of [slow, writer]) for (const room of rooms) await session.join(room);
    let isIn = false;
    const change = async (): Promise<void> => {
      const known = witnessed.length;
      await (isIn ? writer.leave("seen:a") : writer.join("seen:a"));
      isIn = !isIn;
      await witness.waitFor(() => witnessed.length > known, "a change");
    };
    await change();
    await slow.waitFor(() => versions.at(-1) === witnessed.at(-1), "the change before");
    slow.raw.pause();
    await overflowUntil(gateway, writer, rooms, async () => {
      const before = sumOf(await gateway.metrics(), "flux_dropped_batches_total");
      await change();
      return sumOf(await gateway.metrics(), "flux_dropped_batches_total") > before;
    });
    slow.raw.resume();
    await nobodyBehind(gateway);
    await change();
    await slow.waitFor(() => versions.at(-1) === witnessed.at(-1), "the next change");
    t.strictSame(versions.filter((version, i) => i > 0 && version > versions[i - 1]! + 1), [witnessed.at(-1)], "the last of those before was missed, and that shows");
    for (const room of [...rooms, "seen:a"]) {
      const { seq } = await publishMany(room === "seen:a" ? witness : writer, room, 1);
      await slow.waitFor(() => got[room]!.seqs.at(-1) === seq, "a live publication");
      t.strictSame(got[room], { seqs: upTo(seq), syncs: [] }, room);
    }
    t.equal(sumOf(await gateway.metrics(), "flux_slow_consumers_total"), 0);
    slow.raw.destroy();
  });
}

t.test("a ping that is JSON, but no frame, costs its reader no more than itself", async (t) => {
  const { gateway, slow, writer } = await stalled(t, ["log:a"], {}, true);
  await overflow(gateway, writer, "log:a");
  while (sumOf(await gateway.metrics(), "flux_slow_consumers_total") === 0) {
    for (let i = 0; i < 50; i++) await slow.raw.send({ opcode: opcodes.ping, payload: `{"publication":null}${" ".repeat(100)}` });
  }
  slow.raw.resume();
  t.same(await slow.closed(), { code: 3008, reason: "slow_consumer" });
  t.equal(sumOf(await gateway.metrics(), "flux_reactor_restarts_total"), 0);
});

t.test("the admin port names the slowest sessions, and the metrics count them without a name", async (t) => {
  const { gateway, slow, writer } = await stalled(t, ["log:a"]);
  await overflow(gateway, writer, "log:a");
  const named = async () => ((await (await fetch(`http://127.0.0.1:${gateway.adminPort}/slow`)).json()) as { sessions: Record<string, unknown>[] }).sessions;
  // The kernel may take some of the queue at any time: pongs fill it again until the node has looked at it when it was full.
  let sessions = await named();
  let metrics = await gateway.metrics();
  const isSeen = () => Number(sessions[0]?.queuedBytes ?? 0) > queueBytes && /flux_sockets_queued\{reactor="0",over="1"\} 1/.test(metrics);
  while (!isSeen()) {
    await pingUntilDropped(gateway, slow, []);
    [sessions, metrics] = [await named(), await gateway.metrics()];
  }
  const [first, ...others] = sessions;
  t.match(first, { session: slow.ready?.session, user: slow.ready?.user, state: "ready", reactor: 0, roomsBehind: ["log:a"] });
  t.strictSame(others, []);
  t.ok(sumOf(metrics, "flux_socket_queue_longest_bytes") > queueBytes);
  t.notMatch(metrics, String(slow.ready?.user));
  slow.raw.resume();
  while ((await named()).length > 0) await sleep(50);
});
