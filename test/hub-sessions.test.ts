/** The hub's sessions over a store that answers later, as one of the network does: what may happen in between. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import t from "tap";
import { LateDisconnects } from "../src/hub/sessions/disconnects.ts";
import { HubSessions } from "../src/hub/sessions/sessions.ts";
import type { AttachedReactor } from "../src/hub/rooms.ts";
import { Link } from "../src/link/link.ts";
import { kinds } from "../src/link/records.ts";
import { createRing } from "../src/link/ring.ts";
import { readAdmitted, readKick } from "../src/link/sessions.ts";
import { userKey } from "../src/protocol/roomkeys.ts";
import { createMemorySessions } from "../src/sessions/memory.ts";
import { until } from "./support/until.ts";

/** A store whose answers come when the test says so; a reactor, and what it was told. */
function start(outlivesProcess = true) {
  const store = createMemorySessions({ ttlMs: 60_000, sessionsMax: 100, cursorsMax: 100 });
  const waiting: (() => void)[] = [];
  const late: typeof store = {
    ...store,
    outlivesProcess,
    take: (id, known, done) => store.take(id, known, (answer, generation) => void waiting.push(() => done(answer, generation))),
    signedOutAt: (user, done) => store.signedOutAt(user, (answer) => void waiting.push(() => done(isAway.now ? { error: "unavailable" } : answer))),
  };
  const isAway = { now: false };
  const told: string[] = [];
  const admitted: { generation: number; rooms: string[] }[] = [];
  const rings = [createRing(1 << 16), createRing(1 << 16)] as const;
  const common = { overflowBytesMax: 1e6, readBudgetBytes: 1e6, ringDoorbell: () => {}, onBatchEnd: () => {} };
  const reader = new Link({ ...common, out: rings[0], in: rings[1], onRecord: (kind, record) => {
    if (kind === kinds.admitted) {
      const { slot, session, generation, resumed, rooms } = readAdmitted(record);
      told.push(`${slot} ${resumed ? "resumed" : "new"}${resumed ? ` ${session}` : ""}`);
      admitted.push({ generation, rooms: rooms.map(({ name }) => name) });
    } else {
      const { slot, name } = readKick(record);
      told.push(`${slot} ${name}`);
    }
  } });
  const link = new Link({ ...common, out: rings[1], in: rings[0], onRecord: () => {} });
  const reactor: AttachedReactor = { index: 0, link, live: true };
  const nobody = () => {};
  const sessions = new HubSessions({ store: late, node: "n", sessionsPerUserMax: 10, roomNamesBytesMax: 1_000, isRoomName: () => true, onRemoved: () => {}, onSignedOut: () => {}, toNode: () => {}, onBegin: nobody, onEnd: nobody, onAnswered: nobody, onAllEnded: () => {} });
  const hello = (slot: number, resume = "", resumeGeneration = 0) =>
    sessions.hello(reactor, { slot, life: 1, wire: 0, mayBegin: true, decided: "now", user: userKey("", "ann"), device: "", issuedAt: 1, resume, resumeIssuedAt: 1, resumeGeneration, positions: [] });
  /** The store's next answer alone. */
  const next = () => waiting.shift()!();
  const answer = () => {
    while (waiting.length > 0) next();
    reader.wake();
    return told.splice(0);
  };
  return { store, sessions, reactor, admitted, isAway, hello, next, answer };
}

const stored = { id: "s1", tenant: "", user: "ann", device: "", node: "n", generation: 0, rooms: [] };

t.test("a socket that is gone before the store answers leaves no session behind", async (t) => {
  const { sessions, reactor, hello, answer } = start();
  hello(1);
  sessions.gone(reactor, 1, 1, false);
  t.same(answer(), []);
  t.equal(sessions.size, 0);
  t.equal(sessions.users, 0);
  hello(2);
  sessions.forgetReactor(reactor);
  t.same(answer(), []);
  t.equal(sessions.size, 0, "nor does one whose reactor is gone");
  sessions.stop();
});

t.test("two sockets that ask for one session while the store is slow: the later has it, the earlier is told", async (t) => {
  const { store, sessions, reactor, hello, answer } = start();
  store.put(stored);
  hello(1, "s1");
  hello(2, "s1");
  t.same(answer(), ["1 resumed s1", "1 session_replaced", "2 resumed s1"]);
  sessions.gone(reactor, 1, 1, true);
  t.equal(sessions.size, 1, "the end of the earlier socket is not the session's");
  sessions.gone(reactor, 2, 1, false);
  hello(3, "s1");
  t.same(answer(), ["3 resumed s1"]);
  sessions.stop();
});

