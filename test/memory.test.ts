/** Memory: what a container lets a node use, how its threads share it, and what happens near the limit. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import t from "tap";
import type { ReadText } from "../src/machine.ts";
import { heapLimitsMb, memoryLimit, memoryUsed, youngFlag } from "../src/memory.ts";
import { MemoryGuard } from "../src/memoryguard.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess, sumOf } from "./support/nodeprocess.ts";
import { openTcp } from "./support/rawtcp.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

const mib = 2 ** 20;
const machine = 8192 * mib;
const bin = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

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

t.test("the heaps of all threads together get three quarters", async (t) => {
  for (const reactors of [1, 2, 4, 8]) {
    const { main, reactor } = heapLimitsMb(4096 * mib, reactors);
    t.equal(main + reactors * reactor, 3072, `${reactors} reactors`);
  }
  t.same(heapLimitsMb(64 * mib, 8), { main: 64, reactor: 64 }, "but enough to live");
});

t.test("node-flags says what the main thread is to be started with, and Node takes it", async (t) => {
  const flags = (args: string[], env: Record<string, string> = {}) =>
    execFileSync(bin, ["node-flags", ...args], { env: { PATH: process.env.PATH ?? "", ...env } }).toString();
  t.equal(flags(["--memory-limit-bytes", "600MiB"]), `${youngFlag} --max-old-space-size=300\n`);
  t.equal(flags([], { FLUX_MEMORY_LIMIT_BYTES: "1GiB" }), `${youngFlag} --max-old-space-size=512\n`);
  const own = Number(execFileSync(process.execPath, ["-p", "v8.getHeapStatistics().heap_size_limit"]).toString());
  t.equal(flags(["--memory-limit-bytes", String(2 * own)]), `${youngFlag}\n`, "no limit where V8 chooses that by itself");
  t.match(readFileSync(bin, "utf8").split("\n", 1)[0], youngFlag, "the command starts itself so");
  const limit = execFileSync(process.execPath, [...flags(["--memory-limit-bytes", "600MiB"]).trim().split(" "), "-p", "v8.getHeapStatistics().heap_size_limit"]);
  const limitMb = Number(limit.toString()) / mib;
  t.ok(limitMb >= 300 && limitMb < 400, `${limitMb} MiB with the young generation`);
});

t.test("a reactor's heap has its share of the limit", async (t) => {
  const node = await startNodeProcess(["--reactors", "1", "--memory-limit-bytes", "640MiB"]);
  t.teardown(() => node.kill());
  // Reactors look at their heaps every second.
  await until(async () => (await node.metric("flux_reactor_heap_limit_bytes")) > 0, "the reactor to say so");
  const limitMb = (await node.metric("flux_reactor_heap_limit_bytes")) / mib;
  t.ok(limitMb >= 160 && limitMb < 200, `${limitMb} MiB`);
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
