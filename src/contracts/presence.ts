/** Contract of the presence store, clause by clause of src/presence/presence.ts. Run over each implementation. */
import type { Test } from "tap";
import type { Presence, PresenceEvents, RoomChange, RoomMember, RoomPresence, Status } from "../presence/presence.ts";
import { asked, value } from "./answers.ts";
import { randomFrom } from "./random.ts";
import { until } from "./until.ts";

export interface PresenceOptions {
  graceMs: number;
  intervalMs: number;
  namedUsersMax: number;
  namedChangesMax: number;
  lastSeenTtlMs: number;
  lastSeenMax: number;
}

export type MakePresence = (options: PresenceOptions, events: PresenceEvents, clock: () => number, t: Test) => Presence | Promise<Presence>;

/** Durations for tests: one that never ends, and ones that end at once. */
const never = 3_600_000;
const soon = 5;
const limits = { graceMs: soon, intervalMs: soon, namedUsersMax: 100, namedChangesMax: 100, lastSeenTtlMs: never, lastSeenMax: 100 };

/** @param bounded whether the store evicts the users who are gone longest. */
export function presenceContract(t: Test, name: string, make: MakePresence, bounded = true): void {
  const start = async (t: Test, options: Partial<PresenceOptions> = {}) => {
    const clock = { time: 1_000_000 };
    const changes: (RoomChange & { room: string })[] = [];
    const statuses: Status[] = [];
    const events: PresenceEvents = {
      roomChanged: (room, change) => void changes.push({ room, ...change }),
      statusChanged: (status) => void statuses.push(status),
    };
    const presence = await make({ ...limits, ...options }, events, () => clock.time, t);
    t.teardown(() => presence.stop());
    const told = (count: number) => until(() => changes.length >= count, `${count} changes`);
    /** Adds a user to the room. Once that is reported, everything before it has been. */
    const marker = async (room = "r") => {
      presence.enter(room, "marker", "m");
      await until(() => changes.some(({ joined }) => joined.includes("marker")), "the marker");
    };
    return { ...promised(presence), presence, clock, changes, statuses, told, marker };
  };

  // --------------------------------------------------------------------------------- who is in a room

  t.test(`${name}: users and their sessions are counted, and a session once, however often it enters`, async (t) => {
    const { presence, counts, page } = await start(t, { graceMs: never });
    presence.enter("r", "ann", "a1");
    presence.enter("r", "ann", "a1");
    presence.enter("r", "ann", "a2");
    presence.enter("r", "ann", "a2");
    presence.enter("r", "bob", "b1");
    presence.enter("other", "eve", "e1");
    t.match(await counts("r"), { users: 2, sessions: 3 });
    t.strictSame(sorted((await page("r")).members), [{ user: "ann", sessions: 2 }, { user: "bob", sessions: 1 }]);
    presence.leave("r", "ann", "a1");
    presence.leave("r", "ann", "a1");
    presence.leave("r", "ann", "unknown");
    presence.leave("r", "nobody", "n1");
    presence.leave("nowhere", "ann", "a2");
    t.match(await counts("r"), { users: 2, sessions: 2 });
    t.match(await counts("nowhere"), { users: 0, sessions: 0 });
    t.strictSame((await page("nowhere")).members, []);
  });

  t.test(`${name}: counts alone name nobody`, async (t) => {
    const { presence, counts } = await start(t);
    presence.enter("r", "ann", "a1");
    t.match(await counts("r"), { users: 1, sessions: 1, members: [], next: "" });
  });

  t.test(`${name}: a user who goes is there, without sessions, until the grace is over`, async (t) => {
    const { presence, page } = await start(t, { graceMs: never });
    presence.enter("r", "ann", "a1");
    presence.leave("r", "ann", "a1");
    t.match(await page("r"), { users: 1, sessions: 0, members: [{ user: "ann", sessions: 0 }] });
  });

  t.test(`${name}: a user who goes and stays away is gone`, async (t) => {
    const { presence, counts } = await start(t);
    presence.enter("r", "ann", "a1");
    presence.leave("r", "ann", "a1");
    await until(async () => (await counts("r")).users === 0, "ann to be gone");
  });

  t.test(`${name}: whoever stays is on exactly one page, while others come and go`, async (t) => {
    const { presence, counts, page } = await start(t);
    const stay = Array.from({ length: 50 }, (_, i) => `stays-${i}`);
    const go = Array.from({ length: 200 }, (_, i) => `goes-${i}`);
    for (let i = 0; i < 200; i++) {
      if (i % 4 === 0) presence.enter("r", stay[i / 4]!, "s");
      presence.enter("r", go[i]!, "s");
    }
    const seen: string[] = [];
    let after = "";
    for (let pages = 0; pages === 0 || after !== ""; pages++) {
      t.ok(pages < 100, "it comes to an end");
      const answer = await page("r", { after, limit: 7 });
      t.ok(answer.members.length <= 7);
      seen.push(...answer.members.map(({ user }) => user));
      after = answer.next;
      // Half of the leaving users are gone before the next page, and others join.
      const gone = go.splice(0, 20);
      const before = (await counts("r")).users;
      for (const user of gone) presence.leave("r", user, "s");
      if (gone.length > 0) await until(async () => (await counts("r")).users <= before - gone.length, "some to be gone");
      presence.enter("r", `comes-${pages}`, "s");
    }
    for (const user of stay) t.equal(seen.filter((one) => one === user).length, 1, user);
  });

  t.test(`${name}: pages hold no more bytes than were asked for, but one member in any case`, async (t) => {
    const { presence, page } = await start(t);
    const users = Array.from({ length: 10 }, (_, i) => `${"ü".repeat(50)}${i}`);
    for (const user of users) presence.enter("r", user, "s");
    const three = await page("r", { bytesMax: 3 * 111, bytesEach: 10 });
    t.equal(three.members.length, 3);
    const one = await page("r", { after: three.next, bytesMax: 1 });
    t.equal(one.members.length, 1);
    const rest = await page("r", { after: one.next });
    t.equal(rest.next, "");
    t.strictSame([...three.members, ...one.members, ...rest.members].map(({ user }) => user).sort(), users.sort());
  });

  t.test(`${name}: what is no beginning of a page is refused`, async (t) => {
    const { presence } = await start(t);
    presence.enter("r", "ann", "a1");
    for (const after of ["nonsense", "-1", "1e3", " "]) {
      const answer = await asked((done) => presence.members("r", { ...all, after }, done));
      t.strictSame(answer, { error: "bad_request" }, JSON.stringify(after));
    }
  });

  // --------------------------------------------------------------------------------- what is told of it

  t.test(`${name}: changes of followed rooms are told together, each version one more than the last`, async (t) => {
    const { presence, changes, told, counts } = await start(t);
    presence.follow("r");
    const { version } = await counts("r");
    for (const user of ["ann", "bob", "eve"]) presence.enter("r", user, `${user}1`);
    presence.enter("r", "ann", "ann2");
    presence.enter("unfollowed", "ann", "ann3");
    await told(1);
    t.match(changes[0], { room: "r", version: version + 1, users: 3, sessions: 4, countsOnly: false, left: [] });
    t.strictSame([...changes[0]!.joined].sort(), ["ann", "bob", "eve"]);
    presence.leave("r", "bob", "bob1");
    presence.leave("r", "ann", "ann2");
    await told(2);
    t.match(changes[1], { room: "r", version: version + 2, users: 2, sessions: 2, countsOnly: false, joined: [], left: ["bob"] });
    t.equal((await counts("r")).version, version + 2);
    presence.unfollow("r");
    presence.enter("r", "zoe", "z1");
    presence.follow("other");
    presence.enter("other", "ann", "a1");
    await told(3);
    t.strictSame(changes.slice(2).map(({ room }) => room), ["other"], "nothing of what is not followed any more");
  });

  t.test(`${name}: what was missed between unfollow and follow shows in the version`, async (t) => {
    const { presence, changes, told, counts } = await start(t);
    presence.enter("r", "ann", "a1");
    presence.follow("r");
    presence.enter("r", "bob", "b1");
    await told(1);
    presence.unfollow("r");
    presence.enter("r", "eve", "e1");
    presence.follow("r");
    const { version } = await counts("r");
    presence.enter("r", "zoe", "z1");
    await told(2);
    t.ok(changes[1]!.version > changes[0]!.version + 1);
    t.equal(changes[1]!.version, version + 1);
  });

  t.test(`${name}: a room that was empty for a while does not count anew`, async (t) => {
    const { presence, changes, told, counts } = await start(t);
    presence.follow("r");
    presence.enter("r", "ann", "a1");
    await told(1);
    presence.unfollow("r");
    presence.leave("r", "ann", "a1");
    await until(async () => (await counts("r")).users === 0, "the room to be empty");
    presence.follow("r");
    presence.enter("r", "ann", "a1");
    await told(2);
    t.ok(changes[1]!.version > changes[0]!.version);
  });

  t.test(`${name}: a user who goes and is back within the grace has not been away`, async (t) => {
    const { presence, changes, marker } = await start(t, { graceMs: never });
    presence.follow("r");
    presence.enter("r", "ann", "a1");
    await marker();
    changes.length = 0;
    presence.leave("r", "ann", "a1");
    presence.enter("r", "ann", "a2");
    presence.leave("r", "marker", "m");
    presence.enter("r", "bob", "b1");
    await until(() => changes.length > 0, "a change");
    t.strictSame(changes.map(({ joined, left }) => ({ joined, left })), [{ joined: ["bob"], left: [] }]);
  });

  t.test(`${name}: who comes and goes before it is told is not told, unless somebody has seen it`, async (t) => {
    const { presence, changes, counts } = await start(t, { intervalMs: 300 });
    presence.follow("r");
    presence.enter("r", "brief", "s");
    presence.leave("r", "brief", "s");
    await until(() => presence.usage().members === 0, "it to be gone");
    presence.enter("r", "ann", "a1");
    await until(() => changes.length > 0, "a change");
    t.strictSame(changes.map(({ joined, left }) => ({ joined, left })), [{ joined: ["ann"], left: [] }]);
    presence.enter("r", "seen", "s");
    await counts("r");
    presence.leave("r", "seen", "s");
    await until(() => changes.length > 1 && presence.usage().members === 1, "it to be gone");
    await until(() => changes.some(({ left }) => left.includes("seen")), "what was seen to be taken back");
  });

  t.test(`${name}: pages and changes as sets come to what the room is`, async (t) => {
    const { presence, changes, page } = await start(t, { graceMs: 1, intervalMs: 20 });
    presence.follow("r");
    const here = new Set<string>();
    let told = 0;
    const apply = () => {
      for (const { joined, left } of changes.slice(told)) {
        for (const user of joined) here.add(user);
        for (const user of left) here.delete(user);
      }
      told = changes.length;
    };
    const random = randomFrom(7);
    let after = "";
    let isComplete = false;
    for (let step = 0; step < 400; step++) {
      const user = `u${random(20)}`;
      if (random(2) === 0) presence.enter("r", user, "s");
      else presence.leave("r", user, "s");
      if (step % 3 === 0) await new Promise((resolve) => setTimeout(resolve, random(3)));
      apply();
      if (isComplete || step < 50) continue;
      const answer = await page("r", { after, limit: 3 });
      for (const member of answer.members) here.add(member.user);
      after = answer.next;
      isComplete = after === "";
    }
    t.ok(isComplete);
    presence.enter("r", "last", "s");
    await until(() => (apply(), here.has("last")), "everything to be told");
    await until(async () => {
      apply();
      const { members } = await page("r");
      return members.length === here.size && members.every(({ user }) => here.has(user));
    }, "the sets to be the same");
  });

  t.test(`${name}: with too many users, or too many changes at once, only the counts are told`, async (t) => {
    const { presence, changes, told } = await start(t, { namedUsersMax: 30, namedChangesMax: 10 });
    presence.follow("r");
    for (let i = 0; i < 10; i++) presence.enter("r", `u${i}`, "s");
    await told(1);
    t.match(changes[0], { users: 10, countsOnly: false });
    for (let i = 10; i < 21; i++) presence.enter("r", `u${i}`, "s");
    await told(2);
    t.match(changes[1], { users: 21, countsOnly: true, joined: [], left: [] });
    for (let i = 21; i < 30; i++) presence.enter("r", `u${i}`, "s");
    await told(3);
    t.match(changes[2], { users: 30, countsOnly: false });
    presence.enter("r", "u30", "s");
    await told(4);
    t.match(changes[3], { users: 31, countsOnly: true, joined: [], left: [] });
  });

  t.test(`${name}: 5,000 members are read in pages, and gone again`, async (t) => {
    const { presence, page } = await start(t);
    for (let i = 0; i < 5_000; i++) presence.enter("r", `user-${i}`, "s");
    const seen = new Set<string>();
    let after = "";
    do {
      const answer = await page("r", { after, limit: 256 });
      t.equal(answer.users, 5_000);
      for (const { user } of answer.members) seen.add(user);
      after = answer.next;
    } while (after !== "");
    t.equal(seen.size, 5_000);
    t.match(presence.usage(), { rooms: 1, members: 5_000 });
    for (let i = 0; i < 5_000; i++) presence.leave("r", `user-${i}`, "s");
    await until(() => presence.usage().members === 0, "all to be gone");
    t.equal(presence.usage().rooms, 0);
  });

  // --------------------------------------------------------------------------------- who is there at all

  t.test(`${name}: a user is online from the first session to the end of the last, then it is known since when not`, async (t) => {
    const { presence, clock, statuses } = await start(t);
    const status = async (user: string) => (await statusesOf(presence, [user]))[0];
    t.strictSame(await status("ann"), { user: "ann", online: false, lastSeen: 0 });
    presence.online("ann", "a1");
    presence.online("ann", "a1");
    presence.online("ann", "a2");
    t.strictSame(await status("ann"), { user: "ann", online: true, lastSeen: 0 });
    presence.offline("ann", "a1");
    presence.offline("ann", "a1");
    presence.offline("ann", "unknown");
    t.strictSame(await status("ann"), { user: "ann", online: true, lastSeen: 0 });
    t.equal(presence.usage().users, 1);
    clock.time += 1_000;
    presence.offline("ann", "a2");
    await until(async () => !(await status("ann"))!.online, "ann to be offline");
    t.strictSame(await status("ann"), { user: "ann", online: false, lastSeen: clock.time });
    t.equal(presence.usage().users, 0);
    t.strictSame(statuses, [], "nobody watches");
  });

  t.test(`${name}: watched users are told of when they come and when they are gone, others never`, async (t) => {
    const { presence, clock, statuses } = await start(t);
    presence.watch("ann");
    presence.watch("ann");
    presence.online("bob", "b1");
    presence.online("ann", "a1");
    presence.online("ann", "a2");
    await until(() => statuses.length > 0, "ann");
    presence.offline("ann", "a1");
    presence.offline("ann", "a2");
    presence.offline("bob", "b1");
    await until(() => statuses.length > 1, "ann to go");
    t.strictSame(statuses, [{ user: "ann", online: true, lastSeen: 0 }, { user: "ann", online: false, lastSeen: clock.time }]);
    presence.unwatch("ann");
    presence.online("ann", "a1");
    await until(() => statuses.length > 2, "one still watches");
    presence.unwatch("ann");
    presence.unwatch("ann");
    presence.offline("ann", "a1");
    presence.watch("eve");
    presence.online("eve", "e1");
    await until(() => statuses.length > 3, "eve");
    t.strictSame(statuses.slice(3).map(({ user }) => user), ["eve"], "nobody watches ann any more");
  });

  t.test(`${name}: a user who is back within the grace was online all the time`, async (t) => {
    const { presence, statuses } = await start(t, { graceMs: never });
    presence.watch("ann");
    presence.watch("bob");
    presence.online("ann", "a1");
    presence.offline("ann", "a1");
    t.match(await statusesOf(presence, ["ann"]), [{ user: "ann", online: true, lastSeen: 0 }]);
    presence.online("ann", "a2");
    presence.online("bob", "b1");
    await until(() => statuses.some(({ user }) => user === "bob"), "bob");
    // The answer to the watch may already have included ann.
    t.strictSame(statuses.filter(({ user }) => user !== "ann").map(({ user, online }) => ({ user, online })), [{ user: "bob", online: true }]);
    t.notOk(statuses.some(({ online }) => !online), "nobody was away");
    t.ok(statuses.filter(({ user }) => user === "ann").length <= 1);
  });

  t.test(`${name}: statuses come in the order in which they were asked for`, async (t) => {
    const { presence } = await start(t);
    for (const user of ["c", "a", "b"]) presence.online(user, "s");
    t.strictSame((await statusesOf(presence, ["b", "x", "c", "a"])).map(({ user }) => user), ["b", "x", "c", "a"]);
  });

  t.test(`${name}: last seen is known for its time, and of so many users`, async (t) => {
    const { presence, clock } = await start(t, { lastSeenTtlMs: 1_000, lastSeenMax: 64 });
    const gone = async (user: string) => {
      presence.online(user, "s");
      presence.offline(user, "s");
      await until(async () => !(await statusesOf(presence, [user]))[0]!.online, `${user} to be offline`);
    };
    await gone("ann");
    clock.time += 999;
    t.match(await statusesOf(presence, ["ann"]), [{ lastSeen: 1_000_000 }]);
    clock.time += 1;
    t.match(await statusesOf(presence, ["ann"]), [{ lastSeen: 0 }]);
    if (!bounded) return;
    for (let i = 0; i < 65; i++) await gone(`u${i}`);
    const statuses = await statusesOf(presence, Array.from({ length: 65 }, (_, i) => `u${i}`));
    t.equal(statuses.filter(({ lastSeen }) => lastSeen > 0).length, 64);
    t.equal(statuses[0]!.lastSeen, 0, "the longest gone was forgotten");
  });
}

const all = { after: "", limit: 1_000_000, bytesMax: 1e9, bytesEach: 0 };

function promised(presence: Presence) {
  const page = async (room: string, query: Partial<typeof all> = {}): Promise<RoomPresence> =>
    value(await asked((done) => presence.members(room, { ...all, ...query }, done)));
  return { page, counts: (room: string) => page(room, { limit: 0 }) };
}

async function statusesOf(presence: Presence, users: string[]): Promise<readonly Status[]> {
  return value(await asked((done) => presence.statuses(users, done)));
}

function sorted(members: readonly RoomMember[]): RoomMember[] {
  return [...members].sort((a, b) => (a.user < b.user ? -1 : 1));
}
