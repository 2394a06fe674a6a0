/** The tables of docs/performance.md, from a stored run. */
import { binaryEventBytes } from "../load/flux.ts";
import { serverTitles } from "../servers/start.ts";
import { machineLine } from "./machine.ts";
import { type CostModel, costModel, hotRoom, idleCrowd } from "./model.ts";
import type { Run } from "./results.ts";
import type { RowSummary, ServerSummary } from "./summary.ts";

/** The machine for which the model computes. The hub has a core, and the kernel and other processes the rest. */
const large = { cores: 16, reactors: 4 };
const idleMembers = 1_000_000;
const hot = { members: 100_000, rate: 50, reactors: large.reactors };

/** Markdown between the marks of docs/performance.md. */
export function speedPage(run: Run): string {
  const of = (prefix: string) => run.rows.filter(({ row }) => row.startsWith(prefix));
  const model = costModel(run.rows);
  return [
    measuredOn(run),
    table(["members × publications a second, format", "CPU of a delivery, µs", "bare uWS", "ratio (rounds), bar", "p50, p99, ms", "bare uWS", "ratio of p99, bar"], of("speed-").filter(({ row }) => !isIdle(row)).map(speedLine)),
    table(["idle: one publication a second, 10 members", "p50, p99, ms", "bare uWS", "bar"], of("speed-").filter(({ row }) => isIdle(row)).map(idleLine)),
    "The load client alone, against bare uWS. It is not the limit as long as it keeps up with a part of its thread left:",
    table(["members × publications a second, format", "deliveries a second", "of what was offered", "busiest thread of the client", "server"], of("load-client-").map(loadLine)),
    ...section("### Connects", "CPU of the server for a connect with hello and join. Bare uWS only upgrades.",
      table(["connects a second", "CPU each, µs", "bare uWS", "above it, bar", "sleeps of threads each", "bare uWS", "p50, p99, ms"], of("connects-").map(connectLine)), of("connects-").length),
    ...section("### Durable, over two nodes", "Both nodes and nats-server together; 20 members on the node that is not the publisher's.",
      table(["", "CPU of a publication, µs", "p50, p99, ms", "bars"], of("durable-nodes").map(durableLine)), of("durable-nodes").length),
    ...section("### Idle members", "CPU for all of them, with clients that answer pings; memory at once and after V8 has collected.",
      table(["", "CPU, ms a second", "bytes a member at once", "later"], of("idle-cost").map(idleCostLine)), of("idle-cost").length),
    ...section("### Peers", "The same rates for all, in text formats; each server has one thread for its work. In brackets: it fell behind, so its figures belong to another rate.",
      peerTable(of("peers-")), of("peers-").length),
    "### Cost model",
    model === null ? "Not computed: a row that it needs was not measured." : modelText(model),
  ].join("\n\n");
}

function section(title: string, text: string, body: string, rows: number): string[] {
  return rows === 0 ? [] : [title, text, body];
}

function measuredOn({ rows, machine }: Run): string {
  const dates = [...new Set(rows.map(({ measured }) => measured.date.slice(0, 10)))].sort();
  const commits = [...new Set(rows.map(({ measured }) => measured.commit))];
  const rounds = [...new Set(rows.map(({ measured }) => measured.rounds))].sort();
  return `Measured on ${dates.join(" and ")}, commit ${commits.join(", ")}, medians of ${rounds.join(" or ")} round${rounds.at(-1) === 1 ? "" : "s"}: ${machineLine(machine)}.`;
}

function speedLine({ title, servers, verdicts }: RowSummary): string[] {
  const [flux, uws] = [serverOf(servers, "flux"), serverOf(servers, "uws")];
  const bar = (metric: string) => barText(verdicts, metric);
  return [
    title.replace(/, 128 bytes.*publishers/, ""),
    value(flux, "cpuMicros", 2), value(uws, "cpuMicros", 2), `${ratio(flux, "cpuMicros")}${bar("cpuMicros")}${behind(flux, uws)}`,
    pair(flux), pair(uws), `${ratio(flux, "p99")}${bar("p99")}`,
  ];
}

function isIdle(row: string): boolean {
  return /-idle(-awake)?$/.test(row);
}

function idleLine({ title, servers, verdicts }: RowSummary): string[] {
  const verdict = verdicts.find(({ bar }) => bar.metric === "p50");
  const bar = verdict !== undefined && "atMost" in verdict.bar ? `p50 ≤ ${verdict.bar.atMost} ms: ${verdict.met ? "met" : "missed"}` : "";
  return [title.split(", ").slice(1, -1).join(", "), pair(serverOf(servers, "flux")), pair(serverOf(servers, "uws")), bar];
}

function loadLine({ title, servers }: RowSummary): string[] {
  const uws = serverOf(servers, "uws");
  return [title.replace("Load client: ", "").replace(/, 128 bytes.*/, ""), `${value(uws, "deliveries", 0)},000`, `${value(uws, "share", 1)} %`, `${value(uws, "busiestCores", 2)} cores`, `${value(uws, "serverCores", 2)} cores`];
}

function connectLine({ title, servers, verdicts }: RowSummary): string[] {
  const [flux, uws] = [serverOf(servers, "flux"), serverOf(servers, "uws")];
  const above = verdicts.find(({ bar }) => bar.of === "above");
  const bar = above !== undefined && "atMost" in above.bar ? `, ≤ ${above.bar.atMost}: ${above.met ? "met" : "missed"}` : "";
  return [title.replace("Connects: ", "").replace(", hello and one join at once", "").replace(", one reactor", ""),
    value(flux, "cpuMicros", 0), value(uws, "cpuMicros", 0), above === undefined ? "–" : `${shown(above.measured, 0)}${bar}`, value(flux, "sleeps", 2), value(uws, "sleeps", 2), pair(flux)];
}

