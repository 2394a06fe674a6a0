/** Starts a server under test as a process and stops it by its pid. */
import { youngFlag } from "../../src/platform/heap.ts";
import { freePort } from "../../src/node/ports.ts";
import { controlScript, fluxCommand } from "../build.ts";
import { benchSecret } from "../load/token.ts";
import type { Dialect } from "../load/conversation.ts";
import { runOnItsCores, stop, until } from "./child.ts";
import { type PeerName, peerNames, startPeer } from "./peers.ts";

/** flux-gateway and the controls that are packages. */
export const packageNames = ["flux", "uws", "ws", "socketio"] as const;
export const serverNames = [...packageNames, ...peerNames];
export type ServerName = (typeof serverNames)[number];

/** Controls that are no WebSocket server. */
type ControlName = "nodehttp" | "hookbackend" | "webhookreceiver";

export const serverTitles: Record<ServerName, string> = {
  flux: "flux-gateway",
  uws: "bare uWS",
  ws: "ws",
  socketio: "socket.io",
  nats: "nats-server",
  nchan: "nchan",
  centrifugo: "Centrifugo",
};

export type ServerUnderTest = {
  name: ServerName | ControlName;
  dialect: Dialect;
  host: string;
  port: number;
  /** Port of /metrics, for flux-gateway. */
  adminPort: number | null;
  pid: number;
  /** What flux-gateway has logged. */
  said?(): string;
  stop(): Promise<void>;
};

export type StartOptions = {
  /** flux-gateway only; the controls are one thread. */
  reactors: number;
  /** Directory for V8 CPU profiles, written when the server stops. */
  profileDir: string | null;
  /** flux-gateway only: clients need a token. Default: true. */
  isGuarded?: boolean;
  /** More flags, flux-gateway only. */
  flags?: readonly string[];
  /** socket.io only: connects several processes. */
  redisUrl?: string;
};

const host = "127.0.0.1";

export async function startServer(name: ServerName | ControlName, { reactors, profileDir, isGuarded = true, flags = [], redisUrl }: StartOptions): Promise<ServerUnderTest> {
  if (isPeer(name)) return startPeer(name);
  const node = profileDir === null ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileDir}/${name}`];
  return name === "flux" ? startFlux(node, reactors, [...(isGuarded ? ["--auth-secret", benchSecret] : []), ...flags]) : startControl(name, node, redisUrl === undefined ? {} : { REDIS_URL: redisUrl });
}

function isPeer(name: string): name is PeerName {
  return peerNames.some((peer) => peer === name);
}

async function startFlux(node: string[], reactors: number, more: readonly string[]): Promise<ServerUnderTest> {
  const [port, adminPort] = [await freePort(), await freePort()];
  // With the flag in the command's first line. The bench must raise one limit: a single publisher sends 2,000 messages
  // a second, as many as ten sockets may.
  const flags = ["--reactors", reactors, "--port", port, "--admin-port", adminPort, "--commands-per-second", 10_000,
    "--host", host, "--log-level", "warn", "--drain-ms", 0, ...more].map(String);
  const child = runOnItsCores(process.execPath, [...node, youngFlag, fluxCommand, "start", ...flags]);
  await until(child, async () => (await fetch(`http://${host}:${port}/ready`)).ok);
  return { name: "flux", dialect: "flux", host, port, adminPort, pid: child.process.pid!, said: () => child.output + child.complaints, stop: () => stop(child) };
}

async function startControl(name: Exclude<ServerName, "flux" | PeerName> | ControlName, node: string[], env: NodeJS.ProcessEnv): Promise<ServerUnderTest> {
  const child = runOnItsCores(process.execPath, [...node, controlScript(name)], env);
  await until(child, async () => child.output.includes("\n"));
  const dialect = name === "socketio" ? "socketio" : "plain";
  return { name, dialect, host, port: Number(child.output), adminPort: null, pid: child.process.pid!, stop: () => stop(child) };
}
