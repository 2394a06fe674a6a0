/**
 * One message at a time through an idle node of two reactors, with publisher and member on different ones. A second
 * member on the publisher's reactor shows the cost of crossing. The controls have one thread and are the lower bound.
 */
import type { LoadThread } from "../load/thread.ts";
import { byLabel, scrape } from "../scrape.ts";
import type { ServerName, ServerUnderTest } from "../servers/start.ts";
import { between, connect, coreMetrics, percentileMs, read, warmUp, warmUpSecondsPlanned, withCrew } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const gapMs = 1;
/** The kernel spreads sockets by port, at random. */
const socketsMax = 64;

export const crossRow: Row = {
  name: "cross",
  title: () => "One message at a time, publisher on one reactor, member on the other",
  metrics: [
    { key: "p50", title: "p50 across", unit: "ms", digits: 3 },
    { key: "p99", title: "p99 across", unit: "ms", digits: 3 },
    { key: "nearP50", title: "p50 same reactor", unit: "ms", digits: 3 },
    { key: "nearP99", title: "p99 same reactor", unit: "ms", digits: 3 },
    ...coreMetrics,
  ],
  compared: "p50",
  bars: [{ metric: "p50", of: "value", below: 0.5 }],
  secondsPlanned: ({ relaySamples }) => 1 + warmUpSecondsPlanned + (relaySamples * 1.1 * (gapMs + 1.5)) / 1000,
  run,
};

function run(name: ServerName, { relaySamples, profileDir }: Scale, say: Say): Promise<Values> {
  return withCrew(name, { reactors: 2, profileDir }, 1, async (crew) => {
    const { server, threads } = crew;
    const [thread] = threads;
    if (!thread) throw new Error("a load thread was asked for");
    say("warming up", warmUpSecondsPlanned);
    await warmUp(crew);
    say("finding sockets on both reactors", 1);
    const cast = await findCast(thread, server);
    say("measuring", (relaySamples * 1.1 * (gapMs + 1.5)) / 1000);
    const first = read(crew);
    const { near, far } = await thread.ask<"relay">({ kind: "relay", ...cast, samples: relaySamples, gapMs });
    const { serverCores, loadCores, otherCores } = between(first, read(crew));
    return {
      serverCores,
      loadCores,
      otherCores,
      p50: percentileMs(far, 50),
      p99: percentileMs(far, 99),
      nearP50: percentileMs(near, 50),
      nearP99: percentileMs(near, 99),
    };
  });
}

type Cast = { from: number; near: number; far: number };

/** Connects until two sockets share a reactor and a third is elsewhere. */
async function findCast(thread: LoadThread, server: ServerUnderTest): Promise<Cast> {
  const { adminPort } = server;
  if (adminPort === null) {
    await connect(thread, server, "member", 3);
    return { from: 0, near: 1, far: 2 };
  }
  const socketsOf = new Map<string, number[]>();
  let before = await readyByReactor(adminPort);
  for (let socket = 0; socket < socketsMax; socket++) {
    await connect(thread, server, "member", 1);
    const after = await readyByReactor(adminPort);
    const reactor = [...after].find(([name, count]) => count > (before.get(name) ?? 0))?.[0];
    if (reactor === undefined) throw new Error("/metrics does not show which reactor a new socket is on");
    socketsOf.set(reactor, [...(socketsOf.get(reactor) ?? []), socket]);
    before = after;

    const [many, few] = [...socketsOf.values()].sort((a, b) => b.length - a.length);
    const [from, near, far] = [many?.[0], many?.[1], few?.[0]];
    if (from !== undefined && near !== undefined && far !== undefined) return { from, near, far };
  }
  throw new Error(`${socketsMax} sockets all went to one reactor`);
}

async function readyByReactor(adminPort: number): Promise<Map<string, number>> {
  return byLabel(await scrape(adminPort), "flux_sockets", "reactor");
}
