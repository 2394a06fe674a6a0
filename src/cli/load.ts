/** Loads the configuration of a node that the command line starts. */
import { readFileSync } from "node:fs";
import { ConfigError, options, resolveConfig, type Given, type Resolved, type Runner } from "../config/config.ts";
import { envOf, label } from "../config/sources.ts";
import { duplicateKeys } from "./duplicates.ts";
import { configFlag, type Flags } from "./flags.ts";

export interface Loaded extends Resolved {
  /** Path of the configuration file, as given. */
  readonly file: string | undefined;
}

/** @throws ConfigError */
export function loadConfig(flags: Flags, env: NodeJS.ProcessEnv, runner: Runner = "start"): Loaded {
  const fromEnv = env[envOf("config")];
  const path = flags.configFile ?? (fromEnv === "" ? undefined : fromEnv);
  const name = flags.configFile === undefined ? envOf("config") : configFlag;
  const file = path === undefined ? undefined : readConfigFile(path, name);
  return { ...resolveConfig({ flags: flags.given, env, runner, ...(file && { file }) }), file: path };
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
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (error) {
    throw new ConfigError([`${name}: ${path} is not valid JSON: ${whereInText(error, text)}`]);
  }
  // The JSON parser silently keeps the last of two equal keys, and the operator may have meant the first.
  const twice = duplicateKeys(text).map(({ key, line }) => `${key} in ${path}: occurs twice, the second time in line ${line}; remove one of them`);
  if (twice.length > 0) throw new ConfigError(twice);
  return { name: path, values };
}

/**
 * Problems name options by flag. For an operator who used a variable or a file, this inserts the name that was typed.
 */
export function asTyped(problems: readonly string[], sources: Resolved["sources"]): string[] {
  return problems.map((problem) =>
    problem.replace(/^--[a-z-]+/, (flag) => {
      const key = options.find((option) => option.flag === flag)?.key;
      const source = key && sources.get(key);
      return source && source.rank !== "default" ? label(source, key) : flag;
    }),
  );
}

function reason(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "ENOENT":
      return "the file does not exist; check the path, which is relative to the working directory";
    case "EACCES":
      return "permission denied; let the user that runs flux-gateway read it";
    case "EISDIR":
      return "it is a directory; give the path of a JSON file";
    default:
      return String(error);
  }
}

/** The parser's message on one line, with line and column where it has a position. */
function whereInText(error: unknown, text: string): string {
  const complaint = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ");
  const position = /at position (\d+)/.exec(complaint)?.[1];
  if (position === undefined || complaint.includes("(line")) return complaint;
  const before = text.slice(0, Number(position)).split("\n");
  return `${complaint} (line ${before.length} column ${(before.at(-1) ?? "").length + 1})`;
}
