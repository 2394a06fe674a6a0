/** `flux-gateway nodes weight NODE W`: changes settings of a running node. */
import type { Command } from "commander";
import { ConfigError } from "../../config/config.ts";
import { weightMax } from "../../placement/ring.ts";
import type { NodeSettings, SettingsChange } from "../../placement/settings.ts";
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
  addAdminFlags(command).action((node: string, weight: string) => change(command, node, { weight: weightFrom(weight) }));
}

async function change(command: Command, node: string, asked: SettingsChange): Promise<void> {
  // The command above has the same options, and reads them wherever they stand.
  const { json, ...given } = command.optsWithGlobals<Given>();
  const changed = (await (await postTo(adminPort(given), "/settings", { node, ...asked })).json()) as NodeSettings & { node: string };
  console.log(json ? JSON.stringify(changed, null, 2) : `node ${changed.node} has weight ${changed.weight} until it exits`);
}

function weightFrom(text: string): number {
  if (/^\d{1,2}$/.test(text) && Number(text) <= weightMax) return Number(text);
  throw new ConfigError([`<weight>: must be a whole number from 0 to ${weightMax}, not ${JSON.stringify(text.slice(0, shownMax))}`]);
}

const shownMax = 64;
