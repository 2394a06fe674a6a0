/** The table of options as flags of a command. */
import { Option, type Command } from "commander";
import { options } from "../config/config.ts";
import { noFlag } from "../config/sources.ts";

export const configFlag = "--config";

/** Adds every option, or those that are wanted, grouped as in the table, and `--config FILE`. */
export function addFlags(command: Command, isWanted: (key: string) => boolean = () => true): Command {
  command.addOption(new Option(`${configFlag} <file>`, "Read options from this JSON file.").helpGroup("Configuration:"));
  for (const { flag, group, takes, defaultText, text, off = text } of options.filter(({ key }) => isWanted(key))) {
    const heading = `${group}:`;
    if (takes !== "") {
      command.addOption(new Option(`${flag} <${takes}>`, defaultText === "" ? text : `${text} (default: ${defaultText})`).helpGroup(heading));
      continue;
    }
    // Both words are understood, so that a flag can overrule a file; help shows the one that changes something.
    const isOn = defaultText === "true";
    command.addOption(new Option(flag, text).helpGroup(heading).hideHelp(isOn));
    command.addOption(new Option(noFlag(flag), off).helpGroup(heading).hideHelp(!isOn));
  }
  return command;
}

export interface Flags {
  /** What was given on the command line, by key of the option. */
  readonly given: Readonly<Record<string, unknown>>;
  readonly configFile: string | undefined;
}

export function readFlags(command: Command): Flags {
  const { config, ...given } = command.opts();
  return { given, configFile: typeof config === "string" ? config : undefined };
}
