/** Who is in a room and who is online, as the SDK keeps it. */
import t from "tap";
import type { Client, Members, UserStatus } from "../src/client/index.ts";
import type { ServerFrame } from "../src/protocol/messages.ts";
import { startNode } from "./support/node.ts";
import { none } from "./support/only.ts";
import { startProxy } from "./support/proxy.ts";
import { epoch, startScripted } from "./support/scripted.ts";
import { isReady, ManualClock, startClient } from "./support/sdk.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const room = "chat:a";
const usersOf = (members: Members) => members.list.map(({ user }) => user).sort();

function page(version: number, users: string[], more: Partial<NonNullable<ServerFrame["presence"]>> = {}): ServerFrame {
  const members = users.map((user) => ({ user, sessions: 1 }));
  return { presence: { room, version, users: users.length, sessions: users.length, members, ...more } };
}

function change(version: number, joined: string[], left: string[], more: Partial<NonNullable<ServerFrame["presenceChanged"]>> = {}): ServerFrame {
  return { id: 0, presenceChanged: { room, version, users: 9, sessions: 9, joined, left, ...more } };
}

t.test("pages and the events between and after them are one list", async (t) => {
  const node = await startScripted(t, ({ presence }) => {
    if (!presence) return undefined;
    if (presence.after === "2") return [page(5, ["cleo"], { users: 4, sessions: 6 }), change(6, ["eve"], ["ada"])];
    return [page(4, ["ada", "bob"], { next: "2", users: 4, sessions: 6 }), change(5, ["dora"], ["bob"])];
  });
  const client = startClient(t, node.url);
  const members = client.join(room).members();
  const changes: unknown[] = [];
  members.on("changed", (what) => changes.push(what));
  await until(() => changes.length === 3, "the changes");
  t.same(usersOf(members), ["cleo", "dora", "eve"]);
  t.same([members.users, members.sessions], [9, 9]);
  t.same(changes, [
    { joined: ["dora"], left: [], asked: false }, // nobody has heard of bob yet
    { joined: ["ada", "cleo"], left: [], asked: true },
    { joined: ["eve"], left: ["ada"], asked: false },
  ]);
  t.equal(node.commands("presence").length, 2);
});

t.test("a version that is missing, or names that are not told, are asked for", async (t) => {
  let asked = 0;
  const pages = [page(1, ["ada"]), page(4, ["ada", "bob"]), page(5, ["cleo"])];
  const node = await startScripted(t, ({ presence }) => (presence ? [pages[asked++] ?? page(9, [])] : undefined));
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock });
  const members = client.join(room).members();
  await until(() => asked === 1 && members.has("ada"), "the first answer");
  node.sessions[0]?.send(change(4, ["zoe"], []));
  await until(() => members.has("zoe"), "the change");
  clock.advance(2000); // no more often
  await until(() => members.has("bob"), "the second answer");
  t.same(usersOf(members), ["ada", "bob"]);
  node.sessions[0]?.send(change(5, [], [], { countsOnly: true, users: 1, sessions: 1 }));
  await until(() => members.users === 1, "the counts");
  clock.advance(2000);
  await until(() => members.has("cleo"), "the third answer");
  t.same(usersOf(members), ["cleo"]);
  t.equal(asked, 3);
});

t.test("of a hot room there are the counts and some names", async (t) => {
  const node = await startScripted(t, ({ presence }) => {
    return presence ? [page(1, ["ada", "bob"], { users: 100_000, sessions: 120_000, next: `${presence.after ?? ""}x` })] : undefined;
  });
  const client = startClient(t, node.url);
  const members = client.join(room).members({ max: 2 });
  await until(() => members.users > 0 && members.list.length === 2, "the answer");
  t.same([members.users, members.sessions, usersOf(members)], [100_000, 120_000, ["ada", "bob"]]);
  await client.ping();
  t.equal(node.commands("presence").length, 1);
});

t.test("a refusal for now is asked again, another one is an error", async (t) => {
  let asked = 0;
  const node = await startScripted(t, ({ presence }) => {
    if (!presence) return undefined;
    return ++asked === 1 ? [{ error: { code: "rate_limited", text: "", retryable: true } }] : [{ error: { code: "forbidden", text: "no", retryable: false } }];
  });
  const client = startClient(t, node.url, { random: () => 0 });
  const members = client.join(room).members();
  const error = await new Promise((resolve) => members.on("error", resolve));
  t.match(error, { code: "forbidden" });
  t.equal(asked, 2);
  await t.rejects(client.join(room).presence(), { code: "forbidden" });
});

