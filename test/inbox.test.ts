/** Direct messages: every device of a user, cursors, what was missed, and what strangers can do to an inbox. */
import { passHub } from "./support/hubclock.ts";
import t, { type Test } from "tap";
import { Allowance } from "../src/hub/allowance.ts";
import { senderKey } from "../src/protocol/roomkeys.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { lose, resumeOf, words } from "./support/resume.ts";
import { open, seen, type SeenPosition, type TestSession } from "./support/session.ts";
import { token } from "./support/tokens.ts";

const secret = "s".repeat(32);
const inbox = "@inbox";

interface Place {
  tenant?: string;
  device?: string;
  json?: boolean;
}

const shared = await startNode(t, { authSecret: secret, commandsPerSecond: 0 });
let tests = 0;

/** Sessions by the names of their users, on a node that all tests share unless they need another: a tenant for each. */
async function start(t: Test, options: NodeOptions | null = null) {
  const node = options === null ? shared : await startNode(t, { authSecret: secret, reactors: 1, ...options });
  const test = `test ${++tests} `;
  const helloOf = async (sub: string, { tenant = "", device = "" }: Place = {}) => ({ token: await token({ sub, tenant: test + tenant }, secret), device });
  const as = async (sub: string, place: Place = {}) => open(node, { json: place.json ?? false, hello: await helloOf(sub, place) });
  return { node, as, helloOf };
}

async function send(from: TestSession, user: string, text: string, key?: string): Promise<SeenPosition> {
  const { sent, error } = await from.request({ send: { user, payload: Buffer.from(JSON.stringify(text)), format: 1, ...(key && { key }) } });
  if (!sent) throw new Error(`send was refused: ${error?.code}: ${error?.text}`);
  return seen(sent.position);
}

async function refusal(from: TestSession, user: string): Promise<string> {
  const { sent, error } = await from.request({ send: { user, payload: Buffer.from("1"), format: 1 } });
  return sent ? "sent" : (error?.code ?? "");
}

async function ack(session: TestSession, position: SeenPosition): Promise<void> {
  await session.send({ ack: { position } });
  await session.request({ ping: {} });
  // The ack has gone to the hub before this does, and comes back from there.
  await session.request({ history: { room: inbox, limit: 1 } });
}

async function texts(session: TestSession, count: number): Promise<string[]> {
  await session.waitFor(() => session.publications.length >= count, `${count} messages`);
  await session.request({ history: { room: inbox, limit: 1 } });
  return words(session.publications);
}

t.test("every device of a user gets a message, the sender's name with it, and nobody else does", async (t) => {
  const { as } = await start(t);
  const devices = [await as("ann", { device: "phone" }), await as("ann", { device: "laptop", json: true }), await as("ann")];
  const bob = await as("bob");
  const eve = await as("eve");
  for (const session of [...devices, bob, eve]) await session.join(inbox);
  await send(bob, "ann", "hello");
  for (const device of devices) {
    t.same(await texts(device, 1), ["hello"]);
    t.match(device.publications[0], { room: inbox, sender: "bob", seq: 1, prev: 0 });
  }
  await send(bob, "bob", "to myself");
  t.same(await texts(bob, 1), ["to myself"]);
  t.same(await texts(eve, 0), []);
});

t.test("a device that was away gets what it missed, in order, and goes on where it has acknowledged", async (t) => {
  const { as } = await start(t);
  const bob = await as("bob");
  const positions: SeenPosition[] = [];
  for (let i = 0; i < 300; i++) positions.push(await send(bob, "ann", `${i}`));
  const all = positions.map((_, i) => `${i}`);
  const phone = await as("ann", { device: "phone" });
  t.equal((await phone.join(inbox)).recovered, true);
  t.same(await texts(phone, 300), all);
  await ack(phone, positions[199]!);
  await phone.bye();

  const again = await as("ann", { device: "phone" });
  await again.join(inbox);
  t.same(await texts(again, 100), all.slice(200));
  const laptop = await as("ann", { device: "laptop" });
  await laptop.join(inbox);
  t.same(await texts(laptop, 300), all, "what the phone has read is not read by the laptop");

  await ack(again, positions[99]!);
  await again.leave(inbox);
  const { missed } = await again.join(inbox);
  t.same(words(missed), all.slice(200), "a cursor does not go back");
});

