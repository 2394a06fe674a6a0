/** flux.publish(): what an application's transaction gives is published after its commit, once, in order. */
import { Client } from "pg";
import t, { type Test } from "tap";
import type { Answer, Published } from "../src/broker/broker.ts";
import { startOutbox, type Finished, type OutboxRow } from "../src/outbox/outbox.ts";
import { openOutboxRows, prepareOutbox } from "../src/outbox/rows.ts";
import { createHistory } from "./support/history.ts";
import { startNats } from "./support/nats.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { startPostgres } from "./support/postgres.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const nats = await startNats(t);
const postgres = await startPostgres(t);
await postgres.sql("CREATE DATABASE outbox");
const url = postgres.url().replace("/postgres", "/outbox");
const node = await startNode(t, { nats: [nats.url], natsPartitions: 1, outbox: url, natsTimeoutMs: 1_000, commandsPerSecond: 0, reactors: 1 });

async function connect(t: Pick<Test, "teardown">, at = url): Promise<Client> {
  const client = new Client({ connectionString: at });
  client.on("error", () => undefined);
  await client.connect();
  t.teardown(() => client.end().catch(() => undefined));
  return client;
}

const publish = "SELECT flux.publish($1, $2::jsonb, $3)";
const left = async () => Number((await postgres.sql("SELECT count(*) FROM flux.outbox", [], url))[0]!.count);

t.test("rows are published after the commit, in the order of the calls, and none of a transaction that is rolled back", async (t) => {
  const app = await connect(t);
  const ann = await open(node);
  await ann.join("chat:a");
  await app.query("BEGIN");
  await app.query(publish, ["chat:a", '"never"', null]);
  await app.query("ROLLBACK");
  await app.query("BEGIN");
  for (let i = 0; i < 300; i++) await app.query(publish, ["chat:a", String(i), null]);
  t.equal(ann.publications.length, 0, "nothing before the commit");
  await app.query("COMMIT");
  await ann.waitFor(() => ann.publications.length === 300, "every publication");
  t.same(ann.publications.map(({ payload }) => Number(payload.toString())), Array.from({ length: 300 }, (_, i) => i));
  t.equal(ann.publications[0]!.sender, "", "of the application");
  await until(async () => (await left()) === 0, "the outbox to be empty");
});

t.test("an open transaction delays nobody but itself", async (t) => {
  const [slow, fast] = [await connect(t), await connect(t)];
  const ann = await open(node);
  await ann.join("chat:b");
  await slow.query("BEGIN");
  await slow.query(publish, ["chat:b", '"slow"', null]);
  await fast.query(publish, ["chat:b", '"fast"', null]);
  await ann.waitFor(() => ann.publications.length === 1, "the one that has committed");
  await slow.query("COMMIT");
  await ann.waitFor(() => ann.publications.length === 2, "the late one");
  t.same(ann.publications.map(({ payload }) => payload.toString()), ['"fast"', '"slow"']);
});

t.test("a key is published once, and what can never be published is kept apart with the reason", async (t) => {
  const app = await connect(t);
  const ann = await open(node);
  await ann.join("chat:c");
  for (const text of ["1", "2"]) await app.query(publish, ["chat:c", text, "the same"]);
  const wrong: [string, string, string][] = [["no:such", "1", "unknown_namespace"], ["chat:\u0001", "1", "bad_request"], ["@inbox", "1", "forbidden"], ["chat:c", JSON.stringify("x".repeat(70_000)), "too_large"]];
  for (const [room, data] of wrong) await app.query(publish, [room, data, null]);
  const hostile = "chat:'); DROP TABLE flux.outbox;--";
  await app.query(publish, [hostile, '{"a":"\\ud83d\\ude00"}', "'); --"]);
  await app.query(publish, ["chat:c", '"end"', null]);
  await ann.waitFor(() => ann.publications.some(({ payload }) => payload.toString() === '"end"'), "the last one");
  t.same(ann.publications.map(({ payload }) => payload.toString()), ["1", '"end"']);
  await until(async () => (await left()) === 0, "the outbox to be empty");
  const refused = await postgres.sql("SELECT room, code, detail FROM flux.outbox_refused ORDER BY id", [], url);
  t.same(refused.map(({ room, code }) => [room, code]), wrong.map(([room, , code]) => [room, code]));
  t.equal((await node.history(hostile)).publications.length, 1);
  for (const [call, says] of [[["", "1", null], /outbox_room_is_not_empty/], [["chat:c", "1", "k".repeat(129)], /outbox_key_has_at_most_128/], [["chat:c", '"\\u0000"', null], /unsupported Unicode escape/], [["chat:c", null, null], /null value in column "data"/]] as const) {
    await t.rejects(app.query(publish, call), says);
  }
});

