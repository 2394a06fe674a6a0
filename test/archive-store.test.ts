/** The archive in memory and in PostgreSQL: the contract, what a writer makes of a stream, and databases that are not usable. */
import t from "tap";
import { RowRefused, type Archive, type ArchivedRow } from "../src/archive/archive.ts";
import type { Feed, FeedPublication } from "../src/archive/feed.ts";
import { withArchive } from "../src/archive/history.ts";
import { createMemoryArchive } from "../src/archive/memory.ts";
import { endPool, inTransaction, openPool, type Sql } from "../src/postgres/connection.ts";
import { PostgresProblem } from "../src/postgres/errors.ts";
import type { Answer, Broker, Page, Query, Retention } from "../src/broker/broker.ts";
import { createPostgresArchive } from "../src/archive/postgres/postgres.ts";
import { Writer } from "../src/archive/writer.ts";
import { resolveConfig, showValue, type GatewayOptions } from "../src/config/config.ts";
import { createGateway } from "../src/node/gateway.ts";
import { archiveContract, archivedRow } from "../src/contracts/archive.ts";
import { resumeSecret } from "./support/node.ts";
import { startPostgres } from "./support/postgres.ts";
import { until } from "./support/until.ts";

const postgres = await startPostgres(t);
const gateway = "nats test";
const quiet = { info() {}, warn() {}, error() {} };

archiveContract(t, "memory", () => {
  const archive = createMemoryArchive();
  return { open: () => ({ ...archive, stop: async () => undefined }) };
});
archiveContract(t, "PostgreSQL", async () => {
  const url = await postgres.freshUrl();
  return { open: () => createPostgresArchive({ url, gateway, name: "test" }) };
});

// ------------------------------------------------------------------------------------- what a writer makes of a stream

/** A stream in the hands of a test. */
class TestFeed implements Feed {
  readonly stream = "S";
  epoch = "e1";
  first = 1;
  messages: FeedPublication[] = [];
  away = false;

