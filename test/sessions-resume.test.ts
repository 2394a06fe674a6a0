/** Coming back under bad conditions: lies about positions, rights that changed, tokens that ran out, sockets that linger. */
import { createHmac } from "node:crypto";
import t from "tap";
import { ResumeTokens } from "../src/auth/resume.ts";
import { anonymous } from "../src/auth/grants.ts";
import { startNodeOnHeldClock } from "./support/heldclock.ts";
import { startNode } from "./support/node.ts";
import { lose, resumeOf, words, type At } from "./support/resume.ts";
import { open, seen, type SeenPublication } from "./support/session.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const secret = "s".repeat(32);
const now = () => Math.floor(Date.now() / 1000);

/** Of all tests that need nothing else: their users and rooms are their own. */
const node = await startNode(t, { authSecret: secret, allowAnonymous: true, host: "127.0.0.1", commandsPerSecond: 0 });

t.test("a body that is signed but no claims is no resume token, whatever is in it", async (t) => {
  const tokens = new ResumeTokens(secret);
  const signed = (body: string) => `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
  const good = tokens.make("session", 3, anonymous("ann"));
  t.match(tokens.read(good), { session: "session", generation: 3 });
  const withoutGeneration = Buffer.from(JSON.stringify(["session", "ann", "", "", 0, 0, null])).toString("base64url");
  t.match(tokens.read(signed(withoutGeneration)), { session: "session", generation: 0 }, "of an earlier version");
  const bodies = ["", '["s","u","","",1,0,null,-1]', '["s","u","","",1,0,null,0.5]', "{", "null", "[]", '"text"', "[1,2,3,4,5,null]", '["","u","",1,1,null]', `["s","u","",1e999,0,null]`, '["s","u","",1,1,{}]', "\u0000", "[".repeat(10_000)];
  for (const body of bodies) t.equal(tokens.read(signed(Buffer.from(body).toString("base64url"))), null, body.slice(0, 30));
  t.equal(tokens.read(signed("not base64url!")), null);
  t.equal(tokens.read(`${good}A`), null, "something behind the signature");
  t.equal(tokens.read(`${good}!`), null, "and what a lenient reader would skip");
  t.equal(tokens.read(`.${good}`), null);
  t.equal(tokens.read(`${"x".repeat(70_000)}.y`), null);
  t.equal(new ResumeTokens("t".repeat(32)).read(good), null, "of another secret");
});

t.test("a session is resumed with a new token after the one it began with has expired", async (t) => {
  const { node, clock } = await startNodeOnHeldClock(t, { reactors: 1, authSecret: secret });
  const brief = await token({ sub: "ann", exp: now() + 1_000 }, secret);
  const first = await open(node, { hello: { token: brief } });
  await first.join("chat:a");
  const next = await token({ sub: "ann", exp: now() + 10_000 }, secret);
  t.match(await first.request({ refresh: { token: next } }), { refreshed: {} });
  await lose(first);
  clock.passDate(1_001_000);
  const back = await open(node, { hello: { token: next, ...resumeOf(first) } });
  t.equal(back.ready?.resumed, true, "the resume token was made for a grant that is over, the user has a better one");
  t.equal(back.ready?.expires, first.events.find(({ refreshed }) => refreshed)?.refreshed?.expires);
  await lose(back);
  const alone = await open(node, { hello: null });
  await alone.send({ hello: { version: 1, ...resumeOf(first) } }, 1);
  t.match(await alone.closed(), { code: 3005 }, "alone it is as expired as the token it stands for");
});

t.test("a resume token stands for its session in its tenant and for its user only", async (t) => {
  const ann = await open(node, { hello: { token: await token({ sub: "ann", tenant: "red" }, secret) } });
  await ann.join("chat:a");
  const others = [{ sub: "ann", tenant: "blue" }, { sub: "ann" }, { sub: "bob", tenant: "red" }, { sub: "red", tenant: "ann" }];
  for (const claims of others) {
    const thief = await open(node, { hello: { token: await token(claims, secret), ...resumeOf(ann) } });
    t.equal(thief.ready?.resumed, false, JSON.stringify(claims));
    t.same(thief.ready?.rooms ?? [], []);
    await thief.bye();
  }
  t.ok((await ann.request({ ping: {} })).pong, "she is still there");
});

t.test("rooms that the new token does not allow are left, once, and the others come back", async (t) => {
  const all = await token({ sub: "ann", rooms: { "chat:*": ["join", "publish"] } }, secret);
  const less = await token({ sub: "ann", rooms: { "chat:b": ["join"] } }, secret);
  const first = await open(node, { hello: { token: all } });
  for (const room of ["chat:a", "chat:b", "chat:c"]) await first.join(room);
  await lose(first);
  const back = await open(node, { hello: { token: less, ...resumeOf(first) } });
  await back.waitFor(() => back.events.some(({ joined }) => joined?.room === "chat:b"), "the room that is left");
  t.same(back.events.flatMap(({ left }) => left?.room ?? []).sort(), ["chat:a", "chat:c"]);
  t.match(await back.request({ publish: { room: "chat:b", payload: Buffer.from("1"), format: 1 } }), { error: { code: "forbidden" } });
  await lose(back);
  const again = await open(node, { hello: { token: all, ...resumeOf(back) } });
  t.same(again.ready?.rooms, ["chat:b"], "what was left is not there any more, though it would be allowed again");
});

t.test("a room that a refresh takes away while the session is on its way in is left after it was joined", async (t) => {
  const all = await token({ sub: "ann" }, secret);
  const none = await token({ sub: "ann", rooms: {} }, secret);
  for (let round = 0; round < 20; round++) {
    const session = await open(node, { hello: { token: all } });
    await session.request({ refresh: { token: none } }); // verified once: from now on it takes as long as a join
    await session.request({ refresh: { token: all } });
    await Promise.all([session.send({ refresh: { token: none } }, 900), session.send({ join: { room: "chat:a" } }, 901)]);
    await session.waitFor(() => session.events.some(({ left, error }) => left?.room === "chat:a" || error?.code === "forbidden"), "the end of it");
    await session.request({ ping: {} });
    const told = session.events.flatMap((event) => (event.joined ? ["joined"] : event.left ? ["left"] : []));
    t.ok(told.length === 0 || told.join() === "joined,left", told.join());
    t.match(await session.request({ leave: { room: "chat:a" } }), { error: { code: "not_joined" } });
    await session.bye();
  }
});

t.test("a client that lies about its positions is told that nothing is recovered, and harms nobody", async (t) => {
  const node = await startNode(t, { roomsPerSessionMax: 10, reactors: 1 });
  const beside = await open(node);
  await beside.join("chat:a");
  await beside.publish("chat:a", '"one"');
  const first = await open(node);
  const { position } = await first.join("chat:a");
  const lies: At[][] = [
    [{ room: "chat:a", position: { ...position, seq: 2 ** 53 - 1 } }],
    [{ room: "chat:a", position: { epoch: "other", seq: 0 } }],
    [{ room: "chat:a", position: { epoch: "", seq: 0 } }],
  ];
  let last = first;
  for (const positions of lies) {
    const back = await open(node, { hello: resumeOf(last, positions) });
    await back.waitFor(() => back.events.some(({ joined }) => joined?.room === "chat:a"), "joined");
    const { joined } = back.events.find((event) => event.joined)!;
    t.match({ recovered: false, position, ...joined }, { recovered: false });
    t.same(seen(joined?.position), position, "and where the room is");
    last = back;
  }
  const unreadable = await open(node, { hello: resumeOf(last, [{ room: "chat:a", position: { epoch: "e".repeat(20_000), seq: 1 } }]) });
  await unreadable.waitFor(() => unreadable.events.some(({ joined }) => joined), "joined");
  t.equal(unreadable.events.find(({ joined }) => joined)?.joined?.recovered, true, "one that cannot be read is one that was not given");
  last = unreadable;
  const strange = [...Array.from({ length: 2_000 }, (_, i) => ({ room: `x:${i}`, position })), { room: "chat:a", position }];
  const back = await open(node, { hello: resumeOf(last, strange) });
  t.same(back.ready?.rooms, ["chat:a"]);
  await beside.publish("chat:a", '"two"');
  await back.waitFor(() => back.publications.length === 2, "what is live");
  t.same(words(back.publications), ["one", "two"], "with no position that is read, everything since the last one, which was of another epoch");
});

t.test("the older socket's last words harm nobody, whatever they are", async (t) => {
  for (let round = 0; round < 10; round++) {
    const room = `chat:${round}`;
    const older = await open(node);
    await older.join(room);
    await older.join("@inbox");
    const coming = open(node, { hello: resumeOf(older) });
    for (const command of [{ publish: { room, payload: Buffer.from("1"), format: 1 } }, { leave: { room } }, { join: { room: "chat:late" } }, { ack: { position: { epoch: "x", seq: 9 } } }, { bye: {} }]) {
      older.send(command, 0).catch(() => undefined); // it is being closed meanwhile
    }
    const newer = await coming;
    await older.closed();
    if (newer.ready?.resumed !== true) continue; // bye came first
    const other = await open(node);
    await other.join("chat:probe");
    const mine = await newer.request({ join: { room: "chat:probe" } });
    t.ok(mine.joined, "it works");
    await lose(newer);
    t.equal((await open(node, { hello: resumeOf(newer) })).ready?.resumed, true, "and bye of the older was not its end");
  }
});

t.test("what is missed in many rooms comes in order and before what is live, while everybody publishes", async (t) => {
  const rooms = Array.from({ length: 20 }, (_, i) => `chat:many ${i}`);
  const away = await open(node);
  const beside = await open(node, { keep: false });
  const joined = await Promise.all(rooms.map((room) => away.join(room)));
  for (const room of rooms) await beside.join(room);
  await lose(away);
  const sent = new Map(rooms.map((room) => [room, 0]));
  let stopping = false;
  const publishing = Promise.all(rooms.map(async (room) => {
    while (!stopping || sent.get(room)! < 400) {
      const n = sent.get(room)!;
      await beside.publish(room, JSON.stringify(`${n} ${"x".repeat(300)}`));
      sent.set(room, n + 1);
    }
  }));
  await until(() => Math.min(...sent.values()) > 300, "300 publications in each room", 60_000);
  let last = away;
  let positions = rooms.map((room, i) => ({ room, position: joined[i]!.position }));
  const got = new Map<string, number>(rooms.map((room) => [room, 0]));
  let wrong = 0;
  // Three times: twice it is lost again in the middle of everything.
  for (let round = 0; round < 3; round++) {
    const next = await open(node, { hello: resumeOf(last, positions) });
    t.equal(next.ready?.resumed, true);
    const take = ({ room, epoch, seq, payload }: SeenPublication) => {
      const n = Number((JSON.parse(payload.toString()) as string).split(" ")[0]);
      if (n !== got.get(room)) wrong++;
      got.set(room, n + 1);
      positions = positions.map((at) => (at.room === room ? { room, position: { epoch, seq } } : at));
    };
    // Some may have come in one piece with ready.
    for (const publication of next.publications) take(publication);
    next.onPublication(take);
    last = next;
    const before = got.get(rooms[7]!)!;
    if (round === 2) break;
    await next.waitFor(() => got.get(rooms[7]!)! > before + 20, "a part of it");
    await lose(next);
  }
  stopping = true;
  await publishing;
  await last.waitFor(() => rooms.every((room) => got.get(room) === sent.get(room)), "everything");
  t.equal(wrong, 0, "nothing was out of order, missing or twice");
});

t.test("sessions of a reactor that failed are resumed on another", async (t) => {
  const node = await startNode(t);
  const away = await Promise.all(Array.from({ length: 8 }, () => open(node)));
  const at = await Promise.all(away.map((session) => session.join("chat:a")));
  node.failReactor(0);
  node.failReactor(1);
  await Promise.all(away.map(({ raw }) => raw.ended));
  const response = async () => (await fetch(`http://127.0.0.1:${node.port}/ready`).catch(() => null))?.ok === true;
  while (!(await response())) await new Promise((resolve) => setTimeout(resolve, 20));
  const beside = await open(node);
  await beside.join("chat:a");
  await beside.publish("chat:a", '"while away"');
  const back = await Promise.all(away.map((session, i) => open(node, { hello: resumeOf(session, [{ room: "chat:a", position: at[i]!.position }]) })));
  t.ok(back.every(({ ready }) => ready?.resumed === true));
  await beside.publish("chat:a", '"live"');
  for (const session of back) {
    await session.waitFor(() => session.publications.length === 2, "both");
    t.same(words(session.publications), ["while away", "live"]);
  }
});

