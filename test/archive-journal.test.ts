/** The archive of a data directory: written from the journal, whose files stay until they are archived, as long as there is space and time. */
import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { Archive } from "../src/archive/archive.ts";
import type { Feed, FeedPiece } from "../src/archive/feed.ts";
import { startArchiver } from "../src/archive/archiver.ts";
import { JournalBatches } from "../src/archive/batches.ts";
import { withArchive } from "../src/archive/history.ts";
import { createMemoryArchive } from "../src/archive/memory.ts";
import type { Answer, Broker, Page, Published, Query, Retention } from "../src/broker/broker.ts";
import { createLogBroker } from "../src/broker/disk/log.ts";
import { until } from "./support/until.ts";

const archived: Retention = { durable: true, historySize: 5, historyTtlMs: 3_600_000, historyBytesMax: 1e6, archive: true, archiveRecovery: true };
const plain: Retention = { durable: true, historySize: 5, historyTtlMs: 3_600_000, historyBytesMax: 1e6 };
const kept: Retention = { ...plain, historyTtlMs: 1e12 };
const retentionOf = (room: string) => (room.startsWith("plain:") ? plain : room.startsWith("kept:") ? kept : archived);
const lagMaxMs = 3_600_000;

function folder(t: Pick<Test, "teardown">): string {
  const made = mkdtempSync(join(tmpdir(), "flux-journal-"));
  t.teardown(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** An archive that is away when a test says so. */
function awayable(archive: Archive) {
  const state = { away: false, archive };
  const handler: ProxyHandler<Archive> = {
    get: (target, name) => (...given: unknown[]) => (state.away ? Promise.reject(new Error("away")) : (Reflect.get(target, name) as (...all: unknown[]) => unknown)(...given)),
  };
  return Object.assign(state, { archive: new Proxy(archive, handler) });
}

async function setUp(t: Pick<Test, "teardown">, { at = folder(t), archive = createMemoryArchive(), dataBytesMax = 64 * 2 ** 20, name = "journal-x" } = {}) {
  const clock = { now: Date.now() };
  const logged: string[] = [];
  const log = { info: (_: object, text: string) => void logged.push(text), warn: (_: object, text: string) => void logged.push(text), error: (_: object, text: string) => void logged.push(text) };
  const broker = await createLogBroker({
    roomsMax: 1000, historyTotalBytesMax: 1e6, keyWindowMs: 1, keysPerRoomMax: 100, folder: at, dataBytesMax, sync: false, uncommittedBytesMax: 1e6,
    retentionOf, archive: { name, lagMaxMs }, clock: () => clock.now, sweepMs: 2, log,
  }, () => undefined);
  const gate = awayable(archive);
  const feed = broker.feeds()[0]!;
  const archiver = startArchiver({ archive: gate.archive, feeds: [feed], holder: "one", leaseMs: 1_000, lagMaxMs, keepMs: 0, now: () => clock.now, retryMs: 5, log });
  const whole = withArchive<Broker>(broker, { archive: gate.archive, streamOf: broker.streamOf, failed: () => undefined });
  let stopped = false;
  const stop = async () => {
    if (stopped) return;
    stopped = true;
    await archiver.stop();
    await broker.stop();
  };
  t.teardown(stop);
  const publish = async (room: string, from: number, to: number, bytes = 0) => {
    const texts = Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`);
    const answers = await Promise.all(texts.map((text) => new Promise<Answer<Published>>((resolve) => broker.publish(room, retentionOf(room), { sender: "", payload: Buffer.from(text.padEnd(bytes)), format: 0, key: "", origin: "" }, resolve))));
    const failed = answers.filter((answer) => "error" in answer);
    if (failed.length > 0) throw new Error(`${failed.length} were refused: ${JSON.stringify(failed[0])}`);
  };
  const page = (room: string, query: Partial<Query> & Pick<Query, "direction">, of: Broker = whole) =>
    new Promise<Answer<Page>>((resolve) => of.history(room, retentionOf(room), { position: { epoch: "", seq: 0 }, limit: 1000, bytesMax: 1e8, ...query }, resolve));
  const epochOf = async (room: string) => {
    const answer = await page(room, { direction: "newest", limit: 1 }, broker);
    return "value" in answer ? answer.value.position.epoch : "";
  };
  const archivedOf = async (room: string) => (await archive.ends([broker.streamOf(room)])).get(broker.streamOf(room))?.seq ?? 0;
  const caughtUp = async (room: string, seq: number) => until(async () => (await archivedOf(room)) === seq, `${room} to be archived up to ${seq}`);
  /** A read that began before this may have what was deleted since: waits until one fails that began later. */
  const failsAnew = async () => {
    const before = archiver.usage().failures;
    await until(() => archiver.usage().failures >= before + 2, "the archiver to fail again");
  };
  const files = () => readdirSync(at).filter((file) => file.endsWith(".flux"));
  return { at, archive, gate, clock, logged, broker, feed, archiver, stop, publish, page, epochOf, caughtUp, archivedOf, failsAnew, files };
}

const seqs = (answer: Answer<Page>) => ("value" in answer ? answer.value.publications.map(({ seq }) => seq) : answer.error);
const oneTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1);

t.test("every room goes on in the archive through its own positions, forward and backward, and others are not archived", async (t) => {
  const { publish, page, epochOf, caughtUp, archivedOf, archiver } = await setUp(t);
  await Promise.all([publish("chat:a", 1, 40), publish("plain:b", 1, 10), publish("chat:c", 1, 7)]);
  await caughtUp("chat:a", 40);
  await caughtUp("chat:c", 7);
  const epoch = await epochOf("chat:a");
  t.same(seqs(await page("chat:a", { direction: "since", position: { epoch, seq: 0 } })), oneTo(40));
  t.same(seqs(await page("chat:a", { direction: "since", position: { epoch, seq: 3 }, recovers: true })), oneTo(40).slice(3), "a member recovers all of it");
  t.same(seqs(await page("chat:a", { direction: "newest", limit: 12 })), oneTo(40).slice(28));
  t.match(await page("chat:a", { direction: "before", position: { epoch, seq: 37 }, limit: 10 }), { value: { more: true, gap: undefined, publications: { length: 10 } } });
  t.same(seqs(await page("plain:b", { direction: "newest" })), [6, 7, 8, 9, 10]);
  t.equal(await archivedOf("plain:b"), 0);
  t.match(archiver.usage(), { streams: 1, rows: 47, gaps: 0, up: true });
});

t.test("a node that is started again goes on where the archive is, with nothing twice", async (t) => {
  const first = await setUp(t);
  await first.publish("chat:a", 1, 30);
  await first.caughtUp("chat:a", 30);
  first.gate.away = true;
  await first.publish("chat:a", 31, 50);
  await until(() => first.archiver.usage().failures > 0, "it to fail");
  first.gate.away = false;
  await first.archiver.stop();
  await first.stop();
  const again = await setUp(t, { at: first.at, archive: first.archive });
  await again.publish("chat:a", 51, 60);
  await again.caughtUp("chat:a", 60);
  t.same(seqs(await again.page("chat:a", { direction: "since", position: { epoch: await again.epochOf("chat:a"), seq: 0 } })), oneTo(60));
  t.equal(again.archiver.usage().gaps, 0);
});

t.test("what was there before the archive is archived as far as it is left, and is no gap", async (t) => {
  const { at, archive, ...before } = await setUp(t);
  before.gate.away = true;
  await before.publish("chat:a", 1, 20);
  await before.stop();
  const { publish, page, epochOf, caughtUp, archiver } = await setUp(t, { at, archive });
  await publish("chat:a", 21, 25);
  await caughtUp("chat:a", 25);
  t.same(seqs(await page("chat:a", { direction: "since", position: { epoch: await epochOf("chat:a"), seq: 0 } })), oneTo(25));
  t.equal(archiver.usage().gaps, 0);
});

t.test("while the archive is away files stay, within archiveLagMs; then the archive has a gap that history names", async (t) => {
  const { gate, clock, publish, page, epochOf, caughtUp, files, archiver, logged, failsAnew } = await setUp(t, { dataBytesMax: 4 * 2 ** 20 });
  await publish("chat:a", 1, 10);
  await publish("chat:quiet", 1, 3);
  await caughtUp("chat:a", 10);
  await caughtUp("chat:quiet", 3);
  gate.away = true;
  await publish("chat:quiet", 4, 6);
  // Each file has 64 KiB. A head record is all that the next ones have of the quiet room.
  for (let i = 0; i < 4; i++) await publish("chat:a", 11 + 10 * i, 20 + 10 * i, 16_000);
  const waiting = files().length;
  t.ok(waiting > 3);
  await until(() => archiver.usage().failures > 3, "it to lag, and the journal to be swept");
  t.equal(files().length, waiting, "nothing in them is needed by a room, and they stay");
  clock.now += lagMaxMs / 2;
  await until(() => logged.some((text) => /lags by more than half of archiveLagMs/.test(text)), "the alarm");
  clock.now += lagMaxMs;
  await publish("chat:a", 51, 51);
  await until(() => files().length < waiting, "them to be deleted");
  await failsAnew();
  gate.away = false;
  await caughtUp("chat:a", 51);
  await until(() => logged.some((text) => /has caught up/.test(text)), "the end of the alarm");
  const answer = await page("chat:a", { direction: "since", position: { epoch: await epochOf("chat:a"), seq: 0 } });
  t.match(answer, { value: { gap: true } });
  t.match(seqs(answer), [...oneTo(10)], "what was archived is there");
  t.same(await page("chat:a", { direction: "since", position: { epoch: await epochOf("chat:a"), seq: 0 }, recovers: true }), { error: "unrecoverable_position" }, "a member does not recover over it");
  t.ok(logged.some((text) => /dropped publications before they were archived.*dataBytesMax/.test(text)));
});

t.test("the archive goes on behind a gap, also where rooms keep files that are older than the one it was in", async (t) => {
  const { gate, clock, publish, caughtUp, files, archiver, failsAnew } = await setUp(t, { dataBytesMax: 4 * 2 ** 20 });
  // Each commit is larger than a file, and takes one.
  await publish("kept:b", 1, 5, 16_000);
  await publish("chat:a", 1, 10);
  await caughtUp("chat:a", 10);
  gate.away = true;
  for (let i = 0; i < 3; i++) await publish("chat:a", 11 + 10 * i, 20 + 10 * i, 16_000);
  await until(() => archiver.usage().failures > 0, "it to lag");
  clock.now += 2 * lagMaxMs;
  await publish("chat:a", 41, 41);
  await until(() => files().length === 2, "all files to be deleted but two: among them that with the archive's place");
  t.ok(files().includes("0000000001.flux"), "an older one stays");
  await failsAnew();
  gate.away = false;
  await caughtUp("chat:a", 41);
  t.equal(archiver.usage().missing, 30);
});

t.test("a read ends when it is paused, and what it gives keeps nothing else in memory", async (t) => {
  const { gate, publish, broker } = await setUp(t);
  gate.away = true;
  await Promise.all([publish("plain:b", 1, 5, 100_000), publish("chat:a", 1, 1)]);
  const [feed, other] = [broker.feeds()[0]!, broker.feeds()[0]!];
  const { first } = await feed.state();
  const { publications: [one] } = await feed.read(first - 1, 0, 1);
  t.ok(one!.content!.payload.buffer.byteLength < 200_000);
  const reading = other.read(first - 1, 0, 1);
  other.pause();
  t.same((await reading).publications, []);
});

t.test("a full directory takes from what waits, and never refuses a publisher for it", async (t) => {
  const { gate, clock, publish, caughtUp, broker, archiver, logged, feed, failsAnew } = await setUp(t, { dataBytesMax: 2 ** 20 });
  await publish("chat:a", 1, 3);
  await caughtUp("chat:a", 3);
  gate.away = true;
  for (let i = 0; i < 40; i++) {
    await publish("chat:a", 4 + 20 * i, 23 + 20 * i, 2_000);
    clock.now += 10;
  }
  t.ok(broker.disk().bytes <= 2 ** 20);
  t.ok(feed.filled!() > 0.5);
  await until(() => logged.some((text) => /fills more than half of its space/.test(text)), "the alarm");
  t.ok(logged.some((text) => /the archive gets a gap/.test(text)));
  await failsAnew();
  gate.away = false;
  await caughtUp("chat:a", 803);
  t.ok(archiver.usage().missing > 0);
});

/** Nothing comes. */
const quietRead = new Promise<FeedPiece>(() => undefined);

t.test("the alarm comes at half of archiveLagMs, also where PostgreSQL was never there, and ends when it has caught up", async (t) => {
  const feed: Feed = { stream: "S", state: async () => ({ epoch: "e", first: 1, last: 1 }), timeAt: async () => null, read: () => quietRead, pause: () => undefined };
  const gate = awayable(createMemoryArchive());
  gate.away = true;
  let now = 1_000_000;
  const logged: string[] = [];
  const say = (_: object, text: string) => void logged.push(text);
  const archiver = startArchiver({ archive: gate.archive, feeds: [feed], holder: "one", leaseMs: 50, lagMaxMs: 100_000, keepMs: 0, now: () => now, retryMs: 1, log: { info: say, warn: say, error: say } });
  t.teardown(() => archiver.stop());
  const alarms = () => logged.filter((text) => /lags by more than half/.test(text)).length;
  await until(() => !archiver.usage().up, "it to notice");
  now += 49_999;
  t.equal(archiver.usage().lagMs, 49_999);
  const { length } = logged;
  now += 1;
  await until(() => alarms() === 1, "the alarm");
  t.equal(logged.length, length + 1, "once, and not before");
  gate.away = false;
  await until(() => logged.some((text) => /it has caught up/.test(text)), "the end of the alarm");
  t.match(archiver.usage(), { lagMs: 0, up: true, streams: 1 });
});

t.test("two gateways with one prefix and one schema: the one whose streams are not archived says so", async (t) => {
  // A clock that stands: the lease of the first does not expire.
  const archive = createMemoryArchive(() => 0);
  const logs: string[][] = [[], []];
  for (const [i, epoch] of ["e1", "e2"].entries()) {
    const feed: Feed = { stream: "FLUX_chat_0", state: async () => ({ epoch, first: 1, last: 1 }), timeAt: async () => null, read: () => quietRead, pause: () => undefined };
    const say = (_: object, text: string) => void logs[i]!.push(text);
    const archiver = startArchiver({ archive, feeds: [feed], holder: epoch, leaseMs: 50, lagMaxMs, keepMs: 0, retryMs: 1, log: { info: say, warn: say, error: say } });
    t.teardown(() => archiver.stop());
    if (i === 0) await until(async () => (await archive.epochs(["FLUX_chat_0"])).get("FLUX_chat_0") === "e1", "the first to archive");
  }
  await until(() => logs[1]!.some((text) => /another gateway archives its streams here/.test(text)), "the second to say so");
  t.same(logs[0], [], "the first goes on");
});

t.test("rows that were erased are no gap: only a part of the journal that was deleted makes some", async (t) => {
  const own = { stream: "J/r", epoch: "e", isHead: false };
  const publication = { seq: 9_000, at: 1, content: { tenant: "", room: "r", sender: "", time: 1, format: 0, key: "", payload: Buffer.alloc(0) }, own: { ...own, seq: 8 } };
  const cursor = { epoch: "J", seq: 8_000, at: 1, completeFrom: 100 };
  for (const [journalEnd, isGap, wanted] of [[99, false, []], [99, true, [{ from: 4, to: 7 }]], [500, false, [{ from: 4, to: 7 }]]] as const) {
    const batches = new JournalBatches({ ends: async ([name]) => new Map([[name!, name === "J" ? { epoch: "J", seq: journalEnd } : { epoch: "e", seq: 3 }]]) }, "J");
    const { gaps, rows } = await batches.of([publication], cursor, false, isGap);
    t.match(gaps, wanted);
    t.equal(gaps.length, wanted.length);
    t.equal(rows.length, 1);
  }
});

t.test("an older copy of the directory does not go on in its archive: its positions mean something else", async (t) => {
  const first = await setUp(t, { dataBytesMax: 4 * 2 ** 20 });
  await first.publish("chat:a", 1, 10);
  await first.caughtUp("chat:a", 10);
  const copy = folder(t);
  cpSync(first.at, copy, { recursive: true });
  await first.publish("chat:a", 11, 20, 16_000);
  await first.caughtUp("chat:a", 20);
  await first.stop();
  const old = await setUp(t, { at: copy, archive: first.archive });
  await old.publish("chat:a", 11, 12);
  await until(() => old.archiver.usage().failures > 0, "it to be refused");
  t.equal(old.archiver.usage().rows, 0);
  t.match(old.logged.join("\n"), /cannot be archived now/);
  t.ok(old.feed.filled!() > 0, "its files wait for another schema");
});
