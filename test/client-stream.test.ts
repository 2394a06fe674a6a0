/**
 * The SDK's order of one room, against a room in which publications get lost on the way, the past is forgotten and
 * sockets break, all at random: whatever was published is delivered once and in order, or a gap says it was not.
 */
import t from "tap";
import fc from "fast-check";
import { fluxError } from "../src/client/flux-error.ts";
import type { FluxError } from "../src/client/flux-error.ts";
import { Stream } from "../src/client/rooms/stream.ts";
import type { Arrival, Position } from "../src/client/rooms/publication.ts";

const room = "chat:a";
const heldMax = 20;

type Told = { kind: "delivered"; seq: number; replayed: boolean } | { kind: "gap"; from: number; to: number };
type Turn = "live" | "missed" | "recovered";
/** What a page may be in spite of all promises: begin with what is known already, or lack its first publication. */
type Flaw = "none" | "overlap" | "hole";
type Question = { since: Position; answer: (answer: Arrival[] | FluxError) => void };

/** A room with one member, and the way between them. */
class World {
  readonly told: Told[] = [];
  /** Turns that are no part of the order, each with where the stream was. */
  readonly turns: (readonly [Turn, number])[] = [];
  readonly log: (Arrival & { own: boolean })[] = [];
  readonly stream: Stream;
  /** The room keeps publications from this seq on. */
  keptFrom = 0;
  /** What the room still kept when a gap said that it was lost. */
  readonly keptButLost: number[] = [];
  questions: Question[] = [];
  epoch = "e1";
  seq = 0;

  constructor() {
    this.stream = new Stream(null, heldMax, {
      deliver: (arrival, replayed) => this.told.push({ kind: "delivered", seq: arrival.seq, replayed }),
      onGap: ({ from, to }) => {
        this.told.push({ kind: "gap", from: from.seq, to: to.seq });
        const kept = this.kept().filter(({ epoch, seq }) => epoch === to.epoch && seq <= to.seq && (epoch !== from.epoch || seq > from.seq));
        this.keptButLost.push(...kept.map(({ seq }) => seq));
      },
      onRecovered: ({ to }) => this.turns.push(["recovered", to.seq]),
      onLive: () => this.turns.push(["live", this.stream.position?.seq ?? 0]),
      onMissed: () => this.turns.push(["missed", this.stream.position?.seq ?? 0]),
      readHistory: (since, answer) => this.questions.push({ since, answer }),
    });
    this.join();
  }

  /** `step`: how far the seq moves, as it does by more than one where rooms share a stream. */
  publish(step: number, own = false): Arrival {
    const prev = this.seq;
    this.seq += step;
    const arrival = { epoch: this.epoch, seq: this.seq, prev, wire: { room }, own };
    this.log.push(arrival);
    return arrival;
  }

  /** Answers to questions of the time before are still to come. */
  join(flaw: Flaw = "none"): void {
    this.stream.interrupt();
    const asked = this.stream.position;
    const missed = this.after(asked, flaw);
    const recovered = asked !== null && asked.epoch === this.epoch && missed !== null;
    this.stream.begin({ epoch: this.epoch, seq: this.seq }, asked, recovered);
    const pages = asked === null ? [] : recovered ? missed : this.kept();
    this.stream.replay(pages.slice(0, 2), pages.length > 2);
    if (pages.length > 2) this.stream.replay(pages.slice(2), false);
  }

  /** A replay that the node gives up behind `given` publications. */
  joinBroken(given: number): void {
    this.stream.interrupt();
    const asked = this.stream.position;
    const missed = this.after(asked, "none");
    if (asked === null || missed === null || asked.epoch !== this.epoch) return this.join();
    this.stream.begin({ epoch: this.epoch, seq: this.seq }, asked, true);
    this.stream.replay(missed.slice(0, given), true);
    this.publish(1); // for a replaying member it is part of the replay
    this.stream.sync({ epoch: this.epoch, seq: this.seq });
  }

  /** The socket is full for so many publications; then they come, two a page. */
  stall(publications: number): void {
    const missed = Array.from({ length: publications }, () => this.publish(1));
    while (missed.length > 0) this.stream.replay(missed.splice(0, 2), missed.length > 0);
  }

