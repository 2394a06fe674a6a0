/**
 * `flux-gateway nodes`: lists the nodes of the gateway and their health, as a running node knows them. Commands below it
 * change settings of a node (settings.ts).
 */
import type { Command } from "commander";
import { ConfigError } from "../../config/config.ts";
import { showSize } from "../../config/values.ts";
import type { Health } from "../../messages/messages.ts";
import type { KnownNode } from "../../node/nodefacts.ts";
import type { Survey } from "../../messages/survey.ts";
import { explainUser, planChanges } from "./placement.ts";
import { addAdminFlags, adminPort, askAt, askIfKnown, type AdminGiven } from "../address.ts";
import { addLimitCommand, addWeightCommand } from "./settings.ts";
import { tableOf } from "../table.ts";

interface Given extends AdminGiven {
  readonly json: boolean;
  readonly explain?: string;
  readonly tenant: string;
  readonly plan?: string;
}

interface Answer {
  readonly node: string;
  readonly stale: boolean;
  /**
   * `health` is the node's own current answer. Null: no answer. Missing: the node that was asked is too old to ask
   * others.
   */
  readonly nodes: readonly (KnownNode & { readonly health?: Health | null })[];
}

export function addNodesCommand(program: Command): void {
  const command = program
    .command("nodes")
    .description("List the nodes of the gateway with state, health and load.")
    .helpCommand("help [command]", "Print help for a command.")
    .option("--explain <user>", "Say which node a user belongs on, why, and where the user's sessions are.")
    .option("--tenant <name>", "Tenant of the user.", "")
    .option("--plan <changes>", "Say what would move if nodes joined, left or had another weight: +gateway-4,-gateway-2,gateway-1=2.")
    .option("--json", "Print JSON.", false);
  addAdminFlags(command).action(nodes);
  addWeightCommand(command);
  addLimitCommand(command);
}

async function nodes({ json, explain, tenant, plan, ...given }: Given): Promise<void> {
  const admin = adminPort(given);
  if (explain !== undefined && plan !== undefined) throw new ConfigError(["--plan: cannot be combined with --explain; give one of them"]);
  if (explain !== undefined) return explainUser(admin, explain, tenant, json);
  if (plan !== undefined) return planChanges(admin, plan, json);
  const surveyed = await askIfKnown(admin, "/survey?kind=health");
  const survey = surveyed && ((await surveyed.json()) as Survey<"health">);
  const said = new Map(survey?.answers.map(({ node, ...health }) => [node, health]));
  const known = (await (await askAt(admin, "/nodes")).json()) as Answer;
  const answer: Answer = { ...known, nodes: known.nodes.map((node) => ({ ...node, ...(survey && { health: said.get(node.id) ?? null }) })) };
  if (json) return console.log(JSON.stringify(answer, null, 2));
  console.log(asTable(answer));
  if (answer.stale) console.log("\nRedis is unavailable: this list may be out of date.");
}

const always = ["node", "state", "health", "url", "region", "sockets", "load", "cpu", "rss", "version", "heard"];

function asTable({ node: self, nodes }: Answer): string {
  const holds = nodes.some(({ health }) => health?.partitions !== undefined);
  const titles = [...always, ...(holds ? ["partitions", "backlog"] : [])];
  const rows = nodes.map((node) => [
    node.id === self ? `${node.id} *` : node.id, node.state, inAWord(node.health), node.url, node.region || "-", String(node.sockets),
    `${Math.round(node.load * 100)} %`, node.cpu.toFixed(2), showSize(Math.round(node.rss / 2 ** 20) * 2 ** 20), node.version,
    node.id === self ? "now" : `${(node.silentMs / 1000).toFixed(1)} s ago`, ...(holds ? heldBy(node.health) : []),
  ]);
  return tableOf(titles, rows);
}

/** Partitions that it holds, of those that it may, and the messages that wait there. */
function heldBy(health: Health | null | undefined): [held: string, backlog: string] {
  const { partitions } = health ?? {};
  if (partitions === undefined) return ["-", "-"];
  const { held, max, unowned, backlog, oldestMs } = partitions;
  const alarm = unowned > 0 ? `, ${unowned} unowned` : "";
  return [`${held}${max > 0 ? ` of ${max}` : ""}${alarm}`, backlog === 0 ? "0" : `${backlog}, ${Math.round(oldestMs / 1000)} s`];
}

/** The word before the colon of a problem names it. */
function inAWord(health: Health | null | undefined): string {
  if (health === undefined) return "-";
  if (health === null) return "no answer";
  return health.ready ? "ready" : health.problem.split(":")[0]!;
}
