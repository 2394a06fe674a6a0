/**
 * All clients reconnect at once. The members of a durable room lose their sockets together while publishing goes on,
 * and within a second all try to resume. No session and no message may be lost, and none may arrive twice.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { micros } from "../load/clock.ts";
import type { ServerName } from "../servers/start.ts";
import { connect, read, between, coreMetrics, withCrew } from "./crew.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const rate = 10;
const secondsBefore = 1;
const secondsAfter = 2;
/** Time for the last message to reach the last member. */
const settleSeconds = 2;

export const stormRow: Row = {
  name: "storm",
  title: ({ sockets }) => `Resume storm: ${sockets.toLocaleString("en")} sessions lose their sockets and come back within a second`,
  servers: ["flux"],
  metrics: [
    { key: "lostSessions", title: "sessions lost", unit: "", digits: 0 },
    { key: "lost", title: "messages lost", unit: "", digits: 0 },
    { key: "disordered", title: "out of order or twice", unit: "", digits: 0 },
    { key: "refused", title: "rejected at first, then resumed", unit: "", digits: 0 },
    { key: "triedSeconds", title: "until all had tried", unit: "s", digits: 2 },
    { key: "seconds", title: "until all were back", unit: "s", digits: 2 },
    { key: "resumeRate", title: "resumes", unit: "/s", digits: 0 },
    ...coreMetrics,
  ],
  compared: "resumeRate",
  bars: [
    { metric: "lostSessions", of: "value", never: true },
    { metric: "lost", of: "value", never: true },
    { metric: "disordered", of: "value", never: true },
  ],
  secondsPlanned: () => 4 + secondsBefore + 5 + secondsAfter + settleSeconds,
  run,
};

function run(name: ServerName, { sockets, profileDir }: Scale, say: Say): Promise<Values> {
  return withCrew(name, { reactors: 2, profileDir }, 2, async (crew) => {
    const [audience, stage] = crew.threads;
    if (!audience || !stage) throw new Error("two load threads were asked for");
    say(`connecting ${sockets} members`, 4);
    await connect(audience, crew.server, "resumer", sockets);
    await connect(stage, crew.server, "resumer", 1);
    say("publishing", secondsBefore);
    let published = 0;
    const publish = async (seconds: number): Promise<void> => {
      const schedule = { rate, count: rate * seconds, startAt: micros(), before: published };
      await stage.ask<"publish">({ kind: "publish", schedule });
      published += schedule.count;
    };
    await publish(secondsBefore);
    say("the storm", 5);
    const first = read(crew);
    let storming = true;
    const publishing = (async () => {
      while (storming) await publish(1);
    })();
    const { resumed, refused, triedSeconds, seconds } = await audience.ask<"storm">({ kind: "storm", withinSeconds: 1 });
    storming = false;
    const { serverCores, loadCores, otherCores } = between(first, read(crew));
    say("and after", secondsAfter + settleSeconds);
    await publishing;
    await publish(secondsAfter);
    await sleep(settleSeconds * 1000);
    const tally = await audience.ask<"tally">({ kind: "tally", upTo: published });
    return {
      lostSessions: sockets - resumed,
      lost: Math.max(0, tally.lost - tally.disordered),
      disordered: tally.disordered + tally.unchained,
      refused,
      triedSeconds,
      seconds,
      resumeRate: sockets / seconds,
      serverCores,
      loadCores,
      otherCores,
    };
  });
}
