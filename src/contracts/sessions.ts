/** What every store of sessions must do, clause by clause of src/sessions/sessions.ts. Run over each implementation. */
import type { Test } from "tap";
import type { Position } from "../broker/broker.ts";
import type { SessionRecord, Sessions } from "../sessions/sessions.ts";
import { asked, value } from "./answers.ts";

export interface SessionsOptions {
  ttlMs: number;
  sessionsMax: number;
  cursorsMax: number;
}

export interface Clock {
  time: number;
  /** Lets time go by. A store with a clock of its own brings its own way. */
  pass(ms: number): Promise<void>;
  /** How exact that is. */
  slackMs: number;
}

export type MakeSessions = (options: SessionsOptions, clock: Clock, t: Test) => Sessions | Promise<Sessions>;

const limits = { ttlMs: 60_000, sessionsMax: 100, cursorsMax: 100 };

/** @param bounded whether it forgets what is too much: a store of its own server has as much room as that. */
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
    t.same(value(await take("s1")), first, "taking leaves it there");
    const second = { ...first, node: "another", rooms: [] };
    sessions.put(second);
    t.same(value(await take("s1")), second);
    t.equal(value(await take("s2")), null, "one that never was");
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
    sessions.end("s1");
    t.equal(value(await take("s1")), null);
    t.ok(value(await take("s2")));
    sessions.keep("s1");
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
    sessions.keep("a1");
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
    sessions.keep("kept");
    sessions.keep("unknown");
    await clock.pass(clock.slackMs);
    t.equal(value(await take("put")), null);
    await clock.pass(limits.ttlMs - 2 * clock.slackMs);
    t.ok(value(await take("kept")));
    await clock.pass(clock.slackMs);
    t.equal(value(await take("kept")), null);
    sessions.keep("kept");
    t.equal(value(await take("kept")), null, "too late");
    t.equal(value(await take("unknown")), null);
  });

  if (bounded) t.test(`${name}: past its sessions the longest unwritten is forgotten`, async (t) => {
    const { sessions, take } = await start(t, { sessionsMax: 3 });
    for (const id of ["a", "b", "c"]) sessions.put(record(id));
    sessions.keep("a");
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

export function record(id: string): SessionRecord {
  return {
    id,
    tenant: "acme",
    user: `user-of-${id}`,
    device: "phone",
    node: "node-1",
    rooms: [
      { name: "chat:general", epoch: "k3J9sd_f", seq: 41 },
      { name: "chat:other", epoch: "k3J9sd_g", seq: 0 },
    ],
  };
}

export function promised(sessions: Sessions) {
  return {
    take: (id: string) => asked<SessionRecord | null>((done) => sessions.take(id, done)),
    cursor: (user: string, device: string) => asked<Position | null>((done) => sessions.cursor(user, device, done)),
    signedOutAt: (user: string) => asked<number>((done) => sessions.signedOutAt(user, done)),
  };
}