t.test("two sessions of one device have one cursor", async (t) => {
  const { as } = await start(t);
  const bob = await as("bob");
  const first = await as("ann", { device: "phone" });
  const second = await as("ann", { device: "phone" });
  await first.join(inbox);
  await second.join(inbox);
  const one = await send(bob, "ann", "one");
  const two = await send(bob, "ann", "two");
  await texts(first, 2);
  await texts(second, 2);
  await ack(first, two);
  await ack(second, one);
  await first.leave(inbox);
  t.same((await first.join(inbox)).missed, []);
});

t.test("an acknowledgement of what does not exist is refused and changes nothing", async (t) => {
  const { as } = await start(t);
  const bob = await as("bob");
  const ann = await as("ann");
  const one = await send(bob, "ann", "one");
  const errors = () => ann.events.flatMap(({ error }) => error?.code ?? []);
  await ann.send({ ack: { position: one } });
  await ann.waitFor(() => errors().length === 1, "the first error");
  await ann.join(inbox);
  for (const position of [{ ...one, seq: 2 }, { ...one, seq: 2 ** 53 - 1 }, { ...one, epoch: "other" }, { epoch: "", seq: 0 }, { epoch: "e".repeat(1000), seq: 0 }]) {
    const before = errors().length;
    await ann.send({ ack: { position } });
    await ann.waitFor(() => errors().length > before, JSON.stringify(position));
  }
  await ann.send({ ack: {} });
  await ann.waitFor(() => errors().length === 7, "no position");
  t.same(errors(), ["not_joined", ...Array(4).fill("unrecoverable_position"), "bad_request", "bad_request"]);
  await ann.leave(inbox);
  t.same(words((await ann.join(inbox)).missed), ["one"]);
});

t.test("a session that is resumed goes on in its inbox, each message once", async (t) => {
  const { node, as, helloOf } = await start(t);
  const bob = await as("bob");
  const ann = await as("ann", { device: "phone" });
  const { position } = await ann.join(inbox);
  const one = await send(bob, "ann", "one");
  await texts(ann, 1);
  await ack(ann, one);
  await ack(ann, position); // an older one does not move its session back either
  await lose(ann);
  await send(bob, "ann", "two");
  const back = await open(node, { hello: { ...(await helloOf("ann", { device: "phone" })), ...resumeOf(ann) } });
  t.same(await texts(back, 1), ["two"]);
  t.equal(back.events.find(({ joined }) => joined)?.joined?.recovered, true);
  await send(bob, "ann", "three");
  t.same(await texts(back, 2), ["two", "three"]);
});

t.test("an inbox that nobody reads keeps its newest, and its reader is told of the gap", async (t) => {
  for (const bound of [{ inboxSize: 50 }, { inboxBytesMax: 50 * 10 }]) {
    const { node, as, helloOf } = await start(t, { ...bound, sendsPerMinute: 0, commandsPerSecond: 0 });
    const bob = await as("bob");
    const ann = await as("ann", { device: "phone" });
    await ann.join(inbox);
    await ack(ann, await send(bob, "ann", "seen"));
    await lose(ann);
    // More than the tail of an active room holds, too.
    for (let i = 100; i < 400; i++) await send(bob, "ann", `m${i} 567`.slice(0, 8));
    const back = await open(node, { hello: { ...(await helloOf("ann", { device: "phone" })), ...resumeOf(ann) } });
    await back.waitFor(() => back.events.some(({ joined }) => joined), "joined");
    t.equal(back.events.find(({ joined }) => joined)?.joined?.recovered ?? false, false, "resumed: it has missed something");
    const newest = words(back.publications);
    t.equal(newest.at(-1)?.slice(0, 4), "m399");
    t.ok(newest.length >= 40 && newest.length <= 60, `${newest.length} of the newest`);
    const joins = await as("ann", { device: "phone" });
    const joined = await joins.join(inbox);
    t.equal(joined.recovered, false, "joined: the same");
    t.equal(words(joined.missed).at(-1)?.slice(0, 4), "m399");
  }
});

