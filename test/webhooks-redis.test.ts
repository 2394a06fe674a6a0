/** Webhooks of several nodes on one Redis: who tells what a dead node saw, and each fact under one id. */
import t, { type Test } from "tap";
import { factsMax } from "../src/facts/facts.ts";
import { createRedisFacts } from "../src/facts/redis/redis.ts";
import { startReceiver, said, type Receiver } from "./support/receiver.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";
import { startWebhookNode } from "./support/webhooknode.ts";

const server = await startRedis(t);
const start = (t: Test, prefix: string, name: string, receiver: Receiver, more: Parameters<typeof startWebhookNode>[5] = {}) => startWebhookNode(t, server.url, prefix, name, receiver, more);

const of = (receiver: Receiver, part: string, path = "/a") => receiver.said(path).filter((text) => text.includes(part));
const idsOf = (receiver: Receiver, path: string) => receiver.taken.filter((one) => one.path === path).map(({ id }) => id);
const leftOver = async (prefix: string) => (await server.client.keys(`${prefix}*:h`)).length;

t.test("members of two nodes: in order for each room, each endpoint what it wants, and nothing waits in the end", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const [one, two] = await Promise.all([start(t, prefix, "one", receiver), start(t, prefix, "two", receiver)]);
  one.presence.enter("chat:r", "\u001fann", "1");
  await until(() => of(receiver, "chat:r").length === 2, "ann");
  two.presence.enter("chat:r", "\u001fbob", "1");
  await until(() => of(receiver, "chat:r").length === 3, "bob");
  two.presence.leave("chat:r", "\u001fbob", "1");
  two.presence.enter("chat:r", "\u001fbob", "2");
  one.presence.leave("chat:r", "\u001fann", "1");
  await until(() => of(receiver, "left").length === 1, "ann to have left");
  two.presence.leave("chat:r", "\u001fbob", "2");
  await until(() => of(receiver, "vacated").length === 1 && of(receiver, "vacated", "/b").length === 1, "the end");
  t.strictSame(of(receiver, "chat:r"), ["room.occupied chat:r", "member.joined chat:r ann", "member.joined chat:r bob", "member.left chat:r ann", "member.left chat:r bob", "room.vacated chat:r"]);
  t.strictSame(receiver.said("/b"), ["room.occupied chat:r", "room.vacated chat:r"]);
  await until(async () => (await leftOver(prefix)) === 0, "the lists to be empty");
  await until(() => !one.webhooks.has("rchat:r") && !two.webhooks.has("rchat:r"), "both nodes to have forgotten the room");
});

t.test("sessions: connected and ended once, however often resumed and wherever", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const [one, two] = await Promise.all([start(t, prefix, "one", receiver, { sessionTtlMs: 400 }), start(t, prefix, "two", receiver, { sessionTtlMs: 400 })]);
  one.presence.online("\u001fann", "1", { id: "S", isNew: true });
  await until(() => of(receiver, "connected").length === 1, "it to begin");
  two.presence.online("\u001fann", "7", { id: "S", isNew: false });
  one.presence.offline("\u001fann", "1", { id: "S", isOver: false });
  two.presence.online("\u001fann", "8", { id: "T", isNew: true });
  await until(() => of(receiver, "connected").length === 2, "another to begin");
  two.presence.offline("\u001fann", "8", { id: "T", isOver: true });
  await until(() => of(receiver, "ended").length === 1, "that to end at once");
  two.presence.offline("\u001fann", "7", { id: "S", isOver: false });
  await until(() => of(receiver, "offline").length === 1, "the grace");
  await until(() => of(receiver, "ended").length === 2, "the first to end in time");
  t.strictSame(receiver.taken.filter(({ type }) => type.startsWith("session")).map(({ type, data }) => `${type} ${data.session}`), ["session.connected S", "session.connected T", "session.ended T", "session.ended S"]);
  t.strictSame(of(receiver, "user."), ["user.online ann", "user.offline ann"]);
});

