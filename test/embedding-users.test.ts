/** What the program does with users: join, leave, reconnect, disconnect, and what it reads of users and rooms. */
import t from "tap";
import { ApiError, type Gateway } from "../dist/index.js";
import { startNode } from "./support/node.ts";
import { none } from "./support/only.ts";
import { lose, resumeOf } from "./support/resume.ts";
import { open, type TestSession } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const namespaces = { chat: { durable: true, presence: "members", presenceEvents: true }, live: { presence: "anyone" }, hidden: { presence: "nobody" } } as const;
const options = { reactors: 2, authSecret: secret, namespaces, commandsPerSecond: 0, roomsPerSessionMax: 5 };
const node = await startNode(t, options);

const come = async (gateway: Gateway, sub: string, claims: object = {}, json = false) =>
  open(gateway, { json, hello: { token: await token({ sub, rooms: {}, ...claims }, secret) } });
const codeOf = async (call: Promise<unknown>): Promise<string> =>
  call.then(() => "ok", (error: unknown) => (error instanceof ApiError ? error.code : `no ApiError: ${String(error)}`));

/** What the session was told of a room without asking, in order. */
const told = ({ events }: TestSession, room: string) => events.flatMap(({ id, joined, left }) => {
  if (id) return [];
  if (joined?.room === room) return [joined.assigned === true ? "joined by the application" : "joined"];
  return left?.room === room ? [`left ${left.reason ?? ""}`.trim()] : [];
});

for (const [where, start] of [
  ["memory", async () => node],
  ["--data-dir", async (t: { testdir(): string; teardown(f: () => void): void }) => startNode(t, { ...options, dataDir: t.testdir() })],
] as const) {
  t.test(`over ${where}: join takes all sessions of a user into a room, those to come as well, and leave takes them out`, async (t) => {
    const gateway: Gateway = await start(t);
    const [binary, json, bob] = [await come(gateway, "ann"), await come(gateway, "ann", {}, true), await come(gateway, "bob")];
    t.strictSame(await gateway.join("ann", "chat:a"), { sessions: 2, refused: 0, unanswered: [], complete: true });
    t.match(await gateway.publish("chat:a", 1), { receivers: 2 }, "they are in the room when join is done");
    const later = await come(gateway, "ann");
    t.strictSame([...(later.ready?.assigned ?? [])], ["chat:a"]);
    await later.waitFor(() => told(later, "chat:a").length === 1, "it to be joined");
    await gateway.publish("chat:a", 2);
    for (const [session, count] of [[binary, 2], [json, 2], [later, 1]] as const) {
      await session.waitFor(() => session.publications.length === count, "what is published");
      t.strictSame(told(session, "chat:a"), ["joined by the application"]);
    }
    t.strictSame(await gateway.join("ann", "chat:a"), { sessions: 3, refused: 0, unanswered: [], complete: true }, "again");
    t.match(await gateway.members("chat:a"), { users: 1, sessions: 3, members: [{ user: "ann", sessions: 3 }] });
    t.strictSame(await gateway.leave("ann", "chat:a"), { sessions: 3, unanswered: [], complete: true });
    await gateway.publish("chat:a", 3);
    for (const session of [binary, json, later]) {
      await session.waitFor(() => told(session, "chat:a").length === 2, "it to leave");
      t.strictSame(told(session, "chat:a"), ["joined by the application", "left removed"]);
      t.equal((await session.request({ leave: { room: "chat:a" } })).error?.code, "not_joined");
      t.equal((await session.request({ join: { room: "chat:a" } })).error?.code, "forbidden", "the token never allowed it");
      t.notOk(session.publications.some(({ payload }) => payload.toString() === "3"));
    }
    t.strictSame([told(bob, "chat:a"), bob.publications], [[], []]);
    t.strictSame(await gateway.leave("ann", "chat:a"), { sessions: 0, unanswered: [], complete: true }, "again");
    const last = await come(gateway, "ann");
    t.strictSame([...(last.ready?.assigned ?? [])], []);
    for (const session of [binary, json, bob, later, last]) await session.bye();
  });
}

t.test("a user without a session: the rooms are there when the user comes, also after the node has been restarted over its data", async (t) => {
  const dataDir = t.testdir();
  const first = await startNode(t, { ...options, dataDir });
  t.strictSame(await first.join("ann", "chat:a"), { sessions: 0, refused: 0, unanswered: [], complete: true });
  await first.join("ann", "chat:b");
  await first.join("ann", "live:c");
  await first.leave("ann", "chat:b");
  await first.close();
  const second = await startNode(t, { ...options, dataDir });
  const ann = await come(second, "ann");
  t.strictSame([...(ann.ready?.assigned ?? [])].sort(), ["chat:a", "live:c"]);
  t.strictSame((await second.user("ann")).joined, ["chat:a", "live:c"]);
});