t.test("a new device gets all that an inbox has kept, from its oldest on, and is told that it is not all there was", async (t) => {
  const { as } = await start(t, { inboxSize: 300, sendsPerMinute: 0, commandsPerSecond: 0 });
  const bob = await as("bob");
  for (let i = 0; i < 400; i++) await send(bob, "ann", String(i));
  const ann = await as("ann", { device: "new" });
  const { recovered, missed } = await ann.join(inbox);
  t.equal(recovered, false);
  t.same(words(missed), Array.from({ length: 300 }, (_, i) => String(100 + i)));
});

t.test("messages grow too old, and their reader is told", async (t) => {
  const { as } = await start(t, { inboxTtlMs: 60_000, tailPublicationsMax: 1 });
  const bob = await as("bob");
  const ann = await as("ann");
  await ann.join(inbox);
  await ack(ann, await send(bob, "ann", "seen"));
  await ann.bye();
  for (const text of ["old", "older"]) await send(bob, "ann", text);
  passHub(t, 61_000);
  await send(bob, "ann", "new");
  const back = await as("ann");
  const joined = await back.join(inbox);
  t.equal(joined.recovered, false);
  t.same(words(joined.missed), ["new"]);
});

t.test("an inbox that was forgotten and began anew is a gap for those who had read in it", async (t) => {
  const { as } = await start(t, { roomsMax: 3 });
  const bob = await as("bob");
  const ann = await as("ann");
  await ann.join(inbox);
  await ack(ann, await send(bob, "ann", "one"));
  await send(bob, "ann", "two");
  await ann.bye();
  // Ann's inbox is empty of members, and there is room for three.
  for (let i = 0; i < 4; i++) await bob.join(`chat:${i}`).then(() => bob.leave(`chat:${i}`));
  const back = await as("ann");
  t.equal((await back.join(inbox)).recovered, false, "two is lost, and it is not said that it was not");
  await send(bob, "ann", "three");
  t.same(await texts(back, 1), ["three"]);
});

t.test("a key is its sender's: sent again it is the same message, of another sender another", async (t) => {
  const { as } = await start(t);
  const bob = await as("bob");
  const ann = await as("ann");
  await ann.join(inbox);
  const first = await send(bob, "ann", "one", "key");
  const { sent } = await bob.request({ send: { user: "ann", payload: Buffer.from('"one"'), format: 1, key: "key" } });
  t.match(sent, { duplicate: true, position: first });
  for (const [user, key] of [["bob x", "key"], ["bob", "x key"], ["bo", "b key"], ["carl", "key"]] as const) {
    await send(await as(user), "ann", `${user}/${key}`, key);
  }
  t.same(await texts(ann, 5), ["one", "bob x/key", "bob/x key", "bo/b key", "carl/key"]);
  t.not(senderKey("a b", "c"), senderKey("a", "b c"));
});

t.test("names of any Unicode are users; what is no name is refused", async (t) => {
  const { as } = await start(t);
  const bob = await as("bob");
  for (const name of ["ü", "u\u0308", "😀 user", "日".repeat(42), "@inbox", "chat:a", "a b", "__proto__", "‮rtl", "x".repeat(128)]) {
    const user = await as(name, { device: name.slice(0, 30) });
    await user.join(inbox);
    await send(bob, name, name);
    t.same(await texts(user, 1), [name]);
    await user.bye();
  }
  for (const name of ["", "x".repeat(129), "日".repeat(43), "a\u001fb", "a\nb", "\u0000"]) t.equal(await refusal(bob, name), "bad_request", JSON.stringify(name));
  const json = await as("json", { json: true });
  await json.sendMessage('{"id":77,"send":{"user":"\\ud800","data":1}}');
  await json.waitFor(() => json.events.some(({ id, error }) => id === 77 && error?.code === "bad_request"), "the refusal");
});

