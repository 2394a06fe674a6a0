/** A reactor that does not read: what other nodes publish is not queued for it without end, and nothing is lost in silence. */
import t, { type Test } from "tap";
import { originText, type Origin } from "../src/broker/broker.ts";
import { writePublish } from "../src/link/publications.ts";
import { kinds, writeBehind, writeNext } from "../src/link/records.ts";
import { Format } from "../src/protocol/messages.ts";
import { writeHello } from "../src/link/sessions.ts";
import { startHub, type HubOptions, type Seen } from "./support/hub.ts";
import { until } from "./support/until.ts";

const durable = { feed: { durable: true, historySize: 1_000 }, live: { durable: false } };
const bound = 8_000;

function start(t: Test, options: HubOptions = {}) {
  const all = startHub({ namespaces: durable, overflowBytesMax: bound, ...options });
  t.teardown(all.stop);
  const [first] = all.reactors;
  return { ...all, first: first! };
}

const upTo = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);
const moves = (seen: readonly Seen[]) => seen.filter(({ kind }) => kind === kinds.moved);
const pages = (seen: readonly Seen[], member: number) => seen.filter((one) => one.kind === kinds.page && one.member === member);
/** Has members ask for their next pages, each once it has the one before, until all are live. */
function replayTo(reactor: ReturnType<typeof start>["first"], members: readonly number[], asked = new Map<number, number>()): void {
  for (let i = 0; i < 200; i++) {
    for (const member of members) {
      const got = reactor.seen.filter((one) => one.member === member);
      if (got.length === (asked.get(member) ?? 0) || got.at(-1)!.live) continue;
      asked.set(member, got.length);
      writeNext(reactor.reader, member);
    }
    for (let n = 0; n < 3; n++) (reactor.reader.wake(), reactor.link.wake());
  }
}
const given = (seen: readonly Seen[]) => seen.flatMap(({ seq, kind, frame }) => [
  ...(frame.joined ?? frame.replay)?.publications?.map((one) => Number(one.seq)) ?? [], ...(kind === kinds.deliver ? [seq] : [])]);

for (const [where, tailPublicationsMax] of [["the room's tail", 2_000], ["the broker", 10]] as const) {
  t.test(`what a reactor has no room for it gets later, from ${where}, in order and once: it used to be queued without end`, async (t) => {
    const { hub, first, publishElsewhere } = start(t, { tailPublicationsMax });
    first.join(1, "feed:a");
    first.join(2, "feed:a", { wire: 1 });
    first.drain();
    for (let i = 0; i < 300; i++) publishElsewhere("feed:a");
    t.ok(first.link.depth.overflow < bound + 3_000, `${first.link.depth.overflow} bytes wait`);
    t.equal(hub.usage().roomsBehind, 2, "of members of each format");
    publishElsewhere("feed:a");
    first.drain();
    // Binary and JSON members each.
    const seqs = first.publications();
    t.equal(seqs.length, 602);
    for (const isFirst of [true, false]) t.strictSame(seqs.filter((seq, i) => (seqs.indexOf(seq) === i) === isFirst), upTo(301));
    t.strictSame(moves(first.seen), [], "nobody has a gap");
    publishElsewhere("feed:a");
    first.drain();
    t.strictSame(first.publications().slice(-2), [302, 302], "and goes on");
    const { roomsBehind, late, lost } = hub.usage();
    t.strictSame([roomsBehind, lost, late > 400], [0, 0, true]);
  });
}

t.test("members of an ephemeral room whose tail does not reach back get sync, once there is room, and the loss is counted", async (t) => {
  const { hub, first, publishElsewhere } = start(t);
  first.join(1, "live:a");
  first.drain();
  for (let i = 0; i < 300; i++) publishElsewhere("live:a");
  first.drain();
  const seqs = first.publications();
  t.strictSame(seqs, upTo(seqs.length));
  t.strictSame(moves(first.seen).map(({ frame }) => frame.sync?.position?.seq), [300]);
  t.equal(hub.usage().lost, 300 - seqs.length);
  publishElsewhere("live:a");
  first.drain();
  t.equal(first.publications().at(-1), 301);
});

