/** Joins that a client sends right behind hello go to the hub with it (reactor/session/ahead.ts), and so do the rooms of a resume. */
import t from "tap";
import { writeAck, writeGone, writeHello } from "../src/link/sessions.ts";
import { kinds, writeHistory } from "../src/link/records.ts";
import { roomKey, userKey } from "../src/protocol/roomkeys.ts";
import { Together } from "../src/reactor/together.ts";
import { createSession } from "../src/reactor/session/session.ts";
import type { Socket } from "../src/reactor/transport/socket.ts";
import { startHub } from "./support/hub.ts";
import { startNode } from "./support/node.ts";
import { openTcp } from "./support/rawtcp.ts";
import { lose, resumeOf } from "./support/resume.ts";
import { open, type Command, type OpenOptions, type TestSession } from "./support/session.ts";
import { until } from "./support/until.ts";

const node = await startNode(t, { reactors: 1, tcpPort: 0, roomsPerSessionMax: 40, sessionsPerUserMax: 2, authSecret: "", namespaces: { chat: { durable: true }, live: {}, shut: { publish: "nobody" } } });

/** Sends all of them without waiting for an answer. Ids from 1 on. */
async function say(session: TestSession, commands: readonly Command[]): Promise<void> {
  await Promise.all(commands.map((command, i) => session.send(command, i + 1)));
}

const hello = { hello: { version: 1, client: "test" } };
const join = (room: string): Command => ({ join: { room } });
/** What the answers were, in the order in which they came. */
const answersOf = ({ events }: TestSession) => events.filter(({ id }) => (id ?? 0) !== 0).map(({ id, ready, joined, error, published }) => `${id} ${ready ? "ready" : joined ? `joined ${joined.room}` : published ? "published" : error?.code}`);

const transports: [string, (options?: OpenOptions) => Promise<TestSession>][] = [
  ["binary", (options) => open(node, { ...options, hello: null })],
  ["JSON", (options) => open(node, { ...options, json: true, hello: null })],
  ["TCP", () => openTcp(node, { hello: null })],
];

for (const [name, come] of transports) {
  t.test(`${name}: ready comes first, then the joins in their order, then what needed them`, async (t) => {
    const session = await come();
    await say(session, [hello, join("live:a"), join("live:b"), { publish: { room: "live:a", payload: Buffer.from('"x"'), format: 1 } }, join("live:a"), join("no-such:room"), join("live:c")]);
    await session.waitFor(() => answersOf(session).length === 7, "all answers");
    const answers = answersOf(session);
    t.equal(answers[0], "1 ready");
    // What the reactor refuses may overtake what the hub answers.
    t.same(answers.filter((answer) => answer.includes("joined live")), ["2 joined live:a", "3 joined live:b", "7 joined live:c"]);
    t.same(answers.slice(1).filter((answer) => !answer.includes("joined live")).sort(), ["4 published", "5 already_joined", "6 unknown_namespace"]);
    await session.waitFor(() => session.publications.length === 1, "the publication");
  });

  t.test(`${name}: as many joins as a session may have rooms, and one more`, async (t) => {
    const session = await come();
    await say(session, [hello, ...Array.from({ length: 41 }, (_, i) => join(`live:many${i}`))]);
    await session.waitFor(() => answersOf(session).length === 42, "all answers");
    t.equal(answersOf(session).filter((answer) => answer.endsWith("too_many_rooms")).length, 1);
    t.equal(answersOf(session)[0], "1 ready");
    t.ok(answersOf(session).includes("42 too_many_rooms"));
  });
}

t.test("a rate that allows few commands is kept to, and nothing is answered before ready", async (t) => {
  const slow = await startNode(t, { reactors: 1, commandsPerSecond: 1, namespaces: { live: {} } });
  const session = await open(slow, { hello: null });
  await say(session, [hello, join("live:a"), join("live:b"), join("live:c"), join("live:d")]);
  await session.waitFor(() => answersOf(session).length === 5, "all answers");
  t.equal(answersOf(session)[0], "1 ready");
  t.ok(answersOf(session).some((answer) => answer.endsWith("rate_limited")));
});

t.test("rooms into which the application has joined the user come before those that the client asks for", async (t) => {
  const one = await startNode(t, { reactors: 1, roomsPerSessionMax: 2, authSecret: "a secret of at least thirty-two characters", allowAnonymous: true, host: "127.0.0.1", namespaces: { live: {} } });
  const { token } = await import("./support/tokens.ts");
  await one.join("ann", "live:assigned");
  const session = await open(one, { hello: null });
  const signed = await token({ sub: "ann" }, "a secret of at least thirty-two characters");
  await say(session, [{ hello: { version: 1, token: signed } }, join("live:a"), join("live:b")]);
  await session.waitFor(() => answersOf(session).length === 3, "all answers");
  t.same(answersOf(session).sort(), ["1 ready", "2 joined live:a", "3 too_many_rooms"]);
  await session.waitFor(() => session.events.some(({ joined }) => joined?.room === "live:assigned"), "the room of the application");
  t.same(session.events.filter(({ left }) => left).length, 0, "nothing that it was in is taken from it");
  await say(session, []);
  const again = await session.request(join("live:b"));
  t.match(again, { error: { code: "too_many_rooms" } });
});

