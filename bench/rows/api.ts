/**
 * Publishing by the HTTP API: kept-alive connections, one request at a time on each, acknowledged. The controls are
 * node:http alone, and bare uWS for the port for clients.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { makeSecret } from "../../src/auth/apisecret.ts";
import { openFileKeyWriter } from "../../src/keystore/file.ts";
import { freePort } from "../../src/node/ports.ts";
import { scratchFolder } from "../build.ts";
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
    { key: "uws", title: "bare uWS", unit: "/s", digits: 0 },
    { key: "open", title: "publishes on the port for clients, with a key", unit: "/s", digits: 0 },
    { key: "openRatio", title: "  ÷ bare uWS", unit: "", digits: 2 },
    { key: "controlMicros", title: "CPU / request, node:http alone", unit: "µs", digits: 1 },
    { key: "publishMicros", title: "CPU / publish", unit: "µs", digits: 1 },
    { key: "batchedMicros", title: "CPU / publication in a batch", unit: "µs", digits: 1 },
    { key: "uwsMicros", title: "CPU / request, bare uWS", unit: "µs", digits: 1 },
    { key: "openMicros", title: "CPU / publish on the port for clients", unit: "µs", digits: 1 },
  ],
  compared: "publishes",
  bars: [
    { metric: "ratio", of: "value", atLeast: 0.7 },
    { metric: "durableRatio", of: "value", atLeast: 0.8 },
    { metric: "batched", of: "value", atLeast: 100_000 },
    { metric: "openRatio", of: "value", atLeast: 0.5 },
  ],
  secondsPlanned: ({ seconds }) => 8 + 8 * (seconds + warmUpSeconds),
  run: async (_, scale, say) => {
    const port = await freePort();
    mkdirSync(scratchFolder, { recursive: true });
    const folder = mkdtempSync(join(scratchFolder, "api-"));
    const servers: Served[] = [];
    const start = async (name: "nodehttp" | "uws" | "flux", { flags = [], apiPort, key }: { flags?: readonly string[]; apiPort?: number; key?: string } = {}) => {
      const server = await startServer(name, { reactors: 1, profileDir: scale.profileDir, flags });
      const served = { ...server, apiPort: apiPort ?? server.port, key };
      servers.push(served);
      return served;
    };
    try {
      const keys = join(folder, "keys");
      const key = await createKey(keys);
      const own = { control: await start("nodehttp"), flux: await start("flux", { flags: ["--api-port", String(port)], apiPort: port }) };
      const ofOwn = await measure(own, scale, say);
      for (const server of servers.splice(0)) await server.stop();
      const open = { control: await start("uws"), flux: await start("flux", { flags: ["--api-public", "--api-keys", keys], key }) };
      return { ...ofOwn, ...(await measureOpen(open, scale, say)) };
    } finally {
      for (const server of servers) await server.stop();
      rmSync(folder, { recursive: true });
    }
  },
};

async function createKey(path: string): Promise<string> {
  const { text, id, sha256 } = makeSecret();
  const key = { name: "bench", tenant: "", scopes: ["publish"], rooms: null, requestsPerSecond: null, publicationsPerSecond: null, createdAt: 1, expiresAt: 0 } as const;
  await openFileKeyWriter(path).change("bench", () => ({ ...key, secrets: [{ id, sha256, createdAt: 1, expiresAt: 0 }] }));
  return text;
}

type Served = ServerUnderTest & { apiPort: number; key: string | undefined };
type Pair = { control: Served; flux: Served };

function loader({ seconds }: Scale, say: Say) {
  return async (title: string, { host, apiPort, key, pid }: Served, path: string, body: string) => {
    say(title, seconds + warmUpSeconds);
    let cpu = 0;
    const sent = await sendHttp({ host, port: apiPort, path, body, key, connections, seconds, warmUpSeconds, onBegin: () => (cpu = cpuSeconds(pid)) });
    return { rate: sent.requests / sent.seconds, micros: ((cpuSeconds(pid) - cpu) * 1e6) / sent.requests };
  };
}

const ephemeral = "/api/v1/rooms/live:bench/publications";

/** On the port for clients. */
async function measureOpen({ control, flux }: Pair, scale: Scale, say: Say): Promise<Values> {
  const load = loader(scale, say);
  const before = await load("bare uWS", control, "/", body);
  const open = await load("publishes, port for clients", flux, ephemeral, body);
  const after = await load("bare uWS", control, "/", body);
  const bare = (before.rate + after.rate) / 2;
  return { uws: bare, open: open.rate, openRatio: open.rate / bare, uwsMicros: (before.micros + after.micros) / 2, openMicros: open.micros };
}

async function measure({ control, flux }: Pair, scale: Scale, say: Say): Promise<Values> {
  const load = loader(scale, say);
  // The control before and after, so that drift affects both alike.
  const before = await load("node:http alone", control, "/", body);
  const publishes = await load("publishes, ephemeral", flux, ephemeral, body);
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