t.test("a node is killed, and two others both clean up after it: each fact once by id; a room that others are in is not vacated", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const [one, two, dead] = await Promise.all(["one", "two", "dead"].map((name) => start(t, prefix, name, receiver)));
  for (let i = 0; i < 30; i++) dead!.presence.enter(`chat:${i % 3}`, `\u001fuser${i}`, `${i}`);
  for (let i = 0; i < 30; i++) dead!.presence.online(`\u001fuser${i}`, `${i}`, { id: `S${i}`, isNew: true });
  one!.presence.enter("chat:0", "\u001fann", "1");
  await until(() => of(receiver, "joined").length === 31 && of(receiver, "connected").length === 30, "all to have come");
  await dead!.kill();
  one!.presence.nodeGone("dead");
  // Its lease is lost, so that the other believes that it is the one to clean up.
  const lease = setInterval(() => void server.client.del(`${prefix}lease:dead`), 1);
  t.teardown(() => clearInterval(lease));
  two!.presence.nodeGone("dead");
  await until(() => of(receiver, "left").length >= 30 && of(receiver, "session.ended").length >= 30 && of(receiver, "offline").length >= 30 && of(receiver, "vacated").length >= 2, "all of it");
  await until(async () => (await leftOver(prefix)) === 0, "the lists to be empty");
  const byId = new Map(receiver.taken.filter(({ path }) => path === "/a").map((one) => [one.id, said(one)]));
  const told = [...byId.values()];
  for (const [part, count] of [["member.left", 30], ["room.vacated", 2], ["session.ended", 30], ["user.offline", 30]] as const) t.equal(told.filter((text) => text.startsWith(part)).length, count, part);
  t.notOk(told.includes("room.vacated chat:0"));
  t.notOk(told.some((text) => text.includes("left") && text.endsWith("ann")));
});

t.test("a node is killed while it tells: another tells what it had claimed, under the same ids, without waiting for the claim to expire", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const [one, dead] = await Promise.all([start(t, prefix, "one", receiver), start(t, prefix, "dead", receiver)]);
  receiver.answer = () => {}; // the dead node waits for answers when it is killed
  dead.presence.enter("chat:x", "\u001fann", "1");
  await until(() => receiver.asked.length === 2, "both endpoints to be asked");
  const asked = receiver.asked.map(({ path, id }) => path + id).sort();
  await dead.kill();
  receiver.answer = 204;
  one.presence.nodeGone("dead");
  await until(() => of(receiver, "vacated").length === 1 && of(receiver, "vacated", "/b").length === 1, "everything");
  t.strictSame(receiver.taken.filter(({ type }) => type === "room.occupied").map(({ path, id }) => path + id).sort(), asked);
  t.strictSame(of(receiver, "chat:x"), ["room.occupied chat:x", "member.joined chat:x ann", "member.left chat:x ann", "room.vacated chat:x"]);
  t.equal(new Set(idsOf(receiver, "/a")).size, 4);
});

t.test("a claim of a node that was found dead is free only as far as it was made before that; a node that lost its claim learns of it", async (t) => {
  const prefix = freshPrefix();
  const receiver = await startReceiver(t);
  const one = await start(t, prefix, "one", receiver);
  await one.webhooks.close(); // it adds facts, and tells none
  one.presence.enter("chat:c", "\u001fann", "1");
  await until(async () => (await leftOver(prefix)) === 1, "the facts to be written");
  const of = (node: string) => createRedisFacts({ redis: one.link, prefix, node, endpointsOf: () => ["a"] });
  const [dead, other] = [of("dead"), of("other")];
  const mine = await dead.claim("a", "rchat:c", { max: 1 });
  t.match(mine, { waiting: 2, heldMs: 0 });
  t.ok((await other.claim("a", "rchat:c", { max: 1, gone: { node: "dead", forMs: 60_000 } })).heldMs > 0, "it claimed after it was found dead: it is back");
  t.ok((await other.claim("a", "rchat:c", { max: 1, gone: { node: "third", forMs: 0 } })).heldMs > 0);
  t.match(await other.claim("a", "rchat:c", { max: 1, gone: { node: "dead", forMs: 0 } }), { waiting: 2, heldMs: 0 });
  t.equal(await dead.told("a", "rchat:c", { epoch: mine.epoch, n: 1, isOver: false }), -1);
  t.strictSame(await other.count("a", ["rchat:c", "rchat:nowhere"]), [1, 0]);
  t.equal(await other.told("a", "rchat:c", { epoch: mine.epoch, n: 2, isOver: true }), 0);
});

