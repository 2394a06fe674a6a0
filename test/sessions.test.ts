import { cpSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { mock } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import t, { type Test } from "tap";
import { value } from "../src/contracts/answers.ts";
import { Assignments } from "../src/sessions/assignments.ts";
import { createDiskSessions, linesOf, type DiskSessionsOptions } from "../src/sessions/disk.ts";
import { createMemorySessions } from "../src/sessions/memory.ts";
import { createRedisSessions } from "../src/sessions/redis/redis.ts";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { freshPrefix, passInRedis, startRedis } from "./support/redis.ts";
import { promised, record, sessionsContract, sharedSessionsContract, type MakeSessions } from "../src/contracts/sessions.ts";
import { until } from "./support/until.ts";

const quiet = { info() {}, warn() {}, error() {} };
const implementations: { name: string; make: MakeSessions }[] = [
  { name: "memory", make: (options, clock) => createMemorySessions({ ...options, clock: () => clock.time }) },
  {
    name: "disk",
    make: (options, clock, t) =>
      createDiskSessions({ ...options, clock: () => clock.time, folder: t.testdir(), sync: true, uncommittedBytesMax: 1024 * 1024, log: quiet }),
  },
];

for (const { name, make } of implementations) sessionsContract(t, name, make);

// ------------------------------------------------------------------------------- the disk, opened again

const day = 86_400_000;

/** Stores of one folder, one after the other or over copies of it as a crash leaves them. */
function folderOf(t: Test) {
  const root = t.testdir();
  const clock = { time: 1_000_000_000_000 };
  let copies = 0;
  const folder = join(root, "sessions");
  const start = async (at = folder, options: Partial<DiskSessionsOptions> = {}) => {
    const store = await createDiskSessions({
      ttlMs: 60_000, sessionsMax: 10_000, cursorsMax: 10_000, clock: () => clock.time, folder: at, sync: true,
      uncommittedBytesMax: 64 * 1024 * 1024, log: quiet, ...options,
    });
    t.teardown(() => store.stop());
    const { take, cursor, signedOutAt, assigned } = promised(store);
    return {
      store,
      take: async (id: string) => value(await take(id)),
      cursor: async (device: string) => value(await cursor("ann", device)),
      signedOutAt: async (user: string) => value(await signedOutAt(user)),
      assigned: async (user: string) => value(await assigned(user)),
      committed: () => until(() => store.disk().uncommittedBytes === 0, "everything to be on the disk"),
    };
  };
  /** What there is on the disk at this moment. */
  const crashed = () => {
    const copy = join(root, `copy-${++copies}`);
    cpSync(folder, copy, { recursive: true });
    return copy;
  };
  return { clock, folder, start, crashed };
}

type Started = Awaited<ReturnType<ReturnType<typeof folderOf>["start"]>>;

/** One of everything, as `holds` expects it. */
function fill({ store }: Started): void {
  for (const id of ["kept", "changed", "ended"]) store.put(record(id));
  store.put({ ...record("changed"), rooms: [] });
  store.end("ended", 0);
  store.put({ ...record("bob"), tenant: "", user: "bob" });
  store.endAll("", "bob");
  for (const seq of [5, 9, 7]) store.acknowledge("ann", "phone", { epoch: "a", seq });
  store.acknowledge("ann", "laptop", { epoch: "a", seq: 30 });
  store.acknowledge("ann", "laptop", { epoch: "b", seq: 2 });
  for (const at of [500, 400]) store.signOut("out", at);
  for (const room of ["chat:a", "chat:b", "chat:c"]) store.assign("ann", room, 3, () => {});
  store.unassign("ann", "chat:b", () => {});
}

async function holds(t: Test, { take, cursor, signedOutAt, assigned }: Started, when: string): Promise<void> {
  t.same(await take("kept"), record("kept"), when);
  t.same(await take("changed"), { ...record("changed"), rooms: [] }, when);
  for (const id of ["ended", "bob"]) t.equal(await take(id), null, `${id} has ended, ${when}`);
  t.same(await cursor("phone"), { epoch: "a", seq: 9 }, when);
  t.same(await cursor("laptop"), { epoch: "b", seq: 2 }, when);
  t.equal(await signedOutAt("out"), 500, when);
  t.equal(await signedOutAt("nobody"), 0, when);
  t.same(await assigned("ann"), ["chat:a", "chat:c"], when);
}

t.test("disk: sessions, what devices have read and sign-outs are there after an end and after a crash, as often as one likes", async (t) => {
  const { start, crashed, clock } = folderOf(t);
  const first = await start();
  fill(first);
  await first.committed();
  await holds(t, await start(crashed()), "after a crash");
  await first.store.stop();
  const second = await start();
  await holds(t, second, "after an end");
  second.store.acknowledge("ann", "phone", { epoch: "a", seq: 10 });
  second.store.end("kept", 0);
  await second.store.stop();
  clock.time += 29 * day;
  const third = await start();
  t.same(await third.cursor("phone"), { epoch: "a", seq: 10 });
  t.equal(await third.take("kept"), null);
  t.equal(await third.take("changed"), null, "its time was over meanwhile");
  t.equal(await third.signedOutAt("out"), 500);
  await third.store.stop();
  clock.time += day;
  t.equal(await (await start()).cursor("phone"), null, "thirty days after it was moved");
});

t.test("disk: sessions live for their time after the node was last alive, not after they were written", async (t) => {
  const { start, clock } = folderOf(t);
  const first = await start();
  first.store.put(record("s1"));
  clock.time += 50_000;
  first.store.keep("s1", 0);
  clock.time += 50_000;
  await first.store.stop();
  clock.time += 59_999;
  const second = await start();
  t.ok(await second.take("s1"));
  clock.time += 1;
  t.equal(await second.take("s1"), null);
});

t.test("disk: a sign-out for which there was no room counts for everybody after it is opened again, too", async (t) => {
  const { start } = folderOf(t);
  const options = { cursorsMax: 2 };
  const counts = async ({ signedOutAt }: Started, when: string) => {
    const times = await Promise.all(["a", "anybody", "b", "c"].map(signedOutAt));
    t.same(times, [100, 100, 200, 300], when);
  };
  const first = await start(undefined, options);
  for (const [i, user] of ["a", "b", "c"].entries()) first.store.signOut(user, 100 * (i + 1));
  await first.store.stop();
  // More than may wait at once: it is written anew at the end.
  const second = await start(undefined, { ...options, uncommittedBytesMax: 1000 });
  await counts(second, "as it was read");
  for (let i = 0; i < 20; i++) second.store.put(record(`s${i}`));
  await second.store.stop();
  const third = await start(undefined, options);
  t.same(await Promise.all(Array.from({ length: 20 }, (_, i) => third.take(`s${i}`))), Array.from({ length: 20 }, (_, i) => record(`s${i}`)));
  await counts(third, "as it was written anew");
});

t.test("disk: what is written anew is what there is, whatever changes meanwhile and whenever it crashes", async (t) => {
  const { start, crashed, folder } = folderOf(t);
  mock.timers.enable({ apis: ["setInterval"] });
  t.teardown(() => mock.timers.reset());
  const first = await start(undefined, { uncommittedBytesMax: 2 * 1024 * 1024 });
  fill(first);
  const large = (i: number) => ({ ...record(`s${i}`), device: "x".repeat(400) });
  for (let i = 0; i < 5000; i++) {
    first.store.put(large(i));
    first.store.acknowledge("ann", `device ${i}`, { epoch: "a", seq: 1 });
    if (i % 1000 === 0) await first.committed();
  }
  const before = readdirSync(folder);
  while (first.store.disk().bytes <= 4 * 1024 * 1024) {
    first.store.put({ ...record("s0"), device: "x".repeat(60_000) });
    await first.committed();
  }
  mock.timers.tick(5000);
  // It writes a thousand lines in a turn: by now what devices have read, and sessions are to come.
  const images: string[] = [];
  for (let turn = 0; turn < 3; turn++) {
    await nextTurn();
    images.push(crashed());
  }
  for (let i = 0; i < 5000; i++) {
    if (i % 10 === 0) continue;
    first.store.end(`s${i}`, 0);
    first.store.acknowledge("ann", `device ${i}`, { epoch: "a", seq: 2 });
    first.store.signOut(`user ${i}`, 700 + i);
  }
  images.push(crashed());
  await until(() => !readdirSync(folder).some((name) => before.includes(name)), "the old files to go");
  await first.committed();
  images.push(crashed());
  await first.store.stop();
  for (const image of images) await holds(t, await start(image), "whenever it crashed");
  for (const at of [images.at(-1)!, folder]) {
    const again = await start(at);
    const wrong: string[] = [];
    for (let i = 0; i < 5000; i++) {
      const changed = i % 10 !== 0;
      if (((await again.take(`s${i}`)) === null) !== changed) wrong.push(`session ${i}`);
      if ((await again.cursor(`device ${i}`))?.seq !== (changed ? 2 : 1)) wrong.push(`device ${i}`);
      if ((await again.signedOutAt(`user ${i}`)) !== (changed ? 700 + i : 0)) wrong.push(`user ${i}`);
    }
    t.same(wrong, []);
  }
});

// ------------------------------------------------------------------------------- Redis

const server = await startRedis(t);
const onRedis: MakeSessions = async ({ ttlMs }, clock, t) => {
  const prefix = freshPrefix();
  const redis = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 5_000, log: quiet });
  t.teardown(() => redis.close());
  const sessions = createRedisSessions({ redis, prefix, node: "node-1", ttlMs, log: quiet, onForgotten() {}, onTaken() {} });
  clock.slackMs = 20_000;
  clock.pass = async (ms) => {
    await until(() => sessions.writes().waiting === 0, "everything to be sent");
    await redis.run("ping");
    await passInRedis(server, prefix, ms);
  };
  return sessions;
};
sessionsContract(t, "redis", onRedis, false);
sharedSessionsContract(t, "redis", async (nodes, t) => {
  const prefix = freshPrefix();
  return Promise.all(nodes.map(async (node) => {
    const redis = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 5_000, log: quiet });
    const lost: string[] = [];
    const sessions = createRedisSessions({ redis, prefix, node, ttlMs: 60_000, log: quiet, onForgotten() {}, onTaken: (id) => void lost.push(id) });
    t.teardown(async () => {
      await sessions.stop();
      await redis.close();
    });
    const settled = async () => {
      await until(() => sessions.writes().waiting === 0, "everything to be sent");
      await redis.run("ping");
    };
    return { sessions, lost, settled };
  }));
});

t.test("a room that is taken from a user while the journal is rewritten does not stand behind its removal", (t) => {
  const assignments = new Assignments(10);
  for (const room of ["a", "b"]) assignments.add("ann", room, 10);
  const empty = { ids: () => [], keys: () => [], all: () => [], floor: 0 };
  const lines = linesOf({ table: empty, cursors: empty, signOuts: empty, assignments } as never, () => 0);
  let line = lines.next().value as unknown[];
  while (line[0] !== "assign") line = lines.next().value as unknown[];
  t.same(line, ["assign", "ann", "a"]);
  assignments.remove("ann", "b");
  t.same([...lines].filter(([kind]) => kind === "assign"), []);
  t.end();
});
