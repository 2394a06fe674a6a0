import t, { type Test } from "tap";
import fc from "fast-check";
import { createHistory, type History } from "./support/history.ts";
import { faultKinds, type FaultKind } from "./support/verdict.ts";

const room = "chat:a";
const at = (seq: number, epoch = "e1"): { epoch: string; seq: number } => ({ epoch, seq });

/** A history in which ann publishes p1 … pN at 1 … N, acknowledged, and nobody has joined yet. */
function published(count: number): History {
  const history = createHistory("by hand");
  for (let seq = 1; seq <= count; seq++) {
    history.attempted(room, `p${seq}`);
    history.acknowledged(room, `p${seq}`, at(seq));
  }
  return history;
}

/** The member joins at `from` and gets the publications with these seqs, in this order. */
function gets(history: History, member: string, from: number, seqs: number[]): void {
  history.joined(room, member, at(from));
  for (const seq of seqs) history.delivered(room, member, `p${seq}`, at(seq), seq - 1);
}

/** Exactly these faults, no others. */
function finds(test: Test, history: History, expected: Partial<Record<FaultKind, number>>): void {
  const verdict = history.judge();
  const found = Object.fromEntries(faultKinds.filter((kind) => verdict[kind] > 0).map((kind) => [kind, verdict[kind]]));
  test.strictSame(found, expected, verdict.report);
  test.equal(verdict.faults, Object.values(expected).reduce((sum, count) => sum + count, 0));
}

t.test("a history in which everyone got everything in order has no faults", async (t) => {
  const history = published(4);
  gets(history, "ann", 0, [1, 2, 3, 4]);
  gets(history, "bob", 2, [3, 4]);
  finds(t, history, {});
  const { attempted, acknowledged, delivered, members } = history.judge();
  t.match({ attempted, acknowledged, delivered }, { attempted: 4, acknowledged: 4, delivered: 6 });
  t.match(members, [{ room, member: "ann", delivered: 4 }, { room, member: "bob", delivered: 2, memberships: 1 }]);
});

t.test("an acknowledged publication that a member did not get is lost", async (t) => {
  const history = published(3);
  gets(history, "ann", 0, [1, 2, 3]);
  gets(history, "bob", 0, [1, 2]);
  finds(t, history, { lost: 1 });
  t.match(history.judge().report, /seed by hand[^]*first lost:\n {2}chat:a: bob never got p3 at e1\/3/);
  t.match(history.judge().members[1], { member: "bob", lost: 1, delivered: 2 });
});

t.test("a room in which nobody gets anything has lost everything", async (t) => {
  const history = published(3);
  gets(history, "ann", 0, []);
  gets(history, "bob", 1, []);
  finds(t, history, { lost: 5 });
});

t.test("a hole before a later publication is lost and silent", async (t) => {
  const history = published(3);
  gets(history, "bob", 0, [1, 3]);
  finds(t, history, { lost: 1, silentGaps: 1 });
});

t.test("a hole over a publication that nobody got an answer for is a silent gap", async (t) => {
  const history = published(1);
  history.attempted(room, "p2");
  history.attempted(room, "p3");
  history.acknowledged(room, "p3", at(3));
  gets(history, "ann", 0, [1, 2, 3]);
  gets(history, "bob", 0, [1, 3]);
  finds(t, history, { silentGaps: 1 });
});

t.test("prev, and not seq, decides whether something is missing", async (t) => {
  const history = createHistory();
  for (const [seq, prev] of [[10, 0], [17, 10], [40, 17]] as const) {
    history.attempted(room, `p${seq}`);
    history.acknowledged(room, `p${seq}`, at(seq));
    if (seq === 10) history.joined(room, "ann", at(0));
    history.delivered(room, "ann", `p${seq}`, at(seq), prev);
  }
  finds(t, history, {});
});

t.test("a publication delivered twice is doubled", async (t) => {
  const history = published(2);
  gets(history, "bob", 0, [1, 2, 2]);
  finds(t, history, { doubled: 1 });
});

t.test("a publication delivered again after joining anew behind it is doubled", async (t) => {
  const history = published(2);
  gets(history, "bob", 0, [1, 2]);
  gets(history, "bob", 2, [2]);
  finds(t, history, { doubled: 1 });
});

t.test("publications delivered in another order are reordered", async (t) => {
  const history = published(3);
  gets(history, "bob", 0, [1, 3, 2]);
  finds(t, history, { reordered: 1, silentGaps: 1 });
});

t.test("a publication from before the join position is reordered", async (t) => {
  const history = published(2);
  gets(history, "bob", 1, [1, 2]);
  finds(t, history, { reordered: 1 });
});

