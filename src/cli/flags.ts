/** Turns the table of options into flags of a command. */
import { Option, type Command } from "commander";
import { options } from "../config/config.ts";
import { noFlag } from "../config/sources.ts";

export const configFlag = "--config";

/** Adds every option, or the wanted ones, in the table's groups, and `--config FILE`. */
export function addFlags(command: Command, isWanted: (key: string) => boolean = () => true): Command {
  command.addOption(new Option(`${configFlag} <file>`, "Read options from this JSON file.").helpGroup("Configuration:"));
  for (const { flag, group, takes, defaultText, text, off = text } of options.filter(({ key }) => isWanted(key))) {
    const heading = `${group}:`;
    if (takes !== "") {
      command.addOption(new Option(`${flag} <${takes}>`, defaultText === "" ? text : `${text} (default: ${defaultText})`).helpGroup(heading));
      continue;
    }
    // Both flags work, so that a flag can override a file. Help shows only the one that changes the default.
    const isOn = defaultText === "true";
    command.addOption(new Option(flag, text).helpGroup(heading).hideHelp(isOn));
    command.addOption(new Option(noFlag(flag), off).helpGroup(heading).hideHelp(!isOn));
  }
  return command;
}

export interface Flags {
  /** Values from the command line, by option key. */
  readonly given: Readonly<Record<string, unknown>>;
  readonly configFile: string | undefined;
}

export function readFlags(command: Command): Flags {
  const { config, ...given } = command.opts();
  return { given, configFile: typeof config === "string" ? config : undefined };
}
