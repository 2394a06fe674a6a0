/** Presence over the wire: who is in a room, who comes and goes, who is online; and who may know. */
import t from "tap";
import { closes } from "../src/errors.ts";
import { startNodeOnHeldClock } from "./support/heldclock.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { closeWith } from "./support/resume.ts";
import { open, type OpenOptions, type Reply, type TestSession } from "./support/session.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const secret = "presence presence presence presence";
/** Times that are over at once. */
const quick = { presenceIntervalMs: 20, presenceGraceMs: 20, authSecret: secret } satisfies NodeOptions;

/** Starting a node is what takes long: tests that need none of their own have a tenant of their own on one. */
const nodes = {
  quick: await startNode(t, quick),
  patient: await startNode(t, { ...quick, presenceGraceMs: 600_000 }),
  tight: await startNode(t, { ...quick, presencePageMax: 5, presenceNamedUsersMax: 5, watchedPerSessionMax: 3 }),
};
let tenants = 0;
function apart(on: keyof typeof nodes = "quick"): Place {
  return { port: nodes[on].port, tenant: `tenant-${++tenants}` };
}

interface Place {
  readonly port: number;
  readonly tenant?: string;
}

async function enter(node: Place, user: string, room = "", { claims = {}, ...options }: OpenOptions & { claims?: object } = {}): Promise<TestSession> {
  const session = await open(node, { ...options, hello: { token: await token({ sub: user, ...(node.tenant && { tenant: node.tenant }), ...claims }, secret), ...options.hello } });
  if (room !== "") await session.join(room);
  return session;
}

/** The socket is lost, as the network loses it: nobody says goodbye. */
async function lose(session: TestSession): Promise<void> {
  session.raw.destroy();
  await session.raw.ended;
}

function resumeOf({ ready }: TestSession) {
  return { resume: { session: ready!.session!, token: ready!.resumeToken!, positions: [] } };
}

type Page = NonNullable<Reply["presence"]>;
type Asked = { limit?: number; after?: string; countsOnly?: boolean };

async function ask(session: TestSession, room: string, asked: Asked = {}): Promise<Page> {
  const { presence, error } = await session.request({ presence: { room, ...asked } });
  if (!presence) throw new Error(`presence was refused: ${error?.code}: ${error?.text}`);
  return presence;
}

async function members(session: TestSession, room: string): Promise<[string, number][]> {
  const page = await ask(session, room);
  return (page.members ?? []).map(({ user, sessions }) => [user ?? "", sessions ?? 0] as [string, number]).sort();
}

function changesIn(session: TestSession) {
  return session.events.flatMap(({ presenceChanged }) => (presenceChanged ? [presenceChanged] : []));
}

function statusesIn(session: TestSession) {
  return session.events.flatMap(({ userStatus }) => (userStatus ? [userStatus] : []));
}

/** Waits until the session has been told that the user came, or went. */
function told(session: TestSession, which: "joined" | "left", user: string): Promise<void> {
  return session.waitFor(() => changesIn(session).some((change) => change[which]?.includes(user)), `${user} ${which}`);
}

