/** Boards and alerts name what a running node serves. `npm run test:prometheus` asks a real Prometheus. */
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Registry } from "prom-client";
import t from "tap";
import { parse } from "yaml";
import { dashboards, expressions } from "../tools/grafana/boards.ts";
import { collectProcessMetrics } from "../src/metrics/metrics.ts";
import { freePort } from "../src/node/ports.ts";
import { hookSecret } from "./support/hookbackend.ts";
import { startNats } from "./support/nats.ts";
import { startNode } from "./support/node.ts";
import { anchorsOf, readPages } from "./support/pages.ts";
import { filled, readExpression, servedBy, unserved } from "./support/promql.ts";
import { startRedis } from "./support/redis.ts";
import { root } from "./support/root.ts";

interface Rules {
  readonly groups: readonly { readonly rules: readonly { readonly alert: string; readonly expr: string; readonly for?: string; readonly annotations: { readonly summary: string; readonly runbook: string } }[] }[];
}

const read = (path: string) => readFileSync(join(root, "deploy", path), "utf8");
const rules = (parse(read("prometheus/alerts.yaml")) as Rules).groups.flatMap((group) => group.rules);
const variables = { job: "flux-gateway", instance: "a:9100", __rate_interval: "5m" };

t.test("the boards are what the code makes of them, and Grafana finds them where they are mounted", async (t) => {
  for (const [name, text] of dashboards()) t.ok(read(`grafana/dashboards/${name}`) === text, `${name} is stale: run npm run grafana`);
  t.same(readdirSync(join(root, "deploy/grafana/dashboards")).sort(), [...dashboards().keys()].sort());
  const uids = [...dashboards().values()].map((text) => (JSON.parse(text) as { uid: string }).uid);
  t.equal(new Set(uids).size, uids.length);
  t.match(parse(read("grafana/provisioning/dashboards/flux.yaml")), { apiVersion: 1, providers: [{ type: "file", options: { path: /^\// } }] });
  t.match(parse(read("grafana/provisioning/datasources/flux.yaml")), { apiVersion: 1, datasources: [{ type: "prometheus" }] });
});

t.test("each alert waits for a time, and its section in the runbook exists", async (t) => {
  const runbook = readPages().find(({ path }) => path === "docs/runbook.md")!;
  t.ok(rules.length >= 10);
  for (const { alert, for: waits, annotations } of rules) {
    t.match(waits, /^\d+[sm]$/, alert);
    const [page, anchor = ""] = annotations.runbook.split("#");
    t.equal(page, runbook.path);
    t.ok(anchorsOf(runbook).has(anchor), annotations.runbook);
  }
  const tested = (parse(read("prometheus/alerts.test.yaml")) as { tests: { alert_rule_test: { alertname: string; exp_alerts: unknown[] }[] }[] }).tests.flatMap((one) => one.alert_rule_test);
  for (const { alert } of rules) {
    t.ok(tested.some(({ alertname, exp_alerts }) => alertname === alert && exp_alerts.length === 1), `${alert} is seen to fire`);
    t.ok(tested.some(({ alertname, exp_alerts }) => alertname === alert && exp_alerts.length === 0), `${alert} is seen not to fire`);
  }
});

t.test("every expression of boards and alerts parses, and names only metrics and labels of running nodes", async (t) => {
  const [nats, redis] = await Promise.all([startNats(t), startRedis(t)]);
  // Nobody answers there: PostgreSQL and the backend of a hook.
  const nowhere = `127.0.0.1:${await freePort()}`;
  const shared = await startNode(t, {
    reactors: 1, nats: [nats.url], redis: redis.url, placement: "partition", nodeUrl: "ws://127.0.0.1:1/ws", allowAnonymous: true,
    archive: `postgres://${nowhere}/none`, outbox: `postgres://${nowhere}/none`, hookConnect: `http://${nowhere}/connect`, hookSecret,
    metricsPort: 0, namespaces: { chat: { archive: true } },
  });
  const alone = await startNode(t, { reactors: 1, dataDir: t.testdir(), hookSecret, webhooks: { main: { url: `http://${nowhere}/` } } });
  const answer = await fetch(`http://127.0.0.1:${shared.metricsPort}/metrics`);
  const served = servedBy(await answer.text(), await alone.metrics());
  t.equal((await fetch(`http://127.0.0.1:${shared.metricsPort}/drain`, { method: "POST" })).status, 404, "the metrics port serves nothing else");
  for (const { at, expr } of [...expressions(), ...rules.map(({ alert, expr }) => ({ at: alert, expr }))]) t.strictSame(unserved(filled(expr, variables), served), [], at);
  for (const name of served.keys()) t.match(name, /^[a-z][a-z0-9_]*$/, "names as Prometheus has them");
});

t.test("the lag of the event loop is measured by a timer that wakes an idle process rarely", async (t) => {
  const registry = new Registry();
  collectProcessMetrics(registry);
  const mean = async () => Number(/^nodejs_eventloop_lag_mean_seconds (\S+)$/m.exec(await registry.metrics())?.[1]);
  // Each scrape begins a new measurement, which needs two rounds of the timer.
  let seconds = await mean();
  for (let ms = 200; !(seconds > 0); ms *= 2) {
    await sleep(ms);
    seconds = await mean();
  }
  t.ok(seconds >= 0.03, `${seconds * 1000} ms`);
});

t.test("and the check finds what is wrong", async (t) => {
  const served = servedBy('# TYPE flux_a gauge\nflux_a{reactor="0"} 1\n');
  t.strictSame(unserved('sum by (reactor) (flux_a{job="j"})', served), []);
  t.strictSame(unserved("flux_b", served), ["flux_b is no metric"]);
  t.strictSame(unserved('flux_a{reactor="1"}', served), ['flux_a has no reactor="1"']);
  t.strictSame(unserved("sum by (state) (flux_a)", served), ["no label state to group by in sum by (state) (flux_a)"]);
  t.throws(() => readExpression("sum(flux_a"));
});
