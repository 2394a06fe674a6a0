/** Checks everything a node starts with before it opens anything: options, keys, certificate, ports, open files. */
import { readKeys } from "../auth/files.ts";
import type { KeyMaterial } from "../auth/keys.ts";
import { readCertificate, type Certificate } from "../config/certificate.ts";
import { hasHooks } from "../config/hooks.ts";
import { resolveConfig, type Config, type GatewayOptions } from "../config/config.ts";
import type { Source } from "../config/sources.ts";
import { createLogger, type Logger } from "../platform/log/log.ts";
import { openFilesMax } from "../platform/machine.ts";
import { findPorts } from "./ports.ts";

export interface Setup {
  /** As given, with socketsMax lowered to the sockets this process can open. */
  readonly config: Config;
  readonly authKeys: readonly KeyMaterial[];
  /** Null where TLS is off. */
  readonly certificate: Certificate | null;
  /** Where each option that was given came from. */
  readonly sources: ReadonlyMap<string, Source>;
  readonly log: Logger;
  /** Port for clients. If 0 was given, a free one. */
  readonly port: number;
  /** Port for raw TCP, or null. */
  readonly tcpPort: number | null;
}

/** Open files reserved for everything but client sockets, and those a data directory needs. */
const otherFiles = 60;
const filesOnDisk = 120;
/** Listen sockets (main.ts of the reactor), and the files of an event loop. */
const filesPerReactor = 32;
/** Share for sockets that are connecting or closing and have no session. */
const spareShare = 0.05;

/** @throws ConfigError that names the option, where a value is wrong or a port is in use. */
export async function readSetup(options: GatewayOptions): Promise<Setup> {
  const { config: asked, sources } = resolveConfig({ options });
  const authKeys = readKeys(asked);
  const certificate = readCertificate(asked);
  const log = createLogger(asked);
  warnOfHalves(asked, log);
  const config = { ...asked, socketsMax: affordableSockets(asked, log) };
  return { config, authKeys, certificate, sources, log, ...(await findPorts(config)) };
}

/** NATS carries rooms, Redis carries sessions and presence. A gateway of several nodes needs both. */
function warnOfHalves({ nats, redis }: Config, log: Logger): void {
  const hasNats = nats.length > 0;
  const hasRedis = redis !== "";
  if (hasNats === hasRedis) return;
  log.warn(
    hasNats
      ? "--nats without --redis: nodes share rooms, but not sessions; resume, presence, disconnect and --sign-out work within one node only; with more than one node, set --redis as well"
      : "--redis without --nats: nodes share sessions and presence, but not rooms; members on other nodes do not receive publications of this node; with more than one node, set --nats as well",
  );
}

/** Every socket is an open file. Past the process's limit uWS can neither accept nor reject a socket, and spins. */
function affordableSockets(config: Config, log: Logger): number {
  const { socketsMax, reactors, dataDir } = config;
  const files = openFilesMax() ?? Infinity;
  const others = otherFiles + (dataDir === "" ? 0 : filesOnDisk) + (hasHooks(config) ? config.hookConnectionsMax : 0);
  const affordable = Math.max(1, Math.floor((files - others - filesPerReactor * reactors) * (1 - spareShare)));
  if (socketsMax <= affordable) return socketsMax;
  log.warn(
    `--sockets-max ${socketsMax} is lowered to ${affordable}: this process may open ${files} files; raise the limit (ulimit -n)`,
  );
  return affordable;
}
