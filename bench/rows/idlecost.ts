/**
 * What silent members cost: memory as soon as they have joined, before V8 has collected what the handshakes left, and
 * CPU of the server while clients only answer pings. The same process is measured before they come.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { rssBytes } from "../proc.ts";
import type { ServerName } from "../servers/start.ts";
import { between, connect, read, withCrew, type Crew, type Stretch } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

/** A node that has just started still compiles code and collects what its start has left: after 5 s that was more than 10,000 members cost. */
const startedSeconds = 40;
const emptySeconds = 15;
/** Until V8 has collected, and the pings of all sockets are under way: the first come 25 s after the join. */
const settleSeconds = 26;
/** Two pings of each socket, of flux-gateway; the control pings after 24 s. */
const idleSeconds = 50;
const connectSeconds = 8;

export const idleCostRow: Row = {
  name: "idle-cost",
  title: ({ sockets }) => `Idle cost: ${sockets.toLocaleString("en")} members of one room that answer pings`,
  servers: ["flux", "uws"],
  metrics: [
    { key: "cpuMs", title: "CPU for them", unit: "ms/s", digits: 1 },
    { key: "cpuMsEmpty", title: "CPU without them", unit: "ms/s", digits: 1 },
    { key: "rssAtOnce", title: "RSS / member at once", unit: "bytes", digits: 0 },
    { key: "rssLater", title: "… after V8 collected", unit: "bytes", digits: 0 },
    { key: "otherCores", title: "rest of the machine", unit: "cores", digits: 2 },
  ],
  compared: "cpuMs",
  bars: [
    { metric: "cpuMs", of: "value", atMost: 5 },
    { metric: "rssAtOnce", of: "value", atMost: 3000 },
  ],
  secondsPlanned: () => startedSeconds + emptySeconds + connectSeconds + settleSeconds + idleSeconds,
  run,
};

function run(name: ServerName, { sockets, profileDir }: Scale, say: Say): Promise<Values> {
  return withCrew(name, { reactors: 1, profileDir }, 1, async (crew) => {
    const { server: { pid }, threads: [thread] } = crew;
    if (!thread) throw new Error("a load thread was asked for");
    say("starting", startedSeconds);
    await sleep(startedSeconds * 1000);
    say("idle without members", emptySeconds);
    const empty = await cpuOver(crew, emptySeconds);
    const before = rssBytes(pid);
    say(`connecting ${sockets} members`, connectSeconds);
    await connect(thread, crew.server, "member", sockets);
    const atOnce = rssBytes(pid);
    say("settling", settleSeconds);
    await sleep(settleSeconds * 1000);
    const later = rssBytes(pid);
    say("idle with them", idleSeconds);
    const idle = await cpuOver(crew, idleSeconds);
    return {
      cpuMs: 1000 * (idle.serverCores - empty.serverCores),
      cpuMsEmpty: 1000 * empty.serverCores,
      rssAtOnce: (atOnce - before) / sockets,
      rssLater: (later - before) / sockets,
      otherCores: idle.otherCores,
    };
  });
}

async function cpuOver(crew: Crew, seconds: number): Promise<Stretch> {
  const first = read(crew);
  await sleep(seconds * 1000);
  return between(first, read(crew));
}
