/** `flux-gateway config`: prints the effective configuration with sources, checks a file, prints the documentation. */
import type { Command } from "commander";
import { ConfigError, jsonValue, options, resolveConfig, showValue, type Config, type Resolved } from "../../config/config.ts";
import { isRecord, namespaceKeys, showNamespaceOption } from "../../config/namespaces.ts";
import { envOf, flagOf, type Source } from "../../config/sources.ts";
import { codesDoc, configDoc, schemaText } from "../tables.ts";
import { problemsHere } from "../check.ts";
import { addFlags, readFlags } from "../flags.ts";
import { asTyped, loadConfig, readConfigFile } from "../load.ts";
import { tableOf } from "../table.ts";

export function addConfigCommand(program: Command): void {
  const config = program.command("config").description("Show, check or document the configuration.");

  addFlags(config.command("print").description("Print every option, its value and where that came from."))
    .option("--json", "Print JSON.")
    .action((_, command: Command) => {
      const { given, configFile } = readFlags(command);
      const { json, ...flags } = given;
      const loaded = loadConfig({ given: flags, configFile }, process.env);
      console.log(json === true ? asJson(loaded) : asTable(loaded));
    });

  config
    .command("check")
    .description("Check a configuration file, and the files and the data directory that it names.")
    .argument("<file>", "the JSON file")
    .action((path: string) => {
      const { config, sources } = resolveConfig({ file: readConfigFile(path, "config check") });
      const problems = problemsHere(config);
      if (problems.length > 0) throw new ConfigError(asTyped(problems, sources));
      console.log(`${path}: good`);
    });

  config
    .command("schema")
    .description("Print the JSON schema of a configuration file (flux.schema.json of the package).")
    .action(() => void process.stdout.write(schemaText()));

  config
    .command("doc")
    .description("Print the options as Markdown.")
    .option("--codes", "Print close codes and errors instead.")
    .action(({ codes }: { codes?: boolean }) => console.log(codes === true ? codesDoc() : configDoc()));
}

interface Line {
  readonly key: string;
  readonly value: unknown;
  readonly shown: string;
  readonly source: string;
}

function linesOf({ config, sources }: Resolved): Line[] {
  const lines: Line[] = [];
  for (const { key } of options) {
    const source = sourceText(key, sources.get(key));
    if (key === "namespaces") lines.push(...namespaceLines(config, sources));
    else lines.push({ key, value: jsonValue(config, key), shown: showValue(config, key), source });
  }
  return lines;
}

function namespaceLines(config: Config, sources: Resolved["sources"]): Line[] {
  return Object.entries(config.namespaces).flatMap(([name, given]) =>
    namespaceKeys
      .filter((key) => given[key] !== undefined)
      .map((key) => {
        const path = `namespaces.${name}.${key}`;
        const source = sourceText("namespaces", sources.get(path));
        return { key: path, value: given[key], shown: showNamespaceOption(key, given[key]), source };
      }),
  );
}

function asTable(resolved: Resolved): string {
  const lines = linesOf(resolved).map(({ key, shown, source }) => [key, shown === "" ? "-" : shown, source]);
  return tableOf(["key", "value", "source"], lines);
}

/** Options as an object, as in a file, with value and source of each. */
function asJson(resolved: Resolved): string {
  const root: Record<string, unknown> = {};
  for (const { key, value, source } of linesOf(resolved)) {
    const path = key.split(".");
    const last = path.pop() ?? key;
    let parent = root;
    for (const part of path) {
      const inner = parent[part];
      const child: Record<string, unknown> = isRecord(inner) ? inner : {};
      parent[part] = child;
      parent = child;
    }
    parent[last] = { value, source };
  }
  return JSON.stringify(root, null, 2);
}

function sourceText(key: string, source: Source | undefined): string {
  switch (source?.rank) {
    case "flag":
      return `flag ${flagOf(key)}`;
    case "environment":
      return `environment ${envOf(key)}`;
    case "file":
      return `file ${source.name}`;
    default:
      return source?.rank ?? "default";
  }
}
