/** Several nodes on one real nats-server are one gateway. */
import t from "tap";
import { freePort } from "../src/node/ports.ts";
import { startNats } from "./support/nats.ts";
import { brokerOptions, durable, ephemeral, startBroker, value } from "./support/natsbroker.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { listen, publicationsIn, startClient } from "./support/sdk.ts";
import { open, type TestSession } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const words = (count: number, from = 0) => Array.from({ length: count }, (_, i) => `"${from + i}"`);
const textsOf = ({ publications }: TestSession) => publications.map(({ payload }) => payload.toString());

const nats = await startNats(t);
const shared = { nats: [nats.url], resumeSecret: "the same on every node, 32 and more", commandsPerSecond: 0, natsPartitions: 1 };
const [a, b] = [await startNode(t, shared), await startNode(t, shared)];
const guarded = { ...shared, authSecret: secret };
const [guardedA, guardedB] = [await startNode(t, guarded), await startNode(t, guarded)];

/** A user's session on a node that asks for tokens. */
async function enter(node: typeof a, sub: string, tenant = ""): Promise<TestSession> {
  return open(node, { hello: { token: await token({ sub, tenant }, secret), device: "d" } });
}

for (const kind of ["live", "chat"]) {
  t.test(`${kind}: what is published on one node is delivered on another, in order, and to the publisher too`, async (t) => {
    const room = `${kind}:order`;
    const [ann, bob] = [await open(a), await open(b, { json: true })];
    await ann.join(room);
    await bob.join(room);
    const said = words(100);
    await Promise.all(said.map((word) => ann.publish(room, word)));
    for (const session of [ann, bob]) {
      await session.waitFor(() => session.publications.length === said.length, "every publication");
      t.same(textsOf(session), said);
      const seqs = session.publications.map(({ seq }) => seq);
      t.same(session.publications.slice(1).map(({ prev }) => prev), seqs.slice(0, -1), "each follows the one before");
    }
  });

  t.test(`${kind}: publishers on two nodes at once: all members see the same order`, async (t) => {
    const room = `${kind}:both`;
    const [ann, bob] = [await open(a), await open(b)];
    await ann.join(room);
    await bob.join(room);
    await Promise.all(words(100).map((word, i) => (i % 2 === 0 ? ann : bob).publish(room, word)));
    for (const session of [ann, bob]) await session.waitFor(() => session.publications.length === 100, "every publication");
    t.same(textsOf(ann), textsOf(bob));
  });

  t.test(`${kind}: who asked not to be given its own publications is not, and others on both nodes are`, async (t) => {
    const room = `${kind}:excluded`;
    const [ann, eve, bob] = [await open(a), await open(a), await open(b)];
    for (const session of [ann, eve, bob]) await session.join(room);
    await ann.publish(room, '"hi"', { excludeSelf: true });
    await bob.publish(room, '"end"');
    for (const session of [eve, bob]) {
      await session.waitFor(() => session.publications.length === 2, "both");
      t.same(textsOf(session), ['"hi"', '"end"']);
    }
    await ann.waitFor(() => ann.publications.length > 0, "what is not its own");
    t.same(textsOf(ann), ['"end"']);
  });
}

t.test("a durable room is recovered on another node than it was left on", async (t) => {
  const [ann, bob] = [await open(a), await open(a)];
  await ann.join("chat:x");
  await bob.join("chat:x");
  const left = await ann.publish("chat:x", '"0"');
  await bob.bye();
  for (const word of words(400, 1)) await ann.publish("chat:x", word);
  const back = await open(b);
  const { recovered, missed } = await back.join("chat:x", { recover: left });
  t.equal(recovered, true);
  t.same(missed.map(({ payload }) => payload.toString()), words(400, 1));
  const page = await back.request({ history: { room: "chat:x", limit: 3 } });
  t.same(page.history?.publications?.map(({ payload }) => Buffer.from(payload ?? []).toString()), words(3, 398));
});

t.test("a member that was in a quiet room on one node has missed nothing on another", async (t) => {
  const ann = await open(a);
  const early = (await ann.join("chat:quiet")).position;
  await ann.join("chat:busy");
  await ann.publish("chat:busy", '"1"');
  const bob = await open(b);
  const late = (await bob.join("chat:quiet")).position;
  t.ok(late.seq > early.seq, "the second node knows a later place of the stream");
  for (const [node, recover] of [[a, late], [b, early]] as const) {
    const { recovered, missed } = await (await open(node)).join("chat:quiet", { recover });
    t.same({ recovered, missed }, { recovered: true, missed: [] });
  }
  const beyond = { ...late, seq: late.seq + 1000 };
  t.equal((await (await open(a)).join("chat:quiet", { recover: beyond })).recovered, false, "a place that nobody was at");
});