  answer(isRefused: boolean, flaw: Flaw = "none"): void {
    const question = this.questions.shift();
    if (question === undefined) return;
    const page = this.after(question.since, flaw);
    question.answer(isRefused ? fluxError("unrecoverable_position") : (page ?? this.kept()).slice(0, 5));
  }

  /** From the oldest that the room keeps on. */
  kept(): Arrival[] {
    return this.log.filter(({ epoch, seq }) => epoch === this.epoch && seq >= this.keptFrom);
  }

  /** Null: not covered any more. */
  after(position: Position | null, flaw: Flaw): Arrival[] | null {
    const seq = position?.seq ?? 0;
    const next = this.log.findIndex((arrival) => arrival.epoch === this.epoch && arrival.seq > seq);
    if (next === -1) return [];
    if ((this.log[next]?.seq ?? 0) < this.keptFrom) return null;
    return this.log.slice(flaw === "overlap" ? Math.max(0, next - 3) : flaw === "hole" ? next + 1 : next);
  }

  settle(): void {
    this.stream.sync({ epoch: this.epoch, seq: this.seq });
    for (let turn = 0; this.questions.length > 0; turn++) {
      if (turn > 1000) throw new Error("the stream keeps asking");
      this.answer(false);
    }
  }
}

type Action =
  | { kind: "publish"; step: number; isLost: boolean }
  | { kind: "own"; step: number; isReplyLost: boolean; saysPrev: boolean }
  | { kind: "answer"; isRefused: boolean; flaw: Flaw }
  | { kind: "forget" }
  | { kind: "sync" }
  | { kind: "stall"; publications: number }
  | { kind: "broken"; given: number }
  | { kind: "rejoin"; flaw: Flaw };

const step = fc.oneof({ weight: 5, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.integer({ min: 2, max: 9 }) });
const anyFlaw = fc.constantFrom<Flaw>("none", "overlap", "hole");
const anyAction: fc.Arbitrary<Action> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("publish" as const), step, isLost: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("own" as const), step, isReplyLost: fc.boolean(), saysPrev: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("answer" as const), isRefused: fc.boolean(), flaw: anyFlaw }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("forget" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("sync" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("stall" as const), publications: fc.integer({ min: 1, max: 7 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("broken" as const), given: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("rejoin" as const), flaw: anyFlaw }) },
);

function act(world: World, action: Action): void {
  switch (action.kind) {
    case "publish": {
      const arrival = world.publish(action.step);
      if (!action.isLost) world.stream.publication(arrival);
      return;
    }
    case "own": {
      const { epoch, seq, prev } = world.publish(action.step, true);
      if (!action.isReplyLost) world.stream.own({ epoch, seq }, action.saysPrev ? prev : undefined);
      return;
    }
    case "answer":
      return world.answer(action.isRefused, action.flaw);
    case "forget":
      world.keptFrom = world.seq;
      return;
    case "sync":
      return world.stream.sync({ epoch: world.epoch, seq: world.seq });
    case "stall":
      return world.stall(action.publications);
    case "broken":
      return world.joinBroken(action.given);
    case "rejoin":
      return world.join(action.flaw);
  }
}

/** What is wrong, or null. */
function verdict({ log, told }: World): string | null {
  let at = 0;
  for (const event of told) {
    const from = event.kind === "gap" ? event.from : event.seq - 1;
    const to = event.kind === "gap" ? event.to : event.seq;
    if (from < at) return `${JSON.stringify(event)} goes back behind ${at}`;
    const silent = log.find((arrival) => !arrival.own && arrival.seq > at && arrival.seq <= from);
    if (silent) return `${silent.seq} was skipped in silence`;
    at = to;
  }
  const last = log.findLast((arrival) => !arrival.own);
  return last !== undefined && last.seq > at ? `${last.seq} never came` : null;
}

