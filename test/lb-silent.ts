/**
 * 10,000 clients that connect to the load balancer and send nothing, with policy hash; then 5,000 with another, where each
 * takes two files. What they cost, and that a client that speaks notices nothing. A command of its own, since it needs
 * 20,000 open files and some memory: npm run test:lb-silent. Ends with 1 where one of its bounds is broken.
 */
import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { once } from "node:events";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { bin } from "./support/command.ts";
import { openRaw, startFakeNode, upgradeTo, whoAnswers } from "./support/balancer.ts";
import { until } from "./support/until.ts";

const rss = (pid: number) => Number(readFileSync(`/proc/${pid}/statm`, "latin1").split(" ")[1]) * 4096;
const cpuMs = (pid: number) => {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /s, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
};

/** As a proxied connection may cost. */
const bytesMax = 12_000;

function must(isTrue: boolean, what: string): void {
  if (isTrue) return;
  console.error(`BROKEN: ${what}`);
  process.exitCode = 1;
}

/** Another process, for its files: from several addresses, since one has 28,000 ports. */
async function silentClients(port: number, count: number): Promise<void> {
  const sockets: Socket[] = [];
  let closed = 0;
  for (let i = 0; i < count; i++) {
    const socket = connect({ port, host: "127.0.0.1", localAddress: `127.0.0.${2 + (i % 8)}` });
    socket.on("error", () => undefined).on("close", () => closed++);
    sockets.push(socket);
    if (i % 200 === 199) await Promise.race(sockets.slice(-1).map((last) => once(last, "connect").catch(() => undefined)));
  }
  process.send?.({ connected: sockets.length });
  process.on("message", () => process.send?.({ closed }));
}

if (process.argv[2] === "clients") await silentClients(Number(process.argv[3]), Number(process.argv[4]));
else {
  const teardowns: (() => unknown)[] = [];
  const t = { teardown: (done: () => unknown) => void teardowns.push(done) };
  const node = await startFakeNode(t as never, "a");
  const mute = createServer((socket) => void socket.on("error", () => undefined)).listen(0, "127.0.0.1");
  await once(mute, "listening");
  for (const [policy, count, nodes] of [["hash", 10_000, node.listed], ["round-robin", 5_000, `mute=127.0.0.1:${(mute.address() as AddressInfo).port}`]] as const) {
    const lb = spawn(process.execPath, ["--max-semi-space-size=2", bin, "lb", "--policy", policy, "--nodes", nodes, "--port", "0", "--admin-port", "0", "--log-format", "json", "--first-bytes-ms", "10m"], { stdio: ["ignore", "pipe", "inherit"] });
    const line = await new Promise<string>((resolve) => createInterface(lb.stdout).on("line", (one) => one.includes("is running") && resolve(one)));
    const { listens, admin } = JSON.parse(line) as { listens: string; admin: string };
    const port = Number(listens.split(":")[1]);
    const pid = lb.pid!;
    const counts = async () => Object.fromEntries((await (await fetch(`${admin}metrics`)).text()).split("\n").filter((one) => one.startsWith("flux_lb_")).map((one) => one.split(" ") as [string, string]));
    const witness = policy === "hash" ? await openRaw(port, upgradeTo("/echo?user=w")) : null;
    const [rssBefore, cpuBefore] = [rss(pid), cpuMs(pid)];
    const clients = fork(new URL(import.meta.url).pathname, ["clients", String(port), String(count)], { execArgv: process.execArgv });
    await once(clients, "message");
    const state = policy === "hash" ? "waiting" : "joined";
    await until(async () => Number((await counts())[`flux_lb_connections{state="${state}"}`]) >= count * 0.99, "them to be counted", 120_000);
    const now = await counts();
    const bytesEach = (rss(pid) - rssBefore) / count;
    must(Number(now[`flux_lb_connections{state="${state}"}`]) >= count * 0.99, "all of them are there");
    must(bytesEach <= bytesMax, `${bytesMax} bytes each at most`);
    console.log(`${policy}: ${now[`flux_lb_connections{state="${state}"}`]} silent clients, ${bytesEach.toFixed(0)} bytes and ${(((cpuMs(pid) - cpuBefore) * 1000) / count).toFixed(0)} µs of CPU each; refused ${JSON.stringify(Object.fromEntries(Object.entries(now).filter(([name, value]) => name.startsWith("flux_lb_refused") && value !== "0")))}`);
    const [idleFrom, from] = [cpuMs(pid), performance.now()];
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    console.log(`  ${((cpuMs(pid) - idleFrom) / (performance.now() - from) * 100).toFixed(1)} % of a core while they are silent`);
    if (witness !== null) {
      const began = performance.now();
      witness.socket.write("ping");
      await until(() => witness.text().endsWith("ping"), "the witness");
      const served = (await whoAnswers(port, "/who?user=x")) === "a";
      must(served, "a client that speaks is served");
      console.log(`  a client that speaks: an echo in ${(performance.now() - began).toFixed(1)} ms, a new one ${served ? "served" : "NOT served"}`);
    }
    clients.kill("SIGKILL");
    lb.kill("SIGKILL");
    await once(lb, "exit");
  }
  mute.close();
  for (const done of teardowns) await done();
  process.exit(process.exitCode ?? 0);
}