t.test("the list is asked for behind the last page of a recovery, when the node sends events", async (t) => {
  const node = await startScripted(t, ({ join, presence }) => {
    if (join) return [{ joined: { room, position: { epoch, seq: 3 }, recovered: true, more: true } }];
    return presence ? [page(1, ["ada"])] : undefined;
  });
  const client = startClient(t, node.url);
  const chat = client.join(room, { recover: { epoch, seq: 1 } });
  const lives: unknown[] = [];
  chat.on("live", ({ seq }) => lives.push(seq));
  const members = chat.members();
  await chat.joined;
  await client.ping();
  t.same([node.commands("presence").length, lives], [0, []]);
  node.sessions[0]?.send({ id: 0, replay: { room, publications: [], more: false } });
  await until(() => members.has("ada"), "the answer");
  t.same(lives, [3]);
  members.stop();
});

t.test("the list is asked for again behind pages that come unasked, and behind a sync, but not at every one of them", async (t) => {
  let asked = 0;
  const pages = [page(1, ["ada"]), page(2, ["bob"]), page(3, ["cleo"])];
  const node = await startScripted(t, ({ presence }) => (presence ? [pages[asked++] ?? page(9, [])] : undefined));
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock });
  const members = client.join(room).members();
  await until(() => members.has("ada"), "the first answer");
  const sync = { id: 0, sync: { room, position: { epoch, seq: 0 } } };
  const replay = (more: boolean) => ({ id: 0, replay: { room, publications: [], more } });
  node.sessions[0]?.send(replay(true));
  await client.ping();
  clock.advance(2000);
  await client.ping();
  t.equal(asked, 1, "more pages are to come");
  node.sessions[0]?.send(replay(false));
  await client.ping();
  clock.advance(0);
  await until(() => members.has("bob"), "the second answer");
  node.sessions[0]?.send(sync, sync, replay(false));
  await client.ping();
  t.equal(asked, 2, "no more often");
  clock.advance(2000);
  await until(() => members.has("cleo"), "the third answer");
  t.same([usersOf(members), asked], [["cleo"], 3]);
  members.stop();
  node.sessions[0]?.send(sync);
  await client.ping();
  clock.advance(2000);
  await client.ping();
  t.equal(asked, 3, "nor once it is stopped");
});

t.test("watches are told to every socket, and a status that has changed meanwhile is an event", async (t) => {
  const node = await startScripted(t, ({ watch }, session) => {
    if (!watch) return undefined;
    if (watch.users?.includes("nobody")) return [{ error: { code: "too_many_watched", text: "", retryable: false } }];
    return [{ watched: { statuses: (watch.users ?? []).map((user) => ({ user, online: session.number === 1, lastSeen: session.number === 1 ? 0 : 17 })) } }];
  });
  const client = startClient(t, node.url);
  const heard: UserStatus[] = [];
  client.on("status", (status) => heard.push(status));
  t.same(await client.watch(["ada", "bob", "ada"]), [{ user: "ada", online: true, lastSeen: null }, { user: "bob", online: true, lastSeen: null }]);
  await t.rejects(client.watch(["nobody"]), { code: "too_many_watched" });
  client.unwatch(["bob"]);
  node.sessions[0]?.send({ id: 0, userStatus: { user: "ada", online: false, lastSeen: 5 } }, { id: 0, userStatus: { user: "bob", online: false } });
  await until(() => heard.length === 3, "the change");
  node.sessions[0]?.cut();
  await until(() => heard.length === 4, "the change while away");
  t.same(heard.map(({ user, online, lastSeen }) => [user, online, lastSeen?.getTime() ?? null]), [
    ["ada", true, null], ["bob", true, null], ["ada", false, 5], ["ada", false, 17],
  ]);
  t.same(node.commands("watch").at(-1)?.watch?.users, ["ada"]);
  t.same(node.commands("unwatch")[0]?.unwatch?.users, ["bob"]);
});

