/** A session's places in rooms, on its reactor and in the hub: as quick with 100,000 as with a few. */
import t from "tap";
import { Arrivals } from "../src/reactor/rooms/arrivals.ts";
import type { Context } from "../src/reactor/context.ts";
import { Fanout } from "../src/reactor/rooms/fanout.ts";
import { SlowReaders } from "../src/reactor/rooms/slow.ts";
import { Audiences, type Audience } from "../src/reactor/transport/socket.ts";
import { listed, noPlaces, placeIn, withoutPlace, withPlace, type Places } from "../src/hub/sessions/places.ts";
import type { PlaceInRoom } from "../src/link/sessions.ts";
import { addMember, countMembers, createSession, memberOf, membersOf, removeMember, type Arrival, type Member, type ReactorRoom } from "../src/reactor/session/session.ts";

/** Counts how often somebody looks at the name of one of them. */
let looks = 0;
function looking<T extends object>(room: string, rest: T): T & { name: string } {
  return Object.defineProperty({ ...rest }, "name", { enumerable: true, get: () => (looks++, room) }) as T & { name: string };
}

const rooms = 100_000;
/** A list of sixteen is looked through, and moved once or twice. */
const looksEach = 40;

const aMember = (room: string): Member =>
  looking(room, { session, state: "live", room: null, mayPublish: true, seesPresence: false, liveAt: 0, arrival: null, next: null }) as unknown as Member;
const session = createSession({ publish: () => true }, 0, "", "");

t.test("a session's members: adding, finding and removing each takes as long with many as with few", async (t) => {
  looks = 0;
  const all = Array.from({ length: rooms }, (_, i) => aMember(`r${i}`));
  for (const [i, member] of all.entries()) {
    if (memberOf(session, `r${i}`) !== null) t.fail(`r${i} is there already`);
    addMember(session, member);
  }
  t.equal(countMembers(session), rooms);
  t.ok(all.every((member, i) => memberOf(session, `r${i}`) === member));
  t.strictSame(membersOf(session).length, rooms);
  for (const member of all) removeMember(session, member);
  t.equal(session.members, null, "nothing is left");
  t.ok(looks < looksEach * rooms, `${looks / rooms} looks for each room`);
});

t.test("members are kept in their order, and whoever is not in is not taken out, with few and with many", async (t) => {
  for (const count of [1, 2, 15, 16, 17, 40]) {
    const all = Array.from({ length: count }, (_, i) => aMember(`r${i}`));
    for (const member of all) addMember(session, member);
    removeMember(session, aMember("r0"));
    t.strictSame(membersOf(session).map(({ name }) => name), all.map(({ name }) => name));
    for (let i = 0; i < count; i += 2) removeMember(session, all[i]!);
    t.strictSame(membersOf(session).map(({ name }) => name), all.filter((_, i) => i % 2 === 1).map(({ name }) => name));
    for (const member of membersOf(session)) removeMember(session, member);
    t.equal(session.members, null);
  }
});

t.test("a session's places: entering, moving on and leaving each takes as long with many as with few", async (t) => {
  const place = (i: number, seq: number): PlaceInRoom => looking(`r${i}`, { epoch: "e", seq });
  looks = 0;
  let places: Places = noPlaces;
  for (let i = 0; i < rooms; i++) places = withPlace(places, place(i, 1));
  for (let i = 0; i < rooms; i++) places = withPlace(places, place(i, 2));
  t.equal(listed(places).length, rooms);
  for (let i = 0; i < rooms; i++) if (placeIn(places, `r${i}`)?.seq !== 2) t.fail(`r${i} has not moved on`);
  for (let i = 0; i < rooms; i++) places = withoutPlace(places, `r${i}`);
  t.strictSame([listed(places).length, noPlaces.length], [0, 0]);
  t.ok(looks < looksEach * rooms, `${looks / rooms} looks for each room`);
});

t.test("a socket that missed something: what is looked at is what was published, not what its session is in", async (t) => {
  const reader = createSession({ publish: () => true }, 0, "", "");
  Object.assign(reader, { state: "ready", socket: {} });
  const roomOf = (handle: number): ReactorRoom => ({
    name: `r${handle}`, handle, partition: -1, joined: [1, 0], live: [1, 0], firsts: [null, null], eras: [0, 0], topics: ["b", "j"], presence: [0, 0], presenceTopics: ["pb", "pj"], flushMs: 0, windows: [null, null],
  });
  const known = new Map<number, ReactorRoom>();
  let states = 0;
  for (let i = 0; i < rooms; i++) {
    const room = roomOf(i);
    known.set(i, room);
    const member = { name: room.name, session: reader, room, mayPublish: true, seesPresence: false, liveAt: 0, arrival: null, next: null };
    addMember(reader, Object.defineProperty(member, "state", { get: () => (states++, "live") }) as unknown as Member);
  }
  // A room with members on this reactor, this session not among them.
  known.set(rooms, roomOf(rooms));
  const audiences = new Audiences();
  const withdrawn: unknown[] = [];
  const fanout = new Fanout(audiences, Infinity, () => slow.settle());
  const slow = new SlowReaders({ counters: { add: () => {} }, kindOf: () => ({ slowReaders: "drop" }) } as unknown as Context, fanout, (handle) => known.get(handle), (member, place, skip) => {
    withdrawn.push({ room: member.name, ...place, skip });
  });
  let isFull = false;
  audiences.add({ publish: () => (isFull && slow.droppedNow(reader), true) } as unknown as Audience);
  const publish = (handle: number, seq: number) => fanout.publish(known.get(handle)!, 0, new Uint8Array(8), seq, seq - 1, null);
  publish(5, 1);
  isFull = true;
  for (const [handle, seq] of [[7, 10], [99_000, 20], [rooms, 30]] as const) {
    publish(handle, seq);
    isFull = false;
  }
  slow.settle();
  t.strictSame(withdrawn, [{ room: "r7", seq: 9, era: 0, skip: true }], "before anything else is published");
  t.ok(states < 10, `${states} members were looked at`);
  t.equal(fanout.roomsSince(0, 0).size, 4);
});

t.test("a session's arrivals: those that wait are told from those that do not, and from those of others, without looking at them", async (t) => {
  const other = createSession({ publish: () => true }, 0, "", "");
  const arrivals = new Arrivals();
  const arrival = (number: number, of = session) => ({ member: { session: of }, number, kind: "behind", seq: 0, era: 0, ended: null, leaveId: 0 }) as unknown as Arrival;
  const all = Array.from({ length: rooms }, (_, i) => arrival(i));
  t.notOk(arrivals.has(session));
  for (const one of all) arrivals.add(one);
  arrivals.add(arrival(rooms, other));
  t.equal(arrivals.get(7), all[7]);
  t.strictSame([...arrivals.release(session)], []);
  for (const i of [3, 5, 9]) arrivals.hold(all[i]!);
  arrivals.remove(all[5]!);
  arrivals.hold(all[5]!);
  t.strictSame([...arrivals.release(other)], []);
  t.strictSame([...arrivals.release(session)].map(({ number }) => number), [3, 9], "one that is gone does not wait");
  t.strictSame([...arrivals.release(session)], [], "once");
  for (const one of all) arrivals.remove(one);
  t.strictSame([arrivals.has(session), arrivals.has(other)], [false, true]);
});
