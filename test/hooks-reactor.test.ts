/** What a reactor does with verdicts: parts of it that a node shows only with several nodes, or with Redis unavailable. */
import t from "tap";
import { anonymous, type Grant } from "../src/auth/grants.ts";
import { ResumeTokens } from "../src/auth/resume.ts";
import { nothingAsked, readAsk, readVerdict, writeAsk, writeVerdict, type HookVerdict, type Question } from "../src/link/hooks.ts";
import { Link, type RecordReader } from "../src/link/link.ts";
import { createRing } from "../src/link/ring.ts";
import { writeAdmitted } from "../src/link/sessions.ts";
import { decidedBefore } from "../src/reactor/hooks/connect.ts";
import type { Reactor } from "../src/reactor/reactor.ts";
import { Together } from "../src/reactor/together.ts";
import { hello, onAdmitted } from "../src/reactor/session/hello.ts";
import { addMember, createSession, type Session } from "../src/reactor/session/session.ts";
import { roomsOf } from "../src/hub/sessions/resuming.ts";

const allowed = { kind: "allowed", until: 0, user: "", rooms: [], payload: null, format: 0 } as const satisfies HookVerdict;

/** Writes a record, and has it read. */
function throughRing<T>(write: (link: Link) => unknown, read: (record: RecordReader) => T): T {
  const [there, back] = [createRing(65_536), createRing(65_536)];
  const seen: T[] = [];
  const options = { overflowBytesMax: 1, readBudgetBytes: 65_536, ringDoorbell: () => {}, onBatchEnd: () => {} };
  const writer = new Link({ ...options, out: there, in: back, onRecord: () => {} });
  const reader = new Link({ ...options, out: back, in: there, onRecord: (_, record) => void seen.push(read(record)) });
  write(writer);
  reader.wake();
  return seen[0]!;
}

t.test("questions and verdicts come out of the ring as they went in", async (t) => {
  const question: Question = { ...nothingAsked, hook: "publish", tenant: "acme", user: "ann", tokenHash: "h", isAnonymous: true, session: "s", client: "c", device: "d", token: "t", room: "chat:ü", key: "k", format: 1, payload: Buffer.from('"x"') };
  const read = throughRing((link) => writeAsk(link, 7, question), (record) => {
    const asked = readAsk(record);
    return { ...asked, payload: Buffer.from(asked.payload) };
  });
  t.strictSame(read, { ...question, number: 7 });
  const verdicts: HookVerdict[] = [
    { ...allowed, until: 12.5, user: "bob", rooms: ["a", "b"], payload: Buffer.from("x"), format: 1 },
    { ...allowed, payload: Buffer.alloc(0) },
    allowed,
    { kind: "denied", close: 4501, error: "rate_limited", reason: "später" },
    { kind: "unanswered", isAllowed: true, isFull: false, text: "why" },
    { kind: "unanswered", isAllowed: false, isFull: true, text: "" },
  ];
  for (const verdict of verdicts) {
    const back = throughRing((link) => writeVerdict(link, 9, verdict), (record) => {
      const { number, verdict: seen } = readVerdict(record);
      return { number, verdict: seen.kind === "allowed" && seen.payload !== null ? { ...seen, payload: Buffer.from(seen.payload) } : seen };
    });
    t.strictSame(back, { number: 9, verdict });
  }
});

/** As much of a reactor as hello needs. */
function reactorWith(parts: object): Reactor {
  return {
    config: { frameBytesMax: 65_536, ringBytes: 2 ** 20, nodeId: "n", roomNameBytesMax: 255, roomsPerSessionMax: 10, allowAnonymous: true },
    counters: { add: () => {}, addAt: () => {}, get: () => 0, closed: () => {} }, trace: null, refusals: { tell: () => {} }, verifier: null, together: new Together(() => {}),
    resumeTokens: new ResumeTokens("secret"), outOfMemory: () => true,
    ...parts,
  } as unknown as Reactor;
}

