/** What a node is started with, checked before anything is opened: options, keys, certificate, and what this machine has for it. */
import { readKeys } from "../auth/files.ts";
import type { KeyMaterial } from "../auth/keys.ts";
import { readCertificate, type Certificate } from "../config/certificate.ts";
import { resolveConfig, type Config, type GatewayOptions } from "../config/config.ts";
import { createLogger, type Logger } from "../platform/log/log.ts";
import { openFilesMax } from "../platform/machine.ts";
import { findPorts } from "./ports.ts";

export interface Setup {
  /** As it was asked for, with as many sockets as can be had. */
  readonly config: Config;
  readonly authKeys: readonly KeyMaterial[];
  /** Null where TLS is off. */
  readonly certificate: Certificate | null;
  readonly log: Logger;
  /** For clients; the ones that were free if 0 was asked for. */
  readonly port: number;
  /** For raw TCP, null where there is none. */
  readonly tcpPort: number | null;
}

/** What is held back of the open files for everything that is not a client's socket, and what a data directory takes. */
const otherFiles = 60;
const filesOnDisk = 120;
/** Listen sockets (main.ts of the reactor), and what an event loop needs. */
const filesPerReactor = 32;
/** And for sockets on their way in and out, which are in no session yet or any more. */
const spareShare = 0.05;

/** @throws ConfigError that names the option, where one is wrong or a port is taken. */
export async function readSetup(options: GatewayOptions): Promise<Setup> {
  const { config: asked } = resolveConfig({ options });
  const authKeys = readKeys(asked);
  const certificate = readCertificate(asked);
  const log = createLogger(asked);
  warnOfHalves(asked, log);
  const config = { ...asked, socketsMax: affordableSockets(asked, log) };
  return { config, authKeys, certificate, log, ...(await findPorts(config)) };
}

/** NATS is for rooms, Redis for people: several nodes with one of them alone are one gateway for half of what they do. */
function warnOfHalves({ nats, redis }: Config, log: Logger): void {
  const hasNats = nats.length > 0;
  const hasRedis = redis !== "";
  if (hasNats === hasRedis) return;
  log.warn(
    hasNats
      ? "--nats without --redis: nodes share rooms, but each knows its own sessions only: a resume, presence, disconnect and --sign-out stop at this node; with more than one, give --redis as well"
      : "--redis without --nats: nodes share sessions and presence, but each has its own rooms: what is published here stays here; with more than one, give --nats as well",
  );
}

/** Every socket is a file: past the process's limit uWS could neither accept a socket nor refuse it, and would spin. */
function affordableSockets({ socketsMax, reactors, dataDir }: Config, log: Logger): number {
  const files = openFilesMax() ?? Infinity;
  const others = otherFiles + (dataDir === "" ? 0 : filesOnDisk);
  const affordable = Math.max(1, Math.floor((files - others - filesPerReactor * reactors) * (1 - spareShare)));
  if (socketsMax <= affordable) return socketsMax;
  log.warn(
    `--sockets-max ${socketsMax} is lowered to ${affordable}: this process may open ${files} files; raise the limit (ulimit -n)`,
  );
  return affordable;
}
