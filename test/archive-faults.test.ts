/** The archive on real servers that are killed, wiped, full or replaced in the middle: what it has afterwards is what was acknowledged. */
import t, { type Test } from "tap";
import type { Archiver } from "../src/archive/archiver.ts";
import { startArchiver } from "../src/archive/archiver.ts";
import { withArchive } from "../src/archive/history.ts";
import { createPostgresArchive } from "../src/archive/postgres/postgres.ts";
import type { Broker, Query, Retention, Stored } from "../src/broker/broker.ts";
import { connectNats } from "../src/broker/nats/connection/connection.ts";
import { createHistory } from "./support/history.ts";
import { startNats } from "./support/nats.ts";
import { brokerOptions, durable, startBroker, value } from "./support/natsbroker.ts";
import { startPostgres } from "./support/postgres.ts";
import { until } from "./support/until.ts";

const nats = await startNats(t);
const postgres = await startPostgres(t, { diskBytes: 192 * 2 ** 20 });
const archived: Retention = { ...durable, historySize: 5, archive: true, archiveRecovery: true };
const room = "chat:a";

let setUps = 0;

/** A gateway with one stream, its archive, and the history checker as a member that reads the archive. */
async function setUp(t: Pick<Test, "teardown">, { url, prefix, retention = archived }: { url?: string; prefix?: string; retention?: Retention } = {}) {
  const at = url ?? (await postgres.freshUrl());
  const options = { ...brokerOptions(nats), partitions: 1, archiveLagMs: 3_600_000, ...(prefix !== undefined && { prefix }), namespaces: new Map([["test", retention]]) };
  const node = await startBroker(t, options);
  const logged: string[] = [];
  const log = { info() {}, warn: (_: object, text: string) => void logged.push(text), error: (_: object, text: string) => void logged.push(text) };
  const archiverAt = (holder: string): Archiver => {
    const archive = createPostgresArchive({ url: at, gateway: "nats test", name: holder });
    const archiver = startArchiver({ archive, feeds: node.broker.feeds(), holder, leaseMs: 2_000, lagMaxMs: 3_600_000, keepMs: 0, retryMs: 20, log });
    t.teardown(async () => (await archiver.stop(), await archive.stop()));
    return archiver;
  };
  const archive = createPostgresArchive({ url: at, gateway: "nats test", name: "reader" });
  t.teardown(() => archive.stop());
  const whole = withArchive<Broker>(node.broker, { archive, streamOf: (name) => node.broker.streamOf(name), failed: () => undefined });
  const page = (query: Partial<Query> & Pick<Query, "direction">) =>
    new Promise<Parameters<Parameters<Broker["history"]>[3]>[0]>((resolve) => whole.history(room, retention, { position: { epoch: "", seq: 0 }, limit: 100, bytesMax: 1e6, ...query }, resolve));
  const rows = async () => (await postgres.sql("SELECT p.epoch, seq, convert_from(data, 'UTF8') AS text FROM flux_publications p JOIN flux_epochs e USING (stream, epoch) ORDER BY e.number, seq", [], at)) as unknown as { epoch: string; seq: string; text: string }[];
  const gaps = async () => postgres.sql("SELECT epoch, from_seq::int AS from, to_seq::int AS to, reason FROM flux_gaps ORDER BY noticed", [], at);
  const history = createHistory();
  const acknowledged = new Set<string>();
  const own = ++setUps;
  let number = 0;
  const publish = async (count: number) => {
    const ids = Array.from({ length: count }, () => `p${++number}`);
    await Promise.all(ids.map(async (id) => {
      history.attempted(room, id);
      const answer = await node.publish(room, id, { retention, key: `${own} ${id}` });
      if ("error" in answer) history.refused(room, id, answer.error);
      else {
        history.acknowledged(room, id, answer.value);
        acknowledged.add(id);
      }
    }));
  };
  const stream = node.broker.streamOf(room);
  const begun = (archiver: Archiver) => until(async () => archiver.usage().streams === 1 && (await postgres.sql("SELECT 1 FROM flux_streams WHERE epoch <> ''", [], at)).length === 1, "the archive to begin");
  /** All that was acknowledged is archived. */
  const archivedAll = () => until(async () => {
    const found = new Set((await rows()).map(({ text }) => text));
    return [...acknowledged].every((id) => found.has(id));
  }, "all that was acknowledged to be archived");
  const archivedSome = (wanted: number) => until(async () => (await rows()).length >= wanted, `${wanted} rows`);
  /** The archive as a member that reads everything through the history: the checker judges it. */
  const judged = async (from: { epoch: string; seq: number }) => {
    history.joined(room, "archive", from);
    let last = from;
    for (let more = true; more; ) {
      const read = value(await page({ direction: "since", position: last, limit: 37 }));
      for (const one of read.publications) {
        if (one.epoch !== last.epoch || one.prev !== last.seq) history.gap(room, "archive", last, { epoch: one.epoch, seq: one.prev }, "sync");
        history.delivered(room, "archive", Buffer.from(one.payload).toString(), one, one.prev);
        last = { epoch: one.epoch, seq: one.seq };
      }
      more = read.more && read.publications.length > 0;
    }
    return history.judge();
  };
  return { node, url: at, archiverAt, archive, page, rows, gaps, publish, begun, archivedAll, archivedSome, judged, stream, logged, options };
}