function comingSession(): Session {
  const session = createSession({} as never, 0, "", "");
  session.socket = { end: () => {} } as never;
  session.state = "handshake";
  return session;
}

t.test("the backend names the user before the node looks where the user belongs", async (t) => {
  const order: string[] = [];
  const placement = { mode: "hash", self: 0, owned: 1, partitions: 1, ownerOf: () => 0 };
  const targets = { belonging: (_: string, user: string) => (order.push(`placed ${user}`), { isSelf: true }) };
  const hooks = { asksConnect: true, ask: (_: Session, question: Question, then: (verdict: HookVerdict) => void) => {
    order.push(`asked about ${question.token}`);
    then({ ...allowed, user: "ann" });
    return true;
  } };
  const sessions = { setState: () => {} };
  hello(reactorWith({ placement, targets, hooks, sessions }), comingSession(), 1, { version: 1, token: "cookie" });
  t.strictSame(order, ["asked about cookie", "placed ann"]);
});

t.test("a long token that the node cannot read is refused unasked", async (t) => {
  const closed: string[] = [];
  const hooks = { asksConnect: true, ask: () => t.fail("asked") };
  const reactor = reactorWith({ hooks, placement: { mode: "any" }, sessions: { setState: () => {} }, counters: { add: () => {}, addAt: () => {}, get: () => 0, closed: (name: string) => closed.push(name) } });
  hello(reactor, comingSession(), 1, { version: 1, token: "x".repeat(8193) });
  t.strictSame(closed, ["invalid_token"]);
});

t.test("rooms that only the client names are asked about; those that the store knows are not", async (t) => {
  for (const isClaimed of [false, true]) {
    const [joined, asked, sent]: [string[], string[], string[]] = [[], [], []];
    const session = comingSession();
    session.grant = anonymous("ann");
    session.waiting = { id: 1, client: "", frames: [], sizes: [], bytes: 0, ahead: 0, restored: 0, mayGoAhead: false };
    const hooks = { asksConnect: false, ask: (_: Session, { room }: Question, then: (verdict: HookVerdict) => void) => {
      asked.push(room);
      then(room === "chat:a" ? allowed : { kind: "denied", close: 4500, error: "forbidden", reason: "" });
      return true;
    } };
    const reactor = reactorWith({
      hooks, sessions: { find: () => session, setState: (one: Session) => (one.state = "ready"), tokenDueAt: [] }, heartbeat: { heard: () => {} }, greeted: null,
      moves: { arrived: () => {} }, tickets: { make: () => "" }, returnWindow: { ms: 0, nextPlace: () => 0 }, encoder: { frame: (_: number, frame: object) => (sent.push(Object.keys(frame)[1]!), new Uint8Array(8)) },
      rooms: { join: (_: Session, { name }: { name: string }) => Boolean(joined.push(name)) }, kindOf: (room: string) => ({ asksJoin: room.startsWith("chat:") }), link: { begin: () => true, u32: () => {}, text: () => {}, end: () => {} },
    });
    session.socket = { send: () => 1 } as never;
    const rooms = ["chat:a", "chat:b", "open:c"].map((name) => ({ name, epoch: "e", seq: 1 }));
    throughRing((link) => writeAdmitted(link, { slot: 0, life: 0, session: "s", generation: 1, resumed: true, rooms, isClaimed, assigned: [], isUnread: false }), (record) => onAdmitted(reactor, record));
    t.strictSame(asked, isClaimed ? ["chat:a", "chat:b"] : []);
    t.strictSame(joined, isClaimed ? ["chat:a", "open:c"] : ["chat:a", "chat:b", "open:c"]);
    t.strictSame(sent, isClaimed ? ["ready", "left"] : ["ready"]);
  }
});

