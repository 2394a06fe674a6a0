/** The page of the command line, from the program itself. */
import type { Command, Option } from "commander";
import { createProgram } from "../../src/cli/program.ts";
import { code, table } from "../../src/cli/tables.ts";
import { options } from "../../src/config/config.ts";

export function cliDoc(): string {
  const program = createProgram();
  return [rootDoc(program), ...program.commands.flatMap((command) => commandDoc(command, program.name()))].join("\n\n");
}

function rootDoc(program: Command): string {
  const rows = program.commands.map((command) => [`[\`${command.name()}\`](#flux-gateway-${command.name()})`, command.description()]);
  return [`\`\`\`text\n${usageOf(program)}\n\`\`\``, table(["command", "what it does"], [...rows, ["`help [command]`", "Print help for a command."]]), exampleOf(program)].join("\n\n");
}

function commandDoc(command: Command, parent: string): string[] {
  const path = `${parent} ${command.name()}`;
  const known = new Set(options.map(({ flag }) => flag));
  const isNodes = ({ long }: Option) => known.has((long ?? "").replace("--no-", "--"));
  const visible = command.createHelp().visibleOptions(command).filter((option) => option.long !== "--help");
  // All of them would fill the page: they have one of their own.
  const takesAll = visible.filter(isNodes).length > 50;
  const own = takesAll ? visible.filter((option) => !isNodes(option)) : visible;
  const parts = [`${"#".repeat(path.split(" ").length)} ${path}`, command.description(), `\`\`\`text\n${usageOf(command)}\n\`\`\``];
  const { registeredArguments: takes, commands } = command;
  if (takes.length > 0) parts.push(table(["argument", "what it is"], takes.map((one) => [code(one.required ? `<${one.name()}>` : `[${one.name()}]`), one.description])));
  if (takesAll) parts.push("Takes every [option of a node](options.md), and:");
  const describe = (option: Option) => command.createHelp().optionDescription(option);
  if (own.length > 0) parts.push(table(["option", "what it is"], own.map((option) => [code(option.flags), describe(option)])));
  if (commands.length > 0) parts.push(table(["command", "what it does"], commands.map((one) => [code(one.name()), one.description()])));
  const after = exampleOf(command);
  if (after !== "") parts.push(after);
  return [...parts, ...commands.flatMap((one) => commandDoc(one, path))];
}

function usageOf(command: Command): string {
  return command.createHelp().commandUsage(command);
}

/** What help says below the options. */
function exampleOf(command: Command): string {
  let text = "";
  command.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
  const after = text.slice(command.helpInformation().length).trim();
  return after === "" ? "" : `\`\`\`text\n${after}\n\`\`\``;
}
