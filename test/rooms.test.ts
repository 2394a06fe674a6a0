import t from "tap";
import { createHistory } from "./support/history.ts";
import { joinRecorded, publishRecorded } from "./support/load.ts";
import { startNode } from "./support/node.ts";
import { lose, resumeOf } from "./support/resume.ts";
import { open, seen, type TestSession } from "./support/session.ts";

/** Words of JSON publications, in the order they came. */
function words(session: TestSession, room?: string): unknown[] {
  return session.publications
    .filter((publication) => room === undefined || publication.room === room)
    .map(({ payload }) => JSON.parse(payload.toString()) as unknown);
}

/** For the tests that only need a node: each has a room of its own. */
const node = await startNode(t);

t.test("binary and JSON members of one room get the same publications in the same order", async (t) => {
  const binary = await open(node);
  const json = await open(node, { json: true });
  for (const session of [binary, json]) await session.join("chat:mixed");
  for (let i = 0; i < 20; i++) await (i % 2 === 0 ? binary : json).publish("chat:mixed", JSON.stringify({ i }));
  await binary.publish("chat:mixed", new Uint8Array([0, 255, 1]));
  for (const session of [binary, json]) {
    await session.waitFor(() => session.publications.length === 21);
    t.same(words({ ...session, publications: session.publications.slice(0, 20) }), Array.from({ length: 20 }, (_, i) => ({ i })));
    t.same([...session.publications[20]!.payload], [0, 255, 1]);
    t.same(session.publications.map(({ seq, prev }) => seq - prev), Array.from({ length: 21 }, () => 1));
  }
  const [a, b] = [binary, json].map(({ publications }) => publications.map(({ by: _, ...rest }) => rest));
  t.same(a, b, "in every field");
});

t.test("many publishers on all reactors: every member sees every publication once, in one order", async (t) => {
  const seed = Date.now();
  const history = createHistory(seed);
  const node = await startNode(t, { reactors: 2, commandsPerSecond: 0 });
  const sessions = await Promise.all(
    Array.from({ length: 12 }, (_, i) => joinRecorded(node, history, "live:busy", `member ${i}`, { json: i % 3 === 0, keep: true })),
  );
  await Promise.all(
    sessions.map(async (session, s) => {
      for (let i = 0; i < 60; i++) await publishRecorded(session, history, "live:busy", `${s}-${i}`);
    }),
  );
  for (const session of sessions) await session.waitFor(() => session.publications.length >= 12 * 60, "all publications");
  const verdict = history.judge();
  t.match(verdict, { lost: 0, doubled: 0, reordered: 0, silentGaps: 0 }, verdict.report);
});

t.test("a member that comes back to its position gets what it missed, whole, before what is live", async (t) => {
  const talker = await open(node);
  await talker.join("chat:recover");
  const first = await open(node);
  const { position } = await first.join("chat:recover");
  await first.bye();
  for (let i = 0; i < 600; i++) await talker.publish("chat:recover", JSON.stringify({ i, pad: "x".repeat(200) }));
  for (const json of [false, true]) {
    const back = await open(node, { json });
    const joining = back.join("chat:recover", { recover: position });
    const live = talker.publish("chat:recover", JSON.stringify({ live: json }));
    const { recovered, missed } = await joining;
    await live;
    t.equal(recovered, true);
    t.ok(back.events.filter(({ replay }) => replay).length > 1, "in pages");
    await back.waitFor(() => words(back).some((word) => (word as { live?: boolean }).live === json), "the live one");
    const seqs = back.publications.map(({ seq }) => seq);
    t.same(seqs, Array.from({ length: seqs.length }, (_, i) => position.seq + 1 + i), "no gap, nothing twice");
    t.ok(missed.length >= 600);
  }
});