t.test("a row that was sent long ago is looked for by its key in the room's history", async (t) => {
  const app = await connect(t);
  const before = await node.metrics();
  await node.publish("chat:f", "first", { key: "known" });
  await app.query("BEGIN");
  for (const [data, key] of [['"again"', "known"], ['"fresh"', "unknown"]]) await app.query(publish, ["chat:f", data, key]);
  await app.query("UPDATE flux.outbox SET sent = now() - interval '10 minutes' WHERE room = 'chat:f'");
  await app.query("COMMIT");
  await until(async () => (await left()) === 0, "the outbox to be empty");
  t.same((await node.history("chat:f")).publications.map(({ data }) => data), ["first", "fresh"]);
  const after = await node.metrics();
  const rise = (name: string) => sumOf(after, name) - sumOf(before, name);
  t.equal(rise("flux_outbox_repeated_total"), 2);
  t.equal(rise("flux_outbox_doubled_total"), 1, "the history does not reach back so far, so nobody can tell of the other");
});

t.test("nobody may publish who was not let", async (t) => {
  await postgres.sql("CREATE ROLE shop LOGIN");
  const shop = await connect(t, url.replace("flux@", "shop@"));
  await t.rejects(shop.query(publish, ["chat:d", "1", null]), /permission denied for schema flux/);
  await postgres.sql("GRANT USAGE ON SCHEMA flux TO shop", [], url);
  await t.rejects(shop.query(publish, ["chat:d", "1", null]), /permission denied for function/);
  await postgres.sql("GRANT EXECUTE ON FUNCTION flux.publish(text, jsonb, text, text) TO shop", [], url);
  await shop.query(publish, ["chat:d", "1", null]);
  await t.rejects(shop.query("SELECT * FROM flux.outbox"), /permission denied/);
  await until(async () => (await node.history("chat:d")).publications.length === 1, "it to be published");
});

t.test("PostgreSQL and NATS are killed: everything committed is published once", async (t) => {
  const history = createHistory();
  const ann = await open(node);
  const { position } = await ann.join("chat:e");
  const [epoch, start] = [position.epoch, Number(position.seq)];
  history.joined("chat:e", "ann", { epoch, seq: start });
  let number = 0;
  const commit = async (count: number) => {
    const app = await connect(t);
    await app.query("BEGIN");
    for (let i = 0; i < count; i++) {
      const id = String(++number);
      history.attempted("chat:e", id);
      await app.query(publish, ["chat:e", id, null]);
    }
    await app.query("COMMIT");
    await app.end();
  };
  await commit(300);
  await ann.waitFor(() => ann.publications.length > 20, "some of them");
  await postgres.kill();
  await postgres.start();
  await commit(100);
  await ann.waitFor(() => ann.publications.length > 320, "some more");
  await nats.kill();
  await commit(100);
  await nats.start();
  await until(async () => (await left()) === 0, "the outbox to be empty");
  await until(async () => Number((await node.history("chat:e", { limit: 1 })).publications[0]?.data) === number, "the last one to be there");
  await ann.waitFor(() => ann.publications.length === number, "every publication");
  for (const { payload, epoch, seq, prev } of ann.publications) history.delivered("chat:e", "ann", payload.toString(), { epoch, seq: Number(seq) }, Number(prev));
  const verdict = history.judge();
  t.equal(verdict.faults, 0, verdict.report);
  t.same(ann.publications.map(({ payload }) => Number(payload.toString())), Array.from({ length: number }, (_, i) => i + 1), "in the order of the commits");
});

t.test("of two nodes that read one outbox no row goes to both; when one is gone, the other gets what it left, in order", async (t) => {
  await postgres.sql("CREATE DATABASE shared");
  const at = postgres.url().replace("/postgres", "/shared");
  const placeOf = (name: string) => ({ url: at, gateway: "shared", name });
  await Promise.all(["a", "b"].map((name) => prepareOutbox(placeOf(name))));
  const app = await connect(t, at);
  const total = 200;
  for (let i = 0; i < total; i++) await app.query(publish, [`chat:${i % 20}`, String(i), null]);
  const [a, b] = ["a", "b"].map((name) => openOutboxRows(placeOf(name))) as [ReturnType<typeof openOutboxRows>, ReturnType<typeof openOutboxRows>];
  t.teardown(() => Promise.all([a.stop(), b.stop()]));
  const [first, second] = await Promise.all([a.take(1_000, []), b.take(1_000, [])]);
  const ids = (rows: readonly OutboxRow[]) => rows.map(({ id }) => id);
  t.equal(new Set([...ids(first), ...ids(second)]).size, total, "all were taken");
  t.equal(first.length + second.length, total, "each by one");
  const [gone, staying, taken] = first.length > 0 ? [a, b, first] : [b, a, second];
  const done = ids(taken).slice(0, 5);
  await gone.finish({ published: done, refused: [], untouched: [] });
  await gone.stop();
  let rest: readonly OutboxRow[] = [];
  await until(async () => (rest = await staying.take(1_000, [])).length === total - done.length, "the other to have what is left");
  t.same(ids(rest), [...ids(first), ...ids(second)].filter((id) => !done.includes(id)).sort((x, y) => Number(x) - Number(y)));
  t.ok(rest.every(({ isFresh }) => !isFresh), "it knows that they may have been sent");
});