  publish(...texts: string[]): void {
    for (const text of texts) {
      const seq = this.last + 1;
      const content = text === "?" ? null : { tenant: "", room: "r", sender: "", time: seq, format: 0, key: "", payload: Buffer.from(text) };
      this.messages.push({ seq, at: 1_000_000 * ++this.#clock, content });
    }
  }
  #clock = 1;
  get last(): number {
    return this.messages.at(-1)?.seq ?? this.first - 1;
  }
  /** Loses its end, as a server that was restored, and gets another epoch. */
  setBack(last: number, epoch: string): void {
    this.messages = this.messages.filter(({ seq }) => seq <= last);
    this.epoch = epoch;
  }
  drop(before: number): void {
    this.messages = this.messages.filter(({ seq }) => seq >= before);
    this.first = before;
  }
  async state() {
    if (this.away) throw new Error("away");
    return { epoch: this.epoch, first: this.messages[0]?.seq ?? this.first, last: this.last };
  }
  async timeAt(wanted: number) {
    return this.messages.find(({ seq }) => seq === wanted)?.at ?? null;
  }
  async read(after: number, _: number, limit: number) {
    if (this.messages.every(({ seq }) => seq <= after)) await new Promise((resolve) => setTimeout(resolve, 2));
    const later = this.messages.filter(({ seq }) => seq > after);
    return { publications: later.slice(0, limit), pending: Math.max(0, later.length - limit) };
  }
  pause(): void {}
}

function setUp(t: Pick<typeof import("tap").t, "teardown">, { archive = createMemoryArchive(), now = Date.now }: { archive?: Archive; now?: () => number } = {}) {
  const feed = new TestFeed();
  const counts = { rows: 0, gaps: 0, missing: 0, failures: 0 };
  const retake = async () => (await archive.take([feed.stream], "w", 60_000, 1))[0]?.cursor;
  const writer = new Writer({ feed, archive, counts, retake, now, retryMs: 1, log: quiet });
  t.teardown(() => writer.stop());
  const run = async () => writer.run((await retake()) ?? null);
  /** Runs, and returns when the archive has begun with what is in the stream. */
  const begin = async () => {
    void run();
    await until(async () => (await retake()) != null, "the archive to begin");
  };
  const text = async (epoch: string) => {
    const page = await archive.history({ stream: feed.stream, tenant: "", room: "r", direction: "since", position: { epoch, seq: 0 }, limit: 1000, bytesMax: 1e6 });
    return page?.publications.map((one) => `${one.epoch}:${one.seq}=${Buffer.from(one.payload).toString()}`).join(" ");
  };
  const caughtUp = (rows: number) => until(() => counts.rows === rows, "the rows");
  return { feed, archive, counts, writer, run, begin, text, caughtUp };
}

t.test("what a stream deletes before it is archived, and what is no publication, is a gap", async (t) => {
  const { feed, counts, run, text, caughtUp, archive } = setUp(t);
  feed.publish("1", "2", "3");
  feed.drop(2);
  void run();
  await caughtUp(2);
  t.equal(counts.gaps, 0, "what it deleted before the archive began is none");
  feed.away = true;
  feed.publish("4", "5", "6", "?", "8");
  feed.drop(6);
  feed.away = false;
  await caughtUp(4);
  t.match(counts, { gaps: 2, missing: 3 });
  t.equal(await text("e1"), undefined, "from before the archive began nothing is complete");
  const page = await archive.history({ stream: "S", tenant: "", room: "r", direction: "newest", position: { epoch: "", seq: 0 }, limit: 9, bytesMax: 1e6 });
  t.same(page!.publications.map(({ seq, prev }) => [seq, prev]), [[2, 0], [3, 2], [6, 5], [8, 7]]);
});

t.test("a stream that is created again is archived from its first message", async (t) => {
  const { feed, begin, text, caughtUp, counts } = setUp(t);
  await begin();
  feed.publish("1", "2", "3");
  await caughtUp(3);
  feed.setBack(0, "e2");
  feed.publish("a", "b");
  await caughtUp(5);
  t.equal(await text("e2"), "e2:1=a e2:2=b");
  t.equal(counts.gaps, 1, "what the lost one had after the archived may be missing");
});

for (const [archived, left] of [[8, 5], [5, 8], [8, 8], [8, 1]] as const) {
  t.test(`a stream with ${archived} archived messages that is set back to ${left}: nothing is archived twice, and nothing is left out`, async (t) => {
    const { feed, begin, text, caughtUp } = setUp(t);
    await begin();
    feed.publish(..."12345678".slice(0, archived));
    await caughtUp(archived);
    feed.away = true;
    feed.publish(..."12345678".slice(archived));
    feed.setBack(left, "e2");
    feed.publish("x", "y");
    feed.away = false;
    await caughtUp(archived + Math.max(0, left - archived) + 2);
    const before = Array.from({ length: archived }, (_, i) => `e1:${i + 1}=${i + 1}`);
    const rest = Array.from({ length: Math.max(0, left - archived) }, (_, i) => `e2:${archived + i + 1}=${archived + i + 1}`);
    t.equal(await text("e1"), [...before, ...rest, `e2:${left + 1}=x`, `e2:${left + 2}=y`].join(" "));
  });
}

t.test("two writers of one stream store everything once", async (t) => {
  const one = setUp(t);
  const other = setUp(t, { archive: one.archive });
  other.feed.messages = one.feed.messages;
  await one.begin();
  one.feed.publish(...Array.from({ length: 500 }, (_, i) => String(i)));
  // Each takes itself for the holder: the lease is not what they rely on.
  const runs = Array.from({ length: 5 }, () => Promise.all([one.run(), other.run()]));
  await until(() => one.counts.rows + other.counts.rows === 500, "all rows");
  t.equal(await one.text("e1"), Array.from({ length: 500 }, (_, i) => `e1:${i + 1}=${i}`).join(" "));
  one.writer.stop();
  other.writer.stop();
  await Promise.all(runs);
});

t.test("a row that the archive refuses is a gap, and the others are stored", async (t) => {
  const memory = createMemoryArchive();
  const archive: Archive = {
    ...memory,
    append: async (...call: Parameters<Archive["append"]>) => {
      if (call[3].some(({ payload }: ArchivedRow) => Buffer.from(payload).toString() === "bad")) throw new RowRefused("bad");
      return memory.append(...call);
    },
  };
  const { feed, begin, text, caughtUp, counts } = setUp(t, { archive });
  await begin();
  feed.publish("1", "2", "bad", "4", "5");
  await caughtUp(4);
  t.equal(await text("e1"), "e1:1=1 e1:2=2 e1:4=4 e1:5=5");
  t.match(counts, { gaps: 1, missing: 1, failures: 0 });
});

t.test("while the archive is unavailable the lag is the age of the oldest publication that waits", async (t) => {
  const memory = createMemoryArchive();
  let away = false;
  const archive: Archive = { ...memory, append: async (...call) => (away ? Promise.reject(new Error("away")) : memory.append(...call)) };
  let now = 100_000;
  const { feed, run, writer, counts, caughtUp } = setUp(t, { archive, now: () => now });
  void run();
  feed.publish("1");
  await caughtUp(1);
  await until(() => writer.lagMs === 0, "no lag");
  away = true;
  feed.publish("2", "3");
  await until(() => counts.failures > 0 && writer.lagMs > 0, "a failure");
  now = 500_000;
  t.equal(writer.lagMs, 500_000 - feed.messages[1]!.at / 1000);
  away = false;
  await caughtUp(3);
  await until(() => writer.lagMs === 0 && writer.pending === 0, "it to catch up");
});

// ------------------------------------------------------------------------------------- databases that are not usable

t.test("a database that cannot be used is refused with the reason and the way to mend it", async (t) => {
  const prepare = async (url: string, of = gateway) => {
    const archive = createPostgresArchive({ url, gateway: of, name: "test" });
    t.teardown(() => archive.stop());
    return archive.prepare().then(() => null, (error: unknown) => error as Error);
  };
  const refused = async (url: string, says: RegExp, of?: string) => {
    const problem = await prepare(url, of);
    t.match(problem?.message, says);
    t.ok(problem instanceof PostgresProblem, "for good");
  };
  const url = await postgres.freshUrl();
  t.equal(await prepare(url), null);
  t.equal(await prepare(url), null, "again");
  await refused(url, /belong to another gateway \(nats test, and this one is nats other\); use another database/, "nats other");
  await postgres.sql("UPDATE flux_archive SET version = 99", [], url);
  await refused(url, /version 99.*update this node/);
  await postgres.sql("UPDATE flux_archive SET version = 1", [], url);
  await refused(`${url}%20-cdefault_transaction_read_only%3Don`, /read-only; use the address of the primary/);
  await refused(postgres.url("nowhere"), /no schema of the user's search_path exists/);
  await refused(postgres.url().replace("/postgres", "/nothing"), /create the database/);
  await postgres.sql("CREATE ROLE guest LOGIN");
  await refused(postgres.url("public").replace("flux@", "guest@"), /permission denied.*grant the user what it lacks/);
  await postgres.sql(`GRANT USAGE ON SCHEMA ${new URL(url).searchParams.get("options")!.split("=")[1]} TO guest`);
  await refused(url.replace("flux@", "guest@"), /permission denied|does not own/);
  await postgres.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
  await refused(postgres.url().replace("/postgres", "/latin"), /encoding LATIN1/);
  const away = await prepare(postgres.url().replace(String(postgres.port), "1"));
  t.notOk(away instanceof PostgresProblem, "a server that cannot be reached may come back");
});

t.test("an archive without NATS and data directory, and an archived namespace without an archive, are refused", async (t) => {
  const archive = "postgres://flux:secret@10.0.0.5/flux";
  const refused = (options: GatewayOptions) => {
    try {
      resolveConfig({ options });
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  t.match(refused({ namespaces: { chat: { archive: true } } }), /namespaces\.chat\.archive: there is no archive; set archive/);
  t.match(refused({ archive, namespaces: { chat: { archive: true } } }), /written from the streams of NATS or from the data directory; set nats or dataDir/);
  t.equal(refused({ archive, dataDir: "/data", namespaces: { chat: { archive: true } } }), "", "a data directory has a journal");
  t.match(refused({ archive, nats: ["nats://n"], resumeSecret, namespaces: { live: { archive: true } } }), /live stores no history/);
  t.match(refused({ archive, nats: ["nats://n"], resumeSecret, namespaces: { chat: { archiveRecovery: true } } }), /chat is not archived; set chat\.archive/);
  t.match(refused({ archive: "mysql://secret@h/db" }), /must be an address such as postgres:\/\/.*, not what was given/);
  t.equal(showValue(resolveConfig({ options: { archive, nats: ["nats://n"], resumeSecret } }).config, "archive"), "postgres://flux:[hidden]@10.0.0.5/flux");
  await t.rejects(createGateway({ archive, port: 0, adminPort: 0, logLevel: "silent" }), /--archive: the archive is written from the streams of NATS or from the data directory; set --nats or --data-dir/);
});

t.test("what is archived but not delivered here yet is left out of a page", async (t) => {
  const archive = createMemoryArchive();
  await archive.take(["S"], "w", 60_000, 1);
  const begun = (await archive.begin("S", null, { epoch: "e", seq: 0, at: 0, completeFrom: 1 }, null))!;
  await archive.append("S", begun, { ...begun, seq: 5 }, [1, 2, 3, 4, 5].map((seq) => archivedRow(seq)), []);
  const head = { epoch: "e", seq: 3 };
  const broker = { history: (_room: string, _retention: Retention, query: Query, done: (answer: Answer<Page>) => void) => done(query.direction === "since" && query.archived !== true ? { error: "unrecoverable_position" } : { value: { publications: [], position: head, more: false } }) };
  const { history } = withArchive(broker as unknown as Broker, { archive, streamOf: () => "S", failed: (error) => t.error(error) });
  const retention = { durable: true, historySize: 1, historyTtlMs: 1, historyBytesMax: 1, archive: true, archiveRecovery: true };
  for (const [direction, limit, wanted] of [["since", 9, [1, 2, 3]], ["since", 2, [1, 2]], ["newest", 9, [1, 2, 3]]] as const) {
    const answer = await new Promise<Answer<Page>>((resolve) => history("chat:a", retention, { direction, position: { epoch: "e", seq: 0 }, limit, bytesMax: 1e6, recovers: direction === "since" }, resolve));
    t.same("value" in answer && answer.value.publications.map(({ seq }) => seq), wanted);
    t.same("value" in answer && answer.value.position, head);
  }
});

t.test("a connection that is lost while it is in use fails its work, and nothing else", async (t) => {
  const pool = openPool({ url: await postgres.freshUrl(), name: "test", connectionsMax: 2, statementMs: 60_000 });
  t.teardown(() => endPool(pool));
  const lose = async (pid: unknown) => void (await pool.query("SELECT pg_terminate_backend($1)", [pid]));
  const pidOf = async (sql: Sql) => (await sql.query("SELECT pg_backend_pid() AS pid")).rows[0]?.pid;
  // The server says why and closes; then the socket reports its end, which nobody awaits.
  await t.rejects(inTransaction(pool, async (sql) => {
    const pid = await pidOf(sql);
    await Promise.all([sql.query("SELECT pg_sleep(60)"), lose(pid)]);
  }));
  const client = await pool.connect();
  await lose(await pidOf(client));
  await new Promise((resolve) => setImmediate(resolve));
  await until(() => client.query("SELECT 1").then(() => false, () => true), "the connection to be lost");
  client.release(true);
  t.equal((await pool.query("SELECT 1 AS one")).rows[0]?.one, 1, "the pool goes on with another");
});