t.test("a resume at the limit of sessions replaces itself; of one that is away it counts", async (t) => {
  const node = await startNode(t, { sessionsPerUserMax: 2, authSecret: secret });
  const ann = { token: await token({ sub: "ann" }, secret) };
  const first = await open(node, { hello: ann });
  const second = await open(node, { hello: ann });
  const again = await open(node, { hello: { ...ann, ...resumeOf(first) } });
  t.equal(again.ready?.resumed, true, "its own place is free again");
  t.match(await first.closed(), { code: 3010 });
  await lose(second);
  // Its place is free once the node has noticed.
  const third = await until2(async () => (await tryOpen(node, ann)) ?? null);
  const refused = await open(node, { hello: null });
  await refused.send({ hello: { version: 1, ...ann, ...resumeOf(second) } }, 1);
  t.match(await refused.closed(), { code: 3507 });
  await third.bye();
  const back = await open(node, { hello: { ...ann, ...resumeOf(second) } });
  t.equal(back.ready?.resumed, true, "the refusal did not end it");
});

t.test("a malformed command behind hello is answered, not taken for a missing hello", async (t) => {
  const session = await open(node, { json: true, hello: null });
  await session.sendMessage('[{"id":1,"hello":{"version":1}},{"id":2,"join":{"rom":"chat:a"}},{"id":3,"ping":{}}]');
  await session.waitFor(() => session.events.length === 3, "three answers");
  t.match(session.events, [{ id: 1, ready: {} }, { id: 2, error: { code: "bad_request" } }, { id: 3, pong: {} }]);
});

