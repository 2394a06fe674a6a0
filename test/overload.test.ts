/** Loads that once stopped a node for everybody: small rings, floods of reading, readers far behind, too few files. */
import t, { type Test } from "tap";
import { writePublish } from "../src/link/publications.ts";
import * as records from "../src/link/records.ts";
import { Format } from "../src/protocol/messages.ts";
import { startHub } from "./support/hub.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { openRawSocket, within, type RawSocket } from "./support/rawsocket.ts";
import { open } from "./support/session.ts";
import { encodeBinary } from "./support/wire.ts";

// ------------------------------------------------------------------------- pages and small rings

const longest = 400;
const names: [what: string, room: string, payloadBytes: number][] = [
  ["a short name", "chat:x", 900],
  ["a name of many bytes", `chat:${"部".repeat(131)}`, 500],
  ["a name that JSON has to escape", `chat:${'"\\'.repeat(190)}`, 500],
  ["a long name and next to no payload", `chat:${"r".repeat(longest - 5)}`, 3],
];

t.test("the smallest ring that is allowed carries joins, recoveries and pages: one too large used to stop the hub for good", async (t) => {
  const node = await startNode(t, {
    frameBytesMax: 1024, ringBytes: 16_384, roomNameBytesMax: longest, tailPublicationsMax: 15, commandsPerSecond: 0,
  });
  for (const [what, room, payloadBytes] of names) {
    await t.test(what, async (t) => {
      const publisher = await open(node);
      const { position: from } = await publisher.join(room);
      for (let i = 0; i < 40; i++) {
        const bytes = Buffer.alloc(payloadBytes, 0x61);
        // Binary, which is a third longer in JSON, and JSON in turn.
        await publisher.publish(room, i % 2 === 0 ? bytes : JSON.stringify(bytes.toString("latin1", 2)));
      }
      for (const json of [false, true]) await readBack(t, await open(node, { json }), room, from.seq, from.epoch);
    });
  }
});

/** Joins and reads in every way there is, 40 publications. */
async function readBack(t: Test, session: Awaited<ReturnType<typeof open>>, room: string, seq: number, epoch: string): Promise<void> {
  const { missed, position } = await session.join(room, { history: 100 });
  t.ok(missed.length > 0 && missed.length <= 40, `${missed.length} of the newest with joined`);
  t.equal(missed.at(-1)?.seq, position.seq);
  await session.leave(room);
  const recovery = await session.join(room, { recover: { epoch, seq } });
  t.equal(recovery.recovered, true);
  t.equal(recovery.missed.length, 40, "all of them in a recovery");

  let at = seq;
  for (let more = true, pages = 0; more; pages++) {
    const { history } = await session.request({ history: { room, since: { epoch, seq: at } } });
    t.ok(history?.publications?.length, `page ${pages} of history`);
    at = Number(history?.publications?.at(-1)?.seq);
    more = history?.more === true && pages < 40;
  }
  t.equal(at, position.seq, "all of them page by page");
  t.ok((await session.request({ history: { room } })).history?.publications?.length);
  t.ok((await session.request({ history: { room, before: position } })).history?.publications?.length);
  await session.bye();
}

// ------------------------------------------------------------------------------ floods of reading

const flood = (room: string, limit?: number): Buffer =>
  Buffer.concat(Array.from({ length: 900 }, (_, i) => encodeBinary({ id: 1_000 + i, history: { room, ...(limit && { limit }) } })));

t.test("900 history commands in one message are mostly refused for their rate", async (t) => {
  const node = await startNode(t);
  for (const [limit, most] of [[undefined, 160], [512, 80], [16, 520]] as const) {
    const session = await open(node);
    await session.join("chat:r");
    const startedAt = performance.now();
    await session.sendMessage(flood("chat:r", limit));
    await session.waitFor(() => session.events.filter(({ id }) => (id ?? 0) >= 1_000).length === 900, "all answers");
    const answered = session.events.filter((event) => event.history).length;
    const earned = ((performance.now() - startedAt) * node.config.commandsPerSecond) / 1000;
    t.ok(answered > 20 && answered <= most + earned, `limit ${limit ?? "by default"}: ${answered} answered, at most ${most}`);
    t.equal(session.events.filter((event) => event.error?.code === "rate_limited").length, 900 - answered, "the others were refused");
    session.raw.destroy();
  }
});