/** Calls JetStream's API as an operator would. */
async function askNats(call: string, body: object): Promise<void> {
  const connection = await connectNats({ servers: [nats.url], user: "", password: "", token: "", creds: "", tlsCa: "", tlsCert: "", tlsKey: "" }, "operator");
  await connection.request(`$JS.API.${call}`, JSON.stringify(body), { timeout: 5_000 });
  await connection.close();
}

const texts = (publications: readonly Stored[]) => publications.map(({ payload }) => Buffer.from(payload).toString());
const positionOf = ({ epoch, seq }: Stored) => ({ epoch, seq });

t.test("history goes on in the archive, forward and backward, through the same positions", async (t) => {
  const { publish, begun, archiverAt, archivedAll, page, stream, judged } = await setUp(t);
  const archiver = archiverAt("one");
  await begun(archiver);
  await publish(60);
  await archivedAll();
  const all = value(await page({ direction: "newest" })).publications;
  const { epoch } = all[0]!;
  await askNats(`STREAM.PURGE.${stream}`, { seq: 41 });
  const wanted = Array.from({ length: 60 }, (_, i) => `p${i + 1}`);

  const forward: Stored[] = [];
  for (let more = true, position = { epoch, seq: 0 }; more; position = positionOf(forward.at(-1)!)) {
    const read = value(await page({ direction: "since", position, limit: 7 }));
    t.match(read, { position: { epoch, seq: 60 }, gap: undefined });
    forward.push(...read.publications);
    more = read.more;
  }
  t.same(texts(forward), wanted);
  t.same(forward.map(({ prev }) => prev), wanted.map((_, i) => i), "each follows the one before, over the seam too");

  const backward: Stored[] = [];
  for (let more = true, query: Parameters<typeof page>[0] = { direction: "newest", limit: 7 }; more; query = { direction: "before", position: positionOf(backward[0]!), limit: 7 }) {
    const read = value(await page(query));
    backward.unshift(...read.publications);
    more = read.more;
  }
  t.same(texts(backward), wanted);
  t.same(value(await page({ direction: "since", position: { epoch, seq: 10 }, recovers: true, limit: 256 })).publications.length, 50, "a member recovers all of it");
  t.equal((await judged({ epoch, seq: 0 })).faults, 0);
});

t.test("PostgreSQL and NATS are killed while it archives: everything acknowledged is there once, in order", async (t) => {
  const { publish, begun, archiverAt, judged, archivedAll, archivedSome, rows, page } = await setUp(t);
  await begun(archiverAt("one"));
  const { epoch } = value(await page({ direction: "newest" })).position;
  const first = publish(300);
  await archivedSome(50);
  await postgres.kill();
  await first;
  await publish(200);
  await postgres.start();
  await publish(100);
  await nats.kill();
  const late = publish(100);
  await nats.start();
  await late;
  await archivedAll();
  const verdict = await judged({ epoch, seq: 0 });
  t.equal(verdict.faults, 0, verdict.report);
  const found = await rows();
  t.equal(new Set(found.map(({ seq }) => seq)).size, found.length);
});

t.test("two archivers of one stream, of which one is stopped and one dies with its lease", async (t) => {
  const { publish, begun, archiverAt, judged, archivedAll, archivedSome, page, url } = await setUp(t);
  const [one, other] = [archiverAt("one"), archiverAt("two")];
  await until(() => one.usage().streams + other.usage().streams === 1, "one of them to archive");
  await begun(one.usage().streams === 1 ? one : other);
  const { epoch } = value(await page({ direction: "newest" })).position;
  const publishing = publish(500);
  await archivedSome(50);
  // Somebody takes the lease from under it, as where its node was paused for long.
  await postgres.sql("UPDATE flux_streams SET holder = 'gone', leased_until = now() + interval '1 second'", [], url);
  await publishing;
  await until(() => one.usage().streams + other.usage().streams === 1, "one to take over");
  await (one.usage().streams === 1 ? one : other).stop();
  await publish(100);
  await archivedAll();
  const verdict = await judged({ epoch, seq: 0 });
  t.equal(verdict.faults, 0, verdict.report);
});

t.test("a stream that NATS lost begins another epoch in the archive, and the gap is noted", async (t) => {
  const { node, publish, begun, archiverAt, archivedAll, gaps, rows } = await setUp(t);
  await begun(archiverAt("one"));
  await publish(20);
  await archivedAll();
  await nats.stop();
  nats.wipe();
  await nats.start();
  await until(async () => "value" in (await node.publish(room, "after", { retention: archived })), "NATS to take publications");
  await until(async () => (await rows()).some(({ text }) => text === "after"), "it to be archived");
  const found = await rows();
  t.equal(new Set(found.map(({ epoch }) => epoch)).size, 2);
  t.same(found.slice(0, 20).map(({ text }) => text), Array.from({ length: 20 }, (_, i) => `p${i + 1}`), "what was archived stays");
  t.match(await gaps(), [{ epoch: found[0]!.epoch, from: 21, to: null, reason: "lost" }]);
});

