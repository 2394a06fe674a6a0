/** `flux-gateway nodes`: which nodes make up the gateway and how they are, as a running node knows it. */
import type { Command } from "commander";
import { showSize } from "../config/checks.ts";
import type { RegisteredNode } from "../registry/registry.ts";
import { addAdminFlags, adminUrl, askAt, type AdminGiven } from "./address.ts";

interface Given extends AdminGiven {
  readonly json: boolean;
}

interface Answer {
  readonly node: string;
  readonly stale: boolean;
  readonly nodes: readonly RegisteredNode[];
}

export function addNodesCommand(program: Command): void {
  const command = program
    .command("nodes")
    .description("List the nodes of the gateway and how they are, as one of them knows it.")
    .option("--json", "Print JSON.", false);
  addAdminFlags(command).action(nodes);
}

async function nodes({ json, ...given }: Given): Promise<void> {
  const answer = (await (await askAt(`${adminUrl(given)}/nodes`)).json()) as Answer;
  if (json) return console.log(JSON.stringify(answer, null, 2));
  console.log(asTable(answer));
  if (answer.stale) console.log("\nRedis is away: this is what was known before.");
}

const titles = ["node", "state", "url", "region", "sockets", "load", "cpu", "rss", "version", "heard"];

function asTable({ node: self, nodes }: Answer): string {
  const rows = nodes.map((node) => [
    node.id === self ? `${node.id} *` : node.id, node.state, node.url, node.region || "-", String(node.sockets),
    `${Math.round(node.load * 100)} %`, node.cpu.toFixed(2), showSize(Math.round(node.rss / 2 ** 20) * 2 ** 20), node.version,
    node.id === self ? "now" : `${(node.silentMs / 1000).toFixed(1)} s ago`,
  ]);
  const widths = titles.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  return [titles, ...rows].map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n");
}
