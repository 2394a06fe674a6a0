/** `flux-gateway conformance`: plays the situations that a client must survive, and says what the client did wrong. */
import type { Command } from "commander";
import { ConfigError } from "../../config/config.ts";
import { count, time, type Check } from "../../config/values.ts";
import { isFeature, type Feature, type Result } from "../../conformance/situation.ts";

const examples = `
Examples:
  flux-gateway conformance -- node driver.mjs            starts the driver for each situation, with the URL as its last argument
  flux-gateway conformance --without inbox,presence -- ./driver
  flux-gateway conformance --only gap,resume -- ./driver
  flux-gateway conformance --no-arrays -- ./driver       a client that takes flux.v1.json-arrays, at a node that does not know it
  flux-gateway conformance --list                        the situations, one a line
  flux-gateway conformance                               waits for clients: ws://127.0.0.1:8090/NAME/ws for each situation

Exit code: 0 when every situation has passed, 1 when one has not.
docs/conformance.md says what a driver is: 20 lines around your client.`;

const dayMs = 86_400_000;

interface Given {
  readonly port: string;
  readonly host: string;
  readonly only?: string;
  readonly without: string;
  readonly timeout: string;
  readonly quiet: string;
  readonly json: boolean;
  readonly list: boolean;
  readonly arrays: boolean;
}

export function addConformanceCommand(program: Command): void {
  program
    .command("conformance")
    .description("Test a client of the protocol: a scripted node plays what a client must survive, and says what it did wrong.")
    .argument("[driver...]", "program that runs your client, and its arguments; behind --")
    .option("--port <n>", "Port to listen on. 0: any.", "8090")
    .option("--host <address>", "Address to listen on.", "127.0.0.1")
    .option("--only <names>", "Situations to play, separated by commas. Default: all.")
    .option("--without <features>", "Features that the client does not have: inbox, presence, refresh. Their situations are skipped.", "")
    .option("--timeout <time>", "Time for each step of the client. A later one is a failure.", "30s")
    .option("--quiet <time>", "Time for which a client that must not connect again is watched.", "3s")
    .option("--no-arrays", "Do not know flux.v1.json-arrays, like older nodes: a client that offers it before flux.v1.json gets that.")
    .option("--json", "Print the results as JSON.", false)
    .option("--list", "Print the situations, and exit.", false)
    .addHelpText("after", examples)
    .action(conformance);
}

async function conformance(driver: string[], { port, host, only, without, timeout, quiet, json, list, arrays }: Given): Promise<void> {
  const { situations, startKit } = await import("../../conformance/kit.ts");
  if (list) return console.log(situations.map(({ name, title, needs }) => `${name.padEnd(14)} ${title}${needs === undefined ? "" : ` [${needs}]`}`).join("\n"));

  const names = split(only ?? "");
  const features = split(without);
  const problems: string[] = [];
  const read = (flag: string, check: Check<number>, text: string): number => {
    const { data = 0, error } = check.schema.safeParse(text);
    if (error) problems.push(`${flag}: ${error.issues[0]?.message ?? text}`);
    return data;
  };
  const options = { host, arrays, port: read("--port", count(0, 65_535), port), timeoutMs: read("--timeout", time(1, dayMs), timeout), quietMs: read("--quiet", time(1, dayMs), quiet) };
  problems.push(
    ...names.filter((name) => !situations.some((one) => one.name === name)).map((name) => `--only: no situation has the name ${JSON.stringify(name)}; --list prints them`),
    ...features.filter((name) => !isFeature(name)).map((name) => `--without: must be inbox, presence or refresh, not ${JSON.stringify(name)}`),
  );
  if (problems.length > 0) throw new ConfigError(problems);

  const { describeResult, describeSum, isSound, toJson } = await import("../../conformance/report.ts");
  const { playAll } = await import("../../conformance/run.ts");
  const kit = await startKit(options).catch((error: Error) => {
    throw new ConfigError([`--port ${port}: ${error.message}`]);
  });
  const wanted = only === undefined ? situations : situations.filter(({ name }) => names.includes(name));
  const results: Result[] = [];
  const end = (): never => {
    const left = wanted.filter((situation) => !results.some((result) => result.situation === situation));
    for (const situation of left) results.push({ situation, outcome: "not played", fault: "", advice: [], format: "", trace: [] });
    console.log(json ? toJson(results) : describeSum(results));
    process.exit(isSound(results) ? 0 : 1);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, end);
  if (driver.length === 0 && !json) console.log(`Waiting for clients. Connect to each, in any order; Ctrl+C ends:\n${wanted.map((situation) => `  ${kit.url(situation)}`).join("\n")}\n`);
  await playAll(kit, {
    situations: wanted,
    without: new Set(features.filter(isFeature) as Feature[]),
    driver,
    onResult(result, output) {
      results.push(result);
      if (json) return;
      console.log(describeResult(result));
      if (result.outcome === "failed" && output !== "") console.log(`      The driver said:\n${output.trimEnd().split("\n").map((line) => `        ${line}`).join("\n")}`);
    },
  });
  end();
}

function split(text: string): string[] {
  return text.split(",").map((one) => one.trim()).filter(Boolean);
}
