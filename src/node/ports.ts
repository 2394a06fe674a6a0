/** The ports a node listens on, and the errors of ports that cannot be used. */
import { randomInt } from "node:crypto";
import { createServer, type AddressInfo } from "node:net";
import { ConfigError, type Config } from "../config/config.ts";

/**
 * Returns the ports to listen on; for 0 a free one. Reactors share a port (SO_REUSEPORT, which uWS does not set for
 * port 0). They would also share it silently with another node, so this first checks that nobody listens there.
 */
export async function findPorts({ host, port, tcpHost, tcpPort }: Config): Promise<{ port: number; tcpPort: number | null }> {
  const web = await probe("--host", "--port", host, port);
  try {
    if (tcpPort === null) return { port: web.port, tcpPort };
    const raw = await probe("--tcp-host", "--tcp-port", tcpHost || host, tcpPort);
    await raw.close();
    return { port: web.port, tcpPort: raw.port };
  } finally {
    await web.close();
  }
}

/**
 * Range for 0: below the ports that systems use for outgoing connections (Linux from 32,768, others from 49,152). Such
 * a port could be in use again before the node listens.
 */
const freeFrom = 20_000;
const freeTo = 32_768;
const triesMax = 50;

/** A port on which nobody listens. */
export async function freePort(host = "127.0.0.1"): Promise<number> {
  const { port, close } = await listenOn(host, 0);
  await close();
  return port;
}

async function probe(hostFlag: string, portFlag: string, host: string, port: number): Promise<Probe> {
  try {
    return await listenOn(host, port);
  } catch (error) {
    throw new ConfigError([listenProblem(hostFlag, portFlag, host, port, error)]);
  }
}

interface Probe {
  readonly port: number;
  close(): Promise<unknown>;
}

async function listenOn(host: string, port: number): Promise<Probe> {
  for (let tries = 1; ; tries++) {
    const server = createServer();
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen(port === 0 && tries <= triesMax ? randomInt(freeFrom, freeTo) : port, host, () => resolve());
      });
    } catch (error) {
      if (port === 0 && tries <= triesMax && (error as NodeJS.ErrnoException).code === "EADDRINUSE") continue;
      throw error;
    }
    const found = (server.address() as AddressInfo).port;
    return { port: found, close: () => new Promise((resolve) => server.close(resolve)) };
  }
}

export function listenProblem(hostFlag: string, portFlag: string, host: string, port: number, error: unknown): string {
  const where = at(host, port);
  switch ((error as NodeJS.ErrnoException).code) {
    case "EADDRINUSE":
      return `${portFlag} ${port}: another process listens on ${where}; stop it or choose another port`;
    case "EACCES":
      return `${portFlag} ${port}: this user may not listen on ${where}; choose a port of 1024 or more`;
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `${hostFlag} ${host}: this machine does not have this address; choose one that it has, or 0.0.0.0 for all`;
    default:
      return `${hostFlag} ${host} ${portFlag} ${port}: cannot listen: ${String((error as Error).message)}`;
  }
}

/** A host to connect to, where `host` may stand for every address. */
export function reachable(host: string): string {
  return host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
}

export function at(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