t.test("who comes into a room that its reactor is behind in becomes live when the others have caught up, and is given nothing twice", async (t) => {
  const waiting: (() => void)[] = [];
  const { hub, first, publishElsewhere } = start(t, {
    broker: (memory) => ({ history: (...args) => void waiting.push(() => memory.history(...args)) }),
  });
  first.join(1, "feed:a");
  first.drain();
  for (let i = 0; i < 100; i++) publishElsewhere("feed:a");
  first.drain();
  t.equal(hub.usage().roomsBehind, 1, "the broker is still being read");
  t.notOk(first.link.congested);
  const { epoch } = first.seen.find(({ frame }) => frame.joined)!.frame.joined!.position!;
  first.join(7, "feed:a");
  first.join(8, "feed:a", { epoch: epoch!, seq: 95 });
  first.drain();
  const joined = first.seen.filter(({ member }) => member === 7 || member === 8);
  t.strictSame(joined.map(({ live, frame }) => [live, frame.joined?.more]), [[false, true], [false, true]]);
  const asked = new Map<number, number>();
  replayTo(first, [7, 8], asked);
  publishElsewhere("feed:a");
  first.drain();
  t.strictSame([...pages(first.seen, 7), ...pages(first.seen, 8)].filter(({ live }) => live), [], "not yet");
  for (let i = 0; i < 300 && waiting.length > 0; i++) {
    waiting.shift()!();
    replayTo(first, [7, 8], asked);
  }
  t.equal(hub.usage().roomsBehind, 0);
  t.strictSame(first.publications(), upTo(101), "the member that was there");
  for (const [member, from] of [[7, 100], [8, 95]] as const) {
    const last = pages(first.seen, member).at(-1)!;
    t.strictSame([last.live, last.seq], [true, 101]);
    const got = given(first.seen.filter((one) => one.member === member));
    t.strictSame(got, upTo(101).slice(from), `member ${member}`);
    const at = first.seen.indexOf(last);
    t.strictSame(first.seen.slice(at).filter(({ kind }) => kind === kinds.deliver), [], "live behind the last of them");
  }
});

t.test("pages of members that are being replayed to wait while their reactor is far behind: they used to be queued", async (t) => {
  const { first, publishElsewhere } = start(t);
  first.join(1, "live:flood");
  first.join(2, "feed:a");
  first.drain();
  const { epoch } = first.seen.find(({ member }) => member === 2)!.frame.joined!.position!;
  for (let i = 0; i < 50; i++) publishElsewhere("feed:a", 900);
  first.drain();
  const members = upTo(40).map((i) => 100 + i);
  for (const member of members) {
    first.join(member, "feed:a", { epoch: epoch!, seq: 0 });
    for (let n = 0; n < 3; n++) (first.link.wake(), first.reader.wake());
  }
  for (let i = 0; i < 100; i++) publishElsewhere("live:flood");
  t.ok(first.link.congested);
  for (const member of members) writeNext(first.reader, member);
  const before = first.link.depth.overflow;
  first.link.wake();
  t.ok(first.link.depth.overflow <= before, "no page is queued");
  replayTo(first, members, new Map(members.map((member) => [member, 1])));
  for (const member of members) t.strictSame(given(first.seen.filter((one) => one.member === member)), upTo(50));
});

t.test("a join in a room of the application waits while its reactor is far behind: it used to end the membership without a word", async (t) => {
  const { first, publishElsewhere } = start(t, { store: () => ({ assigned: (_, done) => done({ value: ["feed:a"] }) }) });
  writeHello(first.reader, { slot: 0, life: 1, wire: 0, user: "\u001fann", device: "", issuedAt: 0, mayBegin: true, decided: "now", resume: "", resumeIssuedAt: 0, resumeGeneration: 0, positions: [] });
  first.join(1, "live:flood");
  first.drain();
  for (let i = 0; i < 100; i++) publishElsewhere("live:flood");
  t.ok(first.link.congested);
  first.join(2, "feed:a", { assigned: true });
  await until(() => (first.drain(), first.seen.some(({ kind, member }) => kind === kinds.joined && member === 2)), "joined");
  t.notOk(first.seen.some(({ kind, member }) => kind === kinds.refused && member === 2));
});