t.test("a watch that is refused ends no earlier one, nor one that is under way; one that a new session refuses is an error", async (t) => {
  let isFull = false;
  const node = await startScripted(t, ({ watch }) => {
    if (!watch) return undefined;
    if (isFull || watch.users?.includes("nobody")) return [{ error: { code: "too_many_watched", text: "", retryable: false } }];
    return [{ watched: { statuses: (watch.users ?? []).map((user) => ({ user, online: true })) } }];
  });
  const client = startClient(t, node.url);
  const heard: string[] = [];
  const errors: string[] = [];
  client.on("status", ({ user, online }) => heard.push(`${user} ${online}`));
  client.on("error", ({ code }) => errors.push(code));
  await client.watch(["ada"]);
  const [refused, accepted] = [client.watch(["ada", "bob", "nobody"]), client.watch(["bob"])];
  await t.rejects(refused, { code: "too_many_watched" });
  await accepted;
  node.sessions[0]?.send(...["ada", "bob", "nobody"].map((user) => ({ id: 0, userStatus: { user, online: false } })));
  await client.ping();
  t.same(heard, ["ada true", "bob true", "ada false", "bob false"]);
  isFull = true;
  node.sessions[0]?.cut();
  await until(() => errors.length > 0, "the refusal");
  t.same(errors, ["too_many_watched"]);
  isFull = false;
  node.sessions[1]?.cut();
  await until(() => node.sessions.length === 3 && node.commands("watch").length === 5, "the next session");
  t.same(node.commands("watch").at(-1)?.watch?.users, ["ada", "bob"], "which is asked again");
});

// ------------------------------------------------------------ with a real node

const secret = "a secret of at least thirty-two bytes, for tests";
const node = await startNode(t, { authSecret: secret, presenceIntervalMs: 20, presenceGraceMs: 50 });

async function connectAs(t: Parameters<typeof startClient>[0], sub: string, url = node.url): Promise<Client> {
  const client = startClient(t, url, { token: await token({ sub }, secret) });
  await isReady(client);
  return client;
}

t.test("a room's members are kept over joins, leaves and losses", async (t) => {
  const proxy = await startProxy(t, node.port);
  const ada = await connectAs(t, "ada", proxy.url);
  const chat = ada.join("chat:members");
  const members = chat.members();
  await until(() => members.has("ada"), "oneself");
  const [bob, cleo] = [await connectAs(t, "bob"), await connectAs(t, "cleo")];
  const bobs = bob.join("chat:members");
  cleo.join("chat:members");
  await until(() => members.users === 3 && members.list.length === 3, "all three");
  t.same(usersOf(members), ["ada", "bob", "cleo"]);
  proxy.refuse(true);
  proxy.cut();
  await until(() => ada.state === "waiting", "the loss to be noticed");
  await bobs.leave();
  (await connectAs(t, "dora")).join("chat:members");
  proxy.refuse(false);
  await until(() => usersOf(members).join() === "ada,cleo,dora", "the list to be right again");
  await cleo.close();
  await until(() => usersOf(members).join() === "ada,dora", "Cleo to be gone");
  t.match(await chat.presence({ countsOnly: true }), { users: 2, sessions: 2, members: none, next: null });
  const first = await chat.presence({ limit: 1 });
  const second = await chat.presence({ limit: 1, after: first.next ?? "" });
  t.same([...first.members, ...second.members].map(({ user }) => user).sort(), ["ada", "dora"]);
});

t.test("users who are watched come and go, over losses too", async (t) => {
  const proxy = await startProxy(t, node.port);
  const watcher = await connectAs(t, "watcher", proxy.url);
  const heard: [string, boolean][] = [];
  watcher.on("status", ({ user, online }) => heard.push([user, online]));
  t.match(await watcher.watch(["fay"]), [{ user: "fay", online: false }]);
  const fay = await connectAs(t, "fay");
  await until(() => heard.length === 2, "Fay");
  proxy.refuse(true);
  proxy.cut();
  await until(() => watcher.state === "waiting", "the loss to be noticed");
  await fay.close();
  proxy.refuse(false);
  await until(() => heard.at(-1)?.[1] === false && heard.length > 2, "Fay to be gone");
  t.same(heard, [["fay", false], ["fay", true], ["fay", false]]);
});