t.test("two members who see the epochs of a room in different order are caught", async (t) => {
  const history = published(1);
  history.attempted(room, "q1");
  history.acknowledged(room, "q1", at(1, "e2"));
  gets(history, "ann", 0, [1]);
  history.gap(room, "ann", at(1), at(0, "e2"), "not recovered");
  history.delivered(room, "ann", "q1", at(1, "e2"), 0);
  finds(t, history, {});
  history.joined(room, "bob", at(0));
  history.gap(room, "bob", at(0), at(0, "e2"), "not recovered");
  history.delivered(room, "bob", "q1", at(1, "e2"), 0);
  history.delivered(room, "bob", "p1", at(1), 0);
  finds(t, history, { reordered: 1 });
});

t.test("an epoch that begins without a signal is a silent gap", async (t) => {
  const history = published(1);
  history.attempted(room, "q1");
  history.acknowledged(room, "q1", at(1, "e2"));
  gets(history, "ann", 0, [1]);
  history.delivered(room, "ann", "q1", at(1, "e2"), 0);
  finds(t, history, { silentGaps: 1 });
});

t.test("a member left behind in an old epoch has lost what the new one brought", async (t) => {
  const history = published(1);
  gets(history, "ann", 0, [1]);
  history.attempted(room, "q1");
  history.acknowledged(room, "q1", at(1, "e2"));
  finds(t, history, { lost: 1 });
});

t.test("one position with different publications for different members is a conflict", async (t) => {
  const history = published(2);
  gets(history, "ann", 0, [1, 2]);
  history.joined(room, "bob", at(1));
  history.attempted(room, "x");
  history.delivered(room, "bob", "x", at(2), 1);
  finds(t, history, { conflicting: 1, lost: 1 });
});

t.test("a publication at another position than the acknowledged one is a conflict", async (t) => {
  const history = published(1);
  history.joined(room, "ann", at(0));
  history.delivered(room, "ann", "p1", at(7), 0);
  finds(t, history, { conflicting: 1 });
});

t.test("two publishes acknowledged with one position are a conflict", async (t) => {
  const history = published(1);
  history.attempted(room, "x");
  history.acknowledged(room, "x", at(1));
  finds(t, history, { conflicting: 1 });
});

t.test("a delivery that nobody published is caught", async (t) => {
  const history = published(1);
  gets(history, "ann", 0, [1]);
  history.delivered(room, "ann", "ghost", at(2), 1);
  finds(t, history, { unattempted: 1 });
});

t.test("a delivery to somebody who has not joined, or has left, is caught", async (t) => {
  const history = published(3);
  history.delivered(room, "bob", "p1", at(1), 0);
  finds(t, history, { uninvited: 1 });
  gets(history, "ann", 0, [1, 2]);
  history.left(room, "ann");
  history.delivered(room, "ann", "p3", at(3), 2);
  finds(t, history, { uninvited: 2 });
});

t.test("a publish refused for good and delivered all the same is caught; one that failed on the way may have happened", async (t) => {
  const history = published(1);
  gets(history, "ann", 0, [1]);
  history.attempted(room, "p2");
  history.refused(room, "p2", "unavailable");
  history.delivered(room, "ann", "p2", at(2), 1);
  finds(t, history, {});
  history.attempted(room, "p3");
  history.refused(room, "p3", "rate_limited");
  history.delivered(room, "ann", "p3", at(3), 2);
  finds(t, history, { refusedDelivered: 1 });
});

t.test("an unacknowledged publication may be delivered or not, is counted, and binds nobody", async (t) => {
  const history = published(1);
  history.attempted(room, "p2");
  history.attempted(room, "never");
  gets(history, "ann", 0, [1, 2]);
  gets(history, "bob", 0, [1]);
  finds(t, history, {});
  t.equal(history.judge().unacknowledgedDelivered, 1);
  history.delivered(room, "ann", "p2", at(3), 2);
  finds(t, history, { conflicting: 1, doubled: 1 });
});

t.test("a gap that was signalled covers what lies in it and nothing else", async (t) => {
  const history = published(6);
  gets(history, "bob", 0, [1]);
  history.gap(room, "bob", at(1), at(4), "sync");
  history.delivered(room, "bob", "p5", at(5), 4);
  history.delivered(room, "bob", "p6", at(6), 5);
  finds(t, history, {});

  const short = published(6);
  gets(short, "bob", 0, [1]);
  short.gap(room, "bob", at(1), at(3), "sync");
  short.delivered(room, "bob", "p5", at(5), 4);
  short.delivered(room, "bob", "p6", at(6), 5);
  finds(t, short, { lost: 1, silentGaps: 1 });

  const other = published(3);
  gets(other, "ann", 0, [1]);
  gets(other, "bob", 0, [1]);
  other.gap(room, "ann", at(1), at(3), "sync");
  finds(t, other, { lost: 2 });
});

