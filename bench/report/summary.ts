/** Summarizes measurements: medians over rounds, ratios within rounds, bars. */
import type { Bar, Row, RowName, Scale, Values } from "../rows/row.ts";
import type { ServerName } from "../servers/start.ts";

/** One measurement of one server. */
export type Measurement = { row: RowName; server: ServerName; round: number } & ({ values: Values } | { failed: string });

/** Over all rounds. */
export type Spread = { median: number; min: number; max: number };

export type ServerSummary = {
  server: ServerName;
  metrics: Readonly<Record<string, Spread>>;
  /** Ratio of the row's compared metric to bare uWS, per round. */
  ratio: Spread | null;
  /** Ratios to bare uWS of the compared metric and of each metric with such a bar, in rounds in which both kept up. */
  ratios: Readonly<Record<string, Spread>>;
  /** Rounds in which it did not deliver at the offered rate. They are compared with nothing. */
  roundsBehind: number;
  failures: readonly string[];
};

export type Verdict = { bar: Bar; measured: number; met: boolean };

/** When and of which commit; `+` marks changes that are in no commit. */
export type Measured = { date: string; commit: string; rounds: number };

export type RowSummary = { row: RowName; title: string; measured: Measured; servers: readonly ServerSummary[]; verdicts: readonly Verdict[] };

export function summarize(row: Row, scale: Scale, measurements: readonly Measurement[], measured: Measured): RowSummary {
  const ofRow = measurements.filter((measurement) => measurement.row === row.name);
  const servers = [...new Set(ofRow.map(({ server }) => server))];
  return {
    row: row.name,
    title: row.title(scale),
    measured,
    servers: servers.map((server) => summarizeServer(row, server, ofRow)),
    verdicts: row.bars.flatMap((bar) => verdict(row, bar, ofRow)),
  };
}

function summarizeServer(row: Row, server: ServerName, ofRow: readonly Measurement[]): ServerSummary {
  const metrics: Record<string, Spread> = {};
  for (const { key } of row.metrics) {
    const spread = spreadOf(valuesOf(ofRow, server, key).values());
    if (spread !== null) metrics[key] = spread;
  }
  const failures = ofRow.flatMap((one) => (one.server === server && "failed" in one ? [one.failed] : []));
  const ratios: Record<string, Spread> = {};
  for (const key of new Set([row.compared, ...row.bars.flatMap(({ metric, of }) => (of === "ratio" ? [metric] : []))])) {
    const spread = spreadOf(besideBare(row, ofRow, server, key, (value, bare) => value / bare));
    if (spread !== null) ratios[key] = spread;
  }
  const roundsBehind = ofRow.filter((one) => one.server === server && fellBehind(row, one)).length;
  return { server, metrics, ratio: ratios[row.compared] ?? null, ratios, roundsBehind, failures };
}

/** A bar without a measurement has no verdict. */
function verdict(row: Row, bar: Bar, ofRow: readonly Measurement[]): Verdict[] {
  const { judged = "flux" } = row;
  const spread = spreadOf(judgedValues(bar, row, ofRow, judged));
  if (spread === null) return [];
  if ("never" in bar) return [{ bar, measured: spread.max, met: spread.max === 0 }];
  const { atMost = Infinity, below = Infinity, atLeast = -Infinity } = bar;
  const { median } = spread;
  return [{ bar, measured: median, met: median <= atMost && median < below && median >= atLeast }];
}

function judgedValues({ of, metric }: Bar, row: Row, ofRow: readonly Measurement[], judged: ServerName): Iterable<number> {
  if (of === "value") return valuesOf(ofRow, judged, metric).values();
  return besideBare(row, ofRow, judged, metric, of === "ratio" ? (value, bare) => value / bare : (value, bare) => value - bare);
}

/** By round. */
function valuesOf(ofRow: readonly Measurement[], server: ServerName, key: string): Map<number, number> {
  const values = new Map<number, number>();
  for (const one of ofRow) {
    if (one.server !== server || !("values" in one)) continue;
    const value = one.values[key];
    if (value !== undefined && Number.isFinite(value)) values.set(one.round, value);
  }
  return values;
}

/** Of the rounds in which both kept up. */
function* besideBare(row: Row, ofRow: readonly Measurement[], server: ServerName, key: string, compare: (value: number, bare: number) => number): Generator<number> {
  const keptUp = ofRow.filter((one) => !fellBehind(row, one));
  const bare = valuesOf(keptUp, "uws", key);
  for (const [round, value] of valuesOf(keptUp, server, key)) {
    const control = bare.get(round);
    if (control !== undefined && control !== 0) yield compare(value, control);
  }
}

function fellBehind({ equalRate }: Row, one: Measurement): boolean {
  return equalRate !== undefined && "values" in one && Math.abs((one.values[equalRate.metric] ?? Infinity) - 100) > equalRate.within;
}

export function spreadOf(values: Iterable<number>): Spread | null {
  const sorted = [...values].sort((a, b) => a - b);
  const [min, max] = [sorted[0], sorted.at(-1)];
  if (min === undefined || max === undefined) return null;
  const middle = (sorted.length - 1) / 2;
  return { median: (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2, min, max };
}
