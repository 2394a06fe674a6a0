/** Contract of the session store, clause by clause of src/sessions/sessions.ts. Run over each implementation. */
import type { Test } from "tap";
import type { Answer, Position } from "../broker/broker.ts";
import type { SessionRecord, Sessions } from "../sessions/sessions.ts";
import { asked, value } from "./answers.ts";

export interface SessionsOptions {
  ttlMs: number;
  sessionsMax: number;
  cursorsMax: number;
}

export interface Clock {
  time: number;
  /** Advances time. A store with a clock of its own supplies its own way. */
  pass(ms: number): Promise<void>;
  /** Precision of `pass`. */
  slackMs: number;
}

export type MakeSessions = (options: SessionsOptions, clock: Clock, t: Test) => Sessions | Promise<Sessions>;

const limits = { ttlMs: 60_000, sessionsMax: 100, cursorsMax: 100 };

/** @param bounded whether the store has a limit of its own. A store on a server does not. */
export function sessionsContract(t: Test, name: string, make: MakeSessions, bounded = true): void {
  const start = async (t: Test, options: Partial<SessionsOptions> = {}) => {
    const clock: Clock = { time: 1_000_000, slackMs: 1, pass: async (ms) => void (clock.time += ms) };
    const sessions = await make({ ...limits, ...options }, clock, t);
    t.teardown(() => sessions.stop());
    return { ...promised(sessions), sessions, clock };
  };

  t.test(`${name}: a session is taken as it was put last, as often as one likes`, async (t) => {
    const { sessions, take } = await start(t);
    const first = record("s1");
    sessions.put(first);
    t.same(value(await take("s1")), first);
    const second = { ...first, node: "another", generation: 9, rooms: [] };
    t.same({ ...value(await take("s1")), generation: first.generation }, first, "taking leaves it there");
    sessions.put(second);
    t.same(value(await take("s1")), second);
    t.equal(value(await take("s2")), null, "one that never was");
  });

  t.test(`${name}: each take has a higher generation than those before it, than what was put, and than what its client knows`, async (t) => {
    const { sessions, taken } = await start(t);
    const as = async (known: number) => (await taken("s1", known)).generation;
    sessions.put(record("s1"));
    t.equal(await as(0), 1);
    t.equal(await as(0), 2, "that it was taken is known before it is put");
    t.equal(await as(7), 8);
    sessions.put({ ...record("s1"), generation: 20 });
    t.equal(await as(7), 21);
    t.equal(await as(2 ** 52), 2 ** 52 + 1);
    sessions.put({ ...record("s1"), generation: 2 ** 52 + 1 });
    t.equal(await as(0), 2 ** 52 + 2);
    t.same((await taken("unknown", 3)), { answer: { value: null }, generation: 4 });
  });

  t.test(`${name}: names of any Unicode come back as they were`, async (t) => {
    const { sessions, take } = await start(t);
    const odd = { ...record("s1"), user: "ü u\u0308 😀 \"quoted\"", device: "\\", rooms: [{ name: "ten\u001fchat:😀", epoch: "e", seq: 2 ** 53 - 1 }] };
    sessions.put(odd);
    t.same(value(await take("s1")), odd);
  });

  t.test(`${name}: a session that was ended is not taken again, unless it is put again`, async (t) => {
    const { sessions, take } = await start(t);
    sessions.put(record("s1"));
    sessions.put(record("s2"));
    sessions.end("s1", 0);
    t.equal(value(await take("s1")), null);
    t.ok(value(await take("s2")));
    sessions.keep("s1", 0);
    t.equal(value(await take("s1")), null, "keep does not bring it back");
    sessions.put(record("s1"));
    t.ok(value(await take("s1")));
  });

  t.test(`${name}: all sessions that a user has are ended, those of nobody else, and none to come`, async (t) => {
    const { sessions, take } = await start(t);
    const mine = { tenant: "acme", user: "ann" };
    sessions.put({ ...record("a1"), ...mine });
    sessions.put({ ...record("a2"), ...mine, rooms: [] });
    sessions.put({ ...record("b1"), tenant: "acme", user: "anna" });
    sessions.put({ ...record("b2"), tenant: "", user: "ann" });
    sessions.put({ ...record("b3"), tenant: "acme", user: 'ann","' });
    sessions.endAll("acme", "ann");
    sessions.endAll("acme", "nobody");
    for (const id of ["a1", "a2"]) t.equal(value(await take(id)), null);
    for (const id of ["b1", "b2", "b3"]) t.ok(value(await take(id)), id);
    sessions.keep("a1", 0);
    t.equal(value(await take("a1")), null, "keep does not bring it back");
    sessions.put({ ...record("a3"), ...mine });
    t.ok(value(await take("a3")));
  });

  t.test(`${name}: a session lives for its time after it was put or kept, and no longer`, async (t) => {
    const { sessions, take, clock } = await start(t);
    sessions.put(record("put"));
    sessions.put(record("kept"));
    await clock.pass(limits.ttlMs - clock.slackMs);
    t.ok(value(await take("put")));
    sessions.keep("kept", 0);
    sessions.keep("unknown", 0);
    await clock.pass(clock.slackMs);
    t.equal(value(await take("put")), null);
    await clock.pass(limits.ttlMs - 2 * clock.slackMs);
    t.ok(value(await take("kept")));
    await clock.pass(clock.slackMs);
    t.equal(value(await take("kept")), null);
    sessions.keep("kept", 0);
    t.equal(value(await take("kept")), null, "too late");
    t.equal(value(await take("unknown")), null);
  });

  if (bounded) t.test(`${name}: past its sessions the longest unwritten is forgotten`, async (t) => {
    const { sessions, take } = await start(t, { sessionsMax: 3 });
    for (const id of ["a", "b", "c"]) sessions.put(record(id));
    sessions.keep("a", 0);
    sessions.put(record("d"));
    const left = [];
    for (const id of ["a", "b", "c", "d"]) left.push(value(await take(id))?.id ?? null);
    t.same(left, ["a", null, "c", "d"]);
    t.equal(sessions.usage().sessions, 3);
  });

  t.test(`${name}: a cursor moves forward within an epoch, and another epoch replaces it`, async (t) => {
    const { sessions, cursor } = await start(t);
    t.equal(value(await cursor("u", "phone")), null);
    const moves: [Position, Position][] = [
      [{ epoch: "a", seq: 5 }, { epoch: "a", seq: 5 }],
      [{ epoch: "a", seq: 3 }, { epoch: "a", seq: 5 }],
      [{ epoch: "a", seq: 6 }, { epoch: "a", seq: 6 }],
      [{ epoch: "b", seq: 1 }, { epoch: "b", seq: 1 }],
    ];
    for (const [to, at] of moves) {
      sessions.acknowledge("u", "phone", to);
      t.same(value(await cursor("u", "phone")), at);
    }
    sessions.acknowledge("u", "phone", { epoch: "b", seq: 9 });
    sessions.acknowledge("u", "phone", { epoch: "b", seq: 7 });
    t.same(value(await cursor("u", "phone")), { epoch: "b", seq: 9 }, "of two at once the later");
    t.equal(value(await cursor("u", "laptop")), null, "a device's own");
    t.equal(value(await cursor("v", "phone")), null, "a user's own");
  });

  t.test(`${name}: a cursor is kept for thirty days`, async (t) => {
    const { sessions, cursor, clock } = await start(t);
    sessions.acknowledge("u", "phone", { epoch: "a", seq: 5 });
    await clock.pass(30 * 86_400_000 - clock.slackMs);
    t.same(value(await cursor("u", "phone")), { epoch: "a", seq: 5 });
  });

  t.test(`${name}: a user was signed out when it was said last, others never`, async (t) => {
    const { sessions, signedOutAt } = await start(t);
    t.equal(value(await signedOutAt("u")), 0);
    sessions.signOut("u", 500);
    sessions.signOut("u", 400);
    t.equal(value(await signedOutAt("u")), 500);
    sessions.signOut("u", 300);
    t.equal(value(await signedOutAt("u")), 500);
    t.equal(value(await signedOutAt("v")), 0);
  });

  t.test(`${name}: rooms are a user's from their assignment to its end, at most so many of them, and of nobody else`, async (t) => {
    const { sessions, assign, unassign, assigned, clock } = await start(t);
    const rooms = async (user: string) => [...value(await assigned(user))].sort();
    t.same(await rooms("u"), []);
    for (const room of ["chat:b", "chat:a", "chat:b"]) t.same(await assign("u", room, 2), { value: null });
    t.same(await rooms("u"), ["chat:a", "chat:b"]);
    t.same(await assign("u", "chat:c", 2), { error: "too_many_rooms" });
    t.same(await assign("u", "chat:a", 2), { value: null }, "one that the user has");
    t.same(await assign("v", "chat:c", 2), { value: null });
    t.same(await unassign("u", "chat:a"), { value: null });
    for (const room of ["chat:a", "chat:c"]) t.same(await unassign("u", room), { value: null }, "one that the user does not have");
    t.same([await rooms("u"), await rooms("v")], [["chat:b"], ["chat:c"]]);
    const odd = "ü u\u0308 😀 \"quoted\" \\ {x} *";
    t.same(await assign(`ten\u001f${odd}`, odd, 2), { value: null });
    t.same(await rooms(`ten\u001f${odd}`), [odd]);
    sessions.endAll("", "u");
    sessions.signOut("u", 500);
    await clock.pass(31 * 86_400_000);
    t.same(await rooms("u"), ["chat:b"], "they do not expire");
    t.same(await unassign("u", "chat:b"), { value: null });
    t.same(await rooms("u"), []);
  });

  t.test(`${name}: a session comes back with the rooms into which the application had joined the user`, async (t) => {
    const { sessions, take } = await start(t);
    const some = { ...record("s1"), assigned: ["chat:other", "chat:left"] };
    sessions.put(some);
    t.same(value(await take("s1")), some);
  });

  if (bounded) t.test(`${name}: a sign-out for which there is no room counts for everybody rather than for nobody`, async (t) => {
    const { sessions, signedOutAt } = await start(t, { cursorsMax: 2 });
    sessions.signOut("a", 100);
    sessions.signOut("b", 200);
    sessions.signOut("c", 300);
    t.ok(value(await signedOutAt("a")) >= 100);
    t.equal(value(await signedOutAt("b")), 200);
    t.equal(value(await signedOutAt("c")), 300);
  });
}

