/** The ports a node listens on, and what is wrong with one that cannot be had. */
import { randomInt } from "node:crypto";
import { createServer, type AddressInfo } from "node:net";
import { ConfigError, type Config } from "../config/config.ts";

/**
 * The ports to listen on, free ones for 0. Reactors share them on purpose (SO_REUSEPORT, which uWS does not set for
 * port 0), and would share them with another node without a word: this sees first that nobody is there.
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
 * What is taken for 0: below the ports that systems take for outgoing connections (Linux from 32,768 on, others from 49,152).
 * One of those may be gone between looking and listening.
 */
const freeFrom = 20_000;
const freeTo = 32_768;
const triesMax = 50;

/** One that nobody listens on. */
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
      return `${portFlag} ${port}: something else listens on ${where}; end it or choose another port`;
    case "EACCES":
      return `${portFlag} ${port}: this user may not listen on ${where}; choose a port from 1024 on`;
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `${hostFlag} ${host}: this machine has no such address; choose one of its own, or 0.0.0.0 for all`;
    default:
      return `${hostFlag} ${host} ${portFlag} ${port}: cannot listen: ${String((error as Error).message)}`;
  }
}

/** A host to connect to where `host` may mean every address. */
export function reachable(host: string): string {
  return host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
}

export function at(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