t.test("a stream that comes back with an older store: nothing is archived twice, nothing is left out", async (t) => {
  const { node, publish, begun, archiverAt, archivedAll, rows, gaps } = await setUp(t);
  await begun(archiverAt("one"));
  await publish(20);
  await archivedAll();
  await nats.stop();
  const copy = nats.copyStore();
  await nats.start();
  await publish(10);
  await archivedAll();
  await nats.stop();
  copy.putBack();
  await nats.start();
  await until(async () => "value" in (await node.publish(room, "later", { retention: archived })), "NATS to take publications");
  await until(async () => (await rows()).some(({ text }) => text === "later"), "it to be archived");
  const found = await rows();
  t.same(found.slice(0, 30).map(({ text }) => text), Array.from({ length: 30 }, (_, i) => `p${i + 1}`), "also what NATS has lost");
  t.match(found[30], { seq: "21", text: "later" });
  t.not(found[30]!.epoch, found[0]!.epoch);
  t.match(await gaps(), [{ epoch: found[0]!.epoch, from: 31, to: null, reason: "lost" }]);
});

t.test("what a stream drops while PostgreSQL is away is a gap, and history says so", async (t) => {
  const { publish, begun, archiverAt, archivedAll, archivedSome, page, stream, gaps, logged } = await setUp(t);
  const archiver = archiverAt("one");
  await begun(archiver);
  await publish(10);
  await archivedAll();
  const { epoch } = value(await page({ direction: "newest" })).position;
  await postgres.stop();
  await publish(10);
  await until(() => archiver.usage().lagMs > 0 && archiver.usage().pending > 0, "it to lag");
  await askNats(`STREAM.PURGE.${stream}`, { seq: 16 });
  t.same(await page({ direction: "since", position: { epoch, seq: 3 } }), { error: "unavailable" }, "nobody takes the rest for all");
  t.match(value(await page({ direction: "newest" })), { more: true, publications: { length: 5 } });
  await postgres.start();
  await archivedSome(15);
  t.match(await gaps(), [{ from: 11, to: 15, reason: "dropped" }]);
  t.ok(logged.some((text) => /dropped publications before they were archived/.test(text)));
  const read = value(await page({ direction: "since", position: { epoch, seq: 3 } }));
  t.match(read, { gap: true, more: false });
  t.same(read.publications.map(({ seq, prev }) => [seq, prev]).slice(5, 9), [[9, 8], [10, 9], [16, 15], [17, 16]], "the first one after it follows what nobody has");
  t.same(await page({ direction: "since", position: { epoch, seq: 3 }, recovers: true }), { error: "unrecoverable_position" }, "a member does not recover over it");
});

t.test("the archive is turned on and off under running nodes", async (t) => {
  const before: Retention = { ...durable, historySize: 5 };
  const old = await setUp(t, { retention: before });
  const { options: { prefix } } = old;
  await old.publish(20);
  const first = value(await old.page({ direction: "newest" })).publications;
  const fresh = await setUp(t, { prefix, url: old.url });
  await fresh.begun(fresh.archiverAt("one"));
  await Promise.all([old.publish(20), fresh.publish(20)]);
  await fresh.archivedAll();
  t.equal(value(await old.page({ direction: "newest" })).publications.length, 46, "the node of before goes on, and the stream drops nothing any more");
  t.equal(value(await fresh.page({ direction: "since", position: positionOf(first.at(-1)!), recovers: true })).publications.length, 40);
  const since = { direction: "since", position: positionOf(first.at(-1)!), recovers: true } as const;
  t.same(await fresh.page({ ...since, position: { ...since.position, seq: 3 } }), { error: "unrecoverable_position" }, "from before the archive it was not complete");
  const off = await setUp(t, { prefix, url: old.url, retention: before });
  t.same(await off.page(since), { error: "unrecoverable_position" }, "without the archive members recover within historySize");
  t.equal(value(await off.page({ direction: "newest", recovers: true })).publications.length, 5);
});

t.test("a full disk of PostgreSQL delays the archive, and nothing is lost", { skip: postgres.disk === null && "no disk of its own can be mounted here" }, async (t) => {
  const { publish, begun, archiverAt, judged, archivedAll, page } = await setUp(t);
  const archiver = archiverAt("one");
  await begun(archiver);
  const { epoch } = value(await page({ direction: "newest" })).position;
  await publish(50);
  await archivedAll();
  postgres.disk!.fill();
  await postgres.sql("CHECKPOINT").catch(() => undefined);
  for (let i = 0; i < 200 && archiver.usage().failures === 0; i++) await publish(20);
  postgres.disk!.empty();
  await postgres.start();
  await until(() => archiver.usage().pending === 0 && archiver.usage().lagMs === 0, "it to catch up");
  const verdict = await judged({ epoch, seq: 0 });
  t.equal(verdict.faults, 0, verdict.report);
  t.ok(archiver.usage().failures > 0, "it was full");
});