t.test("a session that is resumed is in its rooms again, from its position, with no right of its own; and in those that came meanwhile", async (t) => {
  await node.join("rae", "chat:resume");
  const before = await come(node, "rae");
  await before.waitFor(() => told(before, "chat:resume").length === 1, "it to be joined");
  await node.publish("chat:resume", 1);
  await before.waitFor(() => before.publications.length === 1, "the first");
  const { epoch, seq } = before.publications[0]!;
  await lose(before);
  await node.publish("chat:resume", 2);
  await node.join("rae", "live:meanwhile");
  const after = await open(node, { hello: resumeOf(before, [{ room: "chat:resume", position: { epoch, seq } }]) });
  t.match(after.ready, { resumed: true, rooms: ["chat:resume"], assigned: ["chat:resume", "live:meanwhile"] });
  await after.waitFor(() => told(after, "live:meanwhile").length === 1 && after.publications.length === 1, "both rooms");
  t.strictSame(after.publications.map(({ payload }) => payload.toString()), ["2"]);
  t.strictSame(told(after, "chat:resume"), ["joined by the application"]);
  await lose(after);
  await node.leave("rae", "chat:resume");
  const last = await open(node, { hello: resumeOf(after) });
  t.match(last.ready, { resumed: true, rooms: ["live:meanwhile"], assigned: ["live:meanwhile"] }, "removed while it had no socket");
  await last.bye();
});

t.test("a client that is in the room already stays; leave takes it out too, and it may join again where its token allows it", async (t) => {
  const cat = await come(node, "cat", { rooms: { "chat:*": ["join"] } });
  await cat.join("chat:own");
  t.match(await node.join("cat", "chat:own"), { sessions: 1, refused: 0 });
  t.strictSame(told(cat, "chat:own"), []);
  t.match(await node.leave("cat", "chat:own"), { sessions: 1 });
  await cat.waitFor(() => told(cat, "chat:own").length === 1, "it to leave");
  t.strictSame(told(cat, "chat:own"), ["left removed"]);
  await cat.join("chat:own");
  t.match(await node.leave("cat", "chat:own"), { sessions: 1 }, "also where it had joined by itself");
  await cat.bye();
});

t.test("a client may leave such a room, join it again with a position, and join what it is being joined into", async (t) => {
  const dan = await come(node, "dan");
  await node.join("dan", "chat:again");
  await dan.waitFor(() => told(dan, "chat:again").length === 1, "it to be joined");
  const first = await node.publish("chat:again", 1);
  t.ok((await dan.leave("chat:again")).left);
  await node.publish("chat:again", 2);
  t.strictSame((await dan.join("chat:again", { recover: first })).missed.map(({ payload }) => payload.toString()), ["2"]);
  t.strictSame((await dan.join("chat:again", { recover: { ...first, seq: 0 } })).missed.map(({ payload }) => payload.toString()), ["1", "2"], "while it is in it");
  t.match(await node.members("chat:again"), { sessions: 1 });
  t.match(await node.publish("chat:again", 3), { receivers: 1 });
  await dan.leave("chat:again");
  t.match(await node.join("dan", "chat:again"), { sessions: 1 }, "the application asks again");
  await dan.waitFor(() => told(dan, "chat:again").length === 2, "it to be joined again");
  // Both at once.
  const joins = Promise.all([node.join("dan", "live:race"), dan.request({ join: { room: "live:race" } })]);
  const [by, answer] = await joins;
  t.match(by, { sessions: 1 });
  t.ok(answer.joined !== undefined || answer.error?.code === "forbidden", "what it may depends on which came first");
  t.match(await node.publish("live:race", 1), { receivers: 1 });
  await dan.bye();
});

t.test("a new token that does not allow the room does not end it", async (t) => {
  const eve = await come(node, "eve", { rooms: { "chat:*": ["join"] } });
  await eve.join("chat:mine");
  await node.join("eve", "chat:theirs");
  const { refreshed } = await eve.request({ refresh: { token: await token({ sub: "eve", rooms: { "chat:theirs": ["publish"] } }, secret) } });
  t.ok(refreshed);
  await eve.waitFor(() => told(eve, "chat:mine").length === 1, "the one that the token allowed");
  t.strictSame([told(eve, "chat:mine"), told(eve, "chat:theirs")], [["left forbidden"], ["joined by the application"]]);
  t.equal((await eve.request({ publish: { room: "chat:theirs", payload: Buffer.from("1"), format: 1 } })).error?.code ?? "ok", "ok", "publishing follows the token");
  await eve.bye();
});