t.test("too many events wait: new ones are refused and counted, rooms go on; when the endpoint is back there is room again", async (t) => {
  const receiver = await startReceiver(t);
  receiver.answer = 500;
  const prefix = freshPrefix();
  const one = await start(t, prefix, "one", receiver, { eventsMax: 20 });
  for (let i = 0; i < 40; i++) {
    one.presence.enter(`chat:${i}`, "\u001fann", "1");
    await until(async () => (await server.client.keys(`${prefix}room:{chat:${i}}:*`)).length > 0, "it to be written");
  }
  t.ok(one.webhooks.queue().refused.events > 0, "some were refused");
  t.ok((await leftOver(prefix)) < 40);
  receiver.answer = 204;
  await until(async () => (await leftOver(prefix)) === 0, "everything to be told");
  one.presence.enter("chat:after", "\u001fann", "1");
  await until(() => of(receiver, "chat:after").length === 2, "new events");
});

t.test("the node that was to tell dies before it has told anything: the list says it", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const [one, dead] = await Promise.all([start(t, prefix, "one", receiver), start(t, prefix, "dead", receiver)]);
  await dead.webhooks.close(); // it adds facts, and tells none
  dead.presence.enter("chat:y", "\u001fann", "1");
  await until(async () => (await leftOver(prefix)) === 1, "the facts to be written");
  await dead.kill();
  one.presence.nodeGone("dead");
  await until(() => of(receiver, "chat:y").length === 4, "everything");
  t.strictSame(of(receiver, "chat:y"), ["room.occupied chat:y", "member.joined chat:y ann", "member.left chat:y ann", "room.vacated chat:y"]);
});

t.test("a node that was taken for dead lives on: its session has not ended, and ends once; after Redis was wiped it is told again", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const [one, two] = await Promise.all([start(t, prefix, "one", receiver, { aliveMs: 50, sessionTtlMs: 60_000 }), start(t, prefix, "two", receiver, { sessionTtlMs: 60_000 })]);
  const key = (part: string) => `${prefix}user:{\u001fann}:${part}`;
  one.presence.online("\u001fann", "1", { id: "S", isNew: true });
  await until(() => of(receiver, "connected").length === 1, "it to begin");
  two.presence.nodeGone("one");
  await until(async () => (await server.client.hmget(key("u"), "went", "seen")).some((at) => at !== null), "the other node to have cleaned up");
  await until(async () => (await server.client.hget(key("b"), "S")) === "one/1" && (await server.client.zcard(key("d"))) === 0, "the session to be written again");
  t.equal(of(receiver, "connected").length, 1);
  await server.client.flushall();
  await until(() => of(receiver, "connected").length === 2, "it to be told again");
  one.presence.offline("\u001fann", "1", { id: "S", isOver: true });
  await until(() => of(receiver, "ended").length === 1, "it to end");
});

t.test("a room goes off the list of those to clean up while its last member leaves: it comes back", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const one = await start(t, prefix, "one", receiver, { graceMs: 60_000 });
  one.presence.enter("chat:v", "\u001fann", "1");
  one.presence.online("\u001fann", "1", { id: "S", isNew: true });
  await until(() => of(receiver, "joined").length === 1 && of(receiver, "connected").length === 1, "ann");
  await until(() => !one.webhooks.has("rchat:v") && !one.webhooks.has("u\u001fann"), "everything to be told");
  one.presence.leave("chat:v", "\u001fann", "1");
  one.presence.offline("\u001fann", "1", { id: "S", isOver: false });
  one.presence.factsTold("rchat:v");
  one.presence.factsTold("u\u001fann");
  await until(async () => (await server.client.zcard(`${prefix}room:{chat:v}:l`)) === 1 && (await server.client.zcard(`${prefix}user:{\u001fann}:d`)) === 1, "both to be written");
  await until(async () => (await server.client.sismember(`${prefix}rooms-of:one`, "chat:v")) === 1, "the room to be listed");
  await until(async () => (await server.client.sismember(`${prefix}users-of:one`, "\u001fann")) === 1, "the user to be listed");
});

