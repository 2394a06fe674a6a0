/** Metrics of the journals in a data directory. Only where one is configured. */
import type { Metric, Registry } from "prom-client";
import { commitBucketsMs, type DiskUsage } from "../disk/journal.ts";
import { gauge, total } from "./metrics.ts";

/** @param journals by name, each returning its current state. */
export function addDiskMetrics(registry: Registry, journals: Readonly<Record<string, () => DiskUsage>>): void {
  const each = (use: (journal: string, usage: DiskUsage) => void) => {
    for (const [journal, usage] of Object.entries(journals)) use(journal, usage());
  };
  const labels = ["journal"];
  gauge(registry, "flux_disk_bytes", "Bytes of the journal's files", labels, (metric) => each((journal, { bytes }) => metric.set({ journal }, bytes)));
  gauge(registry, "flux_disk_uncommitted_bytes", "Bytes of records that wait for their commit to disk", labels, (metric) =>
    each((journal, { uncommittedBytes }) => metric.set({ journal }, uncommittedBytes)),
  );
  gauge(registry, "flux_disk_failing", "1 while the last commit to disk failed", labels, (metric) =>
    each((journal, { failing }) => metric.set({ journal }, failing ? 1 : 0)),
  );
  const totals = [
    ["flux_disk_commits_total", "commits", "Commits to disk; one commit writes and syncs all records that arrived together"],
    ["flux_disk_failed_commits_total", "failedCommits", "Commits that the disk rejected"],
    ["flux_disk_records_total", "records", "Records committed to disk"],
    ["flux_disk_written_bytes_total", "bytes", "Bytes of records committed to disk"],
  ] as const;
  for (const [name, from, help] of totals) {
    total(registry, name, help, labels, (add) => each((journal, { counts }) => add({ journal }, counts[from])));
  }
  registry.registerMetric(commitHistogram(each));
}

/** prom-client's histogram only observes; this one is read from the journals' buckets. */
function commitHistogram(each: (use: (journal: string, usage: DiskUsage) => void) => void): Metric {
  const name = "flux_disk_commit_seconds";
  const help = "Time from the beginning of a commit until it is durable";
  const get = async () => {
    const values: { metricName: string; labels: Record<string, string>; value: number }[] = [];
    each((journal, { counts: { buckets, sumMs } }) => {
      let below = 0;
      buckets.forEach((count, i) => {
        below += count;
        const le = i < commitBucketsMs.length ? String(commitBucketsMs[i]! / 1000) : "+Inf";
        values.push({ metricName: `${name}_bucket`, labels: { journal, le }, value: below });
      });
      values.push({ metricName: `${name}_sum`, labels: { journal }, value: sumMs / 1000 });
      values.push({ metricName: `${name}_count`, labels: { journal }, value: below });
    });
    return { name, help, type: "histogram", aggregator: "sum", values };
  };
  return { name, help, get, reset() {} } as unknown as Metric;
}
