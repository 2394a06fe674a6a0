/** `flux-gateway nodes weight NODE W` and `limit NODE N`: change settings of a running node. */
import type { Command } from "commander";
import { ConfigError } from "../../config/config.ts";
import { weightMax } from "../../placement/ring.ts";
import { partitionsMax, type NodeSettings, type SettingsChange } from "../../placement/settings.ts";
import { addAdminFlags, adminPort, postTo, type AdminGiven } from "../address.ts";

interface Given extends AdminGiven {
  readonly json: boolean;
}

export function addWeightCommand(nodes: Command): void {
  const command = nodes
    .command("weight")
    .description("Change a node's part of the users while it runs. Its next start uses --weight again.")
    .argument("<node>", "id of the node (flux-gateway nodes lists ids)")
    .argument("<weight>", "0 to 16, relative to the other nodes; 0: no users are assigned to the node")
    .option("--json", "Print JSON.", false);
  addAdminFlags(command).action((node: string, weight: string) => change(command, node, { weight: wholeNumber("weight", weight, weightMax) }));
}

export function addLimitCommand(nodes: Command): void {
  const command = nodes
    .command("limit")
    .description("Change how many partitions a node may hold while it runs (--placement partition). It hands over what is too much. Its next start uses --max-partitions again.")
    .argument("<node>", "id of the node (flux-gateway nodes lists ids)")
    .argument("<partitions>", "0 to 16384; 0: no limit")
    .option("--json", "Print JSON.", false);
  addAdminFlags(command).action((node: string, partitions: string) => change(command, node, { maxPartitions: wholeNumber("partitions", partitions, partitionsMax) }));
}

async function change(command: Command, node: string, asked: SettingsChange): Promise<void> {
  // The command above has the same options, and reads them wherever they stand.
  const { json, ...given } = command.optsWithGlobals<Given>();
  const changed = (await (await postTo(adminPort(given), "/settings", { node, ...asked })).json()) as NodeSettings & { node: string };
  const { maxPartitions = 0, weight } = changed;
  const said = asked.maxPartitions === undefined ? `has weight ${weight}` : `may hold ${maxPartitions === 0 ? "any number of" : maxPartitions} partitions`;
  console.log(json ? JSON.stringify(changed, null, 2) : `node ${changed.node} ${said} until it exits`);
}

function wholeNumber(name: string, text: string, max: number): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= max) return Number(text);
  throw new ConfigError([`<${name}>: must be a whole number from 0 to ${max}, not ${JSON.stringify(text.slice(0, shownMax))}`]);
}

const shownMax = 64;