t.test("a publish elsewhere is answered while eight sessions flood the node with history: it used to wait for seconds", async (t) => {
  const node = await startNodeProcess();
  t.teardown(() => node.stop());
  const room = `chat:${"r".repeat(250)}`;
  const writer = await open(node);
  await writer.join(room);
  for (let i = 0; i < 512; i += 64) await Promise.all(Array.from({ length: 64 }, () => writer.publish(room, Buffer.alloc(60))));
  const other = await open(node, { json: true });
  await other.join("live:other");

  const floods = await Promise.all(Array.from({ length: 8 }, () => open(node, { keep: false })));
  for (const session of floods) await session.join(room);
  for (const session of floods) session.raw.pause();
  await Promise.all(floods.map((session) => session.sendMessage(flood(room, 512))));
  for (let i = 0; i < 5; i++) await within(other.publish("live:other", "1"), "a publish beside the flood");
  t.equal(await node.metric("flux_reactor_restarts_total"), 0);
  for (const session of floods) session.raw.destroy();
});

// -------------------------------------------------------------------------- a reactor far behind

t.test("joins and history are refused while their reactor is far behind: their pages used to pile up for it without end", async (t) => {
  const { reactors, stop } = startHub();
  t.teardown(stop);
  const { link, reader, drain, seen, ...reactor } = reactors[0]!;
  const join = (id: number, room: string) => reactor.join(id, room, { history: 10 });
  const history = (id: number, room: string) =>
    records.writeHistory(reader, { slot: 0, life: 1, id, wire: 0, room, direction: "newest", epoch: "", seq: 0, limit: 10, orOldest: false });
  const answers = (...ids: number[]) => ids.map((id) => seen.find(({ frame }) => frame.id === id)?.frame).map((frame) => (frame ? (frame.error?.code ?? "done") : "no answer"));
  t.ok(join(1, "chat:a"));
  drain();
  t.equal(seen.at(-1)?.frame.joined?.room, "chat:a");
  for (let i = 0; i < 500 && !link.congested; i++) {
    writePublish(reader, 0, 1, 0, 0, 0, "chat:a", "ann", "", Format.BINARY, false, false, new Uint8Array(500));
    link.wake();
  }
  t.ok(link.congested, "the reactor is behind");

  const before = link.depth.overflow;
  for (let id = 10; id < 20; id++) t.ok(history(id, "chat:a"));
  t.ok(join(20, "chat:a"));
  t.ok(join(21, "chat:b"));
  link.wake();
  const grown = link.depth.overflow - before;
  t.ok(grown < 12 * 150, `only refusals were written: ${grown} bytes`);
  drain();
  t.strictSame(answers(10, 19, 20, 21), ["overloaded", "overloaded", "overloaded", "overloaded"]);

  t.notOk(link.congested, "it has caught up");
  t.ok(history(30, "chat:a"));
  t.ok(join(31, "chat:b"));
  drain();
  t.strictSame(answers(30, 31), ["done", "done"]);
  t.equal(seen.find(({ frame }) => frame.id === 31)?.frame.joined?.room, "chat:b");
});

// ----------------------------------------------------------------------------------- too few files

for (const [reactors, files] of [[2, 300], [8, 400]] as const) {
  const title = `${reactors} reactors with ${files} files take no more sockets than there are files for, and can say so: they used to spin and answer nobody`;
  t.test(title, async (t) => {
    const node = await startNodeProcess(["--reactors", String(reactors)], { openFiles: files });
    t.teardown(() => node.stop());
    const { port, complaints: warnings } = node;
    const told = /lowered to (\d+)/.exec(warnings.join("\n"));
    const socketsMax = Number(told?.[1]);
    t.ok(socketsMax > 50 && socketsMax < files, `it warns of what it can: ${warnings.join("\n")}`);
    const sockets: RawSocket[] = [];
    t.teardown(() => sockets.forEach((socket) => socket.destroy()));
    for (let i = 0; i < socketsMax; i++) sockets.push(await openRawSocket({ port }));
    for (let i = 0; i < 20; i++) await t.rejects(openRawSocket({ port }), /answered 503/);
    t.equal((await fetch(`http://127.0.0.1:${port}/health`)).status, 200);
    sockets.pop()?.destroy();
    let session: Awaited<ReturnType<typeof open>> | undefined;
    for (const end = performance.now() + 15_000; !session && performance.now() < end; ) session = await open({ port }).catch(() => undefined);
    t.ok(session, "there is room again");
    session?.raw.destroy();
  });
}
