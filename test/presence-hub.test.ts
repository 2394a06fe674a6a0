/** The hub's side of presence: how many records and how large, with more members than any test could connect. */
import t from "tap";
import { resolveConfig } from "../src/config/config.ts";
import { HubPresence } from "../src/hub/presence.ts";
import { HubRooms, type AttachedReactor } from "../src/hub/rooms.ts";
import type { HubSession } from "../src/hub/sessions/session.ts";
import { TailBudget } from "../src/hub/recovery/tail.ts";
import { Link, type RecordReader } from "../src/link/link.ts";
import { kinds } from "../src/link/records.ts";
import { createRing } from "../src/link/ring.ts";
import { createMemoryPresence } from "../src/presence/memory.ts";
import { decodeServerFrame } from "../src/protocol/codec.ts";
import { Encoder } from "../src/protocol/formats/encoder.ts";
import type { ServerFrame } from "../src/protocol/messages.ts";
import { roomKey, userKey } from "../src/protocol/roomkeys.ts";
import { compileKinds } from "../src/config/roomnames.ts";
import { none } from "./support/only.ts";
import { until } from "./support/until.ts";

const ringBytes = 131_072;
const overflowBytesMax = 65_536;
const frameBytesMax = 8_192;
const pageBytesMax = ringBytes / 16;

interface Written {
  kind: number;
  bytes: number;
  frame: Buffer;
}

/** One reactor, and what the hub has written for it. */
function reactorOf(index: number) {
  const [toHub, fromHub] = [createRing(ringBytes), createRing(ringBytes)];
  const written: Written[] = [];
  const isAwake = { now: true };
  const onRecord = (kind: number, record: RecordReader) => {
    if (kind === kinds.reply) (record.u32(), record.u32(), record.u8());
    if (kind === kinds.presenceChanged) (record.u32(), record.u8(), record.f64());
    const frame = Buffer.from(record.blob());
    const sessions = kind === kinds.status ? record.u32() : 1;
    written.push({ kind, bytes: frame.length + 8 * sessions, frame });
  };
  const common = { overflowBytesMax, readBudgetBytes: 1 << 20, onBatchEnd: () => {} };
  const reader: Link = new Link({ ...common, out: toHub, in: fromHub, onRecord, ringDoorbell: () => {} });
  const link: Link = new Link({ ...common, out: fromHub, in: toHub, onRecord: () => {}, ringDoorbell: () => (isAwake.now ? reader.wake() : undefined) });
  const reactor: AttachedReactor = { index, link, live: true };
  const wake = () => {
    isAwake.now = true;
    for (let i = 0; i < 100; i++) (reader.wake(), link.wake());
  };
  return { reactor, written, wake, sleep: () => void (isAwake.now = false) };
}

function hub() {
  const { config } = resolveConfig();
  const both = [reactorOf(0), reactorOf(1)];
  const rooms = new HubRooms({ roomsMax: 10, reactors: 2, tailLimits: { publicationsMax: 1, bytesMax: 1 }, tailBudget: new TailBudget(1) });
  const limits = { graceMs: 600_000, intervalMs: 600_000, namedUsersMax: 1_000, namedChangesMax: 100, lastSeenTtlMs: 1, lastSeenMax: 1 };
  const store = createMemoryPresence(limits, { roomChanged: () => {}, statusChanged: () => {} });
  const presence = new HubPresence({
    store, rooms, reactors: both.map(({ reactor }) => reactor), kindOf: compileKinds(config), encoder: new Encoder(1024), pageBytesMax,
    watchedPerSessionMax: 10, refuse: (_reactor, _asker, code) => { throw new Error(code); },
  });
  const room = rooms.create(roomKey("acme", "chat:a"), compileKinds(config)("chat:a")!)!;
  rooms.opened(room, "epoch", 0);
  return { presence, store, rooms, room, both };
}

function frameOf({ frame }: Written, json: boolean): ServerFrame {
  return json ? (JSON.parse(frame.toString()) as ServerFrame) : decodeServerFrame(frame, 4, frame.length);
}

for (const json of [false, true]) {
  t.test(`${json ? "JSON" : "binary"}: 100,000 members are read in pages that fit, each member once`, async (t) => {
    const { presence, store, room, both } = hub();
    t.teardown(() => store.stop());
    for (let i = 0; i < 100_000; i++) store.enter(room.key, userKey("acme", `user "${i}"`), `s${i}`);
    const { reactor, written } = both[1]!;
    const seen = new Set<string>();
    let after = "";
    let pages = 0;
    do {
      presence.answer(reactor, { slot: 1, life: 1, id: 7, wire: json ? 1 : 0, room: room.key, after, limit: 256 });
      const page = frameOf(written.at(-1)!, json).presence!;
      if (written.at(-1)!.bytes > 2 * frameBytesMax) t.fail(`a frame of ${written.at(-1)!.bytes} bytes`);
      if (page.users !== 100_000 || page.room !== "chat:a") t.fail("every page has the counts");
      for (const { user } of page.members!) seen.add(user!);
      pages++;
      written.length = 0;
      after = page.next ?? "";
    } while (after !== "" && pages < 2_000);
    t.equal(seen.size, 100_000);
    t.ok(seen.has('user "0"'), "under the names that clients know");
  });
}