for (const json of [false, true]) {
  const form = json ? "JSON" : "binary";

  t.test(`${form}: whoever is in a room is counted, named, and told of who comes and goes`, async (t) => {
    const node = apart();
    const ann = await enter(node, "ann", "chat:a", { json });
    const bob = await enter(node, "bob", "chat:a");
    await told(ann, "joined", "bob");
    t.strictSame(await members(ann, "chat:a"), [["ann", 1], ["bob", 1]]);
    const counts = await ask(ann, "chat:a", { countsOnly: true });
    t.match(counts, { room: "chat:a", users: 2, sessions: 2 });
    t.notOk(counts.members?.length);
    await bob.leave("chat:a");
    await told(ann, "left", "bob");
    const last = changesIn(ann).at(-1);
    t.match(last, { room: "chat:a", users: 1, sessions: 1 });
    t.equal((await ask(ann, "chat:a")).version, last?.version);
    t.equal(last?.version, changesIn(ann).at(-2)!.version! + 1);
    t.strictSame(await members(ann, "chat:a"), [["ann", 1]]);
  });

  t.test(`${form}: two sessions of one user are one user, who leaves with the last`, async (t) => {
    const node = apart();
    const ann = await enter(node, "ann", "chat:a", { json });
    const first = await enter(node, "bob", "chat:a");
    const second = await enter(node, "bob", "chat:a");
    await told(ann, "joined", "bob");
    t.strictSame(await members(ann, "chat:a"), [["ann", 1], ["bob", 2]]);
    t.match(await ask(ann, "chat:a", { countsOnly: true }), { users: 2, sessions: 3 });
    await first.bye();
    await until(async () => (await ask(ann, "chat:a", { countsOnly: true })).sessions === 2, "one session less");
    const eve = await enter(node, "eve", "chat:a");
    await told(ann, "joined", "eve");
    t.strictSame(changesIn(ann).flatMap(({ left }) => left ?? []), [], "bob is still there");
    await second.bye();
    await told(ann, "left", "bob");
    await eve.bye();
  });

  t.test(`${form}: watched users are told of: online, offline, and when they were seen last`, async (t) => {
    const node = apart();
    const ann = await enter(node, "ann", "", { json });
    const before = Date.now();
    const bob = await enter(node, "bob");
    const { watched } = await ann.request({ watch: { users: ["bob", "eve", "ann"] } });
    t.match(watched?.statuses, [{ user: "bob", online: true }, { user: "eve", online: false, lastSeen: 0 }, { user: "ann", online: true }]);
    await bob.bye();
    await ann.waitFor(() => statusesIn(ann).length === 1, "bob to go");
    const [gone] = statusesIn(ann);
    t.match(gone, { user: "bob", online: false });
    t.ok(gone!.lastSeen! >= before && gone!.lastSeen! <= Date.now());
    await enter(node, "bob");
    await ann.waitFor(() => statusesIn(ann).length === 2, "bob to come");
    t.match(statusesIn(ann)[1], { user: "bob", online: true });
    const unwatched = await ann.request({ unwatch: { users: ["bob"] } });
    t.strictSame(unwatched.watched?.statuses ?? [], []);
    const third = await enter(node, "bob");
    await third.bye();
    await enter(node, "eve");
    await ann.waitFor(() => statusesIn(ann).some(({ user }) => user === "eve"), "eve to come");
    t.strictSame(statusesIn(ann).map(({ user }) => user), ["bob", "bob", "eve"]);
  });
}

t.test("a page is no longer than asked for, and the next begins where it ended", async (t) => {
  const node = apart("tight");
  const users = Array.from({ length: 12 }, (_, i) => `user-${i}`);
  const sessions = await Promise.all(users.map((user) => enter(node, user, "chat:a")));
  const pages: Page[] = [];
  do pages.push(await ask(sessions[0]!, "chat:a", { after: pages.at(-1)?.next ?? "", limit: 1_000 }));
  while (pages.at(-1)?.next);
  t.strictSame(pages.map((page) => page.members?.length), [5, 5, 2]);
  t.strictSame(pages.flatMap((page) => page.members!.map(({ user }) => user!)).sort(), [...users].sort());
  t.equal((await ask(sessions[0]!, "chat:a", { limit: 3 })).members?.length, 3);
  t.match(await sessions[0]!.request({ presence: { room: "chat:a", after: "x" } }), { error: { code: "bad_request" } });
});

t.test("who comes together is told together", async (t) => {
  const node = await startNode(t, { ...quick, presenceIntervalMs: 2_000 });
  const ann = await enter(node, "ann", "chat:a");
  const others = await Promise.all(Array.from({ length: 20 }, (_, i) => enter(node, `user-${i}`)));
  await Promise.all(others.map((session) => session.join("chat:a")));
  await ann.waitFor(() => changesIn(ann).flatMap(({ joined }) => joined ?? []).length === 20, "all of them");
  t.ok(changesIn(ann).length <= 3, `${changesIn(ann).length} events for 20 users`);
});

t.test("a socket that is killed and resumed within the grace was never away; in the room and in its status", async (t) => {
  const node = apart("patient");
  const ann = await enter(node, "ann", "chat:a");
  await ann.request({ watch: { users: ["bob"] } });
  const bob = await enter(node, "bob", "chat:a");
  await told(ann, "joined", "bob");
  await lose(bob);
  await until(async () => (await ask(ann, "chat:a", { countsOnly: true })).sessions === 1, "the session to be gone");
  t.strictSame(await members(ann, "chat:a"), [["ann", 1], ["bob", 0]], "the user is not");
  const back = await enter(node, "bob", "", { hello: resumeOf(bob) });
  t.equal(back.ready?.resumed, true);
  await until(async () => (await ask(ann, "chat:a", { countsOnly: true })).sessions === 2, "the session to be back");
  await enter(node, "eve", "chat:a");
  await told(ann, "joined", "eve");
  const changes = changesIn(ann);
  t.strictSame(changes.flatMap(({ left }) => left ?? []), []);
  t.strictSame(changes.flatMap(({ joined }) => joined ?? []), ["bob", "eve"]);
  t.strictSame(statusesIn(ann).map(({ online }) => online), [true]);
});

