/** `flux-gateway nodes --explain USER` and `--plan CHANGES`: where users belong, as a running node knows it. */
import type { Explained } from "../../admin/placement.ts";
import type { Plan } from "../../placement/explain.ts";
import { askAt, type AdminPort } from "../address.ts";
import { tableOf } from "../table.ts";

/** Where a user belongs, why, and where the user's sessions are. */
export async function explainUser(admin: AdminPort, user: string, tenant: string, json: boolean): Promise<void> {
  const query = `user=${encodeURIComponent(user)}${tenant === "" ? "" : `&tenant=${encodeURIComponent(tenant)}`}`;
  const said = (await (await askAt(admin, `/placement?${query}`)).json()) as Explained;
  console.log(json ? JSON.stringify(said, null, 2) : explanation(said));
}

export async function planChanges(admin: AdminPort, changes: string, json: boolean): Promise<void> {
  const said = (await (await askAt(admin, `/placement?plan=${encodeURIComponent(changes)}`)).json()) as Plan;
  console.log(json ? JSON.stringify(said, null, 2) : planned(said));
}

function explanation({ user, tenant, hash, partition, partitions, table, owner, ownerState, why, moves, sessions, held }: Explained): string {
  const { answers, unanswered } = sessions;
  const where = answers.filter((one) => one.sessions > 0).map((one) => `${one.sessions} on ${one.node}`);
  const elsewhere = owner !== null && answers.some((one) => one.sessions > 0 && one.node !== owner);
  return aligned([
    ["user", tenant === "" ? user : `${user} of tenant ${tenant}`],
    ["partition", `${partition} of ${partitions} (xxh32 ${hash})`],
    ["table", table === null ? "none" : `${table.number}, made by ${table.by} at ${new Date(table.at).toISOString()}, hash ${table.hash}`],
    ["belongs on", owner === null ? (held === undefined ? "any node" : "no node") : `${owner} (${ownerState})`],
    ["because", why],
    ...(held === undefined ? [] : [["lease", held.owner === "" ? "none" : `epoch ${held.epoch}, boot id ${held.boot}${held.confirmed ? "" : ", not confirmed yet"}`] as const]),
    ["sessions", [where.join(", ") || "none", ...(unanswered.length > 0 ? [`no answer from ${unanswered.join(", ")}`] : [])].join("; ")],
    ["moves", movesOf(moves, elsewhere)],
    ["would move", owner === null ? "never" : `when ${owner} drains, fails or gets another weight, or when a node joins: see --plan`],
  ]);
}

function movesOf({ perSecond, problem }: Explained["moves"], elsewhere: boolean): string {
  if (problem !== "") return `none now: ${problem}`;
  if (perSecond === 0) return "none: --placement-moves-per-second is 0";
  return elsewhere ? `under way: up to ${perSecond} sessions a second` : "none needed";
}

const titles = ["node", "weight", "partitions", "gains", "loses", "sessions lost"];

function planned({ moved, partitions, between, nodes }: Plan): string {
  const change = (before: number, after: number) => (before === after ? String(before) : `${before} → ${after}`);
  const rows = nodes.map(({ id, weightBefore, weightAfter, before, after, gains, loses, sessionsLost }) => [
    id, change(weightBefore, weightAfter), change(before, after), String(gains), String(loses), sessionsLost === null ? "-" : `about ${sessionsLost}`,
  ]);
  const share = ((100 * moved) / partitions).toFixed(1);
  return `${tableOf(titles, rows)}\n\n${moved} of ${partitions} partitions move (${share} %), ${between} of them between nodes that do not change.`;
}

function aligned(rows: readonly (readonly [title: string, text: string])[]): string {
  const width = Math.max(...rows.map(([title]) => title.length));
  return rows.map(([title, text]) => `${title.padEnd(width)}  ${text}`).join("\n");
}
