/** A session's places in rooms, on its reactor and in the hub: as quick with 100,000 as with a few. */
import t from "tap";
import { listed, noPlaces, placeIn, withoutPlace, withPlace, type Places } from "../src/hub/places.ts";
import type { PlaceInRoom } from "../src/link/sessions.ts";
import { addMember, countMembers, createSession, memberOf, membersOf, removeMember, type Member } from "../src/reactor/session.ts";

/** Counts how often somebody looks at the name of one of them. */
let looks = 0;
function looking<T extends object>(room: string, rest: T): T & { name: string } {
  return Object.defineProperty({ ...rest }, "name", { enumerable: true, get: () => (looks++, room) }) as T & { name: string };
}

const rooms = 100_000;
/** A list of sixteen is looked through, and moved once or twice. */
const looksEach = 40;

const aMember = (room: string): Member =>
  looking(room, { session, state: "live", room: null, mayPublish: true, told: false, liveAt: 0, arrival: null, next: null }) as unknown as Member;
const session = createSession({ publish: () => true }, false, "", "");

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
