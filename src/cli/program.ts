/** The program `flux-gateway`: its commands and their help. main.ts runs it; the reference is made from it. */
import { Command, type Option } from "commander";
import { isOptionOf } from "../config/config.ts";
import { version } from "../platform/version.ts";
import { addArchiveCommand } from "./commands/archive.ts";
import { addConfigCommand } from "./commands/config.ts";
import { addConformanceCommand } from "./commands/conformance.ts";
import { addDisconnectCommand } from "./commands/disconnect.ts";
import { addDrainCommand } from "./commands/drain.ts";
import { addFlags, readFlags } from "./flags.ts";
import { addHooksCommand } from "./commands/hooks.ts";
import { addKeyCommand } from "./commands/key.ts";
import { addLbCommand } from "./commands/lb.ts";
import { addNodesCommand } from "./commands/nodes.ts";
import { addNodeFlagsCommand } from "./commands/nodeflags.ts";
import { addSurveyCommand } from "./commands/survey.ts";
import { addTokenCommand } from "./commands/token.ts";

const precedence = `
Every option of start has a variable (--admin-port: FLUX_ADMIN_PORT) and a key in the file (adminPort).
A flag overrides the environment, the environment overrides the file, the file overrides the default.
Write times as 500ms, 30s, 24h or in milliseconds, sizes as 64KiB, 1MiB or in bytes.`;

const examples = `
Examples:
  flux-gateway start                        for this machine only, with a demo page on http://127.0.0.1:8080/
  flux-gateway start --allow-anonymous      for every machine that can reach this one
  flux-gateway start --config flux.json     with options from a file
  flux-gateway config print                 what start would run with, and why
  flux-gateway token secret                 a secret, for FLUX_AUTH_SECRET: start then asks clients for tokens
  flux-gateway token --sub ann              a token for a user, for development`;

export function createProgram(): Command {
  const program = new Command("flux-gateway")
    .description("A WebSocket gateway: ordered rooms on every core, recovery that reports every gap.")
    .version(version, "-v, --version", "Print the version.")
    .helpOption("-h, --help", "Print this help.")
    .helpCommand("help [command]", "Print help for a command.")
    .configureHelp({ optionDescription })
    .showHelpAfterError("(flux-gateway --help lists the commands)")
    .addHelpText("after", examples);

  addFlags(program.command("start").description("Run a node."), (key) => isOptionOf("start", key))
    .addHelpText("after", precedence)
    .action(async (_, command: Command) => {
      // Loaded late: the other commands also work on machines for which uWebSockets.js has no binary.
      const { start } = await import("./commands/start.ts");
      await start(readFlags(command));
    });
  addConfigCommand(program);
  addConformanceCommand(program);
  addArchiveCommand(program);
  addDisconnectCommand(program);
  addDrainCommand(program);
  addHooksCommand(program);
  addKeyCommand(program);
  addLbCommand(program);
  addNodesCommand(program);
  addNodeFlagsCommand(program);
  addSurveyCommand(program);
  addTokenCommand(program);
  return program;
}

/** As in commander, but without empty defaults: an empty text, or a switch that is off. */
function optionDescription({ description, defaultValue }: Option): string {
  const isSaid = defaultValue !== undefined && defaultValue !== "" && defaultValue !== false;
  return isSaid ? `${description} (default: ${String(defaultValue)})` : description;
}