t.test("everything published is delivered once and in order, or told as a gap", async (t) => {
  const seen = { gaps: 0, delivered: 0 };
  fc.assert(
    fc.property(fc.array(anyAction, { minLength: 5, maxLength: 60, size: "max" }), (actions) => {
      const world = new World();
      for (const action of actions) act(world, action);
      world.settle();
      seen.gaps += world.told.filter(({ kind }) => kind === "gap").length;
      seen.delivered += world.told.filter(({ kind }) => kind === "delivered").length;
      const wrong = verdict(world);
      if (wrong !== null) throw new Error(`${wrong}: ${JSON.stringify(world.told)}`);
    }),
    { numRuns: 3000 },
  );
  t.ok(seen.gaps > 1000 && seen.delivered > 10_000, `${seen.delivered} delivered, ${seen.gaps} gaps`);
});

t.test("as long as the room keeps its past, nothing is lost at all", async (t) => {
  const kind = ["publish", "own", "answer", "sync", "rejoin"];
  const harmless = anyAction.filter((action) => {
    return kind.includes(action.kind) && !("isRefused" in action && action.isRefused) && !("flaw" in action && action.flaw === "hole");
  });
  fc.assert(
    fc.property(fc.array(harmless, { maxLength: heldMax, size: "max" }), (actions) => {
      const world = new World();
      for (const action of actions) act(world, action);
      world.settle();
      const wanted = world.log.filter(({ own }) => !own).map(({ seq }) => seq);
      const delivered = world.told.flatMap((event) => (event.kind === "delivered" ? [event.seq] : []));
      const missing = wanted.filter((seq) => !delivered.includes(seq));
      if (missing.length > 0) throw new Error(`${missing.join()} missing: ${JSON.stringify(world.told)}`);
      return world.told.every(({ kind }) => kind === "delivered");
    }),
    { numRuns: 3000 },
  );
  t.pass("3,000 conversations");
});

t.test("nothing is told as lost that the room still keeps", async (t) => {
  const kind = ["publish", "answer", "forget", "sync", "broken", "rejoin"];
  const honest = anyAction.filter((action) => {
    return kind.includes(action.kind) && !("isRefused" in action && action.isRefused) && !("flaw" in action && action.flaw === "hole");
  });
  let gaps = 0;
  fc.assert(
    fc.property(fc.array(honest, { maxLength: heldMax, size: "max" }), (actions) => {
      const world = new World();
      for (const action of actions) act(world, action);
      world.settle();
      gaps += world.told.filter(({ kind }) => kind === "gap").length;
      if (world.keptButLost.length > 0) throw new Error(`${world.keptButLost.join()} was kept: ${JSON.stringify(world.told)}`);
    }),
    { numRuns: 2000 },
  );
  t.ok(gaps > 200, `${gaps} gaps`);
});

t.test("own publications that the client asked not to be given are no event, in whatever order their replies come", async (t) => {
  fc.assert(
    fc.property(fc.array(fc.record({ own: fc.boolean(), step, isLate: fc.boolean() }), { maxLength: 40, size: "max" }), (publishes) => {
      const world = new World();
      for (const { own, step, isLate } of publishes) {
        const arrival = world.publish(step, own);
        if (!own) world.stream.publication(arrival);
        else world.stream.own(arrival);
        if (isLate) world.answer(false);
      }
      world.settle();
      const owns = new Set(world.log.filter(({ own }) => own).map(({ seq }) => seq));
      return world.told.every((event) => event.kind === "delivered" && !owns.has(event.seq));
    }),
    { numRuns: 2000 },
  );
  t.pass("2,000 conversations");
});

t.test("own publications are known by what is before them, where rooms share a stream and seqs skip", async (t) => {
  const world = new World();
  const own = ({ epoch, seq, prev }: Arrival) => world.stream.own({ epoch, seq }, prev);
  own(world.publish(3, true));
  t.equal(world.stream.position?.seq, 3, "the next one moves the position");
  const before = world.publish(4);
  const [first, second] = [world.publish(2, true), world.publish(5, true)];
  own(second);
  own(first);
  world.stream.publication(before);
  const after = world.publish(6);
  world.stream.publication(after);
  t.same(world.told.map((told) => (told.kind === "delivered" ? told.seq : told)), [before.seq, after.seq]);
  t.same(world.questions, [], "no history is asked for");
  // Something else is missing between two of them.
  own(world.publish(2, true));
  const missing = world.publish(2);
  own(world.publish(2, true));
  world.stream.publication(world.publish(2));
  t.equal(world.questions.length, 1);
  world.settle();
  t.ok(world.told.some((told) => told.kind === "delivered" && told.seq === missing.seq && told.replayed));
  t.equal(world.told.length, 4, "and none of ours");
});

