/**
 * `npm run test:alerts -- [NAME…]`: causes each alert of deploy/prometheus/alerts.yaml on running nodes, waits until a real Prometheus fires it,
 * does what its section of docs/runbook.md says, and waits until it clears. The rules are those of the file with shorter times: a second in
 * place of `for`, fifteen seconds in place of each window, and three in place of the five minutes that events may be late.
 */
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { parse } from "yaml";
import type { Gateway } from "../dist/index.js";
import { hookSecret, startHookBackend } from "./support/hookbackend.ts";
import { startNats } from "./support/nats.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { startPostgres } from "./support/postgres.ts";
import { needPrometheus, startPrometheus } from "./support/prometheus.ts";
import { startReceiver } from "./support/receiver.ts";
import { startRedis } from "./support/redis.ts";
import { root } from "./support/root.ts";
import { open, type TestSession } from "./support/session.ts";
import { createTeardowns, type Ending } from "./support/teardowns.ts";
import { secret } from "./support/tokens.ts";
import { until } from "./support/until.ts";

interface Scenario {
  /** What Prometheus scrapes meanwhile. */
  readonly addresses: readonly string[];
  /** Called again and again until the alerts fire. */
  cause(): Promise<void>;
  /** What the runbook says; called again and again until the alerts are clear. */
  act(): Promise<void>;
}

const mib = 2 ** 20;
const patienceMs = 120_000;
const lookEveryMs = 250;
const payload = Buffer.alloc(40_000, 0x61);
const rulesText = readFileSync(join(root, "deploy/prometheus/alerts.yaml"), "utf8");
const all = (parse(rulesText) as { groups: { rules: { alert: string }[] }[] }).groups.flatMap(({ rules }) => rules.map(({ alert }) => alert));
const wanted = process.argv.slice(2).filter((word) => word !== "--");
const seen = new Set<string>();

needPrometheus();
const whole = createTeardowns();
try {
  const rules = rulesText.replace(/for: \d+[sm]/g, "for: 1s").replace(/\[\d+[sm]\]/g, "[15s]").replace("flux_webhook_age_seconds > 300", "flux_webhook_age_seconds > 3");
  const prometheus = await startPrometheus(whole, { targets: { "flux-gateway": [] }, rules, everyMs: 1_000 });
  for (const [alerts, start] of scenarios()) {
    if (wanted.length > 0 && !alerts.some((alert) => wanted.includes(alert))) continue;
    const t = createTeardowns();
    try {
      await run(alerts, await start(t), prometheus);
    } finally {
      prometheus.scrape({ "flux-gateway": [] });
      await t.end();
    }
  }
  const left = all.filter((alert) => !seen.has(alert));
  if (wanted.length === 0 && left.length > 0) throw new Error(`never caused: ${left.join(", ")}`);
  console.log(`${seen.size} of ${all.length} alerts fired and cleared`);
} finally {
  await whole.end();
}
process.exit(0);

/** Alerts that a cause makes fire, and what starts all that it needs. */
function scenarios(): readonly (readonly [alerts: readonly string[], start: (t: Ending) => Promise<Scenario>])[] {
  return [
    [["FluxNatsUnavailable", "FluxNodeNotReady", "FluxRedisUnavailable", "FluxHookFailing"], services],
    [["FluxWebhookLate", "FluxWebhookDeadLetters", "FluxWebhookQueueFull", "FluxWebhookDisabled"], webhooks],
    [["FluxNatsStoreLost", "FluxArchiveGap"], storeLost],
    [["FluxArchiveLags"], archiveLag],
    [["FluxNodeDown"], killed],
    [["FluxDiskFailing"], disk],
    [["FluxMemoryShort"], memory],
    [["FluxReactorRestarted"], reactor],
    [["FluxLoopLag"], stalled],
    [["FluxSlowReaders"], slow],
    [["FluxClientsRefused"], strangers],
    [["FluxPublicationsLost"], gaps],
    [["FluxPartitionsUnowned"], partitions],
  ];
}