t.test("no more rooms than a session may join: of a user, and of a session that has joined others by itself", async (t) => {
  for (let i = 0; i < 5; i++) await node.join("max", `chat:${i}`);
  t.equal(await codeOf(node.join("max", "chat:5")), "too_many_rooms");
  t.equal(await codeOf(node.join("max", "chat:4")), "ok", "one that the user has");
  const own = await come(node, "own", { rooms: { "chat:*": ["join"] } });
  for (let i = 0; i < 5; i++) await own.join(`chat:own ${i}`);
  t.match(await node.join("own", "chat:one more"), { sessions: 0, refused: 1 });
  t.strictSame(told(own, "chat:one more"), []);
  await own.leave("chat:own 0");
  t.match(await node.join("own", "chat:one more"), { sessions: 1, refused: 0 });
  await own.bye();
});

t.test("a tenant's users and rooms are its own", async (t) => {
  const [red, blue] = [await come(node, "tim", { tenant: "red" }), await come(node, "tim", { tenant: "blue" })];
  t.match(await node.join("tim", "chat:t", { tenant: "red" }), { sessions: 1 });
  await node.publish("chat:t", "red", { tenant: "red" });
  await node.publish("chat:t", "none");
  await red.waitFor(() => red.publications.length === 1, "its own");
  t.match(await node.leave("tim", "chat:t", { tenant: "blue" }), { sessions: 0 });
  t.strictSame([(await node.user("tim", { tenant: "red" })).joined, (await node.user("tim", { tenant: "blue" })).joined], [["chat:t"], []]);
  t.strictSame((await node.rooms({ tenant: "red" })).rooms, [{ room: "chat:t", sessions: 1 }]);
  t.strictSame((await node.rooms({ tenant: "blue" })).rooms, []);
  t.match(await node.room("chat:t", { tenant: "red" }), { sessions: 1, users: 1 });
  t.match(await node.room("chat:t"), { sessions: 0, users: 0 });
  t.match(await node.reconnect("tim", { tenant: "blue" }), { sessions: 1 });
  await blue.closed();
  t.ok((await red.request({ ping: {} })).pong);
  await red.bye();
});

t.test("names that are escaped, empty, too long or no strings are refused, and so are unknown options; nothing has happened then", async (t) => {
  const ann = await come(node, "ann");
  const names: unknown[] = ["", "red\u001fann", "a\n", "a\u0000", "a\ud800", "x".repeat(5_000), null, undefined, 7, {}, ["ann"], { toString: () => "ann" }];
  for (const name of names as string[]) {
    for (const call of [node.join(name, "chat:a"), node.leave(name, "chat:a"), node.join("ann", name), node.leave("ann", name), node.user(name), node.reconnect(name), node.disconnect(name), node.room(name)]) {
      t.equal(await codeOf(call), "bad_request", JSON.stringify(name));
    }
    if (name === "" || name === undefined) continue; // no tenant, no prefix
    for (const call of [node.join("ann", "chat:a", { tenant: name }), node.leave("ann", "chat:a", { tenant: name }), node.user("ann", { tenant: name }), node.reconnect("ann", { tenant: name }),
      node.disconnect("ann", { tenant: name }), node.room("chat:a", { tenant: name }), node.rooms({ tenant: name }), node.rooms({ prefix: name }), node.rooms({ cursor: name })]) {
      t.equal(await codeOf(call), "bad_request", `tenant ${JSON.stringify(name)}`);
    }
  }
  const unknown = { rome: 1 } as object;
  for (const given of [unknown, null, 1, "x", []] as object[]) {
    for (const call of [node.join("ann", "chat:a", given), node.leave("ann", "chat:a", given), node.user("ann", given), node.reconnect("ann", given), node.disconnect("ann", given), node.rooms(given), node.room("chat:a", given)]) {
      t.equal(await codeOf(call), "bad_request", JSON.stringify(given));
    }
  }
  for (const limit of [0, -1, 1.5, 1_001, 1_000_000, NaN, "10"] as number[]) t.equal(await codeOf(node.rooms({ limit })), "bad_request", `limit ${limit}`);
  for (const url of ["", "http://x", "javascript:alert(1)", `wss://${"x".repeat(3_000)}`, 1] as string[]) t.equal(await codeOf(node.reconnect("ann", { url })), "bad_request", `${url}`.slice(0, 20));
  for (const call of [node.join("ann", "none:a"), node.room("none:a")]) t.equal(await codeOf(call), "unknown_namespace");
  for (const call of [node.join("ann", "@inbox"), node.leave("ann", "@inbox"), node.room("@inbox")]) t.equal(await codeOf(call), "forbidden", "an inbox has a user");
  t.equal(await codeOf(node.leave("ann", "none:a")), "ok", "a room whose namespace was removed can be left");
  t.ok((await ann.request({ ping: {} })).pong);
  t.strictSame([(await node.user("ann")).joined, told(ann, "chat:a")], [[], []]);
  await ann.bye();
});

