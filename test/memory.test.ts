/** Memory: what a container lets a node use, how its threads share it, and what happens near the limit. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import t from "tap";
import type { ReadText } from "../src/platform/machine.ts";
import { ConfigError, resolveConfig } from "../src/config/config.ts";
import { memoryLimit, memoryUsed, processMemoryUsed, youngFlag } from "../src/platform/heap.ts";
import { lookInMs, MemoryGuard } from "../src/node/memoryguard.ts";
import { neededBytes, planMemory, reactorsWithin, ringBytesWithin } from "../src/platform/memoryplan.ts";
import { Counters, createCounters } from "../src/link/counters.ts";
import { PagesAsked, QueueBudget } from "../src/reactor/rooms/queuebudget.ts";
import { createSession, ReactorSessions } from "../src/reactor/session/session.ts";
import type { Audience, Socket } from "../src/reactor/transport/socket.ts";
import { NodeState } from "../src/link/threads.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess, sumOf } from "./support/nodeprocess.ts";
import { openRawSocket, opcodes } from "./support/rawsocket.ts";
import { openTcp } from "./support/rawtcp.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";
import { encodeBinary, encodeText } from "./support/wire.ts";

const mib = 2 ** 20;
const machine = 8192 * mib;
const bin = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

t.test("where no file can be opened and Node cannot say what it uses, it is what it was", async (t) => {
  const nothing: ReadText = () => undefined;
  const known = processMemoryUsed();
  const { rss } = process.memoryUsage;
  t.teardown(() => (process.memoryUsage.rss = rss));
  process.memoryUsage.rss = () => {
    throw Object.assign(new Error("EMFILE: too many open files, uv_resident_set_memory"), { code: "EMFILE" });
  };
  t.equal(processMemoryUsed(nothing), known);
});

/** A machine whose files are these. */
const files = (contents: Record<string, string>): ReadText => (path) => contents[path];