t.test("a page that cannot be read now is a record without a frame: the reactor asks again, behind its other members", async (t) => {
  let isAway = false;
  const { first, publishElsewhere } = start(t, { tailPublicationsMax: 2, broker: ({ history }) => ({ history: (...call) => (isAway ? call[3]({ error: "unavailable" }) : history(...call)) }) });
  first.join(1, "feed:a");
  first.drain();
  const { epoch } = first.seen.find(({ member }) => member === 1)!.frame.joined!.position!;
  for (let i = 0; i < 20; i++) publishElsewhere("feed:a", 300);
  isAway = true;
  first.join(2, "feed:a", { epoch: epoch!, seq: 0 });
  first.drain();
  const of2 = () => first.seen.filter(({ kind, member }) => member === 2 && (kind === kinds.joined || kind === kinds.page));
  for (const records of [2, 3]) {
    writeNext(first.reader, 2);
    await until(() => (first.drain(), of2().length === records), "the next record");
    t.match(of2().at(-1), { live: false, seq: 0, frame: {} });
  }
  isAway = false;
  replayTo(first, [2], new Map([[2, 2]]));
  t.strictSame(given(first.seen.filter(({ member }) => member === 2)), upTo(20));
});

t.test("a stream that begins anew while the reactor is behind: sync, and nothing of one stream is given as the other's", async (t) => {
  const { hub, first, publishElsewhere } = start(t, { tailPublicationsMax: 2_000 });
  first.join(1, "feed:a");
  first.drain();
  for (let i = 0; i < 100; i++) publishElsewhere("feed:a");
  hub.moved("feed:a", { epoch: "another", seq: 40 });
  first.drain();
  const last = first.seen.at(-1)!;
  t.strictSame([last.kind, last.frame.sync?.position?.epoch, last.frame.sync?.position?.seq], [kinds.moved, "another", 40]);
  const seqs = first.publications();
  t.strictSame(seqs, upTo(seqs.length));
  t.equal(hub.usage().lost, 100 - seqs.length);
});

t.test("a reactor that ends takes what was put off for it along, also while the broker is being read; the next one begins afresh", async (t) => {
  let answer = () => {};
  const { hub, first, startReactor, publishElsewhere } = start(t, {
    broker: (memory) => ({ history: (...args) => void (answer = () => memory.history(...args)) }),
  });
  first.join(1, "feed:a");
  first.drain();
  for (let i = 0; i < 100; i++) publishElsewhere("feed:a");
  first.drain();
  t.equal(hub.usage().roomsBehind, 1);
  hub.detach(first.reactor);
  t.equal(hub.usage().roomsBehind, 0);
  const second = startReactor(0);
  second.join(1, "feed:a");
  second.drain();
  answer();
  publishElsewhere("feed:a");
  second.drain();
  t.strictSame(second.publications(), [101]);
});

t.test("rooms that were left while their reactor was behind are not read for it", async (t) => {
  const { hub, rooms, first, publishElsewhere } = start(t);
  first.join(1, "live:a");
  first.drain();
  for (let i = 0; i < 100; i++) publishElsewhere("live:a");
  rooms.count(rooms.named("live:a")!, 0, 0, -1);
  first.drain();
  t.strictSame([moves(first.seen).length, hub.usage().roomsBehind, hub.usage().lost], [0, 0, 0]);
});

// ------------------------------------------------------------------------------- another stream, and slow readers

t.test("a reader that was behind in one stream and comes to read when there is another gets sync: it was given nothing, or a part of the other", async (t) => {
  for (const head of [5, 3]) {
    const { hub, rooms, first, publishElsewhere } = start(t);
    first.join(1, "feed:a");
    first.drain();
    for (let i = 0; i < 5; i++) publishElsewhere("feed:a");
    first.drain();
    const room = rooms.named("feed:a")!;
    const { handle, era } = room;
    hub.moved("feed:a", { epoch: "another", seq: head });
    for (let seq = head + 1; seq < head + 6; seq++) {
      hub.deliver("feed:a", { epoch: "another", seq, prev: seq - 1, sender: "", time: 1, payload: new Uint8Array(5), format: 0, origin: "" });
    }
    writeBehind(first.reader, { member: 9, handle, seq: 5, era, wire: 0, skip: false });
    writeNext(first.reader, 9);
    first.drain();
    const [page] = pages(first.seen, 9);
    t.strictSame([page?.live, page?.frame.sync?.position?.epoch, page?.seq], [true, "another", room.seq], `head ${head}`);
    // One that fell behind in the new stream goes on in it.
    writeBehind(first.reader, { member: 10, handle, seq: head + 2, era: room.era, wire: 0, skip: false });
    writeNext(first.reader, 10);
    first.drain();
    t.strictSame(given(pages(first.seen, 10)), [head + 3, head + 4, head + 5]);
  }
});