t.test("user lists the sessions with their devices; reconnect closes their sockets, and they are resumed where they are told to go", async (t) => {
  const phone = await open(node, { hello: { token: await token({ sub: "joe" }, secret), device: "phone" } });
  const tv = await open(node, { json: true, hello: { token: await token({ sub: "joe" }, secret) } });
  await phone.join("chat:joe");
  const { sessions, ...rest } = await node.user("joe");
  t.strictSame(rest, { user: "joe", joined: [], unanswered: [], complete: true });
  t.strictSame([...sessions].sort((a, b) => a.rooms - b.rooms), [
    { session: tv.ready!.session, node: node.config.nodeId, device: "", rooms: 0 },
    { session: phone.ready!.session, node: node.config.nodeId, device: "phone", rooms: 1 },
  ]);
  t.match(await node.reconnect("joe", { url: "wss://elsewhere.example/ws" }), { sessions: 2, unanswered: none });
  for (const session of [phone, tv]) {
    t.match(await session.closed(), { code: 3001 });
    t.match(session.events.at(-1)?.reconnect, { reason: "requested", url: "wss://elsewhere.example/ws" });
  }
  await until(async () => (await node.user("joe")).sessions.length === 0, "both to be gone");
  const back = await open(node, { hello: resumeOf(phone) });
  t.match(back.ready, { resumed: true, rooms: ["chat:joe"] });
  t.match(await node.reconnect("nobody"), { sessions: 0 });
  await back.bye();
});

t.test("rooms come by name, page by page, only those with members, without inboxes; a room is counted with its users", async (t) => {
  const gateway = await startNode(t, { ...options, roomsPerSessionMax: 100 });
  const [ann, bob] = [await come(gateway, "ann", { rooms: { "*": ["join"] } }), await come(gateway, "bob", { rooms: { "*": ["join"] } })];
  const names = Array.from({ length: 25 }, (_, i) => `live:${String(i).padStart(2, "0")}`);
  for (const name of names) await ann.join(name);
  await ann.join("@inbox");
  await bob.join("live:07");
  await ann.join("chat:ü/😀 ?#");
  await ann.join("hidden:a");
  await ann.leave("live:24");
  await until(async () => (await gateway.room("live:24")).sessions === 0, "the hub to hear of it");
  const read: { room: string; sessions: number }[] = [];
  let pages = 0;
  for (let cursor: string | null = ""; cursor !== null; pages++) {
    const page: Awaited<ReturnType<typeof gateway.rooms>> = await gateway.rooms({ prefix: "live:", limit: 10, ...(cursor !== "" && { cursor }) });
    t.equal(page.complete, true);
    read.push(...page.rooms);
    cursor = page.next;
  }
  t.strictSame([pages, read], [3, names.slice(0, 24).map((room) => ({ room, sessions: room === "live:07" ? 2 : 1 }))]);
  t.match(await gateway.rooms({ limit: 1 }), { rooms: [{ room: "chat:ü/😀 ?#", sessions: 1 }], next: "chat:ü/😀 ?#" });
  t.equal((await gateway.rooms()).next, null);
  t.strictSame((await gateway.rooms()).rooms.length, 26);
  t.strictSame(await gateway.rooms({ prefix: "nothing:" }), { rooms: [], next: null, unanswered: [], complete: true });
  const at = gateway.config.nodeId;
  t.strictSame(await gateway.room("live:07"), { room: "live:07", sessions: 2, nodes: [{ node: at, sessions: 2 }], users: 2, unanswered: [], complete: true });
  t.match(await gateway.room("hidden:a"), { sessions: 1, users: null });
  t.match(await gateway.room("live:nobody"), { sessions: 0, users: 0 });
});

t.test("a node that is closing refuses every call with unavailable", async (t) => {
  const gateway = await startNode(t, options);
  const close = gateway.close();
  const calls = [gateway.join("ann", "chat:a"), gateway.leave("ann", "chat:a"), gateway.disconnect("ann"), gateway.reconnect("ann"), gateway.user("ann"), gateway.rooms(), gateway.room("chat:a")];
  for (const call of calls) t.equal(await codeOf(call), "unavailable");
  await close;
});