t.test("a tab that is closed is a lost socket: its user is there until the grace ends", async (t) => {
  const node = apart("patient");
  const ann = await enter(node, "ann", "chat:a");
  const bob = await enter(node, "bob", "chat:a");
  await closeWith(bob, 1001);
  await until(async () => (await ask(ann, "chat:a", { countsOnly: true })).sessions === 1, "the session to be gone");
  t.strictSame(await members(ann, "chat:a"), [["ann", 1], ["bob", 0]], "the user is not");
});

t.test("a socket that is killed and stays away is gone after the grace", async (t) => {
  const node = apart();
  const ann = await enter(node, "ann", "chat:a");
  await ann.request({ watch: { users: ["bob"] } });
  const bob = await enter(node, "bob", "chat:a");
  await told(ann, "joined", "bob");
  await lose(bob);
  await told(ann, "left", "bob");
  await ann.waitFor(() => statusesIn(ann).at(-1)?.online === false, "bob to be offline");
  t.strictSame(await members(ann, "chat:a"), [["ann", 1]]);
  const back = await enter(node, "bob", "", { hello: resumeOf(bob) });
  t.equal(back.ready?.resumed, true, "it can still be resumed");
  await ann.waitFor(() => statusesIn(ann).at(-1)?.online === true, "bob to be online again");
  await until(async () => (await members(ann, "chat:a")).length === 2, "bob to be in the room again");
});

t.test("a session that another socket took is counted once, whatever its first socket still says", async (t) => {
  const node = apart("patient");
  const ann = await enter(node, "ann", "chat:a");
  const bob = await enter(node, "bob", "chat:a");
  const again = await enter(node, "bob", "", { hello: resumeOf(bob) });
  t.match(await bob.closed(), { code: closes.session_replaced.code });
  await again.waitFor(() => again.events.some(({ joined }) => joined?.room === "chat:a"), "the room");
  await until(async () => (await ask(ann, "chat:a", { countsOnly: true })).sessions === 2, "two sessions");
  await again.bye();
  await until(async () => (await ask(ann, "chat:a", { countsOnly: true })).sessions === 1, "one session");
});

t.test("a reactor that fails takes its sessions out of their rooms", async (t) => {
  const node = await startNode(t, { ...quick, reactors: 2 });
  const sessions = await Promise.all(Array.from({ length: 12 }, (_, i) => enter(node, `user-${i}`, "chat:a")));
  const alive = new Set(sessions);
  for (const session of sessions) void session.raw.ended.then(() => alive.delete(session));
  node.failReactor(0);
  await until(() => alive.size < 12, "a reactor's sockets to go");
  await until(async () => /flux_reactors 2/.test(await node.metrics()), "another reactor");
  const witness = await enter(node, "witness", "chat:a");
  await until(async () => (await members(witness, "chat:a")).length === alive.size + 1, "only those who live to be there");
  await until(async () => new RegExp(`flux_users_online ${alive.size + 1}\\n`).test(await node.metrics()), "only those who live to be online");
});

t.test("members of a crowded room are told how many there are, not who", async (t) => {
  const node = apart("tight");
  const ann = await enter(node, "ann", "chat:a");
  await Promise.all(Array.from({ length: 9 }, (_, i) => enter(node, `user-${i}`, "chat:a")));
  await ann.waitFor(() => changesIn(ann).at(-1)?.users === 10, "all of them");
  const last = changesIn(ann).at(-1);
  t.match(last, { countsOnly: true, users: 10, sessions: 10 });
  t.strictSame([...(last?.joined ?? []), ...(last?.left ?? [])], []);
  t.equal((await members(ann, "chat:a")).length, 5, "who asks is told, a page at a time");
});

