/**
 * Many rooms with almost no members: memory of each on the node, in NATS and in Redis. First ephemeral rooms with one
 * member each, then durable rooms with one publication each and no members.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { startNats } from "../../test/support/nats.ts";
import { startRedis } from "../../test/support/redis.ts";
import { open, type TestSession } from "../../test/support/session.ts";
import { scratchFolder } from "../build.ts";
import { tokenFor } from "../load/token.ts";
import { rssBytes } from "../proc.ts";
import { startServer } from "../servers/start.ts";
import { withTeardown } from "./cluster.ts";
import type { Row, Scale, Say, Values } from "./row.ts";

const roomsMax = 100_000;
const roomsPerSession = 100;
const settleMs = 5000;
const lanes = 8;
const flags = [
  "--namespaces", JSON.stringify({ live: {}, logged: { durable: true, publish: "anyone" } }),
  "--commands-per-second", "0", "--bytes-per-second", "0", "--rooms-max", String(3 * roomsMax),
];

export const roomsRow: Row = {
  name: "rooms",
  title: (scale) => `${rooms(scale).toLocaleString("en")} rooms over NATS and Redis`,
  servers: ["flux"],
  metrics: [
    { key: "node", title: "node, with one member each", unit: "bytes a room", digits: 0 },
    { key: "nats", title: "nats-server", unit: "bytes a room", digits: 0 },
    { key: "redis", title: "redis-server", unit: "bytes a room", digits: 0 },
    { key: "durableNode", title: "node, durable with one publication", unit: "bytes a room", digits: 0 },
    { key: "durableNats", title: "nats-server", unit: "bytes a room", digits: 0 },
    { key: "durableRedis", title: "redis-server", unit: "bytes a room", digits: 0 },
    { key: "joinSeconds", title: "joining took", unit: "s", digits: 1 },
    { key: "publishSeconds", title: "publishing took", unit: "s", digits: 1 },
  ],
  compared: "node",
  bars: [],
  secondsPlanned: () => 60,
  run: (_, scale, say) => run(scale, say),
};

function rooms({ sockets }: Scale): number {
  return Math.min(roomsMax, 10 * sockets);
}

function run(scale: Scale, say: Say): Promise<Values> {
  return withTeardown(async (teardown) => {
    mkdirSync(scratchFolder, { recursive: true });
    const nats = await startNats({ teardown });
    const redis = await startRedis({ teardown, testdir: () => mkdtempSync(`${scratchFolder}/rooms-`) });
    const node = await startServer("flux", { reactors: 1, profileDir: scale.profileDir, flags: ["--nats", nats.url, "--redis", redis.url, ...flags] });
    teardown(() => node.stop());
    const count = rooms(scale);
    const read = async () => {
      await sleep(settleMs);
      return { node: rssBytes(node.pid), nats: rssBytes(nats.pid), redis: rssBytes(redis.pid) };
    };
    const before = await read();
    say("joining", 20);
    const sessions: TestSession[] = [];
    const joinSeconds = await timed(async () => {
      for (let i = 0; i < count; i += roomsPerSession) {
        const session = await open(node, { keep: false, hello: { token: tokenFor(`rooms-${i}`) } });
        sessions.push(session);
        await inLanes(roomsPerSession, (n) => session.join(`live:room-${i + n}`));
      }
    });
    const joined = await read();
    say("publishing", 20);
    const publishSeconds = await timed(() => inLanes(count, (n) => sessions[n % sessions.length]!.publish(`logged:room-${n}`, Buffer.alloc(128))));
    const published = await read();
    for (const session of sessions) session.raw.destroy();
    return {
      node: (joined.node - before.node) / count,
      nats: (joined.nats - before.nats) / count,
      redis: (joined.redis - before.redis) / count,
      durableNode: (published.node - joined.node) / count,
      durableNats: (published.nats - joined.nats) / count,
      durableRedis: (published.redis - joined.redis) / count,
      joinSeconds,
      publishSeconds,
    };
  });
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1000;
}

/** A few at a time. */
async function inLanes(count: number, work: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}
