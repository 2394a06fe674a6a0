/** A plot of the last 15 minutes, a line for each node. */
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { live, points, reading, seriesOf, timesOfPoints, type SeriesName } from "./live.ts";
import { bytes, time } from "./format.ts";

/** Lines that one can tell apart. */
export const linesMax = 8;
const height = 168;
/** Steps of an axis of bytes. */
const powers = Array.from({ length: 50 }, (_, i) => 2 ** i);

export function colorOf(index: number): string {
  return `var(--line-${(index % linesMax) + 1})`;
}

export function Chart({ title, series, show, nodes }: { title: string; series: SeriesName; show: (value: number) => string; nodes: readonly string[] }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const names = nodes.slice(0, linesMax);

  useEffect(() => {
    const own = box.current!;
    const style = getComputedStyle(own);
    const color = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: color("--muted"), grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const made = new uPlot({
      width: Math.max(120, own.clientWidth),
      height,
      padding: [8, 16, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      // No dates of uPlot's: the bundle is without them (bundledashboard.mjs).
      scales: { x: { time: false, range: (_, min, max) => [min, max] }, y: { range: (_, __, max) => [0, Math.max(4, max * 1.15)] } },
      axes: [{ ...axis, size: 26, splits: (_, __, min, max) => minutesIn(min, max), values: (_, all) => all.map((value) => time(value * 1_000).slice(0, 5)) }, { ...axis, size: 62, space: 34, ...(show === bytes && { incrs: powers }), values: (_, all) => all.map((value) => show(value)) }],
      series: [{}, ...names.map((label, i) => ({ label, stroke: color(`--line-${i + 1}`), width: 2, points: { show: false }, spanGaps: false }))],
      hooks: { setCursor: [(self) => setAt(self.cursor.idx ?? null)] },
    }, dataOf(names, series), own);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: Math.max(120, own.clientWidth), height }));
    resized.observe(own);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [names.join(), scheme()]);

  const turn = reading.value;
  useEffect(() => plot.current?.setData(dataOf(names, series)), [turn]);

  const index = at ?? points - 1;
  const values = names.map((name) => seriesOf(name, series)?.[index] ?? NaN);
  const said = names.map((name, i) => (Number.isFinite(values[i]!) ? `${name} ${show(values[i]!)}` : "")).filter((text) => text !== "");
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        {at !== null && <span class="chart-time">{time(timesOfPoints()[at]! * 1_000)}</span>}
        <span class="chart-values">{names.map((name, i) => Number.isFinite(values[i]!) && <span key={name}><i class={`swatch line-${i + 1}`} />{show(values[i]!)}</span>)}</span>
      </figcaption>
      <div ref={box} class="plot" role="img" aria-label={`${title}, last 15 minutes. Now: ${said.join(", ")}`} />
    </figure>
  );
}

export function Legend({ nodes }: { nodes: readonly string[] }) {
  const more = nodes.length - linesMax;
  return (
    <p class="legend">
      {nodes.slice(0, linesMax).map((name, i) => <span key={name}><i class={`swatch line-${i + 1}`} />{name}</span>)}
      {more > 0 && <span>and {more} more, in the table</span>}
    </p>
  );
}

function dataOf(names: readonly string[], series: SeriesName): uPlot.AlignedData {
  const lines = names.map((name) => Array.from(seriesOf(name, series) ?? new Float64Array(points).fill(NaN), (value) => (Number.isFinite(value) ? value : null)));
  return [timesOfPoints(), ...lines] as uPlot.AlignedData;
}

/** Every third minute. */
function minutesIn(min: number, max: number): number[] {
  const found: number[] = [];
  for (let at = Math.ceil(min / 180) * 180; at <= max; at += 180) found.push(at);
  return found;
}

/** Colors are read when a plot is made. */
function scheme(): string {
  void live.value;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
