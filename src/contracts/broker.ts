/** Contract of the broker, clause by clause of src/broker/broker.ts. Run over each implementation. */
import type { Test } from "tap";
import { originText, type Broker, type Deliver, type Draft, type Page, type Position, type Published, type Query, type Retention, type Stored } from "../broker/broker.ts";
import { asked, value } from "./answers.ts";

export interface BrokerOptions {
  roomsMax: number;
  historyTotalBytesMax: number;
  keyWindowMs: number;
  keysPerRoomMax: number;
}

/** Makes a broker with these limits. Its clock is `clock`, if it can be set. Otherwise clauses about time wait. */
export type MakeBroker = (options: BrokerOptions, deliver: Deliver, clock: () => number) => Broker | Promise<Broker>;

const durable: Retention = { durable: true, historySize: 5, historyTtlMs: 60_000, historyBytesMax: 10_000 };
const ephemeral: Retention = { durable: false, historySize: 0, historyTtlMs: 0, historyBytesMax: 0 };
const limits = { roomsMax: 100, historyTotalBytesMax: 1e6, keyWindowMs: 1_000, keysPerRoomMax: 3 };

export function brokerContract(t: Test, name: string, make: MakeBroker): void {
  const start = async (t: Test, options: Partial<BrokerOptions> = {}) => {
    const delivered: { room: string; publication: Stored }[] = [];
    const clock = { time: 1_000_000 };
    const keep: Deliver = (room, publication) =>
      delivered.push({ room, publication: { ...publication, payload: Uint8Array.from(publication.payload) } });
    const broker = await make({ ...limits, ...options }, keep, () => clock.time);
    t.teardown(() => broker.stop());
    return { ...promised(broker), broker, delivered, clock };
  };

  t.test(`${name}: publications get increasing positions of one epoch, each with the one before it`, async (t) => {
    const { open, publish, delivered } = await start(t);
    const { epoch, seq } = value(await open("a", durable));
    for (const text of ["one", "two", "three"]) await publish("a", durable, draft(text));
    t.same(delivered.map(({ publication }) => publication.epoch), [epoch, epoch, epoch]);
    t.same(delivered.map(({ publication }) => text(publication)), ["one", "two", "three"]);
    const seqs = delivered.map(({ publication }) => publication.seq);
    t.ok(seqs[0]! > seq && seqs[1]! > seqs[0]! && seqs[2]! > seqs[1]!);
    t.same(delivered.map(({ publication }) => publication.prev), [seq, seqs[0], seqs[1]]);
  });

  t.test(`${name}: a publication is delivered before its publish is answered, with all its fields`, async (t) => {
    const { broker, delivered } = await start(t);
    await promised(broker).open("a", durable);
    await new Promise<void>((resolve) =>
      broker.publish("a", durable, { ...draft("x"), origin: { reactor: 0, slot: 1, life: 2 }, format: 1, sender: "ann" }, (answer) => {
        t.equal(delivered.length, 1);
        const { publication } = delivered[0]!;
        t.match(publication, { sender: "ann", format: 1, seq: value(answer).seq });
        t.equal(originText(publication.origin), "0 1 2");
        resolve();
      }),
    );
  });

  t.test(`${name}: rooms do not see each other, and a closed room gets nothing`, async (t) => {
    const { broker, open, publish, delivered } = await start(t);
    await open("a", durable);
    await open("b", durable);
    await publish("a", durable, draft("for a"));
    await publish("b", durable, draft("for b"));
    broker.close("a");
    await publish("a", durable, draft("unheard"));
    t.same(delivered.map(({ room, publication }) => [room, text(publication)]), [["a", "for a"], ["b", "for b"]]);
  });

  t.test(`${name}: a room opened again goes on after everything it got meanwhile`, async (t) => {
    const { broker, open, publish, delivered } = await start(t);
    const first = value(await open("a", durable));
    broker.close("a");
    const unheard = value(await publish("a", durable, draft("unheard")));
    const again = value(await open("a", durable));
    t.same(again, { epoch: first.epoch, seq: unheard.seq });
    await publish("a", durable, draft("heard"));
    t.same(delivered.map(({ publication }) => text(publication)), ["heard"]);
  });

  t.test(`${name}: what is kept does not change when the publisher's buffer does`, async (t) => {
    const { open, publish, history } = await start(t);
    await open("a", durable);
    const shared = draft("before");
    await publish("a", durable, shared);
    shared.payload.fill(0);
    t.same(value(await history("a", durable, newest(1))).publications.map(text), ["before"]);
  });

  t.test(`${name}: history reads forward after a position, backward before one, and the newest, oldest first`, async (t) => {
    const { open, publish, history } = await start(t);
    const start0 = value(await open("a", durable));
    const at: Position[] = [start0];
    for (const word of ["1", "2", "3", "4"]) at.push(value(await publish("a", durable, draft(word))));
    const read = async (query: Query) => {
      const page = value(await history("a", durable, query));
      return { words: page.publications.map(text), more: page.more };
    };
    const forward = { direction: "since", position: at[1]!, limit: 2, bytesMax: 1e6, bytesEach: 0 } as const;
    t.same(await read(forward), { words: ["2", "3"], more: true });
    t.same(await read({ ...forward, position: at[2]! }), { words: ["3", "4"], more: false });
    t.same(await read({ ...forward, position: at[4]! }), { words: [], more: false });
    const backward = { direction: "before", position: at[3]!, limit: 1, bytesMax: 1e6, bytesEach: 0 } as const;
    t.same(await read(backward), { words: ["2"], more: true });
    t.same(await read({ ...backward, limit: 9 }), { words: ["1", "2"], more: false });
    t.same(await read(newest(3)), { words: ["2", "3", "4"], more: true });
    t.same(value(await history("a", durable, newest(1))).position, { epoch: at[4]!.epoch, seq: at[4]!.seq });
  });

  t.test(`${name}: a page ends at its bytes, but never before its first publication`, async (t) => {
    const { open, publish, history } = await start(t);
    const from = value(await open("a", durable));
    for (const word of ["aaaa", "bbbb", "cccc"]) await publish("a", durable, draft(word));
    const read = async (bytesMax: number, bytesEach = 0) => {
      const query = { direction: "since", position: from, limit: 9, bytesMax, bytesEach } as const;
      const page = value(await history("a", durable, query));
      return [page.publications.length, page.more];
    };
    t.same(await read(1), [1, true]);
    t.same(await read(8), [2, true]);
    t.same(await read(12), [3, false]);
    t.same(await read(12, 4), [1, true], "four bytes more for each");
    t.same(await read(16, 4), [2, true]);
    t.same(await read(1, 100), [1, true]);
  });

  t.test(`${name}: a recovery is all or nothing: trimmed, foreign and future positions are unrecoverable`, async (t) => {
    const { open, publish, history } = await start(t);
    const from = value(await open("a", durable));
    for (let i = 0; i < 5; i++) await publish("a", durable, draft(String(i)));
    const since = async (position: Position) =>
      history("a", durable, { direction: "since", position, limit: 9, bytesMax: 1e6, bytesEach: 0 });
    t.equal(value(await since(from)).publications.length, 5, "everything that is kept");
    const last = value(await publish("a", durable, draft("5")));
    t.same(await since(from), { error: "unrecoverable_position" }, "by now the first is gone");
    const all = { direction: "since", position: from, limit: 2, bytesMax: 1e6, bytesEach: 0, orOldest: true } as const;
    const kept = value(await history("a", durable, { direction: "newest", position: last, limit: 100, bytesMax: 1e6 })).publications;
    const oldest = value(await history("a", durable, all));
    t.same(oldest.publications.map(text), kept.slice(0, 2).map(text), "who asks for it begins with the oldest");
    t.match(oldest, { trimmed: true, more: true });
    t.notOk(value(await history("a", durable, { ...all, position: oldest.publications[0]! })).trimmed, "nothing is missing behind one that is kept");
    t.same(await since({ epoch: "other", seq: last.seq }), { error: "unrecoverable_position" });
    t.same(await since({ epoch: last.epoch, seq: last.seq + 1 }), { error: "unrecoverable_position" });
  });

  t.test(`${name}: a used idempotency key gets the first position and publishes nothing`, async (t) => {
    const { open, publish, delivered } = await start(t);
    await open("a", durable);
    await open("b", durable);
    const first = value(await publish("a", durable, { ...draft("once"), key: "k" }));
    t.equal(first.duplicate, false);
    const second = value(await publish("a", durable, { ...draft("twice"), key: "k" }));
    t.same(second, { epoch: first.epoch, seq: first.seq, duplicate: true });
    t.equal(value(await publish("b", durable, { ...draft("elsewhere"), key: "k" })).duplicate, false, "keys are a room's own");
    t.same(delivered.map(({ publication }) => text(publication)), ["once", "elsewhere"]);
  });

  for (const [kind, retention] of [["a durable", durable], ["an ephemeral", ephemeral]] as const) {
    t.test(`${name}: who publishes in ${kind} room that is open is told which publication is before its own`, async (t) => {
      const { open, publish, delivered } = await start(t);
      await open("a", retention);
      await publish("other", retention, draft("elsewhere"));
      const answers = [];
      for (const word of ["1", "2"]) {
        answers.push(value(await publish("a", retention, { ...draft(word), key: word })));
        await publish("other", retention, draft("elsewhere"));
      }
      answers.push(...(await Promise.all(["3", "4"].map(async (word) => value(await publish("a", retention, draft(word)))))));
      t.same(answers.map(({ seq, prev }) => [seq, prev]), delivered.map(({ publication: { seq, prev } }) => [seq, prev]));
      t.equal(value(await publish("a", retention, { ...draft("1"), key: "1" })).prev, undefined, "a duplicate has none");
    });
  }

  t.test(`${name}: an ephemeral room delivers in order and answers history as an empty one`, async (t) => {
    const { open, publish, history, delivered } = await start(t);
    const from = value(await open("a", ephemeral));
    await publish("a", ephemeral, draft("1"));
    await publish("a", ephemeral, draft("2"));
    t.same(delivered.map(({ publication }) => text(publication)), ["1", "2"]);
    t.same(value(await history("a", ephemeral, newest(9))).publications, []);
    t.same(await history("a", ephemeral, { direction: "since", position: from, limit: 9, bytesMax: 1e6, bytesEach: 0 }), {
      error: "unrecoverable_position",
    });
  });

  t.test(`${name}: room names of any Unicode are kept apart`, async (t) => {
    const { open, publish, delivered } = await start(t);
    const names = ["a.b", "a b", "a>b", "a*b", "a/b", "a:b", "ü", "u\u0308", "😀", "a%2Eb", "A.B", "$", "a\\b"];
    for (const room of names) await open(room, durable);
    for (const room of names) await publish(room, durable, draft(`for ${room}`));
    t.same(delivered.map(({ room, publication }) => [room, text(publication)]), names.map((room) => [room, `for ${room}`]));
  });
}