t.test("without a limit it is the machine's memory, and the process's own use", async (t) => {
  t.equal(memoryLimit(files({}), machine), machine);
  t.ok(memoryUsed(files({}), machine) > mib);
  t.equal(memoryLimit(files({ "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "max\n" }), machine), machine);
});

t.test("a version 2 limit is found, the tightest of those around the process, and used without the file cache", async (t) => {
  const read = files({
    "/proc/self/cgroup": "0::/system.slice/flux.service\n",
    "/sys/fs/cgroup/system.slice/flux.service/memory.max": "max\n",
    "/sys/fs/cgroup/system.slice/memory.max": `${512 * mib}\n`,
    "/sys/fs/cgroup/system.slice/memory.current": `${300 * mib}\n`,
    "/sys/fs/cgroup/system.slice/memory.stat": `anon 1\nfile 2\ninactive_file ${100 * mib}\nactive_file 5\n`,
    "/sys/fs/cgroup/memory.max": `${1024 * mib}\n`,
  });
  t.equal(memoryLimit(read, machine), 512 * mib);
  t.equal(memoryUsed(read, machine), 200 * mib);
});

t.test("a version 1 limit is found where the container's own group is mounted as the root", async (t) => {
  const read = files({
    "/proc/self/cgroup": "4:memory:/docker/abc\n1:cpu:/\n0::/\n",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": `${256 * mib}\n`,
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": `${90 * mib}\n`,
    "/sys/fs/cgroup/memory/memory.stat": `inactive_file 1\nhierarchical_memory_limit 1\ntotal_inactive_file ${30 * mib}\ntotal_active_file 7\n`,
  });
  t.equal(memoryLimit(read, machine), 256 * mib);
  t.equal(memoryUsed(read, machine), 60 * mib);
});

t.test("version 1's number for no limit is none", async (t) => {
  const read = files({
    "/proc/self/cgroup": "4:memory:/\n",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
  });
  t.equal(memoryLimit(read, machine), machine);
  t.ok(memoryUsed(read, machine) > mib, "nor is what is used the group's");
});

t.test("pages of files that the kernel can read again are not used memory, those of code that runs are", async (t) => {
  const read = files({
    "/proc/self/cgroup": "0::/\n",
    "/sys/fs/cgroup/memory.max": `${256 * mib}\n`,
    "/sys/fs/cgroup/memory.current": `${200 * mib}\n`,
    "/sys/fs/cgroup/memory.stat": `inactive_file ${10 * mib}\nactive_file ${56 * mib}\n`,
  });
  t.equal(memoryUsed(read, machine), 150 * mib);
  const status = (file: number) => files({ "/proc/self/status": `RssAnon:\t   70 kB\nRssFile:\t${file} kB\nRssShmem:\t  30 kB\n` });
  t.equal(processMemoryUsed(status(48 * 1024)), 100 * 1024 + 16 * mib);
  t.equal(processMemoryUsed(status(1024)), 100 * 1024 + mib);
});

t.test("whatever the limit, what is planned is within it", async (t) => {
  const native = (40 - 20) * mib;
  const nativeReactor = (22 - 14) * mib;
  for (const limitMb of [96, 128, 160, 192, 256, 512, 1024, 4096, 65_536]) {
    const memoryLimitBytes = limitMb * mib;
    for (const cores of [1, 2, 4, 64]) {
      const ringBytes = ringBytesWithin(memoryLimitBytes, 65_536);
      const reactors = reactorsWithin(memoryLimitBytes, ringBytes, cores);
      const plan = planMemory({ memoryLimitBytes, reactors, ringBytes });
      const heaps = (plan.mainHeapMb + reactors * plan.reactorHeapMb) * mib;
      const rest = plan.ringsBytes + plan.historyBytes + plan.tailsBytes + reactors * plan.queuesBytes + plan.reserveBytes;
      const sum = native + reactors * nativeReactor + heaps + rest;
      t.ok(sum <= memoryLimitBytes + mib, `${limitMb} MiB, ${reactors} reactors: ${sum / mib} MiB`);
      t.ok(plan.mainHeapMb >= 20 && plan.reactorHeapMb >= 14 && plan.queuesBytes >= 4 * mib, "and enough to live");
    }
  }
});

t.test("a limit too small for as many reactors as there are cores lowers their number", async (t) => {
  t.equal(reactorsWithin(96 * mib, mib, 2), 1);
  t.equal(reactorsWithin(128 * mib, mib, 8), 2);
  t.equal(reactorsWithin(8192 * mib, 4 * mib, 8), 8);
  t.equal(reactorsWithin(mib, mib, 8), 1);
  const cores = resolveConfig().config.reactors;
  const { config } = resolveConfig({ flags: { memoryLimitBytes: "96MiB" } });
  t.match(config, { reactors: 1, ringBytes: mib, overflowBytesMax: mib });
  t.match(resolveConfig({ flags: { memoryLimitBytes: "4GiB" } }).config, { reactors: cores, ringBytes: 4 * mib, overflowBytesMax: 16 * mib });
  t.equal(ringBytesWithin(96 * mib, 100_000), 2 * mib, "a ring has room for 16 frames");
});

t.test("a limit too small for the reactors asked for is an error that names both numbers", async (t) => {
  const problem = (flags: Record<string, string>) => {
    try {
      resolveConfig({ flags });
      return "none";
    } catch (error) {
      return (error as ConfigError).problems.join("\n");
    }
  };
  t.equal(neededBytes(2, mib) / mib, 116);
  t.equal(problem({ memoryLimitBytes: "96MiB", reactors: "2" }),
    "--reactors: --memory-limit-bytes of 96 MiB is less than the 116 MiB that 2 reactors need; raise the memory or lower --reactors");
  t.match(problem({ memoryLimitBytes: "32MiB" }), /^--memory-limit-bytes: .* of 32 MiB is less than the 84 MiB that one reactor needs; raise the memory$/);
  t.equal(problem({ memoryLimitBytes: "96MiB", reactors: "1" }), "none");
});

t.test("node-flags says what the main thread is to be started with, and Node takes it", async (t) => {
  const flags = (args: string[], env: Record<string, string> = {}) =>
    execFileSync(bin, ["node-flags", ...args], { env: { PATH: process.env.PATH ?? "", FLUX_REACTORS: "1", ...env } }).toString();
  t.equal(flags(["--memory-limit-bytes", "600MiB"]), `${youngFlag} --max-old-space-size=275\n`);
  t.equal(flags([], { FLUX_MEMORY_LIMIT_BYTES: "1GiB" }), `${youngFlag} --max-old-space-size=487\n`);
  const own = Number(execFileSync(process.execPath, ["-p", "v8.getHeapStatistics().heap_size_limit"]).toString());
  t.equal(flags(["--memory-limit-bytes", String(2 * own)]), `${youngFlag}\n`, "no limit where V8 chooses that by itself");
  t.match(readFileSync(bin, "utf8").split("\n", 1)[0], youngFlag, "the command starts itself so");
  const limit = execFileSync(process.execPath, [...flags(["--memory-limit-bytes", "600MiB"]).trim().split(" "), "-p", "v8.getHeapStatistics().heap_size_limit"]);
  const limitMb = Number(limit.toString()) / mib;
  t.ok(limitMb >= 275 && limitMb < 375, `${limitMb} MiB with the young generation`);
});

t.test("a reactor's heap has its share of the limit", async (t) => {
  const node = await startNodeProcess(["--reactors", "1", "--memory-limit-bytes", "640MiB"]);
  t.teardown(() => node.kill());
  // Reactors look at their heaps every second.
  await until(async () => (await node.metric("flux_reactor_heap_limit_bytes")) > 0, "the reactor to say so");
  const limitMb = (await node.metric("flux_reactor_heap_limit_bytes")) / mib;
  t.ok(limitMb >= 151 && limitMb < 190, `${limitMb} MiB`);
  t.equal(await node.metric("flux_memory_limit_bytes"), 640 * mib);
});

t.test("the guard closes the door above the share and opens it five points below, and says so once", async (t) => {
  let used = 0;
  const changes: boolean[] = [];
  const guard = new MemoryGuard({ limitBytes: 1000, highPercent: 90, used: () => used, onChange: (short) => changes.push(short) });
  for (const now of [0, 900, 901, 950, 899, 851, 901, 850, 899, 900, 950, 100]) {
    used = now;
    guard.look();
  }
  t.same(changes, [true, false, true, false]);
});

t.test("the guard leaves a reserve, and has publishes refused when half of it is gone", async (t) => {
  let used = 0;
  const looks: { credit: number; tight: boolean }[] = [];
  const guard = new MemoryGuard({
    limitBytes: 100 * mib, highPercent: 90, reserveBytes: 20 * mib, used: () => used,
    onChange: () => undefined, onLook: (credit, tight) => looks.push({ credit, tight }),
  });
  for (const nowMb of [16, 79, 81, 90, 91]) {
    used = nowMb * mib;
    guard.look();
  }
  t.same(looks, [
    { credit: 4096, tight: false },
    { credit: 64, tight: false },
    { credit: 0, tight: false },
    { credit: 0, tight: false },
    { credit: 0, tight: true },
  ]);
});

t.test("a heap that is nearly full closes the door as well", async (t) => {
  let usedBytes = 10 * mib;
  const credits: number[] = [];
  const guard = new MemoryGuard({
    limitBytes: 1000 * mib, highPercent: 90, used: () => 0, heaps: () => [{ usedBytes: 0, limitBytes: 100 * mib }, { usedBytes, limitBytes: 20 * mib }],
    onChange: () => undefined, onLook: (credit) => credits.push(credit),
  });
  guard.look();
  usedBytes = 18.1 * mib;
  guard.look();
  t.equal(guard.short, true);
  usedBytes = 17.9 * mib;
  guard.look();
  t.equal(guard.short, true, "until it has some room again");
  usedBytes = 16 * mib;
  guard.look();
  t.equal(guard.short, false);
  t.same(credits.slice(0, 3), [2048, 0, 0]);
});

t.test("the guard looks more often the nearer it comes", async (t) => {
  t.same([4096, 64, 16, 1, 0, -100].map((headroomMb) => lookInMs(headroomMb * mib)), [1000, 256, 64, 20, 20, 20]);
});

t.test("between two looks no more sockets are taken than there is credit for", async (t) => {
  const state = new NodeState(NodeState.create());
  t.equal(state.takeSocket(), true, "memory has not been looked at yet");
  state.socketCredit = 2;
  t.same([state.takeSocket(), state.takeSocket(), state.takeSocket()], [true, true, false]);
  state.socketCredit = 0;
  t.equal(state.takeSocket(), false);
});

/** Sessions with so much in their queues, on sockets that only know that. */
function queues(bytes: number[]) {
  const counters = new Counters(createCounters());
  const sessions = new ReactorSessions(counters);
  const closed: number[] = [];
  const all = bytes.map((_, index) => {
    const session = createSession(null as unknown as Audience, 0, "", "");
    const close = () => {
      closed.push(index);
      session.socket = null;
    };
    session.socket = { getBufferedAmount: () => bytes[index], close } as unknown as Socket;
    sessions.add(session, 0);
    return session;
  });
  return { counters, sessions, closed, all };
}

t.test("queues of all sockets together: what is published counts until they are looked at, and the longest are cut", async (t) => {
  const { counters, sessions, closed } = queues([100, 300, 0, 200]);
  const budget = new QueueBudget(1000, sessions, counters);
  t.equal(budget.takes(400), true);
  t.equal(budget.takes(100), true, "600 wait, as the look finds, and what is published in this turn");
  budget.turn();
  t.equal(budget.takes(400), true, "what was published before has left");
  t.equal(budget.takes(200), false);
  budget.turn();
  budget.relieve();
  t.same(closed, [1], "half is left");
  t.equal(counters.get("queuesCut"), 1);
  t.equal(budget.takes(700), true);
  t.equal(budget.takesNow(1), false);
});

t.test("a queue counts with the largest message it took until it is empty: uWS keeps the memory, and 400 readers of 60 kB had the kernel kill a node of 96 MiB", async (t) => {
  const left = [10, 10, 10];
  const { counters, sessions, closed, all } = queues(left);
  const budget = new QueueBudget(1000, sessions, counters);
  for (const session of all) budget.addNow(session, 400);
  t.equal(budget.takesNow(0), false, "1200 are held");
  budget.relieve();
  t.same(closed, [0, 1], "half of what may be held");
  t.equal(budget.takes(600), true);
  budget.turn();
  left[2] = 0;
  t.equal(budget.takes(1000), true, "an empty queue holds nothing");
});

t.test("a large message leaves in fragments, to all members and in answers: in one piece uWS keeps its bytes for every socket until that closes", async (t) => {
  const node = await startNode(t, { reactors: 1 });
  const publisher = await open(node);
  await publisher.join("chat:large");
  for (const json of [false, true]) {
    const raw = await openRawSocket({ port: node.port, subprotocol: json ? "flux.v1.json" : "flux.v1.proto" });
    t.teardown(() => raw.destroy());
    const encode = json ? encodeText : encodeBinary;
    const [opcode, id] = [json ? opcodes.text : opcodes.binary, json ? 1 : 2];
    const said = (command: Parameters<typeof encode>[0]) => raw.send({ opcode, payload: encode(command) });
    await said({ id: 1, hello: { version: 1 } });
    await said({ id: 2, join: { room: "chat:large" } });
    // Answers to hello and join, in this order.
    for (let answers = 0; answers < 2; answers++) await raw.nextFrame();
    for (const size of [100, 16_000, 16_384, 16_400, 60_000]) {
      await publisher.publish("chat:large", Buffer.alloc(size, id));
      const { payload, fragments = [payload.length] } = await raw.nextFrame();
      t.equal(fragments.every((bytes) => bytes < 16_384), true, `${size}: ${fragments.join(" ")}`);
      t.equal(fragments.length, Math.ceil(payload.length / 16_376), "no more than it takes");
      const { publication } = json ? JSON.parse(payload.toString()) as { publication: { b64: string } } : { publication: { b64: "" } };
      t.ok(json ? Buffer.from(publication.b64, "base64").equals(Buffer.alloc(size, id)) : payload.includes(Buffer.alloc(size, id)), "all of it, in order");
    }
  }
});

t.test("pages for readers that are behind are asked for in their turns", async (t) => {
  const { sessions, counters } = queues([]);
  t.equal(new QueueBudget(1000, sessions, counters).pagesMax(100), 5);
  const written: string[] = [];
  const unwanted = new Set(["c"]);
  const pages = new PagesAsked<string>(2, (who) => !unwanted.has(who) && written.push(who) > 0);
  for (const who of ["a", "b", "c", "d", "e"]) pages.ask(who);
  t.same(written, ["a", "b"]);
  pages.done("e");
  pages.done("a");
  t.same(written, ["a", "b", "d"], "one that cannot take a page any more is passed over, one that has gone is forgotten");
  pages.done("b");
  pages.done("d");
  pages.ask("a");
  t.same(written, ["a", "b", "d", "a"]);
});

t.test("a node short of memory refuses sockets and says why, serves those it has, and recovers", async (t) => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const base = process.memoryUsage.rss();
  const node = await startNode(t, { reactors: 1, tcpPort: 0, memoryLimitBytes: Math.round((base + 400 * mib) / 0.9) });
  const ready = async () => (await fetch(`http://127.0.0.1:${node.port}/ready`)).status === 200;
  const session = await open(node);
  t.equal(await ready(), true);
  let ballast: Buffer[] = Array.from({ length: 60 }, () => Buffer.alloc(10 * mib, 1));
  await until(async () => !(await ready()), "the node to be short of memory");
  const response = await fetch(`http://127.0.0.1:${node.port}/ready`);
  t.match(await response.text(), /short of memory/);
  t.equal((await fetch(`http://127.0.0.1:${node.port}/health`)).status, 200, "it must not be restarted for that");
  await t.rejects(open(node), /503/);
  t.match(await (await openTcp(node, { hello: null })).closed(), { code: 3014 });
  t.equal(sumOf(await node.metrics(), "flux_sockets_refused_memory_total"), 2);
  t.equal(sumOf(await node.metrics(), "flux_memory_short"), 1);
  t.ok((await session.request({ ping: {} })).pong, "those that are in are served");
  ballast = [];
  await until(async () => (collect(), ready()), "memory to be there again");
  await (await open(node)).bye();
  t.equal(ballast.length, 0);
});