t.test("when too much waits behind a gap, the gap is told, and what waits is delivered", async (t) => {
  const world = new World();
  const { stream, told } = world;
  stream.publication(world.publish(1));
  world.publish(1); // lost
  for (let i = 0; i < heldMax; i++) stream.publication(world.publish(1));
  t.same(told, [{ kind: "delivered", seq: 1, replayed: false }], "everything behind the hole waits");
  stream.publication(world.publish(1));
  t.same(told.slice(1), [{ kind: "gap", from: 1, to: 2 }, ...delivered(3, world.seq)], "only what is missing is lost");
  const length = told.length;
  world.answer(false);
  t.equal(told.length, length, "the answer that comes too late delivers nothing");
  stream.publication(world.publish(1));
  t.same(told.at(-1), { kind: "delivered", seq: world.seq, replayed: false });
});

t.test("a stream that begins anew is a gap", async (t) => {
  const world = new World();
  world.stream.publication(world.publish(1));
  world.epoch = "e2";
  world.seq = 0;
  world.stream.publication(world.publish(1));
  t.same(world.told, [
    { kind: "delivered", seq: 1, replayed: false },
    { kind: "gap", from: 1, to: 0 },
    { kind: "delivered", seq: 1, replayed: false },
  ]);
  t.same(world.stream.position, { epoch: "e2", seq: 1 });
});

t.test("what was ours in the stream before is not ours in the new one", async (t) => {
  const world = new World();
  world.stream.publication(world.publish(1));
  world.stream.own({ epoch: "e1", seq: 3 }); // 2 is missing: remembered, not passed
  world.epoch = "e2";
  world.seq = 2;
  world.stream.publication(world.publish(1));
  world.answer(true);
  t.same(world.told.at(-1), { kind: "delivered", seq: 3, replayed: false });
});

const delivered = (from: number, to: number, replayed = false): Told[] =>
  Array.from({ length: to - from + 1 }, (_, i) => ({ kind: "delivered", seq: from + i, replayed }));

t.test("pages that come unasked are what a full socket missed: each has its place, and no history is asked for", async (t) => {
  const world = new World();
  const { stream, told, turns } = world;
  stream.publication(world.publish(1));
  const missed = Array.from({ length: 5 }, () => world.publish(1));
  stream.replay(missed.slice(0, 2), true);
  stream.replay(missed.slice(1), false); // one of them again
  stream.publication(world.publish(1));
  t.same(told, delivered(1, 7));
  t.same(turns, [["live", 0], ["missed", 6]], "what else was missed is asked for behind the last page");
  t.equal(world.questions.length, 0);
});

t.test("an unasked page that lacks something waits for history like anything live", async (t) => {
  const world = new World();
  const { stream, told } = world;
  stream.publication(world.publish(1));
  world.publish(1); // lost
  stream.replay([world.publish(1), world.publish(1)], false);
  t.same(told, delivered(1, 1));
  world.answer(false);
  t.same(told, [...delivered(1, 1), ...delivered(2, 4, true)]);
});

t.test("a sync in the middle of a replay ends it: a gap, and what comes then is delivered", async (t) => {
  const world = new World();
  const { stream, told, turns } = world;
  for (let i = 0; i < 3; i++) stream.publication(world.publish(1));
  stream.interrupt();
  const missed = Array.from({ length: 7 }, () => world.publish(1));
  stream.begin({ epoch: "e1", seq: 120 }, stream.position, true);
  stream.replay(missed, true);
  world.seq = 120;
  stream.sync({ epoch: "e1", seq: 120 });
  stream.publication(world.publish(1));
  t.notOk(stream.isLive, "the history is asked first");
  world.answer(true);
  t.same(told, [...delivered(1, 3), ...delivered(4, 10, true), { kind: "gap", from: 10, to: 120 }, ...delivered(121, 121)]);
  t.same(turns, [["live", 0], ["recovered", 10], ["live", 121]], "recovered is only what was delivered");
  t.ok(stream.isLive);
});

