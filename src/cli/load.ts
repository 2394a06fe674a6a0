/** Finds the configuration of a node that is started from the command line. */
import { readFileSync } from "node:fs";
import { ConfigError, resolveConfig, type Given, type Resolved } from "../config.ts";
import { envOf } from "../config/sources.ts";
import { configFlag, type Flags } from "./flags.ts";

export interface Loaded extends Resolved {
  /** Path of the file that was read, as it was given. */
  readonly file: string | undefined;
}

/** @throws ConfigError */
export function loadConfig(flags: Flags, env: NodeJS.ProcessEnv): Loaded {
  const fromEnv = env[envOf("config")];
  const path = flags.configFile ?? (fromEnv === "" ? undefined : fromEnv);
  const name = flags.configFile === undefined ? envOf("config") : configFlag;
  const file = path === undefined ? undefined : readConfigFile(path, name);
  return { ...resolveConfig({ flags: flags.given, env, ...(file && { file }) }), file: path };
}

/**
 * @param name of the option that gave the path, for errors.
 * @throws ConfigError
 */
export function readConfigFile(path: string, name: string): NonNullable<Given["file"]> {
  let text: string;
  try {
    text = readFileSync(path, "utf8").replace(/^\uFEFF/, "");
  } catch (error) {
    throw new ConfigError([`${name}: ${path} cannot be read: ${reason(error)}`]);
  }
  try {
    return { name: path, values: JSON.parse(text) };
  } catch (error) {
    throw new ConfigError([`${name}: ${path} is not valid JSON: ${whereInText(error, text)}`]);
  }
}

function reason(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "ENOENT":
      return "there is no such file; check the path, it is relative to the working directory";
    case "EACCES":
      return "permission denied; let the user that runs flux-gateway read it";
    case "EISDIR":
      return "it is a directory; give the path of a JSON file";
    default:
      return String(error);
  }
}

/** The parser's complaint on one line, with line and column where it told a position. */
function whereInText(error: unknown, text: string): string {
  const complaint = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ");
  const position = /at position (\d+)/.exec(complaint)?.[1];
  if (position === undefined || complaint.includes("(line")) return complaint;
  const before = text.slice(0, Number(position)).split("\n");
  return `${complaint} (line ${before.length} column ${(before.at(-1) ?? "").length + 1})`;
}
