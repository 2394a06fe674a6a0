/** Webhooks of a node alone with a data directory: what has happened is told after kill -9, too. */
import { cpSync, readdirSync, unlinkSync } from "node:fs";
import t from "tap";
import { openLines } from "../src/disk/lines.ts";
import { createDiskFacts, type DiskFacts } from "../src/facts/disk.ts";
import type { Subject } from "../src/facts/facts.ts";
import { messageOf } from "../src/webhooks/message.ts";
import { hookSecret } from "./support/hookbackend.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { startReceiver } from "./support/receiver.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const log = { error() {}, warn() {}, info() {} };

function openFacts(folder: string, endpoints: readonly string[] = ["a", "b"], uncommittedBytesMax = 1 << 20): Promise<DiskFacts> {
  return createDiskFacts({ folder, sync: false, uncommittedBytesMax, log, endpointsOf: () => endpoints });
}

/** The webhook-ids that wait for the endpoint, in order. Tells nothing. */
async function waiting(facts: DiskFacts, endpoint: string, subject: Subject): Promise<string[]> {
  const { epoch, facts: found } = await facts.claim(endpoint, subject, { max: 1000 });
  return found.map((fact) => messageOf(subject, epoch, fact).id);
}

t.test("facts, what each endpoint was told, dead letters and a disabled endpoint are read again", async (t) => {
  const folder = t.testdir();
  const facts = await openFacts(`${folder}/one`);
  for (let i = 0; i < 5; i++) facts.add("rx", { kind: "member.joined", users: i, member: "acme\u001fann of \"Acme\"\n" });
  facts.add("uann", { kind: "session.ended", session: "S" });
  const before = await waiting(facts, "b", "rx");
  const { epoch, facts: page } = await facts.claim("a", "rx", { max: 3 });
  await facts.told("a", "rx", { epoch, n: page[2]!.n, isOver: true });
  await facts.told("b", "rx", { epoch, n: page[0]!.n, isOver: true });
  await facts.bury("a", { id: "1", body: "{}", reason: "no", at: 1 });
  await facts.bury("a", { id: "2", body: "{}", reason: "no", at: 2 });
  await facts.unbury("a", ["1"]);
  await facts.disable("b", "http://gone/");
  await until(() => facts.disk().uncommittedBytes <= 0, "the disk to have it");
  // What is there without a stop is what kill -9 leaves.
  cpSync(`${folder}/one`, `${folder}/two`, { recursive: true });
  await facts.stop();
  for (const name of ["one", "two"]) {
    const again = await openFacts(`${folder}/${name}`);
    t.strictSame(again.subjects(), ["rx", "uann"], name);
    t.strictSame(await waiting(again, "b", "rx"), before.slice(1));
    t.strictSame(await waiting(again, "a", "rx"), before.slice(3));
    t.match(await again.claim("a", "rx", { max: 1 }), { facts: [{ member: "acme\u001fann of \"Acme\"\n", users: 3 }] });
    t.match(await again.claim("a", "uann", { max: 1 }), { facts: [{ kind: "session.ended", session: "S" }] });
    t.strictSame((await again.buried("a", 10)).letters.map(({ id }) => id), ["2"]);
    t.equal(await again.disabled("b"), "http://gone/");
    t.equal(again.usage().events, 5);
    await again.stop();
  }
});

t.test("each start is an epoch: facts keep theirs, a page has one, and new facts come behind the old", async (t) => {
  const folder = t.testdir();
  let readers = 0;
  let ids: string[] = [];
  /** All that wait, page by page, told to this endpoint. */
  const tell = async (facts: DiskFacts, endpoint: string) => {
    const found: string[] = [];
    for (;;) {
      const page = await facts.claim(endpoint, "rx", { max: 64 });
      if (page.facts.length === 0) return found;
      found.push(...page.facts.map((fact) => messageOf("rx", page.epoch, fact).id));
      await facts.told(endpoint, "rx", { epoch: page.epoch, n: page.through, isOver: true });
    }
  };
  for (let life = 1; life <= 3; life++) {
    const facts = await openFacts(folder, ["a"]);
    t.strictSame(await tell(facts, `reader${readers++}`), ids);
    facts.add("rx", { kind: "room.occupied" });
    facts.add("rx", { kind: "room.vacated" });
    ids = await tell(facts, `reader${readers++}`);
    t.equal(ids.length, 2 * life);
    t.equal(new Set(ids).size, 2 * life);
    t.equal(new Set(ids.map((id) => id.slice(0, 12))).size, life, "an epoch each");
    await facts.stop();
  }
  const facts = await openFacts(folder, ["a"]);
  t.strictSame(await tell(facts, "a"), ids);
  t.equal(facts.usage().events, 0);
  await facts.stop();
});

