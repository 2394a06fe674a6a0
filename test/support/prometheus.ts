/** A real Prometheus for commands beside the suite: Debian's package, on a free port, with a store of its own. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { freePort } from "../../src/node/ports.ts";
import type { Teardowns } from "./teardowns.ts";
import { until } from "./until.ts";

export interface Prometheus {
  /** Samples of an expression now: those that are numbers. */
  query(expr: string): Promise<readonly { readonly labels: Readonly<Record<string, string>>; readonly value: number }[]>;
  /** Alerts that fire now. */
  firing(): Promise<readonly { readonly alert: string; readonly labels: Readonly<Record<string, string>> }[]>;
  /** From now on these are scraped, by the name of their job. */
  scrape(targets: Readonly<Record<string, readonly string[]>>): void;
}

/** Installs Debian's package where it is missing; only root can. @throws where it is not there then */
export function needPrometheus(): void {
  const has = (): boolean => spawnSync("prometheus", ["--version"]).status === 0 && spawnSync("promtool", ["--version"]).status === 0;
  if (has()) return;
  if (process.getuid?.() === 0) spawnSync("bash", ["-c", "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends prometheus"], { stdio: "ignore" });
  if (!has()) throw new Error("prometheus and promtool are missing. On Debian or Ubuntu: apt-get install --no-install-recommends prometheus");
}

/** @param rules the text of a file of rules */
export async function startPrometheus(t: Teardowns, { targets, rules, everyMs }: { targets: Readonly<Record<string, readonly string[]>>; rules: string; everyMs: number }): Promise<Prometheus> {
  const folder = mkdtempSync(join(tmpdir(), "flux-prometheus-"));
  const scrape: Prometheus["scrape"] = (jobs) => {
    for (const [job, addresses] of Object.entries(jobs)) {
      writeFileSync(join(folder, `${job}.tmp`), JSON.stringify([{ targets: addresses }]));
      renameSync(join(folder, `${job}.tmp`), join(folder, `${job}.json`));
    }
  };
  scrape(targets);
  writeFileSync(join(folder, "rules.yaml"), rules);
  writeFileSync(join(folder, "prometheus.yaml"), stringify({
    global: { scrape_interval: `${everyMs}ms`, scrape_timeout: `${everyMs}ms`, evaluation_interval: `${everyMs}ms` },
    rule_files: ["rules.yaml"],
    scrape_configs: Object.keys(targets).map((job) => ({ job_name: job, file_sd_configs: [{ files: [`${job}.json`], refresh_interval: "1s" }] })),
  }));
  const port = await freePort();
  const child = spawn("prometheus", [`--config.file=${join(folder, "prometheus.yaml")}`, `--storage.tsdb.path=${join(folder, "data")}`, `--web.listen-address=127.0.0.1:${port}`, "--log.level=warn"], { stdio: ["ignore", "ignore", "inherit"] });
  t.teardown(async () => {
    if (child.exitCode === null) {
      const exit = once(child, "exit");
      child.kill("SIGTERM");
      await exit;
    }
    rmSync(folder, { recursive: true, force: true });
  });
  const get = async (path: string): Promise<unknown> => {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`);
    const body = (await answer.json()) as { status: string; error?: string; data: unknown };
    if (body.status !== "success") throw new Error(`Prometheus: ${body.error} at ${path}`);
    return body.data;
  };
  await until(() => fetch(`http://127.0.0.1:${port}/-/ready`).then((answer) => answer.ok, () => false), "Prometheus to be ready");
  return {
    scrape,
    query: async (expr) => {
      const { result } = (await get(`/api/v1/query?query=${encodeURIComponent(expr)}`)) as { result: { metric: Record<string, string>; value: [number, string] }[] };
      return result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) })).filter(({ value }) => !Number.isNaN(value));
    },
    firing: async () => {
      const { alerts } = (await get("/api/v1/alerts")) as { alerts: { labels: Record<string, string>; state: string }[] };
      return alerts.filter(({ state }) => state === "firing").map(({ labels }) => ({ alert: labels.alertname!, labels }));
    },
  };
}