t.test("a room that the session has come into while the backend was asked is not joined twice, nor left", async (t) => {
  for (const verdict of [allowed, { kind: "denied", close: 4500, error: "forbidden", reason: "" }] as const) {
    const [joined, sent]: [string[], string[]] = [[], []];
    let answer: (verdict: HookVerdict) => void = () => {};
    const session = comingSession();
    session.grant = anonymous("ann");
    session.waiting = { id: 1, client: "", frames: [], sizes: [], bytes: 0, ahead: 0, restored: 0, mayGoAhead: false };
    const hooks = { asksConnect: false, ask: (_: Session, __: Question, then: (verdict: HookVerdict) => void) => ((answer = then), true) };
    const reactor = reactorWith({
      hooks, sessions: { find: () => session, setState: (one: Session) => (one.state = "ready"), tokenDueAt: [] }, heartbeat: { heard: () => {} }, greeted: null,
      moves: { arrived: () => {} }, tickets: { make: () => "" }, returnWindow: { ms: 0, nextPlace: () => 0 }, encoder: { frame: (_: number, frame: object) => (sent.push(Object.keys(frame)[1]!), new Uint8Array(8)) },
      rooms: { join: (_: Session, { name }: { name: string }) => Boolean(joined.push(name)) }, kindOf: () => ({ asksJoin: true }), link: { begin: () => true, u32: () => {}, text: () => {}, end: () => {} },
    });
    session.socket = { send: () => 1 } as never;
    const rooms = [{ name: "chat:a", epoch: "e", seq: 1 }];
    throughRing((link) => writeAdmitted(link, { slot: 0, life: 0, session: "s", generation: 1, resumed: true, rooms, isClaimed: true, assigned: [], isUnread: false }), (record) => onAdmitted(reactor, record));
    addMember(session, { session, name: "chat:a", state: "live" } as never);
    answer(verdict);
    t.strictSame([joined, sent], [[], ["ready"]]);
  }
});

t.test("the hub says which rooms only the client names: those of a session whose store did not answer", async (t) => {
  const session = { userKey: "\u001fann", assigned: new Set<string>() };
  const common = { session, hello: { positions: [{ name: "chat:a", epoch: "e", seq: 1 }] }, before: undefined, taken: 2, roomNamesBytesMax: 1000 };
  t.match(roomsOf({ ...common, answer: { error: "unavailable" } }), { isClaimed: true, rooms: [{ name: "chat:a" }] });
  const record = { id: "s", tenant: "", user: "ann", device: "", node: "n", generation: 1, rooms: [] };
  t.match(roomsOf({ ...common, answer: { value: record } }), { isClaimed: false, rooms: [] });
});

t.test("a resume token carries the verdict, and only to its user's session", async (t) => {
  const tokens = new ResumeTokens("secret");
  const grant: Grant = { ...anonymous("ann@acme"), tokenHash: "x", hook: { from: "ann", until: 0, rooms: ["chat:a"] } };
  const claims = tokens.read(tokens.make("s", 3, grant))!;
  t.strictSame(claims.grant, grant);
  t.strictSame(tokens.read(tokens.make("s", 3, anonymous("bob")))!.grant.hook, null);
  const own = anonymous("ann");
  t.match(decidedBefore({ grant: own, claims, token: "" }), { user: "ann@acme", hook: { rooms: ["chat:a"] } });
  t.equal(decidedBefore({ grant: anonymous("bob"), claims, token: "" }), null);
  t.equal(decidedBefore({ grant: { ...own, tenant: "acme" }, claims, token: "" }), null);
  t.equal(decidedBefore({ grant: own, claims, token: "another login" }), null);
  t.equal(decidedBefore({ grant: own, claims: null, token: "" }), null);
  const aging = { ...claims, grant: { ...grant, hook: { ...grant.hook!, until: 1000 } } };
  t.ok(decidedBefore({ grant: own, claims: aging, token: "" }, 999));
  t.equal(decidedBefore({ grant: own, claims: aging, token: "" }, 1000), null);
});