/** One node's view of a store that nodes share. */
export interface SharedSessions {
  readonly sessions: Sessions;
  /** Sessions that this node was told it has lost, in order. */
  readonly lost: readonly string[];
  /** Resolves when all writes are in the store and their consequences were reported. */
  settled(): Promise<void>;
}

/** Makes several stores that share one backend, by node name. No node knows another's sessions yet. */
export type ShareSessions = (nodes: readonly string[], t: Test) => Promise<SharedSessions[]>;

/** Further clauses for a store that nodes share. */
export function sharedSessionsContract(t: Test, name: string, share: ShareSessions): void {
  const start = async (t: Test) => (await share(["a", "b", "c"], t)).map((store) => ({ ...promised(store.sessions), ...store })) as [Shared, Shared, Shared];
  const put = async ({ sessions, settled }: Shared, record: SessionRecord) => {
    sessions.put(record);
    await settled();
  };
  const of = (node: string, generation: number, rooms: SessionRecord["rooms"] = []) => ({ ...record("s"), node, generation, rooms });

  t.test(`${name}: a session is the node's that took it last: what an earlier one has still to say changes nothing, and it is told`, async (t) => {
    const [a, b] = await start(t);
    await put(a, record("s"));
    t.same(await b.taken("s"), { answer: { value: { ...record("s"), node: "a" } }, generation: 1 });
    await put(a, of("a", 0));
    t.same(a.lost, ["s"]);
    a.sessions.keep("s", 0);
    await a.settled();
    t.same(a.lost, ["s", "s"], "also where it has nothing to write");
    a.sessions.end("s", 0);
    await a.settled();
    t.match(await b.taken("s"), { answer: { value: { rooms: record("s").rooms } }, generation: 2 });
    await put(b, of("b", 2));
    t.same(await a.taken("s", 0), { answer: { value: of("b", 2) }, generation: 3 });
    b.sessions.end("s", 2);
    await b.settled();
    t.ok(value(await a.take("s")));
    t.same([a.lost.length, b.lost], [2, []]);
    a.sessions.end("s", 4);
    await a.settled();
    t.equal(value(await b.take("s")), null, "its node may end it");
  });

  t.test(`${name}: who takes a session that another took and has not written yet learns of that one`, async (t) => {
    const [a, b, c] = await start(t);
    await put(a, of("a", 0));
    t.equal(value(await b.take("s"))?.node, "a");
    t.equal(value(await c.take("s"))?.node, "b");
  });

  t.test(`${name}: what was resumed without the store is the node's with the highest generation, whichever says it first`, async (t) => {
    const [a, b, c] = await start(t);
    for (const order of [[a, b, c], [c, b, a], [b, c, a]]) {
      for (const store of order) await put(store, of("abc".charAt([a, b, c].indexOf(store)), [a, b, c].indexOf(store)));
      a.sessions.keep("s", 0);
      b.sessions.keep("s", 1);
      await a.settled();
      await b.settled();
      t.ok(a.lost.length > 0 && b.lost.length > 0);
      t.same(c.lost, []);
      t.same(value(await c.take("s", 2)), of("c", 2));
      c.sessions.end("s", 3);
      await c.settled();
    }
  });

  t.test(`${name}: a session that was resumed without the store, and then elsewhere with it, stays there`, async (t) => {
    const [a, b, c] = await start(t);
    await put(a, of("a", 0));
    // The store told b nothing, and b's client knows generation 1.
    t.equal((await c.taken("s", 1)).generation, 2);
    await put(b, of("b", 1));
    t.same(b.lost, ["s"]);
    await put(c, of("c", 2));
    t.same(c.lost, []);
    t.same(value(await a.take("s", 2)), of("c", 2));
  });

  t.test(`${name}: of two sockets that went on from the same one the first that is said stays, and the other is told`, async (t) => {
    const [a, b] = await start(t);
    await put(a, of("a", 1));
    await put(b, of("b", 1));
    await put(a, of("a", 1));
    t.same([a.lost, b.lost], [[], ["s"]]);
    t.same(value(await a.take("s", 1)), of("a", 1));
  });

  t.test(`${name}: another process under a node's name is another owner`, async (t) => {
    const [before, after] = (await share(["a", "a"], t)) as [SharedSessions, SharedSessions];
    before.sessions.put(of("a", 0));
    await before.settled();
    const { taken } = promised(after.sessions);
    t.equal((await taken("s")).generation, 1);
    before.sessions.put(of("a", 0));
    await before.settled();
    t.same(before.lost, ["s"]);
  });
}