t.test("a member that leaves or is closed is owed nothing after its last publication, but all before it", async (t) => {
  const history = published(4);
  gets(history, "bob", 0, [1, 2]);
  history.left(room, "bob");
  finds(t, history, {});
  gets(history, "cid", 0, [1, 3]);
  history.left(room, "cid");
  finds(t, history, { lost: 1, silentGaps: 1 });
});

t.test("a member that comes back with its position is owed what it missed", async (t) => {
  const history = published(5);
  gets(history, "bob", 0, [1, 2]);
  history.left(room, "bob");
  history.rejoined(room, "bob", at(2), { recovered: true, position: at(4) });
  history.delivered(room, "bob", "p3", at(3), 2);
  history.delivered(room, "bob", "p5", at(5), 4);
  finds(t, history, { lost: 1, silentGaps: 1 });
  history.delivered(room, "bob", "p4", at(4), 3);
  finds(t, history, { reordered: 1, silentGaps: 1 });
});

t.test("coming back with a later position than it had does not excuse what lies between", async (t) => {
  const history = published(4);
  gets(history, "bob", 0, [1]);
  history.left(room, "bob");
  history.rejoined(room, "bob", at(3), { recovered: true, position: at(4) });
  history.delivered(room, "bob", "p4", at(4), 3);
  finds(t, history, { lost: 2, silentGaps: 1 });
});

t.test("coming back with an earlier position than it had, and getting again what it asked for, is no doubling", async (t) => {
  const history = published(3);
  gets(history, "bob", 0, [1, 2]);
  history.left(room, "bob");
  history.rejoined(room, "bob", at(1), { recovered: true, position: at(3) });
  history.delivered(room, "bob", "p2", at(2), 1);
  history.delivered(room, "bob", "p3", at(3), 2);
  finds(t, history, {});
});

t.test("recovered: false signals the gap up to the position it gives", async (t) => {
  const history = published(6);
  gets(history, "bob", 0, [1]);
  history.left(room, "bob");
  history.rejoined(room, "bob", at(1), { recovered: false, position: at(4) });
  history.delivered(room, "bob", "p5", at(5), 4);
  finds(t, history, { lost: 1 });
  history.delivered(room, "bob", "p6", at(6), 5);
  finds(t, history, {});
});

t.test("a publisher excluded from its own publication knows its position, and must not get it", async (t) => {
  const history = published(4);
  gets(history, "ann", 0, [1]);
  history.excluded(room, "ann", "p2", at(2));
  history.excluded(room, "ann", "p3", at(3));
  history.delivered(room, "ann", "p4", at(4), 3);
  finds(t, history, {});
  history.excluded(room, "ann", "p4", at(4));
  finds(t, history, { uninvited: 1 });
});

t.test("rooms are judged apart", async (t) => {
  const history = published(1);
  gets(history, "ann", 0, [1]);
  history.attempted("other", "o1");
  history.acknowledged("other", "o1", at(1));
  history.joined("other", "ann", at(0));
  history.delivered("other", "ann", "o1", at(1), 0);
  finds(t, history, {});
});

t.test("any fault put into a sound history at random is caught, and a sound one never is", async (t) => {
  const sound = fc.record({ count: fc.integer({ min: 3, max: 40 }), joins: fc.array(fc.nat(), { minLength: 1, maxLength: 4 }) });
  t.doesNotThrow(() => fc.assert(fc.property(sound, ({ count, joins }) => {
    const history = published(count);
    joins.forEach((join, i) => {
      const from = join % count;
      gets(history, `m${i}`, from, range(from + 1, count));
    });
    return history.judge().faults === 0;
  })));
  const spoilt = fc.record({
    count: fc.integer({ min: 3, max: 40 }),
    where: fc.nat(),
    how: fc.constantFrom("drop", "double", "swap"),
  });
  t.doesNotThrow(() => fc.assert(fc.property(spoilt, ({ count, where, how }) => {
    const history = published(count);
    const seqs = range(1, count);
    const i = where % (count - 1);
    if (how === "drop") seqs.splice(i, 1);
    else if (how === "double") seqs.splice(i, 0, seqs[i] ?? 0);
    else seqs.splice(i, 2, seqs[i + 1] ?? 0, seqs[i] ?? 0);
    gets(history, "ann", 0, range(1, count));
    gets(history, "bob", 0, seqs);
    const verdict = history.judge();
    const expected = { drop: verdict.lost, double: verdict.doubled, swap: verdict.reordered }[how];
    return expected === 1 && verdict.members[0]?.lost === 0;
  })));
});

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
