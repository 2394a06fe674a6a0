/** Reads a node's /metrics. */

export type Series = { name: string; labels: Readonly<Record<string, string>>; value: number };

export async function scrape(adminPort: number): Promise<Series[]> {
  const response = await fetch(`http://127.0.0.1:${adminPort}/metrics`);
  if (!response.ok) throw new Error(`/metrics answered ${response.status}`);
  return parseMetrics(await response.text());
}

/** The text format of Prometheus: `name{label="value",…} 1.5`, comments start with #. */
export function parseMetrics(text: string): Series[] {
  const series: Series[] = [];
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (match === null) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
    series.push({ name: match[1]!, labels, value: Number(match[3]) });
  }
  return series;
}

/** Summed over labels. */
export function gauge(metrics: readonly Series[], name: string): number {
  const found = metrics.filter((series) => series.name === name);
  if (found.length === 0) throw new Error(`/metrics has no ${name}`);
  return found.reduce((sum, { value }) => sum + value, 0);
}

export function byLabel(metrics: readonly Series[], name: string, label: string): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { labels, value } of metrics.filter((series) => series.name === name)) {
    const key = labels[label] ?? "";
    sums.set(key, (sums.get(key) ?? 0) + value);
  }
  return sums;
}