async function run(alerts: readonly string[], { addresses, cause, act }: Scenario, prometheus: Awaited<ReturnType<typeof startPrometheus>>): Promise<void> {
  prometheus.scrape({ "flux-gateway": addresses });
  // An increase is seen only from one scrape to the next, and Prometheus takes seconds to know new targets.
  const known = () => prometheus.query(`count_over_time(up{instance=~"${addresses.join("|")}"}[5s]) > 2`);
  await until(async () => (await known()).length === addresses.length, "Prometheus to know the node", 60_000);
  const firing = async () => (await prometheus.firing()).map(({ alert }) => alert);
  const began = performance.now();
  // One may clear by itself before another fires: what has fired counts.
  const fires = new Set<string>();
  await repeat(cause, async () => {
    for (const alert of await firing()) fires.add(alert);
    return alerts.every((alert) => fires.has(alert));
  }, () => `${alerts.filter((alert) => !fires.has(alert)).join(", ")} to fire`);
  const fired = performance.now();
  await repeat(act, async () => {
    const now = await firing();
    return !alerts.some((alert) => now.includes(alert));
  }, () => `${alerts.join(", ")} to clear`);
  for (const alert of alerts) seen.add(alert);
  console.log(`ok: ${alerts.join(", ")} fired after ${seconds(fired - began)} s, and cleared ${seconds(performance.now() - fired)} s after the runbook's action`);
}

async function repeat(step: () => Promise<void>, done: () => Promise<boolean>, what: () => string): Promise<void> {
  const endsAt = performance.now() + patienceMs;
  while (!(await done())) {
    if (performance.now() > endsAt) throw new Error(`waited ${patienceMs / 1000} s for ${what()}`);
    await step();
    await sleep(lookEveryMs);
  }
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}

function addressOf(node: Gateway): string {
  return `127.0.0.1:${node.adminPort}`;
}

/** Runs a step once, however often it is called. */
function once(step: () => Promise<unknown>): () => Promise<void> {
  let begun: Promise<unknown> | null = null;
  return async () => void (await (begun ??= step()));
}

// ------------------------------------------------------------------------------- what nodes depend on

async function services(t: Ending): Promise<Scenario> {
  const [nats, redis, backend] = await Promise.all([startNats(t), startRedis(t), startHookBackend(t)]);
  const node = await startNode(t, { reactors: 1, nats: [nats.url], redis: redis.url, natsGraceMs: 500, hookSecret, hookConnect: `${backend.url}/connect` });
  backend.answer("/connect", { allow: true });
  const come = () => open(node, {}).then((session) => session.bye(), () => undefined);
  await come();
  const stop = once(() => Promise.all([nats.stop(), redis.stop()]));
  const start = once(() => Promise.all([nats.start(), redis.start()]));
  return {
    addresses: [addressOf(node)],
    // The backend first: a node that does not reach NATS takes no clients, whom it would ask about.
    cause: async () => {
      backend.answer("/connect", (_, res) => void res.writeHead(500).end());
      for (let i = 0; i < 20; i++) await come();
      await stop();
    },
    act: async () => {
      await start();
      backend.answer("/connect", { allow: true });
      await come();
    },
  };
}

