/** `flux-gateway start`: runs one node until a signal stops it. */
import { ConfigError, type Resolved } from "../../config/config.ts";
import { createGateway, type Gateway } from "../../index.ts";
import { createLogger } from "../../platform/log/log.ts";
import { version } from "../../platform/version.ts";
import { banner, describe, type Running } from "../banner.ts";
import type { Flags } from "../flags.ts";
import { writeListening } from "../listening.ts";
import { asTyped, loadConfig } from "../load.ts";

/** Time for an orderly exit after a failure. */
const lastWordsMs = 5000;
/** The same after a second signal: a little more than a reactor gives slow readers to drain their queues. */
const impatientMs = 2000;
/**
 * npx forwards a Ctrl+C that the whole terminal has already received. The same signal within this time is not a second
 * one.
 */
const echoMs = 200;

export async function start(flags: Flags): Promise<void> {
  const loaded = loadConfig(flags, process.env);
  // Before anything else: serving reactors must be closed in order, or uWS aborts the process.
  const signals = watchSignals();
  // Output that cannot be written, as to a full disk, must not end the node.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
  const gateway = await unlessAsked(open(loaded), signals, loaded);
  const { config, port, tcpPort, adminPort, apiPort, metricsPort, log } = gateway;
  const failure = endOnFailure(gateway);
  if (writeListening({ node: config.nodeId, host: config.host, port, tls: config.tlsCert !== "" }) === null) {
    log.debug("health check: neither /dev/shm nor the temporary folder is writable; the check uses the command line of process 1 instead");
  }
  const running: Running = { version, config, port, tcpPort, adminPort, apiPort, metricsPort, configFile: loaded.file };
  if (config.logFormat === "json") log.info(describe(running), "flux-gateway is running");
  else if (config.logLevel !== "silent") process.stdout.write(`${banner(running)}\n`);

  if (config.tlsCert !== "") process.on("SIGHUP", () => void gateway.reloadCertificate());
  // A drain through the admin port also ends the process.
  const signal = await Promise.race([signals.first, gateway.ended]);
  if (signal !== undefined) await end(gateway, signal, signals);
  // If the node ended because of a failure, or fails to close, this throws, and the exit code is not 0.
  await gateway.close();
  log.info("closed");
  process.exit(signals.again || failure.happened ? 1 : 0);
}

/** Ctrl+C at a terminal closes at once, without a drain: only a person sends SIGINT from there. */
async function end(gateway: Gateway, signal: NodeJS.Signals, signals: Signals): Promise<void> {
  const { log, config } = gateway;
  void signals.second.then(() => gateway.close());
  if ((signal === "SIGINT" && isAtTerminal()) || config.drainMs === 0) {
    log.info(`${signal}: closing; a second signal stops it at once`);
    return gateway.close();
  }
  log.info(`${signal}: draining within ${config.drainMs / 1000} s; a second signal stops it at once`);
  await gateway.drain();
}

function isAtTerminal(): boolean {
  return process.stdin.isTTY || process.stdout.isTTY;
}

interface Failure {
  happened: boolean;
}

/**
 * An uncaught error leaves the node in an unknown state. The node tells its clients to reconnect, closes, and exits
 * with an error, so that the supervisor starts a new one. Closing also resolves `ended`. So the code that waits for
 * `ended` must learn that this exit is a failure.
 */
function endOnFailure({ log, close }: Gateway): Failure {
  const failure: Failure = { happened: false };
  const fail = (error: unknown) => {
    failure.happened = true;
    log.fatal({ err: error }, "uncaught error: the node closes its sockets and exits");
    setTimeout(() => process.exit(1), lastWordsMs);
    close()
      .catch((another: unknown) => log.fatal({ err: another }, "the node failed to close in order"))
      .finally(() => process.exit(1));
  };
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
  return failure;
}

/**
 * A start may wait for NATS or Redis, and a signal must not wait with it. Nobody is served yet, and the data directory
 * survives a crash. Once a reactor has started, the start is nearly over, and the node is closed in order.
 */
async function unlessAsked(opening: Promise<Gateway>, signals: Signals, { config }: Resolved): Promise<Gateway> {
  let reactors = 0;
  const onWorker = () => reactors++;
  process.on("worker", onWorker);
  const signal = await Promise.race([opening.then(() => null), signals.first]);
  process.off("worker", onWorker);
  if (signal !== null && reactors === 0) {
    createLogger(config).info(`${signal}: stopped before the node was running`);
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
  /** Whether a second signal arrived. */
  again: boolean;
}

/**
 * Watches for SIGTERM and SIGINT. After a second signal it waits briefly, since uWS aborts a process that exits while
 * reactors serve. Then it exits by force.
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
