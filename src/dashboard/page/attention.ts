/** What needs somebody's attention, the worst first, in the words that the documentation explains. */
import { duration, count, percent } from "./format.ts";
import { isAnswering, seriesOf, type SeriesName } from "./live.ts";
import { href } from "./route.ts";
import type { Tone } from "./parts.tsx";
import type { Answers, NodeNow, Reason } from "./types.ts";

export interface Finding {
  readonly tone: Tone;
  readonly what: string;
  readonly text: string;
  readonly link: string;
}

/** Points of a series that make up the last 15 seconds, and the last minute. */
const fewPoints = 5;
const minutePoints = 20;
const lagWarnMs = 100;
const lagBadMs = 500;
const busyWarn = 0.85;
/** A thread that is late and less busy than this was kept from running. */
const busyCalm = 0.5;
/** Connections in a minute, as a share of all, from which they are a storm. */
const stormShare = 0.3;
const stormMin = 30;
/** An inbox is shown with its user. */
const inboxOf = "@inbox of ";
/** Reasons of normal operation. */
const everyday: ReadonlySet<string> = new Set(["bye", "shutdown", "moved", "token_expired"]);

export function findings(nodes: readonly NodeNow[], reasons: Answers<"reasons"> | null, hot: Answers<"hot"> | null): Finding[] {
  const all = reasonsOf(reasons);
  const storms = storm(nodes, all);
  // A storm names the most frequent reason already.
  return [...nodes.flatMap(ofNode), ...storms, ...ofReasons(all.slice(storms.length)), ...hotRoom(hot)].sort((a, b) => Number(b.tone === "bad") - Number(a.tone === "bad"));
}

function ofNode(node: NodeNow): Finding[] {
  const link = href("nodes", node.id);
  const bad = (what: string, text: string): Finding => ({ tone: "bad", what, text, link });
  const warn = (what: string, text: string, to = link): Finding => ({ tone: "warn", what, text, link: to });
  if (node.state === "down") return [bad(`${node.id} is down`, "It has sent no heartbeat for a while: its process has ended, or cannot reach Redis.")];
  if (!isAnswering(node)) return [bad(`${node.id} does not answer`, node.silentMs < 0 ? "It is listed, and did not say how it is." : `Last answer ${duration(node.silentMs)} ago: it is overloaded, stopped, or cannot be reached.`)];
  const { now } = node;
  const found: Finding[] = [];
  if (node.state === "draining") found.push(warn(`${node.id} drains`, "It takes no new clients and will exit."));
  else if (!now.ready) found.push(bad(`${node.id} is not ready`, now.problem));
  if (now.redis === false) found.push(bad(`${node.id}: Redis is unavailable`, "Sessions, presence and messages between nodes wait for it."));
  if (now.nats === false) found.push(bad(`${node.id}: NATS is unavailable`, "Nothing can be published."));
  if (now.memoryShort) found.push(bad(`${node.id} is short of memory`, `${percent(now.memoryBytes / now.memoryLimitBytes)} of its limit: it takes no new sockets.`));
  const lag = highest(node.id, "lagMs", fewPoints);
  const busiest = Math.max(now.hub.busy, ...now.reactors.map(({ busy }) => busy));
  if (lag >= lagWarnMs || busiest >= busyWarn) {
    const where = now.hub.busy >= busiest ? "its main thread (hub)" : "a reactor";
    found.push({ tone: lag >= lagBadMs ? "bad" : "warn", what: `${node.id} lags`, text: `Its event loop was up to ${duration(lag)} late; ${where} is busy ${percent(busiest)} of the time.${busiest < busyCalm ? " That is little: something outside stops it, such as a limit of its CPU, swapping, or a paused machine." : ""}`, link });
  }
  if (now.brokerMs >= 100) found.push(warn(`${node.id}: the broker is slow`, `A publish takes ${duration(now.brokerMs)} to be stored.`));
  const slow = now.reactors.reduce((sum, one) => sum + one.slow, 0);
  const behind = now.reactors.reduce((sum, one) => sum + one.behind, 0);
  if (slow + behind > 0) found.push(warn(`Slow clients on ${node.id}`, `${slow > 0 ? `Sockets with a queue more than half full: ${slow}. ` : ""}${behind > 0 ? `Members that receive nothing until their socket has room: ${behind}.` : ""}`, href("slow")));
  return found;
}

