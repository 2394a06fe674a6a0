/** Puts the tables of bench/results/speed.json into docs/performance.md, between its two marks. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { readResults } from "./report/results.ts";
import { summarize } from "./report/summary.ts";
import { speedPage } from "./report/tables.ts";
import { allRows } from "./rows/all.ts";

const page = fileURLToPath(new URL("../docs/performance.md", import.meta.url));
const [begin, end] = ["<!-- bench:speed -->", "<!-- /bench:speed -->"];

const run = readResults("speed");
if (run === null) throw new Error("bench/results/speed.json is missing: npm run bench -- --only speed --name speed --add");
// Judged by the bars of now, which may be others than when it was measured.
const rows = run.rows.map((stored) => {
  const row = allRows.find(({ name }) => name === stored.row);
  return row === undefined ? stored : summarize(row, run.scale, run.measurements, stored.measured);
});
const text = readFileSync(page, "utf8");
const [from, to] = [text.indexOf(begin), text.indexOf(end)];
if (from === -1 || to < from) throw new Error(`${page} lacks ${begin} or ${end}`);
writeFileSync(page, `${text.slice(0, from + begin.length)}\n\n${speedPage({ ...run, rows })}\n\n${text.slice(to)}`);