t.test("too many events of a room: what is deleted is lost to the endpoint alone that was not told it", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const one = await start(t, prefix, "one", receiver);
  await one.webhooks.close(); // it adds facts, and tells none
  const key = (part: string) => `${prefix}room:{chat:m}:${part}`;
  await server.client.rpush(key("h"), ...Array.from({ length: factsMax }, (_, i) => `${i + 1} 1700000000000 j 1  \u001fann`));
  await server.client.hset(key("w"), { epoch: "E", n: factsMax, "told:a": factsMax });
  one.presence.enter("chat:m", "\u001fann", "1");
  await until(async () => Number(await server.client.hget(key("w"), "n")) === factsMax + 2, "both to be added");
  const facts = createRedisFacts({ redis: one.link, prefix, node: "one", endpointsOf: () => ["a", "b"] });
  t.match(await facts.claim("a", "rchat:m", { max: 1 }), { waiting: 2, lost: 0 });
  t.match(await facts.claim("b", "rchat:m", { max: 1 }), { waiting: factsMax, lost: 2, facts: [{ n: 3 }] });
  t.match(await facts.claim("b", "rchat:m", { max: 1 }), { waiting: factsMax, lost: 0 });
});

t.test("a node is killed, restarted under its name, and killed again before it has told anything: the list still says it", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const [one, dead] = await Promise.all([start(t, prefix, "one", receiver), start(t, prefix, "dead", receiver)]);
  receiver.answer = () => {};
  dead.presence.enter("chat:z", "\u001fann", "1");
  dead.presence.online("\u001fann", "1", { id: "S", isNew: true });
  await until(() => receiver.asked.length === 3, "the endpoints to be asked");
  await dead.kill();
  const again = await start(t, prefix, "dead", receiver);
  await until(() => receiver.asked.length === 6, "the endpoints to be asked again");
  await again.kill();
  receiver.answer = 204;
  one.presence.nodeGone("dead");
  await until(() => ["vacated", "session.ended", "offline"].every((part) => of(receiver, part).length === 1), "everything");
  t.equal(new Set(idsOf(receiver, "/a")).size, 8);
});

t.test("Redis has lost its last writes: what follows has their numbers, and other ids", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const one = await start(t, prefix, "one", receiver);
  const list = `${prefix}room:{chat:q}:w`;
  const come = async (user: string) => {
    one.presence.enter("chat:q", `\u001f${user}`, user);
    await until(() => of(receiver, `joined chat:q ${user}`).length === 1 && !one.webhooks.has("rchat:q"), user);
  };
  await come("ann");
  const before = await server.client.hgetall(list);
  await come("bob");
  await server.client.del(list);
  await server.client.hset(list, before);
  await come("eve");
  const [bob, eve] = ["bob", "eve"].map((user) => receiver.taken.find(({ path, type, data }) => path === "/a" && type === "member.joined" && data.user === user)!);
  t.match(eve!.data, { epoch: bob!.data.epoch, number: bob!.data.number });
  t.not(eve!.id, bob!.id);
});

t.test("Redis is wiped: what is true is told again under another epoch, and nothing is told twice under one id", async (t) => {
  const receiver = await startReceiver(t);
  const prefix = freshPrefix();
  const one = await start(t, prefix, "one", receiver);
  one.presence.enter("chat:w", "\u001fann", "1");
  await until(() => of(receiver, "joined").length === 1, "ann");
  await server.client.flushall();
  one.presence.enter("chat:w", "\u001fbob", "2");
  await until(() => of(receiver, "joined chat:w bob").length === 1, "bob");
  const epochs = receiver.taken.filter(({ path, type }) => path === "/a" && type === "room.occupied").map(({ data }) => data.epoch);
  t.equal(new Set(epochs).size, 2);
  t.equal(new Set(idsOf(receiver, "/a")).size, idsOf(receiver, "/a").length);
});