t.test("tenants have inboxes of their own: one's message reaches nobody of another's", async (t) => {
  const { as } = await start(t);
  const anns = [await as("ann"), await as("ann", { tenant: "red" }), await as("ann", { tenant: "blue" })];
  for (const ann of anns) await ann.join(inbox);
  for (const tenant of ["", "red", "blue"]) await send(await as("bob", { tenant }), "ann", `of ${tenant}`);
  t.same(await Promise.all(anns.map((ann) => texts(ann, 1))), [["of "], ["of red"], ["of blue"]]);
});

t.test("nobody joins, reads or publishes to an inbox but by its rules", async (t) => {
  const { node, as } = await start(t);
  const ann = await as("ann");
  await ann.join(inbox);
  t.match(await ann.request({ publish: { room: inbox, payload: Buffer.from("1"), format: 1 } }), { error: { code: "forbidden" } });
  const mute = await open(node, { hello: { token: await token({ sub: "mute", tenant: "mute", send: false }, secret) } });
  t.equal(await refusal(mute, "ann"), "forbidden");
  const eve = await as("eve");
  t.match(await eve.request({ history: { room: inbox } }), { error: { code: "not_joined" } });
  for (const room of ["\u001f@inbox\u001fann", "@inbox\u001fann"]) t.match(await eve.request({ join: { room } }), { error: { code: "bad_request" } });
  t.same(await texts(ann, 0), []);
});

t.test("a user can fill neither the inbox of another nor the node with inboxes of nobody", async (t) => {
  const { as, node } = await start(t, { sendsPerMinute: 50, newInboxesPerHour: 10 });
  const bob = await as("bob");
  const spam = await as("spam");
  const alsoSpam = await as("spam");
  const startedAt = performance.now();
  const fates = await Promise.all(Array.from({ length: 60 }, (_, i) => refusal(i % 2 === 0 ? spam : alsoSpam, "ann")));
  const counted = (fate: string) => fates.filter((each) => each === fate).length;
  const earned = Math.ceil(((performance.now() - startedAt) * 50) / 60_000);
  t.ok(counted("sent") >= 50 && counted("sent") <= 50 + earned, `${counted("sent")} of both sessions together`);
  t.equal(counted("sent") + counted("rate_limited"), 60);
  t.equal(await refusal(bob, "ann"), "sent", "others may");

  const eve = await as("eve");
  const rooms = /^flux_broker_rooms (\d+)$/m;
  let begun = 0;
  for (let i = 0; i < 40; i++) if ((await refusal(eve, `nobody ${i}`)) === "sent") begun++;
  t.equal(begun, 10);
  t.equal(Number(rooms.exec(await node.metrics())?.[1] ?? 12) <= 12, true, "the node holds no more");
  await (await as("here")).join(inbox);
  t.equal(await refusal(eve, "here"), "sent", "but she may write to those who are there");
});

t.test("an allowance is given back evenly, and what is given back is forgotten", async (t) => {
  let time = 0;
  const allowance = new Allowance(10, 1_000, () => time);
  const taken = () => Array.from({ length: 20 }, () => allowance.take("ann")).filter(Boolean).length;
  t.equal(taken(), 10);
  time = 99;
  t.equal(taken(), 0);
  time = 500;
  t.equal(taken(), 5);
  t.equal(allowance.take("bob"), true);
  time = 1_499;
  allowance.sweep();
  t.equal(allowance.size, 1);
  time = 10_000;
  allowance.sweep();
  t.equal(allowance.size, 0);
  t.equal(taken(), 10, "and no more than all of it");
  t.ok(Array.from({ length: 1_000 }, () => new Allowance(0, 1_000).take("ann")).every(Boolean));
});
