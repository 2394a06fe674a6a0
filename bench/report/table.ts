/** Prints the tables for the terminal: one column per server, to fit a usual window. */
import Table from "cli-table3";
import type { Bar, Metric, Row } from "../rows/row.ts";
import { serverTitles } from "../servers/start.ts";
import type { RowSummary, Spread, Verdict } from "./summary.ts";

export function rowTable(row: Row, { title, servers, verdicts }: RowSummary): string {
  const table = new Table({
    head: ["", ...servers.map(({ server }) => serverTitles[server]), "must be"],
    colAligns: ["left", ...servers.map(() => "right" as const), "left"],
    style: { head: [], border: [], compact: true },
  });
  for (const metric of row.metrics) {
    const cells = servers.map(({ metrics }) => cell(metrics[metric.key], metric.digits));
    table.push([label(metric), ...cells, demand(verdicts, metric.key, "value")]);
    const above = verdicts.find(({ bar }) => bar.metric === metric.key && bar.of === "above");
    if (above !== undefined) table.push(["  above bare uWS", ...servers.map(({ server }) => (server === (row.judged ?? "flux") ? shown(above.measured, metric.digits) : "")), demand(verdicts, metric.key, "above")]);
    // Several nodes have their own controls.
    if (servers.every(({ ratios }) => ratios[metric.key] === undefined)) continue;
    const ratios = servers.map(({ ratios }) => cell(ratios[metric.key], 2));
    table.push(["  ÷ bare uWS", ...ratios, demand(verdicts, metric.key, "ratio")]);
  }
  const failures = servers.flatMap(({ server, failures }) => failures.map((why) => `${serverTitles[server]} failed: ${why}`));
  const behind = servers.flatMap(({ server, roundsBehind }) => (roundsBehind === 0 ? [] : [fellBehind(serverTitles[server], roundsBehind)]));
  return [`\n${title}`, table.toString(), ...behind, ...failures].join("\n");
}

function fellBehind(title: string, rounds: number): string {
  return `${title} fell behind in ${rounds === 1 ? "one round" : `${rounds} rounds`}: it did not deliver at the offered rate. CPU and latency of such a round are not compared.`;
}

/** The median, and the range where rounds differ visibly. */
function cell(spread: Spread | undefined, digits: number): string {
  if (spread === undefined) return "–";
  const [median, min, max] = [spread.median, spread.min, spread.max].map((value) => shown(value, digits));
  return min === max ? median! : `${median} (${min}…${max})`;
}

function label({ title, unit }: Metric): string {
  return unit === "" ? title : `${title}, ${unit}`;
}

/** The bar for flux-gateway, and whether it was reached. */
function demand(verdicts: readonly Verdict[], key: string, of: Bar["of"]): string {
  const verdict = verdicts.find(({ bar }) => bar.metric === key && bar.of === of);
  return verdict === undefined ? "" : `${limit(verdict.bar)} ${verdict.met ? "✓" : "✗ MISSED"}`;
}

function limit(bar: Bar): string {
  if ("never" in bar) return "0";
  if (bar.atMost !== undefined) return `≤ ${bar.atMost.toLocaleString("en")}`;
  return bar.below !== undefined ? `< ${bar.below}` : `≥ ${bar.atLeast}`;
}

function shown(value: number, digits: number): string {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
