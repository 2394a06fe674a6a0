/**
 * A node dies with all its sessions, each in ten rooms, and another node cleans up after it and tells one endpoint, which
 * answers after 1 ms. The dead node is this process: it writes the sessions with a node's own presence, and falls silent.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { startRedis } from "../../test/support/redis.ts";
import { createRedisPresence } from "../../src/presence/redis/redis.ts";
import { openRedis } from "../../src/redis/open.ts";
import { readRedisTarget } from "../../src/redis/target.ts";
import { scratchFolder } from "../build.ts";
import { cpuSeconds, rssBytes } from "../proc.ts";
import { startServer } from "../servers/start.ts";
import { withTeardown } from "./cluster.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const roomsEach = 10;
const membersEach = 100;
const graceMs = 1000;
const lookMs = 100;
const quiet = { info() {}, warn() {} };
const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

export const webhooksRow: Row = {
  name: "webhooks",
  title: ({ sockets }) => `Webhooks: a node dies with ${sockets.toLocaleString("en")} sessions in ${roomsEach} rooms each; one endpoint that answers after 1 ms`,
  servers: ["flux"],
  metrics: [
    { key: "rate", title: "events told", unit: "/s", digits: 0 },
    { key: "events", title: "events", unit: "", digits: 0 },
    { key: "missing", title: "not told", unit: "", digits: 0 },
    { key: "repeated", title: "told again, with the same id", unit: "", digits: 0 },
    { key: "seconds", title: "from the death to the last event", unit: "s", digits: 1 },
    { key: "micros", title: "node CPU", unit: "µs each", digits: 0 },
    { key: "grownMiB", title: "memory of the node, at most above that before", unit: "MiB", digits: 0 },
    { key: "redisMiB", title: "memory of Redis, likewise", unit: "MiB", digits: 0 },
  ],
  compared: "rate",
  bars: [
    { metric: "rate", of: "value", atLeast: 2000 },
    { metric: "missing", of: "value", never: true },
  ],
  secondsPlanned: () => 70,
  run: (_, scale, say) => run(scale, say),
};

interface Report {
  readonly count: number;
  readonly unique: number;
  readonly firstAt: number;
  readonly lastAt: number;
  readonly byType: Readonly<Record<string, number>>;
}

function run({ sockets, profileDir }: Scale, say: Say): Promise<Values> {
  return withTeardown(async (teardown) => {
    mkdirSync(scratchFolder, { recursive: true });
    const redis = await startRedis({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/webhooks-`) });
    const receiver = await startServer("webhookreceiver", { reactors: 1, profileDir });
    teardown(() => receiver.stop());
    const url = `http://127.0.0.1:${receiver.port}/`;
    const webhooks = JSON.stringify({ main: { url, events: ["room.*", "member.*"] } });
    const flags = ["--redis", redis.url, "--redis-prefix", "b:", "--presence-grace-ms", String(graceMs), "--hook-secret", secret, "--webhooks", webhooks, "--webhooks-allow-private"];
    const node = await startServer("flux", { reactors: 1, profileDir, flags });
    teardown(() => node.stop());

    say("sessions", 10);
    const rooms = Math.max(1, (sockets * roomsEach) / membersEach);
    await occupy(redis.url, sockets, rooms);
    await sleep(1000);
    const before = { node: rssBytes(node.pid), redis: rssBytes(redis.pid), cpu: cpuSeconds(node.pid) };
    const expected = sockets * roomsEach + rooms;
    const most = { node: 0, redis: 0 };
    say("telling", expected / 2500);
    const diedAt = performance.now();
    await redis.client.publish("b:presence", JSON.stringify({ gone: "dead" }));
    let report = await reported(url);
    let lastUnique = -1;
    let stillFor = 0;
    // Nothing new for ten seconds: what is missing does not come any more.
    while (report.unique < expected && stillFor < 10_000) {
      await sleep(lookMs);
      most.node = Math.max(most.node, rssBytes(node.pid));
      most.redis = Math.max(most.redis, rssBytes(redis.pid));
      report = await reported(url);
      stillFor = report.unique === lastUnique ? stillFor + lookMs : 0;
      lastUnique = report.unique;
    }
    const seconds = (performance.now() - diedAt - stillFor) / 1000;
    await sleep(500);
    const { count, unique, firstAt, lastAt } = await reported(url);
    return {
      rate: unique / ((lastAt - firstAt) / 1000), events: unique, missing: expected - unique, repeated: count - unique, seconds,
      micros: ((cpuSeconds(node.pid) - before.cpu) / unique) * 1e6, grownMiB: (most.node - before.node) / 2 ** 20, redisMiB: (most.redis - before.redis) / 2 ** 20,
    };
  });
}

/** Writes the sessions, and dies: nothing is taken back. */
async function occupy(redisUrl: string, sessions: number, rooms: number): Promise<void> {
  const link = await openRedis({ target: readRedisTarget(redisUrl)!, answerMs: 30_000, log: quiet });
  const limits = { graceMs, intervalMs: 1000, namedUsersMax: 1000, namedChangesMax: 100, lastSeenTtlMs: 3_600_000 };
  const presence = await createRedisPresence({ ...limits, redis: link, prefix: "b:", node: "dead", aliveMs: 3_600_000, log: quiet, waitingMax: 2 * sessions * roomsEach + 2 * rooms }, { roomChanged() {}, statusChanged() {} });
  for (let i = 0; i < sessions; i++) {
    for (let n = 0; n < roomsEach; n++) presence.enter(`chat:${(i * roomsEach + n) % rooms}`, `\u001fuser${i}`, `${i}`);
  }
  // An answer comes behind all writes before it.
  await new Promise<void>((resolve) => presence.statuses(["\u001fuser0"], () => resolve()));
  await link.close();
}

async function reported(url: string): Promise<Report> {
  return (await (await fetch(url)).json()) as Report;
}
