/** `flux-gateway lb`: forwards clients to the nodes. */
import type { Command } from "commander";
import { ConfigError, isOptionOf } from "../../config/config.ts";
import type { Balancer } from "../../lb/balancer.ts";
import { version } from "../../platform/version.ts";
import { addFlags, readFlags, type Flags } from "../flags.ts";
import { writeListening } from "../listening.ts";
import { asTyped, loadConfig, type Loaded } from "../load.ts";

const examples = `
Examples:
  flux-gateway lb --redis redis://10.0.0.5:6379 --host 0.0.0.0      the nodes that this Redis knows
  flux-gateway lb --nodes a=10.0.0.6:8080,b=10.0.0.7:8080           without Redis
  kill -HUP PID                                                     reads the configuration again; nobody is disconnected
  flux-gateway lb --redis redis://10.0.0.5:6379 --watch haproxy --out /etc/haproxy/flux`;

interface Given {
  readonly emit?: string;
  readonly watch?: string;
  readonly out: string;
  readonly slots: string;
}

export function addLbCommand(program: Command): void {
  const command = program
    .command("lb")
    .description("Run a load balancer in front of the nodes, or write a configuration of haproxy that does the same.")
    .option("--emit <program>", "Write a configuration instead, and exit: haproxy.")
    .option("--watch <program>", "Write it, and keep it and the running haproxy up to date.")
    .option("--out <directory>", "Directory for the files of haproxy, and for its socket.", ".")
    .option("--slots <n>", "Nodes that haproxy has room for. 0: twice as many as there are, at least 8.", "0");
  addFlags(command, (key) => isOptionOf("lb", key))
    .addHelpText("after", examples)
    .action(async (given: Given, command: Command) => {
      if (given.emit !== undefined || given.watch !== undefined) return haproxy(given, command);
      await run(command);
    });
}

/** Values of the table of options, without those above. */
function flagsOf(command: Command): Flags {
  const { configFile, given: { emit, watch, out, slots, ...given } } = readFlags(command);
  return { configFile, given };
}

async function haproxy({ emit, watch, out, slots: text }: Given, command: Command): Promise<void> {
  const loaded = loadConfig(flagsOf(command), process.env, "lb");
  const slots = /^\d{1,4}$/.test(text) ? Number(text) : NaN;
  const problems = [
    ...(emit !== undefined && watch !== undefined ? ["--watch: writes the files as well; remove --emit"] : []),
    ...([["--emit", emit], ["--watch", watch]] as const).flatMap(([flag, name]) => (name === undefined || name === "haproxy" ? [] : [`${flag}: must be haproxy, not ${JSON.stringify(name)}`])),
    ...(loaded.config.sendProxy ? ["--send-proxy: haproxy may send the header before the request, and nodes need both in one read; remove it"] : []),
    ...(loaded.config.port === 0 ? ["--port 0: haproxy needs the number of a port"] : []),
    ...(Number.isNaN(slots) ? [`--slots: must be a whole number from 0 to 9999, not ${JSON.stringify(text)}`] : []),
  ];
  if (problems.length > 0) throw new ConfigError(problems);
  const [{ emitHaproxy, watchHaproxy }, { createLogger }] = await Promise.all([import("../../lb/haproxy/watch.ts"), import("../../platform/log/log.ts")]);
  const log = createLogger(loaded.config);
  const options = { folder: out, slots };
  const typed = (error: unknown) => {
    throw error instanceof ConfigError ? new ConfigError(asTyped(error.problems, loaded.sources)) : error;
  };
  if (emit !== undefined) {
    const folder = await emitHaproxy(loaded.config, log, options).catch(typed);
    return console.log(`Written: ${folder}/haproxy.cfg and its maps. Start: haproxy -f ${folder}/haproxy.cfg`);
  }
  const watching = await watchHaproxy(loaded.config, log, options).catch(typed);
  log.info({ folder: out }, "flux-gateway lb watches the nodes for haproxy");
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void watching.close().then(() => process.exit(0)));
}

async function run(command: Command): Promise<void> {
  const load = () => loadConfig(flagsOf(command), process.env, "lb");
  const loaded = load();
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  const { createBalancer } = await import("../../lb/balancer.ts");
  const signalled = new Promise<NodeJS.Signals>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => resolve(signal));
  });
  const balancer = await createBalancer(loaded.config).catch((error: unknown) => {
    throw error instanceof ConfigError ? new ConfigError(asTyped(error.problems, loaded.sources)) : error;
  });
  const { log, config, port } = balancer;
  endOnFailure(balancer);
  writeListening({ node: config.nodeId, host: config.host, port, tls: config.tlsCert !== "" });
  log.info(describe(balancer, loaded.file), "flux-gateway lb is running");
  process.on("SIGHUP", () => reload(balancer, load));

  const signal = await signalled;
  for (const again of ["SIGTERM", "SIGINT"] as const) process.on(again, () => process.exit(1));
  log.info(`${signal}: taking no more clients; waiting up to ${balancer.config.drainMs / 1000} s for ${balancer.usage().counts.joined} connections; a second signal stops it at once`);
  if (signal === "SIGTERM") await balancer.drain();
  await balancer.close();
  log.info("closed");
  process.exit(0);
}

function reload(balancer: Balancer, load: () => Loaded): void {
  try {
    balancer.reload(load().config);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    balancer.log.error(`${error.problems.join("; ")}; the load balancer keeps the configuration it has`);
  }
}

/** The state after an uncaught error is unknown: a supervisor starts it again, and clients reconnect. */
function endOnFailure({ log }: Balancer): void {
  const fail = (error: unknown) => {
    log.fatal({ err: error }, "uncaught error: the load balancer exits");
    process.exit(1);
  };
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
}

function describe({ config, port, adminPort, metricsPort }: Balancer, configFile: string | undefined): Record<string, string | number> {
  const reachable = (host: string) => (host === "0.0.0.0" || host === "::" ? "localhost" : host.includes(":") ? `[${host}]` : host);
  const admin = `http://${reachable(config.adminHost)}:${adminPort}`;
  const tls = config.tlsCert === "" ? "passed through" : "ended here";
  return {
    version,
    listens: `${reachable(config.host)}:${port}`,
    policy: config.policy,
    forwards: config.forward,
    nodes: config.redis === "" ? config.nodes.join(",") : "those in Redis",
    tls,
    admin: `${admin}/`,
    metrics: metricsPort === null ? `${admin}/metrics` : `http://${reachable(config.metricsHost || "127.0.0.1")}:${metricsPort}/metrics`,
    connections: config.connectionsMax,
    config: configFile ?? "no file",
  };
}
