/**
 * `npm run test:prometheus`: Debian's Prometheus scrapes three nodes under load, which have everything: NATS, Redis, partitions, hooks, an
 * archive and an outbox. Every expression of the Grafana boards must return data. promtool checks the configuration, the rules with their
 * unit tests, and the names of all metrics.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../src/node/ports.ts";
import { expressions } from "../tools/grafana/boards.ts";
import { hookSecret, startHookBackend } from "./support/hookbackend.ts";
import { startNats } from "./support/nats.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { startPostgres } from "./support/postgres.ts";
import { needPrometheus, startPrometheus } from "./support/prometheus.ts";
import { filled } from "./support/promql.ts";
import { startReceiver } from "./support/receiver.ts";
import { startRedis } from "./support/redis.ts";
import { root } from "./support/root.ts";
import { open, type TestSession } from "./support/session.ts";
import { createTeardowns } from "./support/teardowns.ts";
import { until } from "./support/until.ts";

/** What prom-client itself does not name as promtool wants it. */
const notOurs = /^nodejs_active_\w+_total non-counter metrics should not have "_total" suffix$/;
const job = "flux-gateway";
const everyMs = 1_000;
const publishEveryMs = 20;
/** That there is load. Each publication has about thirty members. */
const deliveriesMin = 500;

needPrometheus();
const folder = join(root, "deploy/prometheus");
promtool(["check", "config", "prometheus.yaml"]);
promtool(["check", "rules", "alerts.yaml"]);
promtool(["test", "rules", "alerts.test.yaml"]);

const t = createTeardowns();
try {
  await main();
} finally {
  await t.end();
}

async function main(): Promise<void> {
  const nodes = await startNodes();
  const targets = nodes.map(({ adminUrl }) => new URL(adminUrl).host);
  const lint = spawnSync("promtool", ["check", "metrics"], { input: await nodes[0]!.metrics(), encoding: "utf8" });
  const found = lint.stderr.split("\n").filter((line) => line !== "" && !notOurs.test(line));
  if (found.length > 0) throw new Error(`promtool check metrics: ${found.join("; ")}`);
  console.log("promtool finds nothing in the names of the metrics");

  const prometheus = await startPrometheus(t, { targets: { [job]: targets }, rules: readFileSync(join(folder, "alerts.yaml"), "utf8"), everyMs });
  const stopLoad = await startLoad(nodes);
  const variables = { job, instance: targets[0]!, __rate_interval: "15s" };
  const all = expressions();
  let empty = all;
  await until(async () => {
    const found = await Promise.all(empty.map(async (one) => ({ ...one, samples: await prometheus.query(filled(one.expr, variables)) })));
    empty = found.filter(({ samples }) => samples.length === 0);
    return empty.length === 0;
  }, "every expression of the boards to return data", 60_000).catch((error: unknown) => {
    for (const { at, expr } of empty) console.error(`no data: ${at}: ${expr}`);
    throw error;
  });
  const rate = async () => (await prometheus.query(`sum(rate(flux_deliveries_total{job="${job}"}[5s]))`))[0]?.value ?? 0;
  await until(async () => (await rate()) >= deliveriesMin, `${deliveriesMin} deliveries a second`, 60_000);
  const deliveries = await rate();
  const firing = await prometheus.firing();
  if (firing.length > 0) throw new Error(`an alert fires without a reason: ${JSON.stringify(firing)}`);
  await stopLoad();
  console.log(`${all.length} expressions of the boards returned data, from ${targets.length} nodes with ${deliveries.toFixed(0)} deliveries/s; no alert fires`);
}

async function startNodes(): Promise<NodeProcess[]> {
  const [nats, redis, postgres, backend, receiver] = await Promise.all([startNats(t), startRedis(t), startPostgres(t), startHookBackend(t), startReceiver(t)]);
  backend.answer("/connect", { allow: true });
  const flags = [
    "--reactors", "2", "--nats", nats.url, "--redis", redis.url, "--allow-anonymous", "--placement", "partition", "--placement-stable-ms", "1s",
    "--archive", postgres.url(), "--outbox", postgres.url(), "--namespaces", JSON.stringify({ chat: { durable: true, archive: true } }),
    "--hook-connect", `${backend.url}/connect`, "--hook-secret", hookSecret, "--hook-on-failure", "allow",
    "--webhooks", JSON.stringify({ main: { url: receiver.url, events: ["room.*", "member.*", "session.ended"] } }), "--webhooks-allow-private",
  ];
  const nodes = await Promise.all([0, 1, 2].map(async (i) => {
    const port = await freePort();
    return startNodeProcess([...flags, "--node-id", `node-${i}`, "--port", String(port), "--node-url", `ws://127.0.0.1:${port}/ws`]);
  }));
  t.teardown(() => Promise.all(nodes.map((node) => node.kill())));
  await until(async () => (await Promise.all(nodes.map((node) => fetch(`http://127.0.0.1:${node.port}/ready`)))).every(({ ok }) => ok), "all nodes to be ready", 60_000);
  return nodes;
}

/** Ten members of a room on each node. One of each publishes, and another one comes and goes, so that there are handshakes. */
async function startLoad(nodes: readonly NodeProcess[]): Promise<() => Promise<void>> {
  const sessions = await Promise.all(nodes.flatMap((node) => Array.from({ length: 10 }, () => member(node))));
  let stopping = false;
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const publishing = nodes.map(async (node) => {
    // Partitions move while nodes start, and sessions with them: it comes again.
    for (let publisher = await member(node); !stopping; publisher = await member(node)) {
      await (async () => {
        for (let n = 0; !stopping; n++) {
          await publisher.publish("chat:load", JSON.stringify({ n }));
          await pause(publishEveryMs);
        }
      })().catch(() => undefined);
    }
  });
  const coming = nodes.map(async (node) => {
    while (!stopping) {
      await (await comeIn(node)).bye();
      await pause(200);
    }
  });
  return async () => {
    stopping = true;
    await Promise.all([...publishing, ...coming]);
    for (const session of sessions) session.raw.destroy();
  };
}

async function member(node: NodeProcess): Promise<TestSession> {
  for (;;) {
    const session = await comeIn(node);
    if (await session.join("chat:load").then(() => true, () => false)) return session;
  }
}

/** A node that has just started may refuse for a moment, as one does that claims partitions: a client comes again. */
async function comeIn(node: NodeProcess): Promise<TestSession> {
  for (let left = 600; ; left--) {
    try {
      return await open(node, {});
    } catch (error) {
      if (left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

function promtool(args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync("promtool", args, { cwd: folder, encoding: "utf8" });
  if (status !== 0) throw new Error(`promtool ${args.join(" ")}: ${stdout}${stderr}`);
  console.log(`promtool ${args.join(" ")}: ${stdout.trim().split("\n").at(-1)!.trim()}`);
}
