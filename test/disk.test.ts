/** A node with --data-dir: what it has acknowledged is there again after SIGTERM and after kill -9. */
import { statSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { createHistory } from "./support/history.ts";
import { joinRecorded, publishRecorded } from "./support/load.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { fate, open, seen, type SeenPublication, type TestSession } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

// Starting nodes is most of what these tests do, and waiting for it.
t.jobs = 2;

async function start(t: Test, dataDir: string, flags: string[] = []): Promise<NodeProcess> {
  const node = await startNodeProcess(["--reactors", "1", "--data-dir", dataDir, ...flags]);
  t.teardown(() => node.kill());
  return node;
}

function words(publications: readonly SeenPublication[]): string[] {
  return publications.map(({ payload }) => JSON.parse(payload.toString()) as string);
}

const withTokens = ["--auth-secret", secret, "--allow-anonymous"];

/** Joins the inbox as a device that says nothing of where it is. */
async function readInbox(node: NodeProcess, hello: { token: string; device: string }): Promise<TestSession> {
  const session = await open(node, { hello });
  await session.join("@inbox");
  return session;
}

function resumeOf({ ready }: TestSession, room: string, position: { epoch: string; seq: number }) {
  return { resume: { session: ready!.session!, token: ready!.resumeToken!, positions: [{ room, position }] } };
}

for (const [how, end] of [
  ["SIGTERM", (node: NodeProcess) => node.stop()],
  ["kill -9", (node: NodeProcess) => node.kill()],
] as const) {
  t.test(`after ${how} a session is resumed with its rooms and positions, devices go on in their inbox, and nothing is missing`, async (t) => {
    const dataDir = t.testdir();
    const first = await start(t, dataDir, withTokens);
    const away = await open(first);
    const beside = await open(first);
    const { position } = await away.join("chat:a");
    await beside.join("chat:a");
    await beside.publish("chat:a", '"seen"');
    await away.waitFor(() => away.publications.length === 1, "the first publication");
    for (let i = 0; i < 300; i++) await beside.publish("chat:a", JSON.stringify(`missed ${i}`), { key: `key ${i}` });
    const ann = await token({ sub: "ann" }, secret);
    const message = async (sender: TestSession, word: string) => t.ok((await sender.request({ send: { user: "ann", payload: Buffer.from(JSON.stringify(word)), format: 1 } })).sent);
    for (let i = 0; i < 10; i++) await message(beside, `message ${i}`);
    const phone = await readInbox(first, { token: ann, device: "phone" });
    t.equal(phone.publications.length, 10);
    const { epoch, seq } = phone.publications[4]!;
    await phone.send({ ack: { position: { epoch, seq } } });
    await phone.join("chat:a"); // behind the acknowledgement
    const amy = await token({ sub: "amy", iat: Math.floor(Date.now() / 1000) - 100 }, secret);
    const signedOut = await open(first, { hello: { token: amy } });
    const body = JSON.stringify({ user: "amy", signOut: true });
    t.match(await (await fetch(`${first.adminUrl}/disconnect`, { method: "POST", headers: { "Content-Type": "application/json" }, body })).json(), { sessions: 1 });
    await new Promise((resolve) => setTimeout(resolve, 200)); // sessions are written a moment after they change
    await until(async () => (await first.metric("flux_disk_uncommitted_bytes")) === 0, "it to be on the disk");
    await end(first);

    const second = await start(t, dataDir, [...withTokens, "--port", String(first.port)]);
    const publisher = await open(second);
    await publisher.join("chat:a");
    const again = await publisher.request({ publish: { room: "chat:a", payload: Buffer.from('"again"'), format: 1, key: "key 7" } });
    t.equal(again.published?.duplicate, true, "an idempotency key is remembered");
    t.equal(seen(again.published?.position).seq, 9);
    const live = await publisher.publish("chat:a", '"live"');
    t.same(live, { epoch: position.epoch, seq: 302 });
    const back = await open(second, { hello: resumeOf(away, "chat:a", { epoch: position.epoch, seq: 1 }) });
    t.equal(back.ready?.resumed, true);
    t.equal(back.ready?.session, away.ready?.session);
    t.equal(back.ready?.user, away.ready?.user);
    await back.waitFor(() => back.publications.length >= 301, "everything that was missed and what is live");
    t.same(words(back.publications), [...Array.from({ length: 300 }, (_, i) => `missed ${i}`), "live"]);
    t.equal(back.events.find(({ joined }) => joined?.room === "chat:a")?.joined?.recovered, true);
    const phoneAgain = await readInbox(second, { token: ann, device: "phone" });
    const laptop = await readInbox(second, { token: ann, device: "laptop" });
    await message(publisher, "end");
    for (const session of [phoneAgain, laptop]) await session.waitFor(() => words(session.publications).includes("end"), "what is live");
    t.same(words(phoneAgain.publications), [...Array.from({ length: 5 }, (_, i) => `message ${i + 5}`), "end"], "what the phone had not read, once");
    t.equal(words(laptop.publications).length, 11, "all of it on a device that has read nothing");
    t.equal(await fate(second, { token: amy }), 3504, "who was signed out is");
    t.equal(await fate(second, resumeOf(signedOut, "chat:a", position)), 3504);
    t.equal(second.complaints.filter((line) => !line.includes("sockets-max")).length, 0, second.complaints.join("\n"));
  });
}

t.test("the directory and the secret in it are for their owner alone", async (t) => {
  const dataDir = join(t.testdir(), "made", "here");
  const node = await start(t, dataDir);
  t.equal(statSync(dataDir).mode & 0o777, 0o700);
  t.equal(statSync(join(dataDir, "resume-secret")).mode & 0o777, 0o600);
  await node.stop();
});

t.test("members that join, recover and read while a room is published to get everything in order from the disk", async (t) => {
  // A tail of one publication: nearly everything that is recovered comes from the disk, and comes later than it was asked for.
  const node = await startNode(t, { dataDir: t.testdir(), tailPublicationsMax: 1, commandsPerSecond: 0 });
  const history = createHistory("disk");
  const publishers = await Promise.all([0, 1, 2].map((i) => joinRecorded(node, history, "chat:a", `publisher ${i}`)));
  let stopping = false;
  const publishing = publishers.map(async (session, i) => {
    for (let n = 0; !stopping; n++) {
      await publishRecorded(session, history, "chat:a", `${i}-${n}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  });
  let at: { epoch: string; seq: number } | null = null;
  for (let round = 0; round < 30; round++) {
    const member = await open(node, { json: round % 2 === 1 });
    const from = at ?? { epoch: "", seq: 0 };
    const { position, recovered, missed } = await member.join("chat:a", at === null ? {} : { recover: from });
    if (at !== null) {
      t.equal(recovered, true);
      const read = (await member.request({ history: { room: "chat:a", since: from, limit: 5 } })).history;
      const seqs = (read?.publications ?? []).map(({ seq }) => seq);
      t.same(seqs, [1, 2, 3, 4, 5].map((n) => from.seq + n).slice(0, seqs.length), "the history goes on after the position");
    }
    const before = member.publications.length;
    await member.waitFor(() => member.publications.length >= before + 5, "what is live");
    const got = member.publications.filter(({ by }) => by !== "joined" || at !== null);
    const expected = got.map((_, i) => (at === null ? position.seq : from.seq) + 1 + i);
    if (at !== null) t.ok(missed.length > 0, `${missed.length} missed`);
    t.same(got.map(({ seq }) => seq), expected, "no gap between what was missed and what is live");
    at = { epoch: position.epoch, seq: position.seq };
    await member.bye();
  }
  stopping = true;
  await Promise.all(publishing);
  const verdict = history.judge();
  t.equal(verdict.faults - verdict.lost, 0, verdict.report);
});
