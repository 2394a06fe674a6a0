/**
 * Rate of new clients: connected, upgraded and, with flux-gateway, authenticated by a new token (HS256) and answered
 * ready. The controls only upgrade.
 */
import { cpuSeconds } from "../proc.ts";
import type { ServerName } from "../servers/start.ts";
import { between, connect, coreMetrics, read, withCrew } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

/** Sockets of the warm-up, for the compilers of both sides. */
const warmUpSockets = 2000;
const secondsGuessed = 6;

export const handshakeRow: Row = {
  name: "handshake",
  title: ({ sockets }) => `Handshakes: ${sockets.toLocaleString("en")} sockets as fast as possible, one reactor`,
  metrics: [
    { key: "rate", title: "handshakes", unit: "/s", digits: 0 },
    { key: "perCpuSecond", title: "per CPU second of the server", unit: "", digits: 0 },
    { key: "cpuMicros", title: "server CPU", unit: "µs each", digits: 1 },
    ...coreMetrics,
  ],
  compared: "rate",
  // The load client is slower than both servers. The CPU used tells how many handshakes a reactor's core could do.
  bars: [
    { metric: "rate", of: "ratio", atLeast: 0.5 },
    { metric: "perCpuSecond", of: "value", atLeast: 5000 },
  ],
  secondsPlanned: () => secondsGuessed,
  run,
};

function run(name: ServerName, { sockets, profileDir }: Scale, say: Say): Promise<Values> {
  return withCrew(name, { reactors: 1, profileDir }, 1, async (crew) => {
    const [thread] = crew.threads;
    if (!thread) throw new Error("a load thread was asked for");
    say("warming up", 1);
    await connect(thread, crew.server, "echo", Math.min(warmUpSockets, sockets / 2));
    say(`connecting ${sockets} sockets`, secondsGuessed);
    const first = read(crew);
    const cpuBefore = cpuSeconds(crew.server.pid);
    await connect(thread, crew.server, "echo", sockets);
    const cpu = cpuSeconds(crew.server.pid) - cpuBefore;
    const { seconds, serverCores, loadCores, otherCores } = between(first, read(crew));
    const cpuMicros = (cpu / sockets) * 1e6;
    return { rate: sockets / seconds, perCpuSecond: sockets / cpu, cpuMicros, serverCores, loadCores, otherCores };
  });
}
