/** Nodes that lose time: one stands still until the others take it for dead, and goes on; the clock of one steps. */
import t from "tap";
import { inTime, patientHeartbeat, startCluster } from "./support/cluster.ts";
import { resumeOf, words, written } from "./support/resume.ts";
import { open, type TestSession } from "./support/session.ts";
import { until } from "./support/until.ts";

const numbered = (count: number) => Array.from({ length: count }, (_, i) => String(i));
const hourMs = 3_600_000;
const cluster = await startCluster(t, { size: 2, obeys: true, flags: patientHeartbeat });
const [first, other] = [cluster.nodes[0]!, cluster.nodes[1]!];

t.test("a clock that steps costs no socket, and no node takes another for dead", async (t) => {
  const room = "log:clock";
  const [here, there] = [await open(first), await open(other)];
  for (const session of [here, there]) await session.join(room);
  const hours = (from: number) => Math.round((from - Date.now()) / hourMs);
  let published = 0;
  for (const off of [1, -1, 0]) {
    await first.orders!.setClock(off * hourMs);
    const { pong } = await here.request({ ping: {} });
    t.equal(hours(pong!.serverTime ?? 0), off, `the reactor's clock is ${off} h off`);
    const before = await lastBeat();
    await here.publish(room, String(published++));
    await there.publish(room, String(published++));
    for (const session of [here, there]) await session.waitFor(() => session.publications.length >= published, "both");
    t.equal(hours(there.publications.at(-2)!.time), off, "and the hub's");
    await until(async () => (await lastBeat()) !== before, "another heartbeat of it");
    t.same(await cluster.seenByOthers(0), ["up"]);
    t.same(await cluster.seenByOthers(1), ["up"]);
  }
  for (const session of [here, there]) {
    t.same(session.publications.map(({ payload }) => payload.toString()), numbered(published), "everything once, in order");
    t.ok((await session.request({ ping: {} })).pong, "on the socket it had");
    await session.bye();
  }
});

/** What the first node has said of itself last. */
function lastBeat(): Promise<string | null> {
  return cluster.redis.client.hget("flux:gateway:nodes", "node-0");
}

t.test("sessions that resumed elsewhere stay there, those that waited miss nothing, and the node is one of them again", async (t) => {
  const room = "log:still";
  const still = first;
  const bob = await open(other);
  await bob.join(room);
  const publish = async (from: number, to: number) => {
    for (let n = from; n < to; n++) await bob.publish(room, JSON.stringify(String(n)));
  };
  const who = async (session: TestSession) => {
    const { presence } = await session.request({ presence: { room } });
    return presence?.members?.map(({ user, sessions }) => `${user} ${sessions}`).sort().join();
  };
  const are = (...sessions: TestSession[]) => sessions.map(({ ready }) => `${ready!.user} 1`).sort().join();
  const has = (session: TestSession, count: number) => session.waitFor(() => session.publications.length >= count, `${count} publications`);

  // Both are on the node that will stand still: one resumes elsewhere, the other notices nothing and waits.
  const mover = await open(still);
  const waiter = await open(still);
  for (const session of [mover, waiter]) await session.join(room);
  await publish(0, 5);
  for (const session of [mover, waiter, bob]) await has(session, 5);
  await until(async () => (await who(bob)) === are(mover, waiter, bob), "all to be there");
  await written(cluster.redis, mover, room);

  process.kill(still.pid, "SIGSTOP");
  t.teardown(() => still.ended === undefined && process.kill(still.pid, "SIGCONT"));
  await inTime(cluster, "those of a node that is dead to go", (limitMs) => until(async () => (await who(bob)) === are(bob), "them to be gone", limitMs));
  t.same(await cluster.seenByOthers(0), ["down"]);
  const { epoch, seq } = mover.publications.at(-1)!;
  const moved = await open(other, { hello: resumeOf(mover, [{ room, position: { epoch, seq } }]) });
  t.match(moved.ready, { resumed: true, session: mover.ready!.session, user: mover.ready!.user });
  await publish(5, 10);
  await has(moved, 5);
  t.equal(await who(bob), are(mover, bob), "who has moved is there again");

  process.kill(still.pid, "SIGCONT");
  t.match(await mover.closed(), { code: 3010 }, "the socket that was left behind is closed: its session is elsewhere");
  await until(async () => (await cluster.seenByOthers(0)).join() === "up", "it to be taken for living");
  await inTime(cluster, "everybody to be there", (limitMs) => until(async () => (await who(waiter)) === are(mover, waiter, bob), "everybody", limitMs));
  t.equal(await who(bob), await who(waiter), "at both nodes");
  await publish(10, 15);
  await has(waiter, 15);
  await has(moved, 10);
  await has(bob, 15);
  t.same(words(waiter.publications), numbered(15), "who waited got everything once, in order");
  t.same(words(moved.publications), numbered(15).slice(5), "who moved was given nothing again");
  t.same(words(bob.publications), numbered(15));
  const seen = words(mover.publications);
  t.same(seen, numbered(seen.length), "the socket that was left behind had nothing twice either");
  const fresh = await open(still);
  await fresh.join(room);
  await fresh.publish(room, '"15"');
  for (const session of [waiter, bob]) await has(session, 16);
});