t.test("a stream that is replaced while a page of it is being read is not taken for the new one", async (t) => {
  const waiting: (() => void)[] = [];
  const { hub, first, publishElsewhere } = start(t, {
    broker: (memory) => ({ history: (...args) => void waiting.push(() => memory.history(...args)) }),
  });
  first.join(1, "feed:a");
  first.drain();
  const { epoch } = first.seen[0]!.frame.joined!.position!;
  for (let i = 0; i < 30; i++) (publishElsewhere("feed:a"), first.drain());
  first.join(2, "feed:a", { epoch: epoch!, seq: 10 });
  first.drain();
  hub.moved("feed:a", { epoch: "another", seq: 4 });
  while (waiting.length > 0) for (const answer of waiting.splice(0)) (answer(), first.drain());
  const { frame, live, seq } = first.seen.find(({ member }) => member === 2)!;
  t.strictSame([frame.joined?.recovered, frame.joined?.publications?.length ?? 0, live, seq], [false, 0, true, 4]);
});

// ------------------------------------------------------------------------------- who is left out

for (const [how, broughtBack] of [["as it was", (origin: Origin) => origin], ["as a text, as through NATS", originText]] as const) {
  t.test(`a copy that comes back ${how} when its publisher's reactor has been replaced leaves nobody out: it named a stranger with the same slot`, async (t) => {
    const drafts: { origin: Origin }[] = [];
    const { hub, first, startReactor, publishElsewhere } = start(t, {
      broker: () => ({ publish: (_room, _retention, draft) => void drafts.push({ origin: draft.origin }) }),
    });
    const publish = (reactor: typeof first) => {
      writePublish(reactor.reader, 4, 1, 0, 0, 0, "live:a", "ann", "", 0, true, false, new Uint8Array(1));
      reactor.link.wake();
      return broughtBack(drafts.at(-1)!.origin);
    };
    first.join(1, "live:a");
    first.drain();
    const origin = publish(first);
    publishElsewhere("live:a", 1, origin);
    first.drain();
    t.equal(first.excluded().at(-1), "4 1", "its publisher is left out");
    hub.detach(first.reactor);
    const second = startReactor(0);
    second.join(1, "live:a");
    second.drain();
    publishElsewhere("live:a", 1, origin);
    second.drain();
    t.equal(second.excluded().at(-1), "", "the one that has the slot now is not");
    publishElsewhere("live:a", 1, publish(second));
    second.drain();
    t.equal(second.excluded().at(-1), "4 1");
  });
}

t.test("the node itself publishes: members get it as anybody's, and it is refused as anybody's", async (t) => {
  const { hub, first } = start(t);
  first.join(1, "live:a");
  first.join(2, "live:a", { wire: 1 });
  first.drain();
  const draft = { sender: "news", key: "", format: Format.JSON, payload: Buffer.from('"x"'), origin: "" };
  const answers: unknown[] = [];
  hub.publish("live:a", draft, (answer) => answers.push(answer));
  hub.publish("nowhere:a", draft, (answer) => answers.push(answer));
  first.drain();
  t.match(answers, [{ value: { seq: 1, duplicate: false } }, { error: "unknown_namespace" }]);
  const delivered = first.seen.filter(({ kind }) => kind === kinds.deliver);
  t.match(delivered.map(({ frame }) => frame.publication), [{ room: "live:a", sender: "news" }, { room: "live:a", sender: "news", data: "x" }]);
});

t.test("what follows a room publishes at once: members used to get that in place of what it had heard", async (t) => {
  const { hub, rooms, first } = start(t);
  first.join(1, "live:a");
  first.join(2, "live:b");
  first.drain();
  const publish = (room: string, text: string) => hub.publish(room, { sender: "news", key: "", format: Format.JSON, payload: Buffer.from(JSON.stringify(text)), origin: "" }, () => {});
  rooms.listen(rooms.named("live:a")!, { opened: () => {}, refused: () => {}, moved: () => {}, delivered: () => publish("live:b", "the answer") });
  publish("live:a", "the question");
  first.drain();
  const delivered = first.seen.filter(({ kind }) => kind === kinds.deliver).map(({ frame }) => frame.publication);
  t.match(delivered.map((one) => [one?.room, Buffer.from(one!.payload!).toString()]), [["live:a", '"the question"'], ["live:b", '"the answer"']]);
});