t.test("long names, however many, come in frames that fit", async (t) => {
  const node = await startNode(t, { ...quick, frameBytesMax: 2_048, ringBytes: 32_768 });
  const users = Array.from({ length: 60 }, (_, i) => `${'"'.repeat(120)}${i}`);
  const ann = await enter(node, "ann", "chat:a", { json: true });
  await Promise.all(users.map((user) => enter(node, user, "chat:a")));
  await ann.waitFor(() => changesIn(ann).at(-1)?.users === 61, "all of them");
  const seen: string[] = [];
  let after = "";
  do {
    const page = await ask(ann, "chat:a", { after });
    seen.push(...page.members!.map(({ user }) => user!));
    after = page.next ?? "";
  } while (after !== "");
  t.strictSame(seen.sort(), ["ann", ...users].sort());
  const many = await ann.request({ watch: { users: users.slice(0, 8) } });
  t.equal(many.watched?.statuses?.length, 8);
  t.match(await node.metrics(), /flux_hub_failures_total 0\n/);
});

// --------------------------------------------------------------------------------- who may know

t.test("who may ask is for the namespace and the token to say, and events go to none but those", async (t) => {
  const namespaces = { open: { presence: "anyone", presenceEvents: true }, live: { presence: "nobody" } } as const;
  const node = await startNode(t, { ...quick, namespaces });
  const deaf = await enter(node, "deaf", "chat:a", { claims: { rooms: { "*": ["join", "publish"] } } });
  const ann = await enter(node, "ann", "chat:a");
  await ann.join("live:a");
  const refused = async (session: TestSession, room: string) => (await session.request({ presence: { room } })).error?.code;
  t.equal(await refused(deaf, "chat:a"), "forbidden");
  t.equal(await refused(ann, "live:a"), "forbidden");
  t.equal(await refused(ann, "@inbox"), "forbidden");
  t.equal(await refused(ann, "chat:b"), "not_joined");
  t.equal(await refused(ann, "unknown:b"), "unknown_namespace");
  t.equal(await refused(ann, ""), "bad_request");
  t.match(await ask(ann, "open:a"), { users: 0 }, "nobody is there, but she may know");
  await enter(node, "bob", "open:a");
  t.strictSame(await members(ann, "open:a"), [["bob", 1]]);
  await enter(node, "bob", "chat:a");
  await told(ann, "joined", "bob");
  await ann.publish("chat:a", '"after"');
  await deaf.waitFor(() => deaf.publications.length === 1, "what comes behind the change");
  t.strictSame(changesIn(deaf), []);
  t.ok(changesIn(ann).length > 0);
});

t.test("a new token gives and takes the right to be told", async (t) => {
  const node = apart();
  const mute = { rooms: { "*": ["join", "publish"] } };
  const ann = await enter(node, "ann", "chat:a");
  const witness = await enter(node, "witness", "chat:a");
  await ann.request({ refresh: { token: await token({ sub: "ann", tenant: node.tenant, ...mute }, secret) } });
  await enter(node, "bob", "chat:a");
  await told(witness, "joined", "bob");
  await witness.publish("chat:a", "1");
  await ann.waitFor(() => ann.publications.length === 1, "what comes behind the change");
  t.notOk(changesIn(ann).some(({ joined }) => joined?.includes("bob")));
  await ann.request({ refresh: { token: await token({ sub: "ann", tenant: node.tenant }, secret) } });
  await enter(node, "eve", "chat:a");
  await told(ann, "joined", "eve");
});

t.test("tenants see nothing of each other: neither members nor changes nor who is online", async (t) => {
  const node = apart();
  const red = { claims: { tenant: "red" } };
  const blue = { claims: { tenant: "blue" } };
  const ann = await enter(node, "ann", "chat:a", red);
  await ann.request({ watch: { users: ["bob"] } });
  await enter(node, "bob", "chat:a", blue);
  const other = await enter(node, "ann", "chat:a", blue);
  t.strictSame(await members(ann, "chat:a"), [["ann", 1]]);
  t.strictSame(await members(other, "chat:a"), [["ann", 1], ["bob", 1]]);
  t.match(await ann.request({ watch: { users: ["bob"] } }), { watched: { statuses: [{ user: "bob", online: false }] } });
  await enter(node, "eve", "chat:a", red);
  await told(ann, "joined", "eve");
  t.notOk(changesIn(ann).some(({ joined }) => joined?.includes("bob")));
  t.strictSame(statusesIn(ann), []);
  for (const user of ["blue\u001fbob", "\u001fbob"]) {
    t.match(await ann.request({ watch: { users: [user] } }), { error: { code: "bad_request" } });
  }
});

