/** Publishing by the HTTP API: kept-alive connections, one request at a time on each, acknowledged. The control is node:http alone. */
import { freePort } from "../../src/node/ports.ts";
import { sendHttp } from "../load/http.ts";
import { cpuSeconds } from "../proc.ts";
import { startServer, type ServerUnderTest } from "../servers/start.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const connections = 64;
const warmUpSeconds = 3;
const batchItems = 100;
/** So that payload and key make a body of 128 bytes. */
const data = { text: "x".repeat(107) };
const body = JSON.stringify({ data });
const batch = (room: string) => JSON.stringify(Array.from({ length: batchItems }, () => ({ room, data })));

export const apiRow: Row = {
  name: "api",
  title: () => `HTTP API: ${connections} connections, bodies of ${body.length} bytes; batches of ${batchItems}`,
  servers: ["flux"],
  metrics: [
    { key: "control", title: "node:http alone", unit: "/s", digits: 0 },
    { key: "publishes", title: "publishes, ephemeral room", unit: "/s", digits: 0 },
    { key: "ratio", title: "  ÷ node:http alone", unit: "", digits: 2 },
    { key: "durable", title: "publishes, durable room", unit: "/s", digits: 0 },
    { key: "durableRatio", title: "  ÷ ephemeral room", unit: "", digits: 2 },
    { key: "batched", title: `publications in batches of ${batchItems}`, unit: "/s", digits: 0 },
    { key: "controlMicros", title: "CPU / request, node:http alone", unit: "µs", digits: 1 },
    { key: "publishMicros", title: "CPU / publish", unit: "µs", digits: 1 },
    { key: "batchedMicros", title: "CPU / publication in a batch", unit: "µs", digits: 1 },
  ],
  compared: "publishes",
  bars: [
    { metric: "ratio", of: "value", atLeast: 0.7 },
    { metric: "durableRatio", of: "value", atLeast: 0.8 },
    { metric: "batched", of: "value", atLeast: 100_000 },
  ],
  secondsPlanned: ({ seconds }) => 5 + 5 * (seconds + warmUpSeconds),
  run: async (_, scale, say) => {
    const port = await freePort();
    const servers: (ServerUnderTest & { apiPort: number })[] = [];
    try {
      const control = await startServer("nodehttp", { reactors: 1, profileDir: scale.profileDir });
      servers.push({ ...control, apiPort: control.port });
      const flux = await startServer("flux", { reactors: 1, profileDir: scale.profileDir, flags: ["--api-port", String(port)] });
      servers.push({ ...flux, apiPort: port });
      return await measure(servers[0]!, servers[1]!, scale, say);
    } finally {
      for (const server of servers) await server.stop();
    }
  },
};

type Served = ServerUnderTest & { apiPort: number };

async function measure(control: Served, flux: Served, { seconds }: Scale, say: Say): Promise<Values> {
  const load = async (title: string, { host, apiPort, pid }: Served, path: string, body: string) => {
    say(title, seconds + warmUpSeconds);
    let cpu = 0;
    const sent = await sendHttp({ host, port: apiPort, path, body, connections, seconds, warmUpSeconds, onBegin: () => (cpu = cpuSeconds(pid)) });
    return { rate: sent.requests / sent.seconds, micros: ((cpuSeconds(pid) - cpu) * 1e6) / sent.requests };
  };
  // The control before and after, so that drift affects both alike.
  const before = await load("node:http alone", control, "/", body);
  const publishes = await load("publishes, ephemeral", flux, "/api/v1/rooms/live:bench/publications", body);
  const after = await load("node:http alone", control, "/", body);
  const durable = await load("publishes, durable", flux, "/api/v1/rooms/chat:bench/publications", body);
  const batched = await load("batches", flux, "/api/v1/publications", batch("live:bench"));
  const bare = (before.rate + after.rate) / 2;
  return {
    control: bare,
    publishes: publishes.rate,
    ratio: publishes.rate / bare,
    durable: durable.rate,
    durableRatio: durable.rate / publishes.rate,
    batched: batched.rate * batchItems,
    controlMicros: (before.micros + after.micros) / 2,
    publishMicros: publishes.micros,
    batchedMicros: batched.micros / batchItems,
  };
}