t.test("of a position that is lost a member gets what is kept, in order: joined, resumed, in JSON, and by history", async (t) => {
  const node = await startNode(t, { tailPublicationsMax: 4, commandsPerSecond: 0, namespaces: { chat: { historySize: 300 }, live: { durable: false } } });
  const talker = await open(node);
  for (const [room, kept] of [["chat:lost", 300], ["live:lost", 4]] as const) {
    const { position } = await talker.join(room);
    const sleepers = await Promise.all([false, true].map((json) => open(node, { json })));
    for (const sleeper of sleepers) await sleeper.join(room).then(() => lose(sleeper));
    for (let i = 1; i <= 310; i++) await talker.publish(room, String(i));
    const want = Array.from({ length: kept }, (_, i) => String(311 - kept + i));
    for (const json of [false, true]) {
      for (const recover of [position, { epoch: "other", seq: 1000 }]) {
        const joins = await open(node, { json });
        const answer = await joins.join(room, { recover });
        t.match(answer, { recovered: false, position: { seq: 310 } });
        t.same(answer.missed.map(({ payload }) => payload.toString()), want, `${room}, joined${json ? " in JSON" : ""}`);
        t.equal(answer.missed[0]?.prev, 310 - kept, "the gap ends there");
        const { history } = await joins.request({ history: { room, since: recover, limit: 2, orOldest: true } });
        t.same([history?.publications?.map(({ seq }) => Number(seq)), history?.more], [[311 - kept, 312 - kept], true]);
        t.equal((await joins.request({ history: { room, since: recover, limit: 2 } })).error?.code, "unrecoverable_position", "if asked for");
        await joins.bye();
      }
      const resumes = await open(node, { json, hello: resumeOf(sleepers[Number(json)]!, [{ room, position }]) });
      await resumes.waitFor(() => resumes.publications.length >= kept, "what is kept");
      t.equal(resumes.events.find(({ joined }) => joined)?.joined?.recovered ?? false, false);
      t.same(resumes.publications.map(({ payload }) => payload.toString()), want, `${room}, resumed${json ? " in JSON" : ""}`);
      await resumes.bye();
    }
  }
});

t.test("a position that the history no longer covers, or of another epoch, or of the future, is not recovered", async (t) => {
  const node = await startNode(t, { tailPublicationsMax: 4, namespaces: { chat: { historySize: 10 } } });
  const talker = await open(node);
  const { position } = await talker.join("chat:short");
  for (let i = 0; i < 11; i++) await talker.publish("chat:short", String(i));
  const head = talker.publications.at(-1)!;
  const rejected = [
    position,
    { epoch: "other", seq: head.seq },
    { epoch: head.epoch, seq: head.seq + 1 },
  ];
  for (const recover of rejected) {
    const back = await open(node);
    const answer = await back.join("chat:short", { recover });
    t.match(answer, { recovered: false, position: { epoch: head.epoch, seq: head.seq } });
    t.equal(answer.missed.length, recover.seq > head.seq ? 0 : 10, "what is kept");
  }
  const covered = await open(node);
  const answer = await covered.join("chat:short", { recover: { ...position, seq: position.seq + 1 } });
  t.match(answer, { recovered: true });
  t.equal(answer.missed.length, 10, "from the broker, since the tail is shorter");
});

t.test("the tail of an ephemeral room recovers a short absence", async (t) => {
  const talker = await open(node);
  const { position } = await talker.join("live:score");
  for (let i = 0; i < 5; i++) await talker.publish("live:score", String(i));
  const back = await open(node);
  const { recovered, missed } = await back.join("live:score", { recover: position });
  t.equal(recovered, true);
  t.same(missed.map(({ payload }) => payload.toString()), ["0", "1", "2", "3", "4"]);
});

t.test("join can bring the newest publications, and history reads in both directions", async (t) => {
  const node = await startNode(t, { tailPublicationsMax: 8 });
  const talker = await open(node);
  await talker.join("chat:old");
  for (let i = 0; i < 30; i++) await talker.publish("chat:old", String(i));
  const reader = await open(node, { json: true });
  t.same((await reader.join("chat:old", { history: 3 })).missed.map(({ payload }) => payload.toString()), ["27", "28", "29"], "from the tail");
  await reader.leave("chat:old");
  t.equal((await reader.join("chat:old", { history: 20 })).missed.length, 20, "from the broker");
  const at = talker.publications[9]!;
  const read = async (query: object) => {
    const { history } = await reader.request({ history: { room: "chat:old", ...query } });
    const found = history!.publications!.map(({ payload }) => Number(Buffer.from(payload!).toString()));
    return { found, more: history!.more };
  };
  t.same(await read({ since: seen(at), limit: 3 }), { found: [10, 11, 12], more: true });
  t.same(await read({ before: seen(at), limit: 3 }), { found: [6, 7, 8], more: true });
  t.same(await read({ limit: 2 }), { found: [28, 29], more: true });
  const { error } = await reader.request({ history: { room: "chat:old", since: { epoch: "other", seq: 1 } } });
  t.equal(error?.code, "unrecoverable_position");
});

