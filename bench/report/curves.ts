/** Draws how the sessions of a lost node come back: a line for each kind of client, second by second. For both themes. */
import { curveSeconds, variants } from "../rows/lostnode.ts";
import type { Measurement } from "./summary.ts";

const panel = { width: 720, height: 220 };
const plotAt = { left: 64, right: 20, top: 36, bottom: 34 };
const colors = ["#2563eb", "#0d9488", "#f59e0b", "#dc2626"];

/** Null: nothing of it was measured. The last round counts. */
export function curves(measurements: readonly Measurement[]): string | null {
  const measured = new Map(measurements.flatMap((one) => ("values" in one && one.row.startsWith("lost-node-") ? [[one.row, one.values] as const] : [])));
  if (measured.size === 0) return null;
  const panels = [...measured].map(([row, values], i) => {
    const series = variants.map(({ key }) => Array.from({ length: curveSeconds }, (_, second) => values[`${key}.s${second}`] ?? 0));
    return panelOf(`Sessions back in each second after kill -9, placement ${row.slice("lost-node-".length)}`, series, i * panel.height);
  });
  const height = measured.size * panel.height + 34;
  const legend = variants.map(({ title }, i) => `<g transform="translate(${plotAt.left + i * 160},${height - 14})"><rect width="18" height="4" y="-7" rx="2" fill="${colors[i]}"/><text x="24" y="-1">${title}</text></g>`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${panel.width} ${height}" width="${panel.width}" height="${height}" role="img" aria-label="How the sessions of a lost node come back">`,
    "<style>text{font:12px system-ui,sans-serif;fill:#1f2937}.t{font-weight:600;font-size:14px}.a{stroke:#9ca3af;stroke-width:1}polyline{fill:none;stroke-width:2}@media (prefers-color-scheme:dark){text{fill:#e5e7eb}.a{stroke:#6b7280}}</style>",
    ...panels, ...legend, "</svg>", "",
  ].join("\n");
}

function panelOf(title: string, series: readonly (readonly number[])[], y: number): string {
  const [width, height] = [panel.width - plotAt.left - plotAt.right, panel.height - plotAt.top - plotAt.bottom];
  const most = Math.max(1, ...series.flat());
  const at = (second: number, count: number) => `${(plotAt.left + (second * width) / (curveSeconds - 1)).toFixed(1)},${(plotAt.top + height * (1 - count / most)).toFixed(1)}`;
  const lines = series.map((counts, i) => `<polyline stroke="${colors[i]}" points="${counts.map((count, second) => at(second, count)).join(" ")}"/>`);
  const [left, bottom, right] = [plotAt.left, plotAt.top + height, plotAt.left + width];
  const ticks = [0, 5, 10, 15, 20, 25].map((second) => `<text x="${at(second, 0).split(",")[0]}" y="${bottom + 18}" text-anchor="middle">${second} s</text>`);
  return [
    `<g transform="translate(0,${y})"><text class="t" x="${left}" y="20">${title}</text>`,
    `<path class="a" d="M${left} ${plotAt.top}V${bottom}H${right}" fill="none"/>`,
    `<text x="${left - 8}" y="${plotAt.top + 4}" text-anchor="end">${most.toLocaleString("en")}</text><text x="${left - 8}" y="${bottom + 4}" text-anchor="end">0</text>`,
    ...ticks, ...lines, "</g>",
  ].join("\n");
}
