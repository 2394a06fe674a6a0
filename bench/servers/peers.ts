/**
 * Peers that are programs of their own: nats-server with its WebSocket, nginx with nchan, Centrifugo. Each is measured if
 * it is installed. Each gets one thread for its work, as bare uWS has.
 */
import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { freePort } from "../../src/node/ports.ts";
import { scratchFolder } from "../build.ts";
import type { Dialect } from "../load/conversation.ts";
import { type Child, runOnItsCores, stop, until } from "./child.ts";

export const peerNames = ["nats", "nchan", "centrifugo"] as const;
export type PeerName = (typeof peerNames)[number];

export type Peer = { name: PeerName; dialect: Dialect; host: string; port: number; adminPort: null; pid: number; stop(): Promise<void> };

const host = "127.0.0.1";
/** Where Debian puts it. BENCH_NCHAN_MODULE names another file: a node takes no unknown name that begins with FLUX_. */
const nchanModule = (): string => process.env.BENCH_NCHAN_MODULE ?? "/usr/lib/nginx/modules/ngx_nchan_module.so";
/** One thread runs Go code; the collector's threads count too. */
const oneThread = { GOMAXPROCS: "1" };

/** Why a peer cannot be measured here, or null. */
export function absence(name: PeerName): string | null {
  const program = { nats: "nats-server", nchan: "nginx", centrifugo: "centrifugo" }[name];
  if (!isOnPath(program)) return `no ${program} on PATH`;
  if (name === "nchan" && !existsSync(nchanModule())) return `no ${nchanModule()} (Debian: libnginx-mod-nchan)`;
  return null;
}

/** As the program says it. */
export function versionOf(name: PeerName): string {
  const [program, ...args] = { nats: ["nats-server", "--version"], nchan: ["nginx", "-v"], centrifugo: ["centrifugo", "version"] }[name] as [string, ...string[]];
  // nginx writes its version to stderr.
  const said = execFileSync("sh", ["-c", '"$0" "$@" 2>&1', program, ...args]).toString();
  return /\d+(\.\d+)+/.exec(said)?.[0] ?? "unknown";
}

export async function startPeer(name: PeerName): Promise<Peer> {
  const why = absence(name);
  if (why !== null) throw new Error(why);
  mkdirSync(scratchFolder, { recursive: true });
  const directory = mkdtempSync(`${scratchFolder}/${name}-`);
  const { child, dialect, port } = await { nats: startNats, nchan: startNchan, centrifugo: startCentrifugo }[name](directory);
  return { name, dialect, host, port, adminPort: null, pid: child.process.pid!, stop: () => stop(child).finally(() => rmSync(directory, { recursive: true, force: true })) };
}

type Started = { child: Child; dialect: Dialect; port: number };

async function startNats(directory: string): Promise<Started> {
  const [port, clientPort, monitorPort] = [await freePort(), await freePort(), await freePort()];
  const config = join(directory, "nats.conf");
  writeFileSync(config, `listen: "${host}:${clientPort}"\nhttp: "${host}:${monitorPort}"\nwebsocket { host: "${host}", port: ${port}, no_tls: true }\n`);
  const child = runOnItsCores("nats-server", ["-c", config], oneThread);
  await until(child, async () => (await fetch(`http://${host}:${monitorPort}/healthz`)).ok);
  return { child, dialect: "nats", port };
}

/** The buffer is what keeps a member that falls behind from missing messages. */
async function startNchan(directory: string): Promise<Started> {
  const port = await freePort();
  const config = join(directory, "nginx.conf");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((what) => `${what}_temp_path ${directory};`).join(" ");
  writeFileSync(config, `load_module ${nchanModule()};
daemon off; master_process off; pid ${directory}/pid; error_log stderr error;
events { worker_connections 12000; }
http {
  access_log off; ${temporary}
  server {
    listen ${host}:${port};
    location = /room { nchan_pubsub websocket; nchan_channel_id room; nchan_message_buffer_length 1000; nchan_message_timeout 30s; nchan_subscriber_first_message newest; }
    location / { return 204; }
  }
}
`);
  const child = runOnItsCores("nginx", ["-e", "stderr", "-c", config]);
  await until(child, async () => (await fetch(`http://${host}:${port}/`)).ok);
  return { child, dialect: "plain", port };
}

/** With history and recovery, as our rooms have them. */
async function startCentrifugo(directory: string): Promise<Started> {
  const port = await freePort();
  const config = join(directory, "config.json");
  writeFileSync(config, JSON.stringify({
    http_server: { address: host, port },
    client: { insecure: true, allowed_origins: ["*"] },
    channel: { without_namespace: { history_size: 100, history_ttl: "60s", force_recovery: true } },
    health: { enabled: true },
    log: { level: "error" },
  }));
  const child = runOnItsCores("centrifugo", ["-c", config], oneThread);
  await until(child, async () => (await fetch(`http://${host}:${port}/health`)).ok);
  return { child, dialect: "centrifugo", port };
}

function isOnPath(program: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
