/** Draws the figures of a run: one panel for each row's main figure, on a white background. */
import { BarChart } from "echarts/charts";
import { GridComponent, MarkLineComponent, TitleComponent } from "echarts/components";
import { type EChartsCoreOption, init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { RowName } from "../rows/row.ts";
import { type ServerName, serverTitles } from "../servers/start.ts";
import { type Machine, machineLine } from "./machine.ts";
import type { RowSummary, ServerSummary } from "./summary.ts";

use([BarChart, GridComponent, MarkLineComponent, TitleComponent, SVGRenderer]);

type Panel = { row: RowName; metric: string; title: string; unit: string; digits: number; better: "less" | "more" };

const panels: readonly Panel[] = [
  { row: "fanout-100", metric: "cpuMicros", title: "Fan-out to 1,000, 100 messages/s", unit: "µs server CPU per delivery", digits: 2, better: "less" },
  { row: "fanout-2000", metric: "deliveries", title: "Fan-out to 1,000, 2,000 messages/s", unit: "thousand deliveries a second", digits: 0, better: "more" },
  { row: "idle", metric: "rssPerSocket", title: "Idle socket in one room", unit: "bytes of RSS", digits: 0, better: "less" },
  { row: "fanout-100", metric: "p99", title: "Fan-out latency, 100 messages/s", unit: "ms, p99", digits: 1, better: "less" },
  { row: "echo", metric: "p99", title: "Echo, 10,000 sockets, 1 message/s each", unit: "ms, p99", digits: 2, better: "less" },
  { row: "cross", metric: "p50", title: "Publish to delivery, idle", unit: "ms, p50; flux-gateway across reactors", digits: 3, better: "less" },
  ...(["binary", "json"] as const).flatMap((format): Panel[] => {
    const name = format === "json" ? "JSON" : "binary";
    return [
      { row: `speed-${format}-1000-100`, metric: "cpuMicros", title: `1,000 × 100/s, ${name}`, unit: "µs server CPU per delivery", digits: 2, better: "less" },
      { row: `speed-${format}-100-1000`, metric: "cpuPublication", title: `100 × 1,000/s, ${name}`, unit: "µs server CPU per publication", digits: 0, better: "less" },
      { row: `speed-${format}-1000-1000`, metric: "cpuMicros", title: `1,000 × 1,000/s, ${name}`, unit: "µs server CPU per delivery", digits: 2, better: "less" },
      { row: `speed-${format}-100-4000`, metric: "cpuPublication", title: `100 × 4,000/s, ${name}`, unit: "µs server CPU per publication", digits: 0, better: "less" },
      { row: `speed-${format}-10000-50`, metric: "p99", title: `10,000 × 50/s, ${name}`, unit: "ms, p99", digits: 0, better: "less" },
      { row: `speed-${format}-idle`, metric: "p50", title: `Idle, 10 members, ${name}`, unit: "ms, p50", digits: 2, better: "less" },
    ];
  }),
  { row: "peers-1000-50", metric: "cpuMicros", title: "Peers, 1,000 × 50/s", unit: "µs server CPU per delivery", digits: 1, better: "less" },
  { row: "peers-1000-50", metric: "p99", title: "Peers, 1,000 × 50/s", unit: "ms, p99", digits: 1, better: "less" },
  { row: "nodes", metric: "p50", title: "One node to another, not kept", unit: "ms, p50", digits: 3, better: "less" },
  { row: "nodes", metric: "durableP50", title: "One node to another, durable", unit: "ms, p50", digits: 3, better: "less" },
];

const ink = "#1f2937";
const faint = "#6b7280";
const colors: Record<ServerName, string> = { flux: "#2563eb", uws: "#94a3b8", ws: "#cbd5e1", socketio: "#e2e8f0", nats: "#cbd5e1", nchan: "#cbd5e1", centrifugo: "#cbd5e1" };

const columns = 3;
/** Of four servers; each more needs a bar. */
const panelSize = { width: 380, height: 210 };
const margin = { left: 32, top: 84, bottom: 44 };

export function plot(summaries: readonly RowSummary[], machine: Machine): string {
  const drawn = panels.flatMap((panel) => {
    const summary = summaries.find(({ row }) => row === panel.row);
    const servers = summary?.servers.filter(({ metrics }) => metrics[panel.metric] !== undefined) ?? [];
    return servers.length === 0 ? [] : [{ panel, servers }];
  });
  const width = margin.left + columns * panelSize.width;
  const height = margin.top + Math.max(1, Math.ceil(drawn.length / columns)) * panelSize.height + margin.bottom;
  const chart = init(null, null, { renderer: "svg", ssr: true, width, height });
  chart.setOption(option(drawn, machine, height));
  const svg = chart.renderToSVGString();
  chart.dispose();
  return roundCorners(svg);
}

type Drawn = { panel: Panel; servers: readonly ServerSummary[] };

function option(drawn: readonly Drawn[], machine: Machine, height: number): EChartsCoreOption {
  const places = drawn.map((_, i) => ({
    left: margin.left + (i % columns) * panelSize.width,
    top: margin.top + Math.floor(i / columns) * panelSize.height,
  }));
  const footer = `${machine.date.slice(0, 10)} · ${machineLine(machine)}`;
  return {
    animation: false,
    backgroundColor: "#ffffff",
    textStyle: { fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif" },
    title: [
      { text: "flux-gateway beside its controls", left: margin.left - 5, top: 20, textStyle: { fontSize: 20, color: ink } },
      { text: footer, left: margin.left - 5, top: height - 32, textStyle: { fontSize: 11, fontWeight: "normal", color: faint } },
      ...drawn.map(({ panel }, i) => ({
        text: panel.title,
        subtext: `${panel.unit} · ${panel.better} is better`,
        left: places[i]!.left - 5,
        top: places[i]!.top,
        itemGap: 4,
        textStyle: { fontSize: 14, color: ink },
        subtextStyle: { fontSize: 12, color: faint },
      })),
    ],
    grid: places.map(({ left, top }) => ({ left: left + 84, top: top + 44, width: panelSize.width - 84 - 96, height: panelSize.height - 84 })),
    xAxis: drawn.map((_, i) => ({ type: "value", gridIndex: i, show: false, min: 0 })),
    yAxis: drawn.map(({ servers }, i) => ({
      type: "category",
      gridIndex: i,
      inverse: true,
      data: servers.map(({ server }) => serverTitles[server]),
      axisLine: { show: false },
      axisTick: { show: false },
      axisLabel: { color: ink, fontSize: 12 },
    })),
    series: drawn.map(({ panel, servers }, i) => ({
      type: "bar",
      xAxisIndex: i,
      yAxisIndex: i,
      barWidth: 18,
      data: servers.map(({ server, metrics }) => ({
        value: metrics[panel.metric]!.median,
        itemStyle: { color: colors[server], borderRadius: [0, 3, 3, 0] },
        label: {
          show: true,
          position: "right",
          color: ink,
          fontSize: 12,
          fontWeight: server === "flux" ? "bold" : "normal",
          formatter: ({ value }: { value: number }) => shown(value, panel.digits),
        },
      })),
    })),
  };
}

function shown(value: number, digits: number): string {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** The background echarts draws is the first rectangle. */
function roundCorners(svg: string): string {
  return svg.replace("<rect ", '<rect rx="12" ');
}