t.test("a second hello is refused, early or late", async (t) => {
  const session = await open(node, { hello: null });
  await session.send({ hello: { version: 1 } }, 1);
  await session.send({ hello: { version: 1 } }, 2);
  await session.waitFor(() => session.events.length === 2, "both answers");
  t.match(session.events, [{ id: 1, ready: {} }, { id: 2, error: { code: "bad_request" } }]);
  t.match(await session.request({ hello: { version: 1 } }), { error: { code: "bad_request" } });
});

t.test("an anonymous client whose session is gone begins a new one where those may connect", async (t) => {
  const first = await open(node);
  await first.bye();
  const second = await open(node, { hello: resumeOf(first) });
  t.equal(second.ready?.resumed, false);
  const ann = await open(node, { hello: { token: await token({ sub: "ann" }, secret) } });
  await ann.bye();
  const alone = await open(node, { hello: null });
  await alone.send({ hello: { version: 1, ...resumeOf(ann) } }, 1);
  t.match(await alone.closed(), { code: 3005 }, "but nobody becomes ann without her token");
});

async function tryOpen(node: { port: number }, hello: { token: string }) {
  const session = await open(node, { hello: null });
  await session.send({ hello: { version: 1, ...hello } }, 1);
  const ready = session.waitFor(() => session.events.length > 0).then(() => true, () => false);
  return (await ready) ? session : null;
}

async function until2<T>(attempt: () => Promise<T | null>): Promise<T> {
  for (;;) {
    const result = await attempt();
    if (result !== null) return result;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
