/**
 * Draws how the sessions of a lost node come back: a chart for each kind of client, with a bar a second, the mean while
 * they come, and the figures. Each chart has its own scale: the controls have peaks of ten times the others. For light
 * and dark backgrounds.
 */
import { curveSeconds, variants } from "../rows/lostnode.ts";
import type { Measurement } from "./summary.ts";
import type { Values } from "../rows/row.ts";

const page = { width: 720, columns: 2, titleHeight: 34 };
const chart = { width: page.width / page.columns, height: 190, left: 52, right: 12, top: 48, bottom: 28 };
const plotted = { width: chart.width - chart.left - chart.right, height: chart.height - chart.top - chart.bottom };
const tickSeconds = [0, 5, 10, 15, 20, 25];

const style = [
  "text{font:12px system-ui,sans-serif;fill:#1f2937}.h{font-weight:600;font-size:15px}.t{font-weight:600;font-size:13px}.n{fill:#4b5563}",
  ".a{stroke:#9ca3af;stroke-width:1;fill:none}.m{stroke:#111827;stroke-width:1.5;stroke-dasharray:5 4;fill:none}",
  ".b0,.b1{fill:#2563eb}.b2,.b3{fill:#dc2626}",
  "@media (prefers-color-scheme:dark){text{fill:#e5e7eb}.n{fill:#9ca3af}.a{stroke:#6b7280}.m{stroke:#f9fafb}.b0,.b1{fill:#60a5fa}.b2,.b3{fill:#f87171}}",
].join("");

/** Null: nothing of it was measured. The last round counts. */
export function curves(measurements: readonly Measurement[]): string | null {
  const measured = new Map(measurements.flatMap((one) => ("values" in one && one.row.startsWith("lost-node-") ? [[one.row, one.values] as const] : [])));
  if (measured.size === 0) return null;
  const rows = Math.ceil(variants.length / page.columns);
  const groupHeight = page.titleHeight + rows * chart.height;
  const groups = [...measured].map(([row, values], i) => group(row.slice("lost-node-".length), values, i * groupHeight));
  const height = measured.size * groupHeight + 26;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${page.width} ${height}" width="${page.width}" height="${height}" role="img" aria-label="How the sessions of a lost node come back">`,
    `<style>${style}</style>`,
    ...groups,
    `<text class="n" x="${chart.left}" y="${height - 8}">Dashed: the mean. Each chart has its own scale. Red: clients without jitter, the control.</text>`,
    "</svg>", "",
  ].join("\n");
}

function group(placement: string, values: Values, y: number): string {
  const charts = variants.map(({ key, title }, i) => {
    const at = `translate(${(i % page.columns) * chart.width},${page.titleHeight + Math.floor(i / page.columns) * chart.height})`;
    return `<g transform="${at}">${chartOf(title, key, values, i)}</g>`;
  });
  return [`<g transform="translate(0,${y})"><text class="h" x="${chart.left}" y="22">Sessions back per second after kill -9, placement ${placement}</text>`, ...charts, "</g>"].join("\n");
}

function chartOf(title: string, key: string, values: Values, color: number): string {
  const value = (name: string) => values[`${key}.${name}`] ?? 0;
  const counts = Array.from({ length: curveSeconds }, (_, second) => value(`s${second}`));
  const most = Math.max(1, ...counts);
  const mean = value("evenness") > 0 ? value("peak") / value("evenness") : 0;
  const step = plotted.width / curveSeconds;
  const yOf = (count: number) => chart.top + plotted.height * (1 - count / most);
  const [bottom, right] = [chart.top + plotted.height, chart.left + plotted.width];
  const bars = counts.flatMap((count, second) => (count === 0 ? [] : [`<rect class="b${color}" x="${(chart.left + second * step + 1).toFixed(1)}" y="${yOf(count).toFixed(1)}" width="${(step - 2).toFixed(1)}" height="${(bottom - yOf(count)).toFixed(1)}"/>`]));
  const meanEnd = Math.min(right, chart.left + value("seconds") * step);
  const figures = `most ${whole(value("peak"))}/s, ${value("evenness").toFixed(2)} × the mean; all back after ${value("seconds").toFixed(1)} s`;
  return [
    `<text class="t" x="${chart.left}" y="16">${title}</text><text class="n" x="${chart.left}" y="34">${value("missing") > 0 ? `${figures}; ${whole(value("missing"))} not back` : figures}</text>`,
    ...bars,
    `<path class="m" d="M${chart.left} ${yOf(mean).toFixed(1)}H${meanEnd.toFixed(1)}"/>`,
    `<path class="a" d="M${chart.left} ${chart.top}V${bottom}H${right}"/>`,
    `<text x="${chart.left - 6}" y="${chart.top + 10}" text-anchor="end">${whole(most)}</text><text x="${chart.left - 6}" y="${bottom}" text-anchor="end">0</text>`,
    ...tickSeconds.map((second) => `<text x="${(chart.left + second * step).toFixed(1)}" y="${bottom + 17}" text-anchor="middle">${second}${second === 0 ? " s" : ""}</text>`),
  ].join("\n");
}

function whole(value: number): string {
  return Math.round(value).toLocaleString("en");
}