function durableLine({ servers, verdicts }: RowSummary): string[] {
  const flux = serverOf(servers, "flux");
  const bars = verdicts.flatMap(({ bar, met }) => ("atMost" in bar ? [`${bar.metric === "all" ? "CPU" : bar.metric} ≤ ${bar.atMost}: ${met ? "met" : "missed"}`] : []));
  return ["1,000 publications a second", value(flux, "all", 0), pair(flux), bars.join(", ")];
}

function idleCostLine({ title, servers }: RowSummary): string[] {
  const flux = serverOf(servers, "flux");
  return [title.replace("Idle cost: ", ""), value(flux, "cpuMs", 1), value(flux, "rssAtOnce", 0), value(flux, "rssLater", 0)];
}

function peerTable(rows: readonly RowSummary[]): string {
  const servers = [...new Set(rows.flatMap((row) => row.servers.map(({ server }) => server)))];
  const lines = rows.flatMap((row) => [
    [`${row.title.replace("Peers: ", "").replace(/, 128 bytes.*/, "")}: CPU of a delivery, µs`, ...servers.map((server) => inBrackets(row, server, (one) => value(one, "cpuMicros", 1)))],
    ["… p50, p99, ms", ...servers.map((server) => inBrackets(row, server, pair))],
  ]);
  return table(["", ...servers.map((server) => serverTitles[server])], lines);
}

function inBrackets({ servers }: RowSummary, name: ServerSummary["server"], text: (server: ServerSummary | undefined) => string): string {
  const server = serverOf(servers, name);
  return (server?.roundsBehind ?? 0) > 0 ? `(${text(server)})` : text(server);
}

function modelText(model: CostModel): string {
  const lines = [
    ["a connect with hello, HS256 token and join", model.connect === null ? "–" : `${shown(model.connect, 0)} µs`],
    ["a publication, without its deliveries", `${shown(model.publication, 0)} µs`],
    ["a delivery in a write of its own", `${shown(model.deliveryAlone, 2)} µs`],
    ["a delivery of many in one write", `${shown(model.deliveryShared, 2)} µs`],
    ["an idle member, a second", model.idleMicros === null ? "–" : `${shown(model.idleMicros, 2)} µs`],
    ["an idle member, memory at once, later", model.idleBytes === null || model.idleBytesLater === null ? "–" : `${shown(model.idleBytes, 0)} B, ${shown(model.idleBytesLater, 0)} B`],
  ];
  return [table(["what", "CPU or memory"], lines), ...computed(model)].join("\n\n");
}

function computed(model: CostModel): string[] {
  const idle = idleCrowd(model, idleMembers, large.cores - 1);
  const room = hotRoom(model, hot);
  const gigabits = (hot.members * hot.rate * binaryEventBytes * 8) / 1e9;
  const name = `${hot.members.toLocaleString("en")} members × ${hot.rate}/s from ${hot.reactors} reactors`;
  return [
    `What a machine of ${large.cores} such cores would hold by this. **Computed, not measured**: the costs of two cores on loopback, times a number. Network cards, memory bandwidth and the kernel's own limits are not in it.`,
    idle === null
      ? `- ${idleMembers.toLocaleString("en")} idle members: not computed, since connects or idle members were not measured, or cost less than the node without them varies by.`
      : `- **${idleMembers.toLocaleString("en")} idle members**: ${shown(idle.gigabytes, 1)} GB at once, ${shown(idle.cores, 2)} cores for pings. If all come back at once, ${large.cores - 1} cores have their connects done after ${shown(idle.reconnectSeconds, 0)} s.`,
    room === null
      ? `- **${name}**: more than they can do. ${shown((hot.members * hot.rate * model.deliveryShared) / 1e6, 1)} cores are needed for the deliveries alone.`
      : `- **${name}** (${shown((hot.members * hot.rate) / 1e6, 0)} million deliveries a second, ${shown(gigabits, 1)} Gbit/s of messages): ${shown(room.cores, 1)} cores in reactors. Each member gets a write every ${shown(room.roundSeconds * 1000, 0)} ms, with ${shown(room.deliveriesPerWrite, 0)} publications.`,
  ];
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  if (lines.length === 0) return "Not measured.";
  return [head, head.map(() => "---"), ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function serverOf(servers: readonly ServerSummary[], name: ServerSummary["server"]): ServerSummary | undefined {
  return servers.find(({ server }) => server === name);
}

function value(server: ServerSummary | undefined, metric: string, digits: number): string {
  const median = server?.metrics[metric]?.median;
  return median === undefined ? "–" : shown(median, digits);
}

function pair(server: ServerSummary | undefined): string {
  return `${value(server, "p50", 2)}, ${value(server, "p99", 1)}`;
}

function ratio(server: ServerSummary | undefined, metric: string): string {
  const spread = server?.ratios[metric];
  if (spread === undefined) return "–";
  const { median, min, max } = spread;
  return min === max ? `${shown(median, 2)} ×` : `${shown(median, 2)} × (${shown(min, 2)} to ${shown(max, 2)})`;
}

function barText(verdicts: RowSummary["verdicts"], metric: string): string {
  const verdict = verdicts.find(({ bar }) => bar.metric === metric && bar.of === "ratio");
  return verdict === undefined || !("atMost" in verdict.bar) ? "" : `, ≤ ${verdict.bar.atMost}: ${verdict.met ? "met" : "missed"}`;
}

function behind(...servers: (ServerSummary | undefined)[]): string {
  return servers.flatMap((one) => (one !== undefined && one.roundsBehind > 0 ? [`; ${serverTitles[one.server]} fell behind in ${one.roundsBehind}`] : [])).join("");
}

function shown(number: number, digits: number): string {
  return number.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
