/**
 * `GET /api/connection-url?user=`, beside bare uWS with an answer of five bytes: one reactor, autocannon with one request
 * at a time on each connection. Without a token, and with one (HS256) of a different user on each connection.
 */
import autocannon from "autocannon";
import { tokenFor } from "../load/token.ts";
import { cpuSeconds } from "../proc.ts";
import { type ServerName, type ServerUnderTest, startServer } from "../servers/start.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const connections = 50;
const warmUpSeconds = 2;
/**
 * So many handshakes that nobody waits for a slot: every answer has a ticket, and none is refused. The node's URL is
 * configured, as it is for every node that clients reach through something else.
 */
const flags = ["--handshakes-per-second", "10000000", "--node-url", "ws://127.0.0.1:8080/ws"];
const path = "/api/connection-url?user=user-1234567";

export const connectionUrlRow: Row = {
  name: "connection-url",
  title: () => "GET /api/connection-url?user= with a ticket in each answer, one reactor",
  servers: ["flux", "uws"],
  metrics: [
    { key: "rate", title: "requests", unit: "/s", digits: 0 },
    { key: "perCpuSecond", title: "per CPU second of the server", unit: "", digits: 0 },
    { key: "cpuMicros", title: "server CPU", unit: "µs each", digits: 1 },
    { key: "p99", title: "latency, p99", unit: "ms", digits: 1 },
    { key: "tokenRate", title: "requests with a token", unit: "/s", digits: 0 },
    { key: "tokenPerCpuSecond", title: "  per CPU second of the server", unit: "", digits: 0 },
    { key: "tokenCpuMicros", title: "  server CPU", unit: "µs each", digits: 1 },
  ],
  compared: "perCpuSecond",
  // The load client is slower than both servers, so the CPU used says more than the rate.
  bars: [
    { metric: "rate", of: "ratio", atLeast: 0.7 },
    { metric: "perCpuSecond", of: "ratio", atLeast: 0.7 },
  ],
  secondsPlanned: ({ seconds }) => 2 * (seconds + warmUpSeconds + 1),
  run,
};

async function run(name: ServerName, { seconds, profileDir }: Scale, say: Say): Promise<Values> {
  say("without a token", seconds + warmUpSeconds);
  const open = await withServer(name, { profileDir, isGuarded: false }, (server) => load(server, name === "uws" ? "/hello" : path, seconds));
  if (name === "uws") return open;
  say("with a token", seconds + warmUpSeconds);
  const tokens = Array.from({ length: connections }, (_, i) => tokenFor(`user-${i}`));
  const guarded = await withServer(name, { profileDir: null, isGuarded: true }, (server) => load(server, "/api/connection-url", seconds, tokens));
  return { ...open, tokenRate: guarded.rate!, tokenPerCpuSecond: guarded.perCpuSecond!, tokenCpuMicros: guarded.cpuMicros! };
}

async function withServer(name: ServerName, { profileDir, isGuarded }: { profileDir: string | null; isGuarded: boolean }, use: (server: ServerUnderTest) => Promise<Values>): Promise<Values> {
  const server = await startServer(name, { reactors: 1, profileDir, flags, isGuarded });
  try {
    return await use(server);
  } finally {
    await server.stop();
  }
}

async function load({ host, port, pid }: ServerUnderTest, path: string, seconds: number, tokens: readonly string[] = []): Promise<Values> {
  let next = 0;
  const options = {
    url: `http://${host}:${port}${path}`,
    connections,
    setupClient: (client: autocannon.Client) => {
      if (tokens.length > 0) client.setHeaders({ Authorization: `Bearer ${tokens[next++ % tokens.length]}` });
    },
  };
  await autocannon({ ...options, duration: warmUpSeconds });
  const before = cpuSeconds(pid);
  const { requests, latency, errors, non2xx } = await autocannon({ ...options, duration: seconds });
  const cpu = cpuSeconds(pid) - before;
  if (errors > 0 || non2xx > 0) throw new Error(`${path}: ${errors} errors, ${non2xx} not 2xx`);
  return { rate: requests.average, perCpuSecond: requests.total / cpu, cpuMicros: (cpu * 1e6) / requests.total, p99: latency.p99 };
}
