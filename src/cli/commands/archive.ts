/** `flux-gateway archive`: how the archive in PostgreSQL stands, its tables, and the erasure of a user. */
import type { Command } from "commander";
import type { ArchiveStatus } from "../../archive/operations.ts";
import { ConfigError } from "../../config/config.ts";
import { nameProblem } from "../../config/roomnames.ts";
import { openArchiveTools } from "../../node/archive.ts";
import { addFlags, readFlags } from "../flags.ts";
import { loadConfig } from "../load.ts";

const examples = `
The database is the one of --archive: the same options as the nodes have.

Examples:
  flux-gateway archive status --archive postgres://flux@10.0.0.5/flux
  flux-gateway archive migrate                  before a new version starts, as the owner of the tables
  flux-gateway archive erase --user ann         delete what a user published`;

const placeOptions = ["archive", "dataDir", "natsPrefix"];
const userBytesMax = 4096;

export function addArchiveCommand(program: Command): void {
  const archive = program.command("archive").description("Look at the archive in PostgreSQL, update its tables, erase a user.").helpCommand("help [command]", "Print help for a command.").addHelpText("after", examples);
  const sub = (name: string, text: string) => addFlags(archive.command(name).description(text), (option) => placeOptions.includes(option));
  sub("status", "Print how far each stream is archived, and by which node.").option("--json", "Print JSON.", false).action((_, command: Command) => status(command));
  sub("migrate", "Create the tables, or update those of an earlier version. Nodes do so at start.").action((_, command: Command) => migrate(command));
  sub("erase", "Delete everything that a user published from the archive.")
    .requiredOption("--user <name>", "User whose publications are deleted.")
    .option("--tenant <name>", "Tenant of the user.", "")
    .action((_, command: Command) => erase(command));
}

async function status(command: Command): Promise<void> {
  const { json } = command.opts<{ json: boolean }>();
  await withTools(command, async (tools) => {
    const found = await tools.status();
    console.log(json ? JSON.stringify(found, null, 2) : inWords(found));
  });
}

async function migrate(command: Command): Promise<void> {
  await withTools(command, async (tools) => {
    const { before, now } = await tools.migrate();
    console.log(before === 0 ? `the tables were created, version ${now}` : before < now ? `the tables were updated from version ${before} to ${now}` : `the tables are up to date, version ${now}`);
  });
}

async function erase(command: Command): Promise<void> {
  const { user, tenant } = command.opts<{ user: string; tenant: string }>();
  const problem = nameProblem("--user", user, userBytesMax) ?? (tenant === "" ? null : nameProblem("--tenant", tenant, userBytesMax));
  if (problem !== null) throw new ConfigError([problem]);
  await withTools(command, async (tools) => {
    const erased = await tools.erase(tenant, user);
    const { streams } = await tools.status();
    const times = streams.flatMap(({ archivedAt }) => archivedAt ?? []);
    console.log(`${erased} publications of ${user} deleted from the archive`);
    if (times.length > 0) console.log(`What ${user} published after ${new Date(Math.min(...times)).toISOString()} may not be archived yet: run this again later. The histories of the rooms keep their copies: NATS for archiveLagMs, or historyTtlMs where that is more; a data directory as long as the room's history.`);
  });
}

type Tools = ReturnType<Awaited<ReturnType<typeof openArchiveTools>>["open"]>;

/** @throws ConfigError */
async function withTools(command: Command, act: (tools: Tools) => Promise<void>): Promise<void> {
  const { given, configFile } = readFlags(command);
  const options = Object.fromEntries(Object.entries(given).filter(([key]) => placeOptions.includes(key)));
  const { open, explain } = await openArchiveTools(loadConfig({ given: options, configFile }, process.env).config);
  const tools = open();
  try {
    await act(tools);
  } catch (error) {
    throw explain(error);
  } finally {
    await tools.stop();
  }
}

const titles = ["stream", "archived up to", "at", "by node", "epochs", "gaps"];

function inWords({ version, gateway, streams, days, firstDay, bytes }: ArchiveStatus): string {
  const rows = streams.map(({ stream, seq, archivedAt, node, epochs, gaps }) => [
    stream, String(seq), archivedAt === null ? "-" : new Date(archivedAt).toISOString(), node ?? "none", String(epochs), String(gaps),
  ]);
  const widths = titles.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const table = [titles, ...rows].map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n");
  return `${table}\n\ntables of ${gateway}, version ${version}; ${days} days${firstDay === null ? "" : ` from ${firstDay}`}, ${Math.ceil(bytes / 2 ** 20)} MiB`;
}