function storm(nodes: readonly NodeNow[], reasons: readonly Total[]): Finding[] {
  let opened = 0;
  let sockets = 0;
  for (const { id, now } of nodes) {
    const before = lately(id, "sockets", minutePoints);
    // Sockets that stay are no storm.
    opened += Math.max(0, mean(id, "opened", minutePoints) * 60 - Math.max(0, (before.at(-1) ?? 0) - (before[0] ?? 0)));
    sockets += now?.sockets ?? 0;
  }
  if (opened < Math.max(stormMin, stormShare * sockets)) return [];
  const [first] = reasons;
  const because = first === undefined || first.minute === 0 ? "No node closed or refused them: clients or the network do it, or they are new." : `The most frequent reason in the last minute is ${first.reason}${first.code > 0 ? ` (${first.code})` : ""}, ${count(first.minute)} times on ${first.nodes.join(", ")}: ${first.text}${first.hint === "" ? "" : `; ${first.hint}`}.`;
  return [{ tone: "bad", what: `Reconnect storm: ${count(opened)} connections in the last minute, for ${count(sockets)} sockets`, text: `Clients come again and again. ${because}`, link: "#reasons" }];
}

function ofReasons(reasons: readonly Total[]): Finding[] {
  return reasons.filter(({ reason, minute }) => minute > 0 && !everyday.has(reason)).slice(0, 3).map(({ reason, minute, text, hint, nodes }) => ({
    tone: "warn", what: `${reason}: ${count(minute)} in the last minute`, text: `On ${nodes.join(", ")}: ${text}${hint === "" ? "" : `; ${hint}`}.`, link: reason === "slow_consumer" ? href("slow") : "#reasons",
  }));
}

function hotRoom(hot: Answers<"hot"> | null): Finding[] {
  const rooms = hotRooms(hot);
  const [first] = rooms;
  const all = rooms.reduce((sum, { deliveries }) => sum + deliveries, 0);
  if (first === undefined || first.deliveries < 500 || first.deliveries < 0.5 * all) return [];
  return [{ tone: "warn", what: `Hot room ${first.room}`, text: `${count(first.perSecond)} publications/s to ${count(first.members)} members: ${percent(first.deliveries / all)} of all deliveries.`, link: first.room.startsWith(inboxOf) ? href("users", first.room.slice(inboxOf.length), first.tenant) : href("rooms", first.room, first.tenant) }];
}

export interface HotTotal {
  readonly room: string;
  readonly tenant: string;
  readonly members: number;
  readonly perSecond: number;
  readonly deliveries: number;
  readonly nodes: readonly string[];
}

/** Each room over all nodes: every node with members sees all of its publications. */
export function hotRooms(hot: Answers<"hot"> | null): HotTotal[] {
  const rooms = new Map<string, HotTotal>();
  for (const { node, said } of hot?.answers ?? []) {
    for (const { room, tenant, members, perSecond, deliveries } of said.rooms) {
      const key = `${tenant}\n${room}`;
      const before = rooms.get(key) ?? { room, tenant, members: 0, perSecond: 0, deliveries: 0, nodes: [] };
      rooms.set(key, { ...before, members: before.members + members, perSecond: Math.max(before.perSecond, perSecond), deliveries: before.deliveries + deliveries, nodes: [...before.nodes, node] });
    }
  }
  return [...rooms.values()].sort((a, b) => b.deliveries - a.deliveries || b.perSecond - a.perSecond);
}

export type Total = Reason & { readonly nodes: readonly string[] };

/** Each reason over all nodes, the most frequent first. */
export function reasonsOf(reasons: Answers<"reasons"> | null): Total[] {
  const totals = new Map<string, Total>();
  for (const { node, said } of reasons?.answers ?? []) {
    for (const one of said) {
      const before = totals.get(one.reason);
      totals.set(one.reason, before === undefined ? { ...one, nodes: [node] } : { ...one, text: one.text || before.text, client: one.client || before.client, minute: before.minute + one.minute, quarter: before.quarter + one.quarter, nodes: [...before.nodes, node] });
    }
  }
  return [...totals.values()].sort((a, b) => b.minute - a.minute || b.quarter - a.quarter);
}

function lately(node: string, name: SeriesName, count: number): number[] {
  return Array.from(seriesOf(node, name)?.slice(-count) ?? []).filter((value) => Number.isFinite(value));
}

function highest(node: string, name: SeriesName, count: number): number {
  return Math.max(0, ...lately(node, name, count));
}

function mean(node: string, name: SeriesName, count: number): number {
  const values = lately(node, name, count);
  return values.reduce((sum, value) => sum + value, 0) / count;
}