t.test("a key that was used on one node is known on the other", async (t) => {
  const [ann, bob] = [await open(a), await open(b)];
  for (const room of ["chat:keys", "live:keys"]) {
    await ann.join(room);
    await bob.join(room);
    await ann.publish(room, '"once"', { key: "k" });
    await bob.waitFor(() => bob.publications.some((one) => one.room === room), "it to be there");
    const again = await bob.request({ publish: { room, payload: Buffer.from('"twice"'), key: "k", format: 1 } });
    t.equal(again.published?.duplicate, true, room);
    await ann.publish(room, '"end"');
    await ann.waitFor(() => ann.publications.some((one) => one.room === room && one.payload.toString() === '"end"'), "the end");
  }
  t.same(textsOf(ann), ['"once"', '"end"', '"once"', '"end"']);
});

t.test("rooms of tenants with the same name are two, on all nodes", async (t) => {
  const [red, blue, redToo] = [await enter(guardedA, "ann", "red"), await enter(guardedB, "ann", "blue"), await enter(guardedB, "ann", "red")];
  for (const room of ["chat:tenants", "live:tenants"]) {
    for (const session of [red, blue, redToo]) await session.join(room);
    await red.publish(room, '"for red"');
    await blue.publish(room, '"for blue"');
  }
  for (const session of [red, redToo]) {
    await session.waitFor(() => session.publications.length === 2, "both");
    t.same(textsOf(session), ['"for red"', '"for red"']);
  }
  await blue.waitFor(() => blue.publications.length === 2, "both");
  t.same(textsOf(blue), ['"for blue"', '"for blue"']);
});

t.test("direct messages reach a user's inbox on any node", async (t) => {
  const [ann, bob] = [await enter(guardedA, "ann"), await enter(guardedB, "bob")];
  const sent = await ann.request({ send: { user: "bob", payload: Buffer.from('"before"'), format: 1 } });
  t.ok(sent.sent, JSON.stringify(sent));
  await bob.join("@inbox");
  await ann.request({ send: { user: "bob", payload: Buffer.from('"after"'), format: 1 } });
  await bob.waitFor(() => bob.publications.length === 2, "both");
  t.same(textsOf(bob), ['"before"', '"after"']);
});

t.test("rooms with names of any kind are kept apart on their way through NATS", async (t) => {
  const names = ["a.b", "a b", "a>b", "a*b", "a=2Eb", "a/b", "ü", "u\u0308", "😀", "A.B", "$JS.API", "x".repeat(250), `${"x".repeat(249)}y`, ">", "*", "."];
  const [ann, bob] = [await open(a), await open(b)];
  for (const kind of ["live", "chat"]) {
    const rooms = names.map((name) => `${kind}:${name}`);
    for (const room of rooms) for (const session of [ann, bob]) await session.join(room);
    for (const room of rooms) await ann.publish(room, JSON.stringify(room));
    const got = () => bob.publications.filter(({ room }) => room.startsWith(kind));
    await bob.waitFor(() => got().length >= rooms.length, "one of each");
    t.same(got().map(({ room, payload }) => [room, payload.toString()]), rooms.map((room) => [room, JSON.stringify(room)]));
  }
});

t.test("who asks is told whether a room had kept nothing before, on any node", async (t) => {
  const options = brokerOptions(nats);
  const [one, other] = [await startBroker(t, options), await startBroker(t, options)];
  const isFirst = async (broker: typeof one, room: string) => value(await broker.publish(room, "hi", { asksFirst: true })).first;
  t.equal(await isFirst(one, "x"), true);
  t.equal(await isFirst(one, "x"), false);
  t.equal(await isFirst(other, "x"), false);
  t.equal(await isFirst(other, "y"), true);
});

t.test("a node listens to what rooms are in use there, and to nothing else", async (t) => {
  const port = await freePort();
  const server = await startNats(t, { flags: ["-m", String(port)] });
  const subscriptions = async () => ((await (await fetch(`http://127.0.0.1:${port}/subsz`)).json()) as { num_subscriptions: number }).num_subscriptions;
  const { broker, open: openRoom, publish, history } = await startBroker(t, brokerOptions(server));
  const rooms = Array.from({ length: 20 }, (_, i) => ({ name: `room${i}`, retention: i % 2 === 0 ? durable : ephemeral }));
  const use = async (): Promise<number> => {
    await Promise.all(rooms.map(({ name, retention }) => openRoom(name, retention)));
    const inUse = await subscriptions();
    for (const { name, retention } of rooms) await publish(name, "hi", { retention });
    await Promise.all(rooms.map(({ name }) => history(name, { direction: "newest" })));
    for (const { name } of rooms) broker.close(name);
    return inUse;
  };
  const unused = await subscriptions();
  await use();
  // What its client and its streams need came with the first use.
  await until(async () => (await subscriptions()) < unused + rooms.length, "nobody to listen to closed rooms");
  const before = await subscriptions();
  for (let i = 0; i < 5; i++) t.ok((await use()) >= before + rooms.length, "each room in use is listened to");
  await until(async () => (await subscriptions()) === before, "as many as before");

  const node = await startNode(t, { nats: [server.url], natsPartitions: 1, roomsMax: 5, reactors: 1 });
  const ann = await open(node);
  const withNode = await subscriptions();
  for (let i = 0; i < 40; i++) {
    const room = `${i % 2 === 0 ? "live" : "chat"}:${i}`;
    // The one that was empty longest makes room when that has been noticed.
    await until(async () => (await ann.request({ join: { room } })).joined != null, "it to be in");
    await ann.publish(room, '"hi"');
    await ann.leave(room);
  }
  t.ok((await subscriptions()) <= withNode + 10, `${await subscriptions()} after 40 rooms of which five are kept, ${withNode} before`);
});

