/** Where a running node's admin port is, for the commands that ask it something. */
import type { Command } from "commander";
import { ConfigError } from "../config.ts";
import { configFlag } from "./flags.ts";
import { loadConfig } from "./load.ts";

/** Options of every such command. */
export interface AdminGiven {
  readonly config?: string;
  readonly adminHost?: string;
  readonly adminPort?: string;
}

export function addAdminFlags(command: Command): Command {
  return command
    .option("--admin-host <host>", "Where the node's admin port is.")
    .option("--admin-port <n>", "And its number.")
    .option(`${configFlag} <file>`, "Find both in the node's configuration file; else in the environment, else the defaults.");
}

/** `http://127.0.0.1:8081`, from flags, environment or file as start finds it. */
export function adminUrl({ config: configFile, adminHost, adminPort }: AdminGiven): string {
  const { config } = loadConfig({ given: { ...(adminHost && { adminHost }), ...(adminPort && { adminPort }) }, configFile }, process.env);
  return `http://${at(config.adminHost)}:${config.adminPort}`;
}

/** Posts JSON. */
export function postTo(url: string, body: object): Promise<Response> {
  return askAt(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/** What is not answered 200 is an error, and so is nobody there. */
export async function askAt(url: string, request: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, request);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new ConfigError([`--admin-port: no node answers at ${url}: ${cause}; is it running, and is this its admin port?`]);
  }
  if (response.status !== 200) throw new ConfigError([`${url} answered ${response.status}: ${(await response.text()).trim()}`]);
  return response;
}

/** A host to connect to where the node listens on every address. */
function at(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
