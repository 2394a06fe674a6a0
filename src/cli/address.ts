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
  return ok(url, await reach(url, request));
}

/** As askAt, but null where the node knows no such path: it is of a version before there was one. */
export async function askIfKnown(url: string): Promise<Response | null> {
  const response = await reach(url, {});
  return response.status === 404 ? null : ok(url, response);
}

async function reach(url: string, request: RequestInit): Promise<Response> {
  try {
    return await fetch(url, request);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new ConfigError([`--admin-port: no node answers at ${url}: ${cause}; is it running, and is this its admin port?`]);
  }
}

async function ok(url: string, response: Response): Promise<Response> {
  if (response.status !== 200) throw new ConfigError([`${url} answered ${response.status}: ${(await response.text()).trim()}`]);
  return response;
}

/** A host to connect to where the node listens on every address. */
function at(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
