/**
 * Runs the test files that test/build.mjs has written, four at once, and prints one line for each, with the time it took
 * on the clock and on the processors; of a file that fails all it said. It says so in TAP. With names it runs only those files: `npm test rooms nodes`.
 * --all prints what every file says. --long runs what takes long for what it finds: the files in test/long, and others
 * with more of the same.
 *
 * The files are programs of their own, which tap's runner would start the same way. It adds loaders to each of them, which
 * nothing here needs, has itself built anew on a new machine, and runs files in the order of their names: the longest
 * may be the last, and then it runs alone.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

/** Many tests wait for something most of the time: more of them than there are cores. */
const jobs = Number(process.env.JOBS || Math.max(4, availableParallelism()));
/** Of a file. It only ends a test that hangs: four of them share what may be a slow machine, which others use as well. */
const timeoutS = 1200;
/** They take longest, so they start first. */
const first = [
  "lb", "nats-cluster", "cluster-nodes", "cluster-services", "demo", "bad-input-tokens", "registry", "partition-nodes", "docs-blocks", "rolling-restart",
  "leases-model", "long-pauses", "limits", "presence-redis", "archive", "redis-modes", "cli", "nodes-sessions", "disk-damage", "bad-input-sockets", "disk-crashes",
];
/** Of the kernel's clock for processes, on every Linux that Node runs on. */
const ticksPerS = 100;

const folder = ".test/test";
const isLong = process.argv.includes("--long");
/** For --long: a file, and what has it do more. */
const more = { "disk-crashes": { TEST_KILLS: "25" }, "leases-model": { LEASES_COUNT: "10000" } };
/** More certificates to trust: Node reads them all when it starts, for longer than it takes for the rest. Tests stay on loopback. */
const { NODE_EXTRA_CA_CERTS: _, ...environment } = process.env;
const options = process.argv.slice(2).filter((word) => word.startsWith("--"));
const wanted = process.argv.slice(2).filter((word) => !word.startsWith("--")).map((word) => word.replace(/^test\/|\.test\.ts$/g, ""));
const rank = (name) => (first.indexOf(name) + first.length + 1) % (first.length + 1);
const all = readdirSync(folder, { recursive: true }).filter((file) => file.endsWith(".test.js")).map((file) => file.replace(/\.test\.js$/, ""));
const unknown = wanted.filter((name) => !all.includes(name));
if (unknown.length > 0) throw new Error(`there is no test/${unknown[0]}.test.ts`);
const ofThisRun = (name) => name.startsWith("long/") === isLong || (isLong && name in more);
const names = (wanted.length === 0 ? all.filter(ofThisRun) : all.filter((name) => wanted.includes(name)))
  .sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));

const began = performance.now();
const sum = { total: 0, pass: 0, fail: 0, todo: 0, skip: 0 };
const failed = [];
const waiting = [...names];
let done = 0;
let cpuSeen = 0;

console.log("TAP version 14");
await Promise.all(Array.from({ length: jobs }, async () => {
  for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) await run(name);
}));
console.log(`1..${names.length}`);
for (const name of failed) console.log(`# failed: ${name}`);
console.log(`# { ${Object.entries(sum).filter(([kind, count]) => count > 0 || kind === "total").map(([kind, count]) => `${kind}: ${count}`).join(", ")} }`);
console.log(`# time=${Math.round(performance.now() - began)}ms${cpuS() === null ? "" : ` cpu=${Math.round(cpuS())}s`}`);
process.exitCode = failed.length > 0 || names.length === 0 ? 1 : 0;

async function run(name) {
  const startedAt = performance.now();
  const child = spawn(process.execPath, ["--enable-source-maps", `${folder}/${name}.test.js`], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...environment, TAP_TIMEOUT: String(timeoutS), ...(isLong && more[name]) },
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutS * 1000 + 60_000);
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (said += text));
  const cpu = new Promise((resolve) => child.once("exit", () => resolve(cpuSince())));
  const status = await new Promise((resolve) => child.once("close", (code, signal) => resolve(code ?? signal)));
  clearTimeout(timer);
  const counted = /^# \{ (.*) \}$/m.exec(said)?.[1] ?? "";
  const counts = Object.fromEntries([...counted.matchAll(/(\w+): (\d+)/g)].map(([, kind, count]) => [kind, Number(count)]));
  for (const kind of Object.keys(sum)) sum[kind] += counts[kind] ?? 0;
  // A file that ends before it has come to its checks says nothing that is not ok.
  const isOk = status === 0 && counts.total > 0 && counts.fail === undefined;
  if (!isOk) failed.push(name);
  if (!isOk || options.includes("--all")) console.log(`# Subtest: ${name}\n${said.trimEnd().replace(/^(?=.)/gm, "    ")}`);
  const ms = performance.now() - startedAt;
  const used = await cpu;
  console.log(`${isOk ? "ok" : "not ok"} ${++done} - ${name} # ${counts.total ?? 0} checks, ${(ms / 1000).toFixed(1)} s${used === null ? "" : `, cpu ${used.toFixed(1)} s`}${isOk ? "" : `, ended with ${status}`}`);
}

/** What the children that have ended used of the processors, with theirs; null where the system does not say. */
function cpuS() {
  if (!existsSync("/proc/self/stat")) return null;
  const fields = readFileSync("/proc/self/stat", "utf8").replace(/^.*\) /s, "").split(" ");
  return (Number(fields[13]) + Number(fields[14])) / ticksPerS;
}

/** The same since the last time: that of the child that has just ended. */
function cpuSince() {
  const now = cpuS();
  if (now === null) return null;
  const since = now - cpuSeen;
  cpuSeen = now;
  return since;
}
