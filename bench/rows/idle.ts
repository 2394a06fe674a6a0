/**
 * Memory of ready, silent sockets in one room. The heap may have had free space before, or keep garbage of the
 * handshakes. So the second half is shown separately.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { rssBytes } from "../proc.ts";
import { packageNames, type ServerName } from "../servers/start.ts";
import { connect, withCrew } from "./crew.ts";
import type { Row, RowName, Scale, Say, Values } from "./row.ts";

/**
 * Memory counts as settled when it changed by less than 0.5 % for this long, or after the longest wait. V8 waits 8
 * seconds before it collects in an idle process, and usually collects twice.
 */
const settledSeconds = 20;
const settleSecondsMax = 60;
const MiB = 1024 * 1024;

/** Sessions are authenticated. In the second row their room has presence too. */
export const idleRow = row("idle", 3000, []);
export const idlePresenceRow = row("idle-presence", 4000, ["--namespaces", '{"live":{"presence":"members","presenceEvents":true}}']);

function row(name: RowName, bytesMax: number, flags: readonly string[]): Row {
  const presence = name === "idle" ? "" : ", with presence";
  return {
    name,
    title: ({ sockets }) => `Idle memory: ${sockets.toLocaleString("en")} sockets, ready, in one room${presence}`,
    servers: name === "idle" ? packageNames : ["flux", "uws"],
    metrics: [
      { key: "rssPerSocket", title: "RSS / socket", unit: "bytes", digits: 0 },
      { key: "rssPerSocketLater", title: "RSS / socket of the second half", unit: "bytes", digits: 0 },
      { key: "rssBefore", title: "RSS before", unit: "MiB", digits: 1 },
      { key: "rssAfter", title: "RSS with them", unit: "MiB", digits: 1 },
      { key: "connectSeconds", title: "connecting took", unit: "s", digits: 1 },
    ],
    compared: "rssPerSocket",
    bars: [{ metric: "rssPerSocket", of: "value", atMost: bytesMax }],
    secondsPlanned: () => 2 + 5 + 3 * (settledSeconds + 2),
    run: (server, scale, say) => run(server, flags, scale, say),
  };
}

function run(name: ServerName, flags: readonly string[], { sockets, profileDir }: Scale, say: Say): Promise<Values> {
  return withCrew(name, { reactors: 1, profileDir, flags }, 1, async ({ server, threads }) => {
    const [thread] = threads;
    if (!thread) throw new Error("a load thread was asked for");
    say("settling before", 1);
    const before = await settledRss(server.pid);
    const half = Math.floor(sockets / 2);
    const connectHalf = async (count: number): Promise<{ rss: number; seconds: number }> => {
      say(`connecting ${count} sockets`, 2);
      const startedAt = performance.now();
      await connect(thread, server, "member", count);
      const seconds = (performance.now() - startedAt) / 1000;
      say("settling", settledSeconds);
      return { rss: await settledRss(server.pid), seconds };
    };
    const middle = await connectHalf(half);
    const after = await connectHalf(sockets - half);
    return {
      rssPerSocket: (after.rss - before) / sockets,
      rssPerSocketLater: (after.rss - middle.rss) / (sockets - half),
      rssBefore: before / MiB,
      rssAfter: after.rss / MiB,
      connectSeconds: middle.seconds + after.seconds,
    };
  });
}

async function settledRss(pid: number): Promise<number> {
  let settled = rssBytes(pid);
  let quietSeconds = 0;
  for (let waited = 0; waited < settleSecondsMax && quietSeconds < settledSeconds; waited += 0.5) {
    await sleep(500);
    const rss = rssBytes(pid);
    if (Math.abs(rss - settled) < settled * 0.005) quietSeconds += 0.5;
    else [settled, quietSeconds] = [rss, 0];
  }
  return rssBytes(pid);
}