t.test("an endpoint that is configured no more holds nothing back; a new one is not told what the others know", async (t) => {
  const folder = t.testdir();
  const facts = await openFacts(folder, ["a", "b"]);
  for (let i = 0; i < 4; i++) facts.add("rx", { kind: "room.occupied" });
  const { epoch } = await facts.claim("a", "rx", { max: 1 });
  await facts.told("a", "rx", { epoch, n: 3, isOver: true });
  await facts.told("b", "rx", { epoch, n: 2, isOver: true });
  await facts.stop();
  const more = await openFacts(folder, ["a", "b", "c"]);
  t.match(await more.claim("c", "rx", { max: 10 }), { waiting: 2, facts: [{ n: 3 }, { n: 4 }] });
  await more.stop();
  const less = await openFacts(folder, ["a"]);
  t.equal(less.usage().events, 1);
  await less.stop();
});

t.test("the journal is rewritten while facts come and go, and holds the same before, between and after", async (t) => {
  const folder = t.testdir();
  const facts = await openFacts(`${folder}/now`, ["a"], 64 * 1024);
  // More than may wait for a commit: the journal is behind, and is rewritten from memory.
  for (let i = 0; i < 2000; i++) facts.add(`r${i % 20}`, { kind: "member.joined", member: `user${i}` });
  t.equal(facts.usage().events, 2000);
  await facts.stop();
  const again = await openFacts(`${folder}/now`, ["a"]);
  t.equal(again.usage().events, 2000);
  const { facts: page } = await again.claim("a", "r7", { max: 1000 });
  t.strictSame(page.map(({ member }) => member), Array.from({ length: 100 }, (_, i) => `user${i * 20 + 7}`));
  await again.stop();
});

t.test("a file that cannot be removed at the stop is reported, and the node goes on to stop", async (t) => {
  const folder = t.testdir();
  const said: string[] = [];
  const lines = await openLines<number>({ folder, sync: false, uncommittedBytesMax: 1 << 20, what: "numbers", log: { ...log, error: (_, text) => void said.push(text) }, read() {}, *all() {} });
  lines.write(1);
  await until(() => lines.usage().uncommittedBytes <= 0, "the disk to have it");
  lines.failed();
  for (const name of readdirSync(folder)) unlinkSync(`${folder}/${name}`);
  await lines.stop();
  t.match(said, [/^rewriting the numbers journal failed: /]);
});

t.test("a node is killed while its endpoint is dead, and started again: everything is told, once by id, in order for each room and user", async (t) => {
  const receiver = await startReceiver(t);
  receiver.answer = 500;
  const webhooks = JSON.stringify({ main: { url: receiver.url }, other: { url: `${receiver.url}/other`, events: ["room.*"] } });
  const flags = ["--reactors", "1", "--data-dir", t.testdir(), "--hook-secret", hookSecret, "--webhooks", webhooks, "--webhooks-allow-private", "--presence-grace-ms", "100", "--allow-anonymous"];
  const node = await startNodeProcess(flags);
  t.teardown(() => node.kill());
  const sessions = await Promise.all(["a", "b", "c"].map(() => open(node, {})));
  for (const session of sessions) for (const room of ["chat:x", "chat:y"]) await session.join(room);
  for (const room of ["chat:x", "chat:y"]) await sessions[0]!.request({ leave: { room } });
  // 2 rooms occupied, 6 joins, 2 leaves, 3 users online, 3 sessions.
  await until(async () => (await node.metric("flux_webhook_queue_events")) === 16, "all to wait");
  await until(async () => (await node.metric("flux_disk_uncommitted_bytes")) <= 0, "the disk to have it");
  await node.kill();
  receiver.answer = 204;
  const again = await startNodeProcess(flags);
  t.teardown(() => again.kill());
  const main = () => receiver.taken.filter(({ path }) => path === "/");
  await until(() => main().length >= 16 && receiver.said("/other").length >= 2, "everything");
  t.equal(new Set(main().map(({ id }) => id)).size, 16);
  t.strictSame(receiver.said("/other").sort(), ["room.occupied chat:x", "room.occupied chat:y"]);
  for (const room of ["chat:x", "chat:y"]) {
    const told = main().filter(({ data }) => data.room === room);
    t.strictSame(told.map(({ type }) => type), ["room.occupied", "member.joined", "member.joined", "member.joined", "member.left"]);
    t.strictSame(told.map(({ data }) => data.number), told.map(({ data }) => data.number).sort((a, b) => a - b));
  }
  // Under the ids that they had before.
  const asked = new Set(receiver.asked.map(({ id }) => id));
  t.equal(asked.size, 16, "no fact has two ids");
  await until(async () => (await again.metric("flux_webhook_queue_events")) === 0, "nothing to wait");
});