t.test("a store that ends with the process is told of a session once its socket is lost, any other at once", async (t) => {
  for (const outlivesProcess of [false, true]) {
    const { store, sessions, reactor, hello, answer } = start(outlivesProcess);
    hello(1);
    answer();
    const { id } = sessions.here()[0]!;
    const isStored = () => store.usage().sessions === 1;
    t.equal(isStored(), outlivesProcess);
    sessions.forgotten(null);
    sessions.keep(1);
    sessions.stop();
    t.equal(isStored(), outlivesProcess);
    sessions.gone(reactor, 1, 1, false);
    t.ok(isStored());
    hello(2, id);
    t.same(answer(), [`2 resumed ${id}`]);
    sessions.gone(reactor, 2, 1, true);
    t.notOk(isStored());
  }
});

t.test("a session that is gone is given back to the heap, whether the store is told of sessions or not", async (t) => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (const outlivesProcess of [false, true]) {
    const { sessions, reactor, hello, answer } = start(outlivesProcess);
    const comeAndGo = () => {
      for (let slot = 0; slot < 10; slot++) hello(slot);
      answer();
      const some = sessions.here().map((session) => new WeakRef(session));
      for (let slot = 0; slot < 10; slot++) sessions.gone(reactor, slot, 1, true);
      sessions.keep(1);
      return some;
    };
    const gone = Array.from({ length: 10 }, comeAndGo).flat();
    t.equal(gone.length, 100);
    await until(() => {
      collect();
      return gone.every((session) => session.deref() === undefined);
    }, "them to be collected");
    sessions.stop();
  }
});

t.test("each socket of a session has a higher generation than the one before, of which its client may not know", async (t) => {
  const { sessions, admitted, hello, answer } = start();
  hello(1);
  answer();
  const { id } = sessions.here()[0]!;
  for (const known of [0, 0, 5, 0]) {
    hello(2 + admitted.length, id, known);
    answer();
  }
  t.same(admitted.map(({ generation }) => generation), [0, 1, 2, 6, 7]);
  sessions.stop();
});

t.test("a socket that another node's had replaced, of which this node did not hear, is not where a session goes on from", async (t) => {
  const { store, sessions, admitted, hello, answer } = start();
  const place = (name: string) => ({ name, epoch: "e", seq: 1 });
  store.put({ ...stored, rooms: [place("before")] });
  hello(1, "s1");
  answer();
  // As the other node has put it, which took it as 2.
  store.put({ ...stored, node: "another", generation: 2, rooms: [place("before"), place("there")] });
  hello(2, "s1", 2);
  t.same(answer(), ["1 session_replaced", "2 resumed s1"]);
  t.same(admitted, [{ generation: 1, rooms: ["before"] }, { generation: 3, rooms: ["before", "there"] }]);
  // Here it is newer than what is stored of it.
  store.put({ ...stored, generation: 0, rooms: [] });
  hello(3, "s1", 3);
  answer();
  t.same(admitted.at(-1), { generation: 4, rooms: ["before", "there"] });
  sessions.stop();
});

t.test("a session that another node took later stays there, one that it took earlier here", async (t) => {
  const { store, sessions, hello, next, answer } = start();
  store.put(stored);
  hello(1, "s1", 4);
  t.same(answer(), ["1 resumed s1"]);
  sessions.taken("s1", 5);
  t.same(answer(), [], "as late as here: the store decides");
  sessions.taken("s1", 6);
  t.same(answer(), ["1 session_replaced"]);
  hello(2, "s1", 6);
  next();
  sessions.taken("s1", 9);
  t.same(answer(), ["2 session_replaced"], "also while the store is asked");
  sessions.stop();
});

t.test("a disconnect closes every session whose hello came before it, at whatever the store is asked; a later hello begins one", async (t) => {
  const { store, sessions, hello, next, answer } = start();
  store.put(stored);
  hello(1);
  hello(2, "s1");
  hello(3, "s1");
  next();
  next(); // 1 has begun, of 2 it is known that nobody was signed out
  t.equal(sessions.disconnect("", "ann"), 3, "one that is here, two that are arriving");
  hello(4);
  hello(5, "s1");
  t.same(answer(), ["1 new", "1 disconnected", "2 disconnected", "3 disconnected", "4 new", "5 new"]);
  t.equal(sessions.size, 2);
  sessions.stop();
});