t.test("a sync in the middle of the history that a first join asked for ends that as well", async (t) => {
  const world = new World();
  for (let i = 0; i < 8; i++) world.publish(1);
  const told: Told[] = [];
  const stream = new Stream(null, heldMax, {
    deliver: ({ seq }, replayed) => told.push({ kind: "delivered", seq, replayed }),
    onGap: ({ from, to }) => told.push({ kind: "gap", from: from.seq, to: to.seq }),
    onRecovered: () => t.fail("nothing was to be recovered"),
    onLive: () => {},
    onMissed: () => {},
    readHistory: (_, answer) => answer(fluxError("unrecoverable_position")),
  });
  stream.begin({ epoch: "e1", seq: 8 }, null, false);
  stream.replay(world.log.slice(3, 5), true);
  stream.sync({ epoch: "e1", seq: 8 });
  stream.publication(world.publish(1));
  t.same(told, [...delivered(4, 5, true), { kind: "gap", from: 5, to: 8 }, ...delivered(9, 9)]);
});

t.test("a sync that names another stream ends a replay with a gap", async (t) => {
  const world = new World();
  const { stream, told } = world;
  stream.publication(world.publish(1));
  stream.interrupt();
  stream.begin({ epoch: "e1", seq: 5 }, stream.position, true);
  stream.sync({ epoch: "e2", seq: 2 });
  world.answer(true);
  t.same(told.slice(1), [{ kind: "gap", from: 1, to: 2 }]);
  t.same(stream.position, { epoch: "e2", seq: 2 });
});

t.test("a position that is lost: what the room keeps is delivered in order, and the gap ends where that begins", async (t) => {
  const world = new World();
  const { stream, told } = world;
  stream.publication(world.publish(1));
  stream.interrupt();
  const kept = Array.from({ length: 9 }, () => world.publish(1)).slice(-4);
  stream.begin({ epoch: "e1", seq: 10 }, stream.position, false);
  t.equal(told.length, 1, "the pages tell where the gap ends");
  stream.replay([], true); // the node was busy
  stream.replay(kept.slice(0, 3), true);
  stream.replay(kept.slice(3), false);
  stream.publication(world.publish(1));
  t.same(told, [...delivered(1, 1), { kind: "gap", from: 1, to: 6 }, ...delivered(7, 10, true), ...delivered(11, 11)]);
  t.same(world.turns.slice(1), [["recovered", 10], ["live", 10]]);
});

t.test("the same with a position of another epoch, and where nothing is kept", async (t) => {
  for (const [kept, end] of [[2, 7], [0, 9]] as const) {
    const { stream, told, log } = Object.assign(new World(), { epoch: "e1" });
    const world = Object.assign(new World(), { epoch: "e2", seq: 7 });
    stream.publication({ epoch: "e1", seq: 3, prev: 0, wire: { room } });
    stream.interrupt();
    for (let i = 0; i < 2; i++) log.push(world.publish(1) as (typeof log)[0]);
    stream.begin({ epoch: "e2", seq: 9 }, stream.position, false);
    stream.replay(kept === 0 ? [] : world.log, false);
    t.same(told, [...delivered(3, 3), { kind: "gap", from: 3, to: end }, ...(kept === 0 ? [] : delivered(8, 9, true))]);
    t.same(stream.position, { epoch: "e2", seq: 9 });
  }
});

t.test("a new epoch that is not seen from its beginning: the history is asked for what is kept of it", async (t) => {
  const world = new World();
  const { stream, told } = world;
  stream.publication(world.publish(1));
  world.epoch = "e2";
  world.seq = 4;
  world.keptFrom = 6;
  for (let i = 0; i < 3; i++) world.publish(1);
  stream.publication(world.publish(1));
  t.same(world.questions.map(({ since }) => since), [{ epoch: "e2", seq: 0 }]);
  world.answer(false);
  t.same(told, [...delivered(1, 1), { kind: "gap", from: 1, to: 5 }, ...delivered(6, 8, true)]);
});