t.test("a change is written once for each reactor and format with members, and with names only where they fit", async (t) => {
  const { presence, store, rooms, room, both } = hub();
  t.teardown(() => store.stop());
  rooms.count(room, 0, 0, 1);
  rooms.count(room, 1, 0, 1);
  rooms.count(room, 1, 1, 1);
  const [first, second] = [both[0]!.written, both[1]!.written];
  const change = { version: 1, users: 3, sessions: 3, joined: [userKey("acme", "ann")], left: [], countsOnly: false };
  presence.roomChanged(room.key, change);
  t.strictSame([first.length, second.length], [1, 2]);
  t.match(frameOf(first[0]!, false).presenceChanged, { room: "chat:a", users: 3, joined: ["ann"] });
  t.match(frameOf(second[1]!, true).presenceChanged, { room: "chat:a", users: 3, joined: ["ann"] });
  const long = Array.from({ length: 100 }, (_, i) => userKey("acme", `${"x".repeat(120)}${i}`));
  presence.roomChanged(room.key, { ...change, joined: long });
  t.match(frameOf(first[1]!, false).presenceChanged, { countsOnly: true, joined: none });
  presence.roomChanged("acme\u001fchat:unknown", change);
  t.strictSame([first.length, second.length], [2, 4]);
});

t.test("a user whom thousands watch costs a frame a format, and records that fit any ring", async (t) => {
  const { presence, store, both } = hub();
  t.teardown(() => store.stop());
  const sessions = Array.from({ length: 3_000 }, (_, slot): HubSession => ({
    id: `s${slot}`, socketId: `s${slot}.1`, userKey: userKey("acme", `u${slot}`), reactor: both[slot % 2]!.reactor, rooms: [], ahead: [], assigned: new Set(), generation: 0, state: "here",
    device: "", issuedAt: 0, cameAt: 0, slot, life: 1, wire: slot % 4 === 0 ? 1 : 0,
  }));
  for (const session of sessions) {
    const { slot, life, wire } = session;
    presence.watch(session.reactor, session, { slot, life, id: 0, wire, begin: true, users: ["star"] });
  }
  t.match(presence.usage(), { watches: 3_000 });
  presence.statusChanged({ user: userKey("acme", "star"), online: true, lastSeen: 0 });
  const written = both.flatMap((one) => one.written);
  t.ok(written.every(({ kind, bytes }) => kind === kinds.status && bytes < 2_000));
  t.ok(written.length < 3_000 / 100, `${written.length} records`);
  t.equal(written.reduce((sum, { bytes, frame }) => sum + (bytes - frame.length) / 8, 0), 3_000, "everybody is told");
  for (const session of sessions) presence.ended(session, false);
  t.match(presence.usage(), { watches: 0 });
});

t.test("while a reactor is far behind nothing is told, and then what holds: no more of it waits than there are rooms and users", async (t) => {
  const { presence, store, rooms, room, both } = hub();
  t.teardown(() => (presence.close(), store.stop()));
  rooms.count(room, 0, 0, 1);
  const [{ reactor, written, wake, sleep }] = both as [ReturnType<typeof reactorOf>];
  const watcher: HubSession = {
    id: "s", socketId: "s.1", userKey: userKey("acme", "ann"), reactor, rooms: [], ahead: [], assigned: new Set(), generation: 0, state: "here",
    device: "", issuedAt: 0, cameAt: 0, slot: 1, life: 1, wire: 0,
  };
  presence.watch(reactor, watcher, { slot: 1, life: 1, id: 0, wire: 0, begin: true, users: ["bob"] });
  sleep();
  let version = 0;
  const change = () => ({ version: ++version, users: version, sessions: version, joined: [userKey("acme", `${version}`)], left: [], countsOnly: false });
  while (!reactor.link.congested) presence.roomChanged(room.key, change());
  const { overflow } = reactor.link.depth;
  for (let i = 0; i < 1_000; i++) {
    presence.roomChanged(room.key, change());
    presence.statusChanged({ user: userKey("acme", "bob"), online: i % 2 === 0, lastSeen: 0 });
  }
  t.equal(reactor.link.depth.overflow, overflow, "nothing more is written");
  wake();
  written.length = 0;
  await until(() => written.length >= 2, "what was late");
  const frames = written.map((one) => frameOf(one, false));
  t.match(frames.map(({ presenceChanged }) => presenceChanged).find(Boolean), { version, users: version, countsOnly: true });
  t.match(frames.map(({ userStatus }) => userStatus).find(Boolean), { user: "bob", online: false });
  t.equal(written.length, 2);
});
