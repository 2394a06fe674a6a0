/** Publications of an archived namespace end in PostgreSQL, exactly once and in order. */
import { join } from "node:path";
import t from "tap";
import { createPostgresArchive } from "../src/archive/postgres/postgres.ts";
import { archivedRow } from "../src/contracts/archive.ts";
import { resolveConfig } from "../src/config/config.ts";
import { openArchiveTools } from "../src/node/archive.ts";
import { createGateway } from "../src/node/gateway.ts";
import { command } from "./support/command.ts";
import { startNats } from "./support/nats.ts";
import { resumeSecret, startNode } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { startPostgres } from "./support/postgres.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const nats = await startNats(t);
const postgres = await startPostgres(t);

const publications = 300;

for (const source of ["NATS", "a data directory"] as const) {
  t.test(`an archiver that is killed in the middle leaves no hole and nothing twice: from ${source}`, async (t) => {
    const archive = await postgres.freshUrl();
    const from = source === "NATS" ? ["--nats", nats.url, "--nats-prefix", "kill", "--nats-partitions", "1"] : ["--data-dir", t.testdir()];
    const flags = [...from, "--resume-secret", resumeSecret, "--archive", archive, "--namespaces", JSON.stringify({ chat: { archive: true, archiveRecovery: true, historySize: 10 } }), "--commands-per-second", "0", "--reactors", "1"];
    const rows = async () => postgres.sql("SELECT epoch, seq, room, convert_from(data, 'UTF8') AS text FROM flux_publications ORDER BY seq", [], archive);
    const first = await startNodeProcess(flags);
    t.teardown(() => first.kill());
    const ann = await open(first);
    await ann.join("chat:a");
    const texts = Array.from({ length: publications }, (_, i) => `"${i}"`);
    await Promise.all(texts.slice(0, 100).map((text) => ann.publish("chat:a", text)));
    const rest = texts.slice(100).map((text) => ann.publish("chat:a", text).catch(() => null));
    await until(async () => (await rows()).length > 20, "some rows");
    await first.kill();
    await Promise.allSettled(rest);
    const second = await startNodeProcess(flags);
    t.teardown(() => second.stop());
    const read = async (query: string) => (await (await fetch(`${second.adminUrl}/api/v1/rooms/chat:a/history?${query}`)).json()) as { position: string; publications: { data: string }[] };
    const { position } = await read("limit=1");
    const [epoch, last] = [position.slice(0, position.lastIndexOf(":")), Number(position.split(":").at(-1))];
    await until(async () => Number((await rows()).at(-1)?.seq) === last, "the rest");
    const found = await rows();
    t.same(found.map(({ seq }) => Number(seq)), Array.from({ length: last }, (_, i) => i + 1), "every sequence once");
    t.same(found.map(({ text }) => text), texts.slice(0, last), "in order");
    t.equal(new Set(found.map((row) => row.epoch)).size, 1);
    t.same((await read(`after=${encodeURIComponent(`${epoch}:0`)}&limit=100`)).publications.map(({ data }) => `"${data}"`), texts.slice(0, 100), "history reaches back to the first");
    const bob = await open(second);
    const { recovered } = await bob.join("chat:a", { recover: { epoch, seq: 0 } });
    t.equal(recovered, true);
    t.same(bob.publications.map(({ payload }) => payload.toString()), texts.slice(0, last), "a member that was away recovers all of it, in pages");
  });
}

t.test("the archive of a data directory is its own: another directory, or an operator without it, is refused", async (t) => {
  const [archive, own] = [await postgres.freshUrl(), t.testdir()];
  const options = { archive, namespaces: { chat: { archive: true } }, port: 0, adminPort: 0, logLevel: "silent", reactors: 1 } as const;
  const node = await startNode(t, { ...options, dataDir: own });
  await until(async () => (await postgres.sql("SELECT 1 FROM flux_streams WHERE epoch <> ''", [], archive)).length === 1, "the archive to begin");
  const tools = (await openArchiveTools(resolveConfig({ options: { archive, dataDir: own } }).config)).open();
  t.match(await tools.status(), { gateway: /^data directory \S+$/, version: 1, streams: [{ stream: /^journal-/ }] });
  t.equal((await tools.migrate()).before, 1);
  await tools.stop();
  const other = join(own, "other");
  await t.rejects(createGateway({ ...options, dataDir: other }), /the tables belong to another gateway \(data directory \S+, and this one is data directory/);
  await t.rejects(createGateway({ ...options, nats: [nats.url], resumeSecret }), /the tables belong to another gateway \(data directory \S+, and this one is nats flux\)/);
  await node.close();
});

t.test("an operator sees how far it is, and erases a user", async (t) => {
  const url = await postgres.freshUrl();
  const run = async (...args: string[]) => {
    const { code, out, err } = await command(["archive", ...args, "--archive", url, "--nats-prefix", "kill"]);
    return { code, said: out + err };
  };
  t.match(await run("status"), { code: 1, said: /--archive .*relation "flux_archive" does not exist.*missing/ });
  t.match(await run("migrate"), { code: 0, said: /the tables were created, version 1/ });
  const archive = createPostgresArchive({ url, gateway: "nats kill", name: "test" });
  t.teardown(() => archive.stop());
  await archive.take(["KILL_chat_0"], "node-1 x", 60_000, 1);
  const begun = (await archive.begin("KILL_chat_0", null, { epoch: "e", seq: 0, at: 0, completeFrom: 1 }, null))!;
  const rows = [archivedRow(1), archivedRow(2, { sender: "bob" }), archivedRow(3, { tenant: "t" }), archivedRow(4, { at: Date.UTC(2026, 0, 1) * 1000 })];
  await archive.append("KILL_chat_0", begun, { ...begun, seq: 4, at: rows[0]!.at }, rows, [{ epoch: "e", from: 9, to: 9, reason: "dropped" }]);
  t.match(await run("status"), { code: 0, said: /KILL_chat_0 +4 +20\S+Z +node-1 +1 +1\n\ntables of nats kill, version 1; \d+ days from 2026-01-01/ });
  t.match(JSON.parse((await run("status", "--json")).said), { streams: [{ stream: "KILL_chat_0", seq: 4, node: "node-1" }] });
  t.match(await run("erase", "--user", "ann"), { code: 0, said: /2 publications of ann deleted.*\n.*may not be archived yet/ });
  t.same(await postgres.sql("SELECT sender, tenant FROM flux_publications ORDER BY seq", [], url), [{ sender: "bob", tenant: "" }, { sender: "ann", tenant: "t" }]);
  t.match(await run("erase", "--user", "a\u0001"), { code: 1, said: /control characters/ });
});