t.test("a session watches so many users, and no more; and what it is refused changes nothing", async (t) => {
  const node = apart("tight");
  const ann = await enter(node, "ann");
  const watch = (...users: string[]) => ann.request({ watch: { users } });
  t.match(await watch("a", "b", "b"), { watched: { statuses: [{ user: "a" }, { user: "b" }, { user: "b" }] } });
  t.match(await watch("c", "d"), { error: { code: "too_many_watched", retryable: false } });
  t.match(await watch("a", "c"), { watched: { statuses: [{ user: "a" }, { user: "c" }] } });
  await enter(node, "d");
  await enter(node, "c");
  await ann.waitFor(() => statusesIn(ann).length > 0, "c");
  t.strictSame(statusesIn(ann).map(({ user }) => user), ["c"], "d is not watched");
  await ann.request({ unwatch: { users: ["a", "stranger"] } });
  t.ok((await watch("d")).watched);
  await until(async () => /flux_watches 3\n/.test(await nodes.tight.metrics()), "three watches");
  await ann.bye();
  await until(async () => /flux_watches 0\n/.test(await nodes.tight.metrics()), "none");
});

t.test("bad requests are refused one by one, and cost nothing else", async (t) => {
  const node = apart();
  for (const json of [false, true]) {
    const ann = await enter(node, "ann", "", { json });
    const refused = async (command: Parameters<TestSession["request"]>[0]) => (await ann.request(command)).error?.code;
    t.equal(await refused({ watch: { users: [] } }), "bad_request");
    t.equal(await refused({ unwatch: { users: [] } }), "bad_request");
    t.equal(await refused({ watch: { users: [""] } }), "bad_request");
    t.equal(await refused({ watch: { users: ["x".repeat(129)] } }), "bad_request");
    t.equal(await refused({ watch: { users: Array.from({ length: 257 }, (_, i) => `u${i}`) } }), "bad_request");
    await ann.join("chat:a");
    t.equal(await refused({ presence: { room: "chat:a", after: "9".repeat(65) } }), "bad_request");
    t.equal(await refused({ presence: { room: "chat:a", after: "9".repeat(30) } }), "bad_request");
    t.ok((await ann.request({ ping: {} })).pong);
    await ann.bye();
  }
  const closed = await startNode(t, { ...quick, userStatus: false });
  const ann = await enter(closed, "ann");
  t.match(await ann.request({ watch: { users: ["bob"] } }), { error: { code: "forbidden" } });
});

t.test("pages of members use up a session's rate faster than pings", async (t) => {
  const { node } = await startNodeOnHeldClock(t, { ...quick, reactors: 1, commandsPerSecond: 10 });
  const ann = await enter(node, "ann", "chat:a");
  let accepted = 0;
  while (accepted < 20 && (await ann.request({ presence: { room: "chat:a" } })).presence) accepted++;
  t.ok(accepted < 5, `${accepted} pages`);
});

t.test("the node counts rooms, members, users and watches, and nothing is left when they are gone", async (t) => {
  const node = await startNode(t, quick);
  const ann = await enter(node, "ann", "chat:a");
  const bob = await enter(node, "bob", "chat:a");
  await bob.join("chat:b");
  await bob.request({ watch: { users: ["ann", "eve"] } });
  const metrics = (rooms: number, members: number, users: number, watches: number) => async () => {
    const text = await node.metrics();
    const values = { flux_presence_rooms: rooms, flux_presence_members: members, flux_users_online: users, flux_watches: watches };
    return Object.entries(values).every(([name, value]) => text.includes(`\n${name} ${value}\n`));
  };
  await until(metrics(2, 3, 2, 2), "what is there to be counted");
  await told(ann, "joined", "bob");
  t.notMatch(await node.metrics(), /flux_presence_changes_total 0\n/);
  await ann.bye();
  await lose(bob);
  await until(metrics(0, 0, 0, 0), "nothing to be left");
});

t.test("a session that joins, leaves and joins in one go is in the room", async (t) => {
  const node = apart();
  const ann = await enter(node, "ann");
  await Promise.all([
    ann.send({ join: { room: "chat:hasty" } }),
    ann.send({ leave: { room: "chat:hasty" } }),
    ann.request({ join: { room: "chat:hasty" } }),
  ]);
  // Behind everything that her reactor had to say of it.
  t.equal((await ann.request({ presence: { room: "chat:hasty" } })).presence?.sessions, 1);
  await lose(ann);
});
