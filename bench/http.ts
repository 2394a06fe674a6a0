/** autocannon on the HTTP endpoints of a node with one reactor, and on bare uWS with an answer of five bytes. */
import autocannon from "autocannon";
import Table from "cli-table3";
import { Command } from "commander";
import { buildBench, buildFlux } from "./build.ts";
import { positive } from "./flags.ts";
import { cpuSeconds } from "./proc.ts";
import { machineLine, thisMachine } from "./report/machine.ts";
import { type ServerName, serverTitles, startServer } from "./servers/start.ts";

type Flags = { seconds: number; connections: number; build: boolean };

const { seconds, connections, build } = new Command("bench:http")
  .description("Requests a second on /health, /ready and / of a running node, beside bare uWS.")
  .option("--seconds <n>", "seconds per endpoint", positive, 5)
  .option("--connections <n>", "kept alive, one request at a time on each", positive, 50)
  .option("--no-build", "measure dist/ as it is")
  .parse()
  .opts<Flags>();

const endpoints: Record<"flux" | "uws", readonly string[]> = { flux: ["/health", "/ready", "/"], uws: ["/health"] };

type Measured = { server: ServerName; path: string; result: autocannon.Result; cpuMicros: number };

buildBench();
if (build) buildFlux();
console.log(machineLine(thisMachine()));
const measured = [...(await measure("uws")), ...(await measure("flux"))];
for (const { server, path, result } of measured) {
  console.log(`\n${serverTitles[server]} ${path}`);
  console.log(autocannon.printResult(result));
}
console.log(comparison());

async function measure(name: "flux" | "uws"): Promise<Measured[]> {
  const server = await startServer(name, { reactors: 1, profileDir: null });
  const all: Measured[] = [];
  try {
    for (const path of endpoints[name]) {
      process.stderr.write(`${serverTitles[name]} ${path}: ${seconds} s\n`);
      const before = cpuSeconds(server.pid);
      const result = await autocannon({ url: `http://${server.host}:${server.port}${path}`, connections, duration: seconds });
      const cpuMicros = ((cpuSeconds(server.pid) - before) * 1e6) / result.requests.total;
      if (result.errors > 0 || result.non2xx > 0) throw new Error(`${path}: ${result.errors} errors, ${result.non2xx} not 2xx`);
      all.push({ server: name, path, result, cpuMicros });
    }
  } finally {
    await server.stop();
  }
  return all;
}

function comparison(): string {
  const table = new Table({
    head: ["", "requests/s", "p50, ms", "p99, ms", "server CPU / request, µs", "bytes / response"],
    colAligns: ["left", "right", "right", "right", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  for (const { server, path, result, cpuMicros } of measured) {
    const { requests, latency, throughput } = result;
    table.push([
      `${serverTitles[server]} ${path}`,
      Math.round(requests.average).toLocaleString("en"),
      latency.p50,
      latency.p99,
      cpuMicros.toFixed(1),
      Math.round(throughput.total / requests.total).toLocaleString("en"),
    ]);
  }
  return table.toString();
}