t.test("a session that resumes is brought back, also where it names rooms that it was not in", async (t) => {
  const beside = await open(node);
  for (const json of [false, true]) {
    const away = await open(node, { json });
    const { position } = await away.join("chat:back");
    await away.join("live:back");
    await lose(away);
    await beside.publish("chat:back", '"missed"').catch(() => {});
    const at = { epoch: position.epoch, seq: position.seq };
    const positions = [{ room: "chat:back", position: at }, { room: "chat:never", position: at }, { room: "no-such:room", position: at }];
    const back = await open(node, { json, hello: resumeOf(away, positions) });
    t.same([...(back.ready?.rooms ?? [])].sort(), ["chat:back", "live:back"]);
    await back.waitFor(() => back.events.filter(({ joined }) => joined).length === 2, "both rooms");
    t.same(back.events.filter(({ error, left }) => error || left), [], "nothing is said of the others");
    t.match(await back.request(join("chat:never")), { joined: { room: "chat:never" } }, "which it may still join");
    t.match(await back.request(join("chat:back")), { error: { code: "already_joined" } });
    await back.bye();
  }
});

t.test("a session that cannot be resumed begins anew, in no room", async (t) => {
  const away = await open(node);
  const { position } = await away.join("chat:gone");
  await away.bye();
  const back = await open(node, { hello: resumeOf(away, [{ room: "chat:gone", position }]) });
  t.equal(back.ready?.resumed, false);
  t.match(await back.request(join("chat:gone")), { joined: { room: "chat:gone" } });
  t.same(back.events.filter(({ error, left }) => error || left), []);
});

// ------------------------------------------------------------------------------- the hub

/** A hub whose store answers when the test says so, and a reactor that has said hello. */
function slowly(resume = "") {
  const waiting: (() => void)[] = [];
  const started = startHub({ store: (memory) => ({ signedOutAt: (user, done) => void waiting.push(() => memory.signedOutAt(user, done)) }) });
  const [reactor] = started.reactors;
  const came = (slot: number, user = "ann") => writeHello(reactor!.reader, { slot, life: 1, wire: 0, user: userKey("", user), device: "", issuedAt: 1, mayBegin: true, decided: "now", resume, resumeIssuedAt: 1, resumeGeneration: 0, positions: [] });
  const answer = () => {
    while (waiting.length > 0) waiting.shift()!();
  };
  return { ...started, reactor: reactor!, came, answer };
}

const room = roomKey("", "live:a");

t.test("hub: a join waits for the answer to its hello, and comes right behind it", (t) => {
  const { hub, reactor, came, answer, stop } = slowly();
  came(1);
  reactor.join(7, room, { slot: 1, ahead: true });
  reactor.drain();
  t.same(reactor.seen, [], "nothing before the store has answered");
  answer();
  reactor.drain();
  t.same(reactor.seen.map(({ kind, member }) => [kind, member]), [[kinds.admitted, 0], [kinds.joined, 7]]);
  t.equal(hub.sessions.find(reactor.reactor, 1, 1)?.ahead.length, 0);
  stop();
  t.end();
});

t.test("hub: where hello is refused, or its socket is gone, its joins leave no member", (t) => {
  for (const how of ["signed out", "gone"]) {
    const { hub, rooms, reactor, came, answer, stop } = slowly();
    came(1);
    reactor.join(7, room, { slot: 1, ahead: true });
    reactor.drain();
    if (how === "signed out") hub.sessions.signOut("", "ann");
    else writeGone(reactor.reader, 1, 1, false);
    reactor.drain();
    answer();
    // One more that was under way.
    reactor.join(8, room, { slot: 1, ahead: true });
    reactor.drain();
    const kick = how === "gone" ? [] : [[kinds.kick, 0]];
    t.same(reactor.seen.map(({ kind, member }) => [kind, member]), [...kick, [kinds.refused, 7], [kinds.refused, 8]], how);
    t.equal(rooms.named(room)?.members ?? 0, 0);
    stop();
  }
  t.end();
});

t.test("hub: a session is brought back only into rooms that are its own", (t) => {
  const { rooms, reactor, came, answer, stop } = slowly();
  came(1);
  reactor.join(7, room, { slot: 1, ahead: true, restored: true, epoch: "e" });
  reactor.drain();
  answer();
  reactor.drain();
  t.same(reactor.seen.map(({ kind, member }) => [kind, member]), [[kinds.admitted, 0], [kinds.refused, 7]]);
  t.equal(rooms.named(room)?.members ?? 0, 0);
  stop();
  t.end();
});

// ------------------------------------------------------------------------------- one write