t.test("many who ask for one page of a history at once cost one read", async (t) => {
  const { broker, open: openRoom, publish, history } = await startBroker(t, brokerOptions(nats));
  await openRoom("x");
  for (let i = 0; i < 20; i++) await publish("x", String(i));
  const read = async (times: number) => {
    const before = broker.nats().reads;
    const pages = await Promise.all(Array.from({ length: times }, () => history("x", { direction: "newest", limit: 10 })));
    for (const page of pages) t.equal(value(page).publications.length, 10);
    return broker.nats().reads - before;
  };
  t.equal(await read(100), await read(1));

  const node = await startNode(t, { ...shared, tailPublicationsMax: 1, reactors: 1 });
  const ann = await open(node);
  await ann.join("chat:read");
  for (const word of words(20)) await ann.publish("chat:read", word);
  const count = async () => sumOf(await node.metrics(), "flux_nats_reads_total");
  const before = await count();
  const replies = await Promise.all(Array.from({ length: 100 }, () => ann.request({ history: { room: "chat:read", limit: 10 } })));
  t.ok(replies.every((reply) => reply.history?.publications?.length === 10), "all have their page");
  t.ok((await count()) - before <= 25, `${(await count()) - before} reads for 100 who asked at once`);
});

t.test("who publishes without being given its own asks for nothing where other rooms share the stream", async (t) => {
  const node = await startNode(t, { nats: [nats.url], natsPrefix: "skip", natsPartitions: 1 });
  const [ann, bob, reader] = [startClient(t, node.url), startClient(t, node.url), await open(node)];
  const [mine, other] = [ann.join("chat:mine"), bob.join("chat:other")];
  const heard = listen(mine);
  await Promise.all([mine.joined, other.joined]);
  await reader.join("chat:mine");
  for (let i = 0; i < 5; i++) {
    await other.publish(i);
    await mine.publish(`own ${i}`, { excludeSelf: true });
    await other.publish(i);
    await reader.publish("chat:mine", JSON.stringify(i));
  }
  await until(() => publicationsIn(heard).length === 5, "the others' publications");
  t.same(heard.filter(({ kind }) => kind === "recovered" || kind === "gap"), []);
});

t.test("what an embedding program publishes reaches clients of both nodes and formats, once a key; both nodes read it back", async (t) => {
  for (const room of ["chat:embedded", "live:embedded"]) {
    const members = [await open(a), await open(b, { json: true })];
    for (const member of members) await member.join(room);
    const stream = b.stream(room);
    const { position } = (await stream.next()).value!;
    const first = await a.publish(room, { from: "a" }, { key: "k" });
    t.match(first, { receivers: 1, duplicate: false }, "members on the other node are not counted");
    const second = await b.publish(room, new Uint8Array([1]));
    if (room === "chat:embedded") t.equal(second.epoch, first.epoch);
    if (room === "chat:embedded") t.match(await b.publish(room, "again", { key: "k" }), { seq: first.seq, duplicate: true });
    for (const member of members) {
      await member.waitFor(() => member.publications.length === 2, "both publications");
      t.same(member.publications.map(({ sender, payload }) => [sender, payload.toString("latin1")]), [["", '{"from":"a"}'], ["", "\u0001"]]);
      await member.bye();
    }
    const followed = [await stream.next(), await stream.next()].map(({ value }) => value?.kind === "publication" && value.data);
    t.same(followed, [{ from: "a" }, new Uint8Array([1])]);
    await stream.return!();
    if (room === "live:embedded") continue;
    const again = a.stream(room, { since: position });
    t.same([(await again.next()).value, (await again.next()).value?.position], [{ kind: "open", position }, { epoch: first.epoch, seq: first.seq }]);
    await again.return!();
  }
  // Nobody has been in this room.
  for (let i = 0; i < 5; i++) await a.publish("chat:unopened", i);
  const page = await b.history("chat:unopened", { limit: 2 });
  t.same([page.publications.map(({ data }) => data), page.more], [[3, 4], true]);
  const rest = await a.history("chat:unopened", { before: page.publications[0]!.position });
  t.same([rest.publications.map(({ data }) => data), rest.more], [[0, 1, 2], false]);
  t.equal(await a.history("chat:unopened", { since: { epoch: "another", seq: 1 } }).catch(({ code }) => code), "unrecoverable_position");
  t.equal((await a.send("bob", "hi")).duplicate, false);
  t.equal((await a.members("chat:unopened")).complete, false, "these nodes share no Redis");
});