t.test("a publisher that excludes itself is told the position it will not see, others get the publication", async (t) => {
  const talker = await open(node);
  const listener = await open(node);
  for (const session of [talker, listener]) await session.join("chat:self");
  const position = await talker.publish("chat:self", '"quietly"', { excludeSelf: true });
  await talker.send({ publish: { room: "chat:self", payload: Buffer.from('"no reply"'), format: 1, excludeSelf: true } });
  await talker.publish("chat:self", '"aloud"');
  await listener.waitFor(() => listener.publications.length === 3);
  t.same(words(listener), ["quietly", "no reply", "aloud"]);
  t.same(words(talker), ["aloud"]);
  const unasked = talker.events.find((event) => event.published && !event.id)?.published;
  t.same({ ...seen(unasked?.position), room: unasked?.room }, { epoch: position.epoch, seq: position.seq + 1, room: "chat:self" });
  t.equal(talker.publications[0]!.prev, position.seq + 1);
});

t.test("a publish with a used idempotency key is answered with the first position and seen once", async (t) => {
  const session = await open(node);
  await session.join("chat:keys");
  const publish = { room: "chat:keys", payload: Buffer.from("1"), format: 1, key: "k1" };
  const first = await session.request({ publish });
  const second = await session.request({ publish });
  t.equal(second.published!.duplicate, true);
  t.same(seen(second.published!.position), seen(first.published!.position));
  await session.publish("chat:keys", "2");
  t.same(words(session), [1, 2]);
});

t.test("a left room is silent, and its members can come and go while it is busy", async (t) => {
  const node = await startNode(t, { commandsPerSecond: 0 });
  const talker = await open(node);
  await talker.join("live:door");
  let talking = true;
  const talk = (async () => {
    for (let i = 0; talking; i++) await talker.publish("live:door", String(i));
  })();
  const guest = await open(node);
  for (let round = 0; round < 30; round++) {
    const before = guest.publications.length;
    const { position } = await guest.join("live:door");
    await guest.waitFor(() => guest.publications.length > before + 3);
    t.equal(guest.publications[before]!.prev, position.seq, "begins right behind the position of joined");
    await guest.leave("live:door");
    const left = guest.publications.length;
    await guest.request({ ping: { time: 1 } });
    t.equal(guest.publications.length, left, "nothing after left");
  }
  talking = false;
  await talk;
});

t.test("join, publish and leave sent at once are taken in this order", async (t) => {
  const session = await open(node);
  const asked = [
    session.request({ join: { room: "chat:quick" } }),
    session.request({ publish: { room: "chat:quick", payload: Buffer.from("1"), format: 1 } }),
    session.request({ leave: { room: "chat:quick" } }),
    session.request({ join: { room: "chat:quick" } }),
    session.request({ publish: { room: "chat:quick", payload: Buffer.from("2"), format: 1 } }),
  ] as const;
  const replies = await Promise.all(asked);
  t.same(replies.map(({ error }) => error?.code), [undefined, undefined, undefined, undefined, undefined]);
  await session.waitFor(() => words(session).includes(2));
  t.equal((await session.request({ history: { room: "chat:quick" } })).history!.publications!.length, 2);
});

t.test("who may publish is a matter of the namespace", async (t) => {
  const node = await startNode(t, {
    namespaces: { news: { durable: false, publish: "nobody" }, open: { durable: false, publish: "anyone" } },
  });
  const reader = await open(node);
  const writer = await open(node);
  for (const room of ["news:a", "open:a", "chat:a"]) await reader.join(room);
  const publish = async (room: string) => {
    const { error } = await writer.request({ publish: { room, payload: Buffer.from("1"), format: 1 } });
    return error?.code;
  };
  t.equal(await publish("news:a"), "forbidden");
  t.equal(await publish("open:a"), undefined);
  t.equal(await publish("open:without members"), undefined);
  t.equal(await publish("chat:a"), "not_joined");
  t.equal(await publish("nowhere:a"), "unknown_namespace");
  await reader.waitFor(() => reader.publications.length === 1);
  t.equal(reader.publications[0]!.room, "open:a");
});
