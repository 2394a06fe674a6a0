/** Stores a run: JSON for programs, SVG for the README. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Scale } from "../rows/row.ts";
import type { Machine } from "./machine.ts";
import { curves } from "./curves.ts";
import { plot } from "./plot.ts";
import type { Measurement, RowSummary } from "./summary.ts";

export type Run = { machine: Machine; scale: Scale; rounds: number; rows: readonly RowSummary[]; measurements: readonly Measurement[] };

const directory = fileURLToPath(new URL("../results/", import.meta.url));

/** Null: there is none. */
export function readResults(name: string): Run | null {
  const file = `${directory}${name}.json`;
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Run) : null;
}

/** Rows of `run`, and those of `before` that it did not measure. */
export function added(before: Run | null, run: Run): Run {
  if (before === null) return run;
  const isNew = (row: string) => run.rows.some((one) => one.row === row);
  return {
    ...run,
    machine: { ...run.machine, versions: { ...before.machine.versions, ...run.machine.versions } },
    rows: [...before.rows.filter(({ row }) => !isNew(row)), ...run.rows],
    measurements: [...before.measurements.filter(({ row }) => !isNew(row)), ...run.measurements],
  };
}

/** @returns the paths of the files. */
export function keepResults(name: string, run: Run): string[] {
  mkdirSync(directory, { recursive: true });
  const [json, svg] = [`${directory}${name}.json`, `${directory}${name}.svg`];
  writeFileSync(json, `${JSON.stringify(run, null, 2)}\n`);
  writeFileSync(svg, plot(run.rows, run.machine));
  const storm = curves(run.measurements);
  if (storm === null) return [json, svg];
  writeFileSync(`${directory}${name}-storm.svg`, storm);
  return [json, svg, `${directory}${name}-storm.svg`];
}