t.test("no token from before a sign-out is accepted: not where its look-up was under way, nor where the store does not answer", async (t) => {
  const { sessions, isAway, hello, answer } = start();
  hello(1);
  sessions.signOut("", "ann");
  t.same(answer(), ["1 disconnected"]);
  isAway.now = true;
  hello(2);
  t.same(answer(), ["2 disconnected"], "this node knows of it by itself");
  sessions.stop();
  const another = start();
  another.isAway.now = true;
  another.hello(1);
  t.same(another.answer(), ["1 new"], "whoever was signed out nobody knows of comes in");
  another.hello(2);
  another.sessions.signedOut("", "ann", 1);
  t.same(another.answer(), ["2 disconnected"], "as another node says");
  another.sessions.stop();
});

t.test("a disconnect that is said late reaches who was arriving then, and nobody who came since", async (t) => {
  const { sessions, hello, answer } = start();
  hello(1);
  const late = new LateDisconnects(sessions);
  late.disconnect(userKey("", "ann"), 0);
  late.disconnect(userKey("", "bob"), 0);
  await new Promise((resolve) => setImmediate(resolve));
  t.same(answer(), ["1 disconnected"]);
  hello(2);
  late.disconnect(userKey("", "ann"), 60_000);
  await new Promise((resolve) => setImmediate(resolve));
  t.same(answer(), ["2 new"]);
  sessions.stop();
});

t.test("a session that another node took is not given to the second of two sockets that ask for it", async (t) => {
  const { store, sessions, hello, next, answer } = start();
  store.put(stored);
  hello(1, "s1");
  hello(2, "s1");
  next();
  next();
  next(); // the first take
  sessions.taken("s1", 9);
  t.same(answer(), ["1 resumed s1", "1 session_replaced", "2 session_replaced"]);
  sessions.stop();
  const another = start();
  another.store.put(stored);
  another.hello(1, "s1");
  another.hello(2, "s1");
  another.next();
  another.next();
  another.sessions.taken("s1", 9);
  t.same(another.answer(), ["1 session_replaced", "2 session_replaced"], "nor to either, where it did so before");
  another.sessions.stop();
});

t.test("a bye that comes before the store has answered ends the session that was asked for", async (t) => {
  const { store, sessions, reactor, hello, next, answer } = start();
  store.put(stored);
  for (const answersBefore of [0, 1]) {
    store.put(stored);
    hello(1, "s1");
    if (answersBefore > 0) next();
    sessions.gone(reactor, 1, 1, true);
    t.same(answer(), []);
    t.equal(store.usage().sessions, 0);
    hello(2, "s1");
    t.same(answer(), ["2 new"]);
    sessions.gone(reactor, 2, 1, true);
  }
  store.put(stored);
  hello(1, "s1");
  sessions.gone(reactor, 1, 1, false);
  answer();
  t.equal(store.usage().sessions, 1, "a socket that is lost ends nothing");
  hello(3, "s1");
  answer();
  hello(4, "s1");
  sessions.gone(reactor, 4, 1, true);
  t.same(answer(), ["3 session_replaced"], "also where another socket has it");
  t.equal(sessions.size, 0);
  t.equal(store.usage().sessions, 0);
  sessions.stop();
});

t.test("a user who is disconnected while a resume is on its way gets a new session", async (t) => {
  const { store, sessions, hello, answer } = start();
  store.put(stored);
  sessions.disconnect("", "ann");
  hello(1, "s1");
  t.same(answer(), ["1 new"]);
  sessions.stop();
});

t.test("sessions are kept alive a share at a time, all of them in a round", async (t) => {
  const { store, sessions, hello, answer } = start();
  const kept = new Set<string>();
  const { keep } = store;
  for (let slot = 0; slot < 10; slot++) hello(slot);
  t.equal(answer().length, 10);
  const counting = new HubSessions({ store: { ...store, outlivesProcess: true, keep: (id, generation) => (kept.add(id), keep(id, generation)) }, node: "n", sessionsPerUserMax: 100, roomNamesBytesMax: 1_000, isRoomName: () => true, onRemoved: () => {}, onSignedOut: () => {}, toNode: () => {}, onBegin: () => {}, onEnd: () => {}, onAnswered: () => {}, onAllEnded: () => {} });
  const { reactor } = start();
  for (let slot = 0; slot < 10; slot++) {
    counting.hello(reactor, { slot, life: 1, wire: 0, mayBegin: true, decided: "now", user: userKey("", "ann"), device: "", issuedAt: 1, resume: "", resumeIssuedAt: 0, resumeGeneration: 0, positions: [] });
  }
  for (let i = 0; i < 4; i++) counting.keep(4);
  t.equal(kept.size, 10);
  for (let i = 0; i < 100; i++) counting.keep(4);
  t.equal(kept.size, 10);
  sessions.stop();
  counting.stop();
});