type Shared = SharedSessions & ReturnType<typeof promised>;

interface Taken {
  readonly answer: Answer<SessionRecord | null>;
  readonly generation: number;
}

export function record(id: string): SessionRecord {
  return {
    id,
    tenant: "acme",
    user: `user-of-${id}`,
    device: "phone",
    node: "node-1",
    generation: 0,
    rooms: [
      { name: "chat:general", epoch: "k3J9sd_f", seq: 41 },
      { name: "chat:other", epoch: "k3J9sd_g", seq: 0 },
    ],
  };
}

export function promised(sessions: Sessions) {
  const taken = async (id: string, known = 0): Promise<Taken> => {
    let generation = 0;
    const answer = await asked<SessionRecord | null>((done) => sessions.take(id, known, (found, as) => ((generation = as), done(found))));
    return { answer, generation };
  };
  return {
    take: async (id: string, known = 0) => (await taken(id, known)).answer,
    taken,
    cursor: (user: string, device: string) => asked<Position | null>((done) => sessions.cursor(user, device, done)),
    assign: (user: string, room: string, max = 100) => asked<null>((done) => sessions.assign(user, room, max, done)),
    unassign: (user: string, room: string) => asked<null>((done) => sessions.unassign(user, room, done)),
    assigned: (user: string) => asked<readonly string[]>((done) => sessions.assigned(user, done)),
    signedOutAt: (user: string) => asked<number>((done) => sessions.signedOutAt(user, done)),
  };
}