async function webhooks(t: Ending): Promise<Scenario> {
  const receiver = await startReceiver(t);
  const status: Record<string, number> = { "/late": 500, "/refuses": 400, "/gone": 410 };
  receiver.answer = ({ path }, res) => void res.writeHead(status[path] ?? 204).end();
  const endpoints = Object.fromEntries(["late", "refuses", "gone"].map((name) => [name, { url: `${receiver.url}/${name}`, events: ["session.*"] }]));
  const node = await startNode(t, { reactors: 1, hookSecret, webhooks: endpoints, webhooksAllowPrivate: true, webhookEventsMax: 20 });
  const admin = (body: object) => fetch(`http://${addressOf(node)}/webhooks`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  return {
    addresses: [addressOf(node)],
    // Each session begins and ends: more events than may wait.
    cause: () => open(node, {}).then((session) => void session.bye()),
    act: async () => {
      for (const path of Object.keys(status)) status[path] = 204;
      for (const endpoint of ["refuses", "gone"]) await admin({ endpoint, max: 1000 });
    },
  };
}

async function storeLost(t: Ending): Promise<Scenario> {
  const [nats, redis, postgres] = await Promise.all([startNats(t), startRedis(t), startPostgres(t)]);
  const node = await startNode(t, { reactors: 1, nats: [nats.url], redis: redis.url, archive: postgres.url(), namespaces: { chat: { durable: true, archive: true } } });
  const session = await open(node, {});
  await session.join("chat:a");
  for (let i = 0; i < 20; i++) await session.publish("chat:a", JSON.stringify(i));
  const publish = () => session.publish("chat:a", '"again"').then(() => undefined, () => undefined);
  const lose = once(async () => {
    await nats.stop();
    nats.wipe();
    await nats.start();
  });
  return {
    addresses: [addressOf(node)],
    cause: async () => {
      await lose();
      await publish();
    },
    act: publish,
  };
}

async function archiveLag(t: Ending): Promise<Scenario> {
  const [nats, redis, postgres] = await Promise.all([startNats(t), startRedis(t), startPostgres(t)]);
  const node = await startNode(t, { reactors: 1, nats: [nats.url], redis: redis.url, archive: postgres.url(), archiveLagMs: 60_000, namespaces: { chat: { durable: true, archive: true } } });
  const session = await open(node, {});
  await session.join("chat:a");
  await session.publish("chat:a", '"archived"');
  const stop = once(async () => {
    await postgres.stop();
    await session.publish("chat:a", '"waits"');
  });
  return { addresses: [addressOf(node)], cause: stop, act: once(() => postgres.start()) };
}

async function killed(t: Ending): Promise<Scenario> {
  const redis = await startRedis(t);
  const start = (id: string) => startNodeProcess(["--reactors", "1", "--redis", redis.url, "--node-id", id, "--node-heartbeat-ms", "500", "--node-dead-ms", "3s"]);
  const nodes: NodeProcess[] = await Promise.all([start("a"), start("b")]);
  t.teardown(() => Promise.all(nodes.map((node) => node.kill())));
  return {
    addresses: [new URL(nodes[0]!.adminUrl).host],
    cause: once(() => nodes[1]!.kill()),
    act: once(async () => void nodes.push(await start("b"))),
  };
}

// ------------------------------------------------------------------------------- what a node runs short of

async function disk(t: Ending): Promise<Scenario> {
  const folder = mkdtempSync(join(tmpdir(), "flux-full-"));
  if (spawnSync("mount", ["-t", "tmpfs", "-o", "size=32m", "tmpfs", folder]).status !== 0) throw new Error("FluxDiskFailing needs root, to mount a small disk");
  t.teardown(() => {
    spawnSync("umount", ["-l", folder]);
    rmSync(folder, { recursive: true, force: true });
  });
  const node = await startNode(t, { reactors: 1, dataDir: join(folder, "data"), namespaces: { chat: { durable: true } } });
  const session = await open(node, {});
  await session.join("chat:a");
  const filler = join(folder, "filler");
  const fill = once(async () => {
    for (const chunk of [Buffer.alloc(mib), Buffer.alloc(4096), Buffer.alloc(1)]) {
      try {
        for (;;) appendFileSync(filler, chunk);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      }
    }
  });
  const publish = async () => void (await session.request({ publish: { room: "chat:a", payload: Buffer.alloc(10_000, 0x61), format: 0 } }));
  return {
    addresses: [addressOf(node)],
    cause: async () => {
      await fill();
      await publish();
    },
    act: async () => {
      rmSync(filler, { force: true });
      await publish();
    },
  };
}

async function memory(t: Ending): Promise<Scenario> {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const node = await startNode(t, { reactors: 1, memoryLimitBytes: Math.round((process.memoryUsage.rss() + 400 * mib) / 0.9) });
  let ballast: Buffer[] = [];
  return {
    addresses: [addressOf(node)],
    cause: once(async () => void (ballast = Array.from({ length: 60 }, () => Buffer.alloc(10 * mib, 1)))),
    act: async () => {
      ballast = [];
      collect();
      if (ballast.length > 0) throw new Error("kept");
    },
  };
}

async function reactor(t: Ending): Promise<Scenario> {
  const node = await startNode(t, { reactors: 2 });
  return {
    addresses: [addressOf(node)],
    cause: once(async () => {
      node.failReactor(0);
    }),
    act: async () => undefined,
  };
}

/** Another program takes the processor: the node runs a third of the time. */
async function stalled(t: Ending): Promise<Scenario> {
  const node = await startNodeProcess(["--reactors", "1"]);
  t.teardown(() => node.kill());
  return {
    addresses: [new URL(node.adminUrl).host],
    cause: async () => {
      for (let i = 0; i < 5; i++) {
        process.kill(node.pid, "SIGSTOP");
        await sleep(500);
        process.kill(node.pid, "SIGCONT");
        await sleep(250);
      }
    },
    act: async () => undefined,
  };
}

// ------------------------------------------------------------------------------- clients

async function slow(t: Ending): Promise<Scenario> {
  const node = await startNode(t, { reactors: 1, socketQueueBytesMax: 65_536, commandsPerSecond: 0, bytesPerSecond: 0, namespaces: { strict: { durable: true, slowReaders: "disconnect" } } });
  const writer = await open(node, {});
  await writer.join("strict:a");
  return {
    addresses: [addressOf(node)],
    cause: async () => {
      const readers = await lazy(node, "strict:a", 15);
      for (let i = 0; i < 250; i++) await writer.publish("strict:a", payload);
      for (const reader of readers) reader.raw.destroy();
    },
    act: async () => undefined,
  };
}

async function gaps(t: Ending): Promise<Scenario> {
  const node = await startNode(t, { reactors: 1, socketQueueBytesMax: 65_536, commandsPerSecond: 0, bytesPerSecond: 0, namespaces: { cursor: { slowReaders: "drop" } } });
  const writer = await open(node, {});
  await writer.join("cursor:a");
  return {
    addresses: [addressOf(node)],
    cause: async () => {
      const [reader] = await lazy(node, "cursor:a", 1);
      for (let i = 0; i < 400; i++) await writer.publish("cursor:a", payload);
      reader!.raw.resume();
      await sleep(1_000);
      reader!.raw.destroy();
    },
    act: async () => undefined,
  };
}

/** Members that do not read. */
async function lazy(node: Gateway, room: string, count: number): Promise<TestSession[]> {
  const readers = await Promise.all(Array.from({ length: count }, () => open(node, {})));
  for (const reader of readers) {
    await reader.join(room);
    reader.raw.pause();
  }
  return readers;
}

/** A new release of the application sends tokens of another key. */
async function strangers(t: Ending): Promise<Scenario> {
  const node = await startNode(t, { reactors: 1, authSecret: secret });
  return {
    addresses: [addressOf(node)],
    cause: async () => {
      await Promise.all(Array.from({ length: 10 }, () => open(node, { hello: { token: "not a token" } }).then((session) => session.bye(), () => undefined)));
    },
    act: async () => undefined,
  };
}

async function partitions(t: Ending): Promise<Scenario> {
  const [nats, redis] = await Promise.all([startNats(t), startRedis(t)]);
  const node = await startNode(t, { reactors: 1, nats: [nats.url], redis: redis.url, placement: "partition", nodeUrl: "ws://127.0.0.1:1/ws", maxPartitions: 10, placementStableMs: 0 });
  const raise = once(async () => {
    const answer = await fetch(`http://${addressOf(node)}/settings`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ maxPartitions: 0 }) });
    if (!answer.ok) throw new Error(await answer.text());
  });
  return { addresses: [addressOf(node)], cause: async () => undefined, act: raise };
}