t.test("frames to one session leave in one write, in order; to others, and above 8 KiB, at once", (t) => {
  const done: string[] = [];
  const sessionOf = (name: string) => Object.assign(createSession({ publish: () => true }, 0, "", ""), {
    id: name, socket: { cork: (work: () => void) => (done.push(`${name} corked`), work(), done.push(`${name} left`)) } as unknown as Socket,
  });
  const together = new Together(({ id }, frame) => void done.push(`${id} ${frame.length}`));
  const [ann, bob] = [sessionOf("ann"), sessionOf("bob")];
  const send = (session: typeof ann, bytes: number) => {
    const shared = new Uint8Array(bytes);
    if (!together.takes(session, shared)) done.push(`${session.id} ${bytes} at once`);
  };
  const seen = () => done.splice(0);
  send(ann, 1);
  t.same(seen(), ["ann 1 at once"]);
  together.begin(ann);
  for (const bytes of [2, 3]) send(ann, bytes);
  send(bob, 4);
  t.same(seen(), ["bob 4 at once"]);
  together.leaveUnless(ann);
  together.leaveIf(bob);
  t.same(seen(), []);
  together.leave();
  t.same(seen(), ["ann corked", "ann 2", "ann 3", "ann left"]);
  send(ann, 5);
  t.same(seen(), ["ann 5 at once"], "not any more");
  together.begin(ann);
  send(ann, 6);
  send(ann, 8 * 1024);
  t.same(seen(), ["ann 6", "ann 8192 at once"], "one frame needs no cork");
  const texts: string[] = [];
  const copies = new Together((_, frame) => void texts.push(Buffer.from(frame).toString()));
  const inRing = Buffer.from("joined");
  copies.begin(ann);
  copies.takes(ann, inRing);
  inRing.fill("x");
  copies.leave();
  t.same(texts, ["joined"], "the hub may have written over it");
  together.begin(ann);
  send(ann, 7);
  together.begin(bob);
  t.same(seen(), ["ann 7"]);
  (ann as { socket: Socket | null }).socket = null;
  together.begin(ann);
  send(ann, 8);
  t.same(seen(), ["ann 8 at once"], "a socket that is gone");
  t.end();
});

// ------------------------------------------------------------------------------- a broker that is away

t.test("hub: history of a room that waits for the broker is refused: it would look empty", (t) => {
  const opening: (() => void)[] = [];
  const { reactors: [reactor], publishElsewhere, stop } = startHub({ broker: (memory) => ({ open: (...given) => void opening.push(() => memory.open(...given)) }) });
  const chat = roomKey("", "chat:a");
  publishElsewhere(chat);
  const ask = (id: number) => writeHistory(reactor!.reader, { slot: 1, life: 1, id, wire: 0, direction: "since", epoch: "another", seq: 0, limit: 0, orOldest: true, room: chat });
  reactor!.join(7, chat, { slot: 1 });
  ask(1);
  reactor!.drain();
  t.match(reactor!.seen.map(({ frame }) => frame), [{ error: { code: "unavailable" } }]);
  opening.shift()!();
  ask(2);
  reactor!.drain();
  t.equal(reactor!.seen.at(-1)?.frame.history?.publications?.length, 1, "once it is open, what is kept");
  stop();
  t.end();
});

t.test("hub: rooms of a session that has lost its socket are not asked for any more", async (t) => {
  let asked = 0;
  const { hub, reactors: [reactor], stop } = startHub({ broker: () => ({ open: (_name, _retention, done) => void (asked++, done({ error: "unavailable" })) }) });
  writeHello(reactor!.reader, { slot: 1, life: 1, wire: 0, user: userKey("", "ann"), device: "", issuedAt: 1, mayBegin: true, decided: "now", resume: "", resumeIssuedAt: 1, resumeGeneration: 0, positions: [] });
  reactor!.drain();
  reactor!.join(7, roomKey("", "chat:a"), { slot: 1, restored: true });
  reactor!.drain();
  await until(() => asked >= 2, "it to be tried again");
  writeGone(reactor!.reader, 1, 1, false);
  reactor!.drain();
  await until(() => (reactor!.drain(), reactor!.seen.some(({ kind, member }) => kind === kinds.refused && member === 7)), "the end of its join");
  t.equal(hub.sessions.find(reactor!.reactor, 1, 1)?.state === "here", false);
  stop();
});

t.test("hub: a refused ack says whether its reactor counts an answer", (t) => {
  const { reactors: [reactor], stop } = startHub();
  writeHello(reactor!.reader, { slot: 1, life: 1, wire: 0, user: userKey("", "ann"), device: "phone", issuedAt: 1, mayBegin: true, decided: "now", resume: "", resumeIssuedAt: 1, resumeGeneration: 0, positions: [] });
  reactor!.drain();
  for (const id of [0, 5]) writeAck(reactor!.reader, { slot: 1, life: 1, id, wire: 0 }, "another", 7);
  reactor!.drain();
  t.match(reactor!.seen.filter(({ kind }) => kind === kinds.reply).map(({ frame, isOwed }) => [frame.id ?? 0, isOwed]), [[0, true], [5, false]]);
  stop();
  t.end();
});
