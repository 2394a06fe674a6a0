/** `flux-gateway start`: runs one node until a signal ends it. */
import { ConfigError, type Resolved } from "../../config/config.ts";
import { createGateway, type Gateway } from "../../index.ts";
import { createLogger } from "../../platform/log/log.ts";
import { version } from "../../platform/version.ts";
import { banner, describe, type Running } from "../banner.ts";
import type { Flags } from "../flags.ts";
import { writeListening } from "../listening.ts";
import { asTyped, loadConfig } from "../load.ts";

/** How long an orderly end may take after a failure. */
const lastWordsMs = 5000;
/** The same after a second signal: somewhat more than a reactor gives slow readers to take what is queued for them. */
const impatientMs = 2000;
/** npx passes a Ctrl+C on that everyone at the terminal has got already: the same signal this soon is no second one. */
const echoMs = 200;

export async function start(flags: Flags): Promise<void> {
  const loaded = loadConfig(flags, process.env);
  // Watched before anything runs: reactors that serve must be closed in order, or they take the process down.
  const signals = watchSignals();
  // What does not get out, such as the banner with a full disk behind it, ends no node.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  const gateway = await unlessAsked(open(loaded), signals, loaded);
  const { config, port, tcpPort, adminPort, metricsPort, log } = gateway;
  const failure = endOnFailure(gateway);
  if (writeListening({ node: config.nodeId, host: config.host, port, tls: config.tlsCert !== "" }) === null) {
    log.debug("neither /dev/shm nor the temporary folder can be written to: a health check looks at the command line of process 1");
  }
  const running: Running = { version, config, port, tcpPort, adminPort, metricsPort, configFile: loaded.file };
  if (config.logFormat === "json") log.info(describe(running), "flux-gateway is running");
  else if (config.logLevel !== "silent") process.stdout.write(`${banner(running)}\n`);

  if (config.tlsCert !== "") process.on("SIGHUP", () => void gateway.reloadCertificate());
  // Whoever drains it by way of the admin port ends it as well.
  const signal = await Promise.race([signals.first, gateway.ended]);
  if (signal !== undefined) await end(gateway, signal, signals);
  // The node may have ended because it failed, or have failed to close: then this throws, and the exit code is not 0.
  await gateway.close();
  log.info("closed");
  process.exit(signals.again || failure.happened ? 1 : 0);
}

/** A person at a terminal who types Ctrl+C does not want to wait; nobody but a person sends SIGINT from one. */
async function end(gateway: Gateway, signal: NodeJS.Signals, signals: Signals): Promise<void> {
  const { log, config } = gateway;
  void signals.second.then(() => gateway.close());
  if ((signal === "SIGINT" && isAtTerminal()) || config.drainMs === 0) {
    log.info(`${signal}: closing; a second signal ends it at once`);
    return gateway.close();
  }
  log.info(`${signal}: draining within ${config.drainMs / 1000} s; a second signal ends it at once`);
  await gateway.drain();
}

function isAtTerminal(): boolean {
  return process.stdin.isTTY || process.stdout.isTTY;
}

interface Failure {
  happened: boolean;
}

/**
 * An error that nobody caught leaves the node in an unknown state. The node tells its clients to come back, closes and
 * exits with an error, so that the supervisor starts another. What closes the node resolves `ended` as well: whoever
 * waits for that exits first, and has to know that this is no orderly end.
 */
function endOnFailure({ log, close }: Gateway): Failure {
  const failure: Failure = { happened: false };
  const fail = (error: unknown) => {
    failure.happened = true;
    log.fatal({ err: error }, "the node failed and ends");
    setTimeout(() => process.exit(1), lastWordsMs);
    close()
      .catch((another: unknown) => log.fatal({ err: another }, "and did not close"))
      .finally(() => process.exit(1));
  };
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
  return failure;
}

/**
 * A start may wait for NATS or Redis. Whoever ends the node meanwhile does not wait with it: nobody is served yet, and
 * what the data directory holds is as after a crash, which it survives. Once a reactor has begun, the start is
 * nearly over, and the node is ended in order.
 */
async function unlessAsked(opening: Promise<Gateway>, signals: Signals, { config }: Resolved): Promise<Gateway> {
  let reactors = 0;
  const onWorker = () => reactors++;
  process.on("worker", onWorker);
  const signal = await Promise.race([opening.then(() => null), signals.first]);
  process.off("worker", onWorker);
  if (signal !== null && reactors === 0) {
    createLogger(config).info(`${signal}: ended before the node was running`);
    process.exit(0);
  }
  return opening;
}

async function open({ config, sources }: Resolved): Promise<Gateway> {
  try {
    return await createGateway(config);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(asTyped(error.problems, sources));
  }
}

interface Signals {
  readonly first: Promise<NodeJS.Signals>;
  readonly second: Promise<void>;
  /** Whether someone lost patience. */
  again: boolean;
}

/**
 * Watches for SIGTERM and SIGINT. The second one leaves a moment for what is under way, since a process that exits
 * while reactors serve is aborted by uWS, and then ends the process by force.
 */
function watchSignals(): Signals {
  let onFirst: (signal: NodeJS.Signals) => void;
  let onSecond: () => void;
  const signals: Signals = {
    first: new Promise((resolve) => (onFirst = resolve)),
    second: new Promise((resolve) => (onSecond = resolve)),
    again: false,
  };
  let came: { signal: NodeJS.Signals; at: number } | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    const at = performance.now();
    if (came === undefined) {
      came = { signal, at };
      onFirst(signal);
    } else if (!signals.again && !(signal === came.signal && at - came.at < echoMs)) {
      signals.again = true;
      onSecond();
      setTimeout(() => process.kill(process.pid, "SIGKILL"), impatientMs);
    }
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  return signals;
}