/** For brokers that report the bytes a room keeps. */
export function brokerBytesContract(t: Test, name: string, make: MakeBroker): void {
  t.test(`${name}: history is kept up to its bytes`, async (t) => {
    const broker = await make(limits, () => {}, () => 1_000_000);
    t.teardown(() => broker.stop());
    const { open, publish, history } = promised(broker);
    const small = { ...durable, historyBytesMax: 10 };
    await open("a", small);
    for (const word of ["aaaa", "bbbb", "cccc"]) await publish("a", small, draft(word));
    t.same(value(await history("a", small, newest(9))).publications.map(text), ["bbbb", "cccc"]);
  });
}

/** Clauses that need a clock the test can set. */
export function brokerTimeContract(t: Test, name: string, make: MakeBroker): void {
  t.test(`${name}: publications expire by age, and then a position before them is unrecoverable`, async (t) => {
    const clock = { time: 1_000_000 };
    const broker = await make(limits, () => {}, () => clock.time);
    t.teardown(() => broker.stop());
    const { open, publish, history } = promised(broker);
    const from = value(await open("a", durable));
    await publish("a", durable, draft("old"));
    clock.time += durable.historyTtlMs + 1;
    await publish("a", durable, draft("new"));
    t.same(value(await history("a", durable, newest(9))).publications.map(text), ["new"]);
    t.same(await history("a", durable, { direction: "since", position: from, limit: 9, bytesMax: 1e6, bytesEach: 0 }), {
      error: "unrecoverable_position",
    });
  });

  t.test(`${name}: an idempotency key is forgotten after its window, or when there are too many`, async (t) => {
    const clock = { time: 1_000_000 };
    const broker = await make(limits, () => {}, () => clock.time);
    t.teardown(() => broker.stop());
    const { open, publish } = promised(broker);
    await open("a", durable);
    const again = async (key: string) => value(await publish("a", durable, { ...draft("x"), key })).duplicate;
    t.equal(await again("k"), false);
    t.equal(await again("k"), true);
    clock.time += limits.keyWindowMs + 1;
    t.equal(await again("k"), false, "the window is over");
    for (const other of ["l", "m", "n"]) await again(other);
    t.equal(await again("n"), true);
    t.equal(await again("k"), false, "pushed out by three newer keys");
  });

  t.test(`${name}: past the bytes of all histories the quietest room loses its oldest, and says so`, async (t) => {
    const broker = await make({ ...limits, historyTotalBytesMax: 40_000 }, () => {}, () => 0);
    t.teardown(() => broker.stop());
    const { open, publish, history } = promised(broker);
    const long = { ...durable, historySize: 1000, historyBytesMax: 1e6 };
    const quiet = value(await open("quiet", long));
    await open("busy", long);
    for (const word of ["1", "2", "3"]) await publish("quiet", long, draft(word));
    for (let i = 0; i < 60; i++) await publish("busy", long, draft("x".repeat(1000)));
    t.ok(broker.usage().bytes <= 40_000, `${broker.usage().bytes} bytes`);
    t.same(value(await history("quiet", long, newest(9))).publications, []);
    t.same(await history("quiet", long, { direction: "since", position: quiet, limit: 9, bytesMax: 1e6, bytesEach: 0 }), {
      error: "unrecoverable_position",
    });
    const busy = value(await history("busy", long, newest(1000)));
    t.ok(busy.publications.length > 20 && busy.publications.length < 60, `${busy.publications.length} of 60`);
  });

  t.test(`${name}: past its rooms the one that is not open and quietest is forgotten, and only if all are open is one refused`, async (t) => {
    const broker = await make({ ...limits, roomsMax: 3 }, () => {}, () => 0);
    t.teardown(() => broker.stop());
    const { open, publish, history } = promised(broker);
    const words = async (room: string) => value(await history(room, durable, newest(9))).publications.map(text);
    value(await open("open", durable));
    const quiet = value(await publish("quiet", durable, draft("1")));
    value(await publish("other", durable, draft("2")));
    value(await publish("quiet", durable, draft("3")));
    value(await publish("new", durable, draft("4")));
    t.same(await words("quiet"), ["1", "3"], "used since");
    t.same(await words("new"), ["4"]);
    t.equal(broker.usage().rooms, 3);
    t.equal(broker.usage().publications, 3, "what the other kept went with it");

    value(await open("new", durable));
    const other = value(await open("other", durable));
    t.same(other.seq, 0, "the other begins again, in the place of quiet");
    t.same(await open("late", durable), { error: "overloaded" });
    t.same(await publish("late", durable, draft("x")), { error: "overloaded" });
    t.same(await history("late", durable, newest(1)), { error: "overloaded" });
    value(await publish("open", durable, draft("those that are open go on")));

    broker.close("other");
    const again = value(await open("quiet", durable));
    t.not(again.epoch, quiet.epoch, "a room that was forgotten has another epoch");
    t.same(await open("late", durable), { error: "overloaded" });
  });
}

function draft(words: string): Draft {
  return { sender: "someone", payload: new TextEncoder().encode(words), format: 0, key: "", origin: "" };
}

function newest(limit: number): Query {
  return { direction: "newest", position: { epoch: "", seq: 0 }, limit, bytesMax: 1e6, bytesEach: 0 };
}

function text(publication: Stored): string {
  return new TextDecoder().decode(publication.payload);
}

function promised(broker: Broker) {
  return {
    open: (room: string, retention: Retention) => asked<Position>((done) => broker.open(room, retention, done)),
    publish: (room: string, retention: Retention, draft: Draft) => asked<Published>((done) => broker.publish(room, retention, draft, done)),
    history: (room: string, retention: Retention, query: Query) => asked<Page>((done) => broker.history(room, retention, query, done)),
  };
}