// ------------------------------------------------------------------------------------- without servers

function rowOf(id: number, more: Partial<OutboxRow> = {}): OutboxRow {
  return { id: String(id), tenant: "", room: "r", data: String(id), key: `k${id}`, isFresh: true, sentAgoMs: 0, ...more };
}

/** An outbox whose rows and answers are the test's. */
function setUp(t: Pick<Test, "teardown">, batches: (readonly OutboxRow[])[], answers: (row: OutboxRow) => Answer<Published>, found: boolean | null = null, now = () => 0) {
  const sent: string[] = [];
  const finished: Finished[] = [];
  const left: (readonly string[])[] = [];
  const outbox = startOutbox({
    rows: {
      take: async (_, waiting) => (left.push(waiting), batches.shift() ?? []),
      finish: async (one) => void finished.push(one),
      stop: async () => undefined,
    },
    publish: (row, done) => (sent.push(row.id), setImmediate(() => done(answers(row)))),
    find: async () => found,
    keyWindowMs: 120_000, pollMs: 1, retryMs: 5, now, log: { info() {}, warn() {}, error() {} },
  });
  t.teardown(() => outbox.stop());
  return { outbox, sent, finished, left };
}

const done: Answer<Published> = { value: { epoch: "e", seq: 1, duplicate: false } };

t.test("a room that takes nothing now keeps its order, and holds up no other room", async (t) => {
  let away = true;
  let now = 0;
  const answers = ({ room }: OutboxRow): Answer<Published> => (away && room === "slow" ? { error: "unavailable" } : done);
  const { sent, finished, left } = setUp(t, [[rowOf(1, { room: "slow" }), rowOf(2), rowOf(3, { room: "slow" }), rowOf(4)]], answers, null, () => now);
  await until(() => finished.length === 1, "the batch");
  t.same(sent.sort(), ["1", "2", "4"]);
  t.match(finished[0], { published: ["2", "4"], untouched: ["3"], refused: { length: 0 } });
  await until(() => left.at(-1)!.includes("\u001fslow"), "it to be left alone");
  const takes = left.length;
  await until(() => left.length > takes + 3, "more takes");
  t.ok(left.slice(takes).every((one) => one.includes("\u001fslow")), "as long as its time is not over");
  now = 5;
  await until(() => left.at(-1)!.length === 0, "and not for longer");
  away = false;
});

for (const [found, sends, doubled] of [[true, false, 0], [false, true, 0], [null, true, 1]] as const) {
  t.test(`a row that was sent before the key window: ${found === null ? "nobody can tell whether it arrived" : found ? "it had arrived" : "it had not arrived"}`, async (t) => {
    const { outbox, sent, finished } = setUp(t, [[rowOf(1, { isFresh: false, sentAgoMs: 120_000 }), rowOf(2, { isFresh: false, sentAgoMs: 10_000 })]], () => done, found);
    await until(() => finished.length === 1, "the batch");
    t.same(sent, sends ? ["1", "2"] : ["2"]);
    t.same(finished[0]!.published, ["1", "2"]);
    t.match(outbox.usage(), { repeated: 2, doubled });
  });
}

t.test("a stop does not wait for a publication that is not answered, nor begins the next of its room, nor connects again", async (t) => {
  const sent: string[] = [];
  const finished: Finished[] = [];
  let answer: () => void = () => {};
  const batches = [[rowOf(1), rowOf(2), rowOf(3)], [rowOf(4, { room: "silent" })]];
  const start = (rows: readonly OutboxRow[]) => {
    const one = [rows];
    return startOutbox({
      rows: { take: async () => one.shift() ?? [], finish: async (some) => void finished.push(some), stop: async () => undefined },
      publish: (row, done) => (sent.push(row.id), (answer = () => done({ value: { epoch: "e", seq: 1, duplicate: false } }))),
      find: async () => null, keyWindowMs: 120_000, pollMs: 1, log: { info() {}, warn() {}, error() {} },
    });
  };
  const ordinary = start(batches[0]!);
  await until(() => sent.length === 1, "the first to be sent");
  const stopped = ordinary.stop();
  answer();
  await stopped;
  t.same(sent, ["1"]);
  t.match(finished, [{ published: ["1"], untouched: ["2", "3"] }]);
  const silent = start(batches[1]!);
  await until(() => sent.length === 2, "the next");
  await silent.stop();

  await postgres.sql("CREATE DATABASE stopping");
  const place = { url: postgres.url().replace("/postgres", "/stopping"), gateway: "g", name: "flux-test-stopping" };
  const connected = async () => Number((await postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flux-test-stopping'"))[0]!.count);
  const [rows, early] = [openOutboxRows(place), openOutboxRows(place)];
  await rows.take(1, []);
  t.ok((await connected()) >= 1);
  await rows.stop();
  await t.rejects(rows.finish({ published: [], refused: [], untouched: [] }), /stopped/);
  const taking = early.take(1, []);
  await early.stop();
  await t.rejects(taking, /stopped/);
  await until(async () => (await connected()) === 0, "the connections to end");
});
