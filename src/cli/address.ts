/** Where a running node's admin port is, for the commands that ask it something. */
import { isIP } from "node:net";
import type { Command } from "commander";
import { ConfigError } from "../config/config.ts";
import { configFlag } from "./flags.ts";
import { loadConfig } from "./load.ts";

/** Options of every such command. */
export interface AdminGiven {
  readonly config?: string;
  readonly adminHost?: string;
  readonly adminPort?: string;
  readonly adminKey?: string;
}

/** An admin port to ask. */
export interface AdminPort {
  /** `http://127.0.0.1:8081` */
  readonly url: string;
  /** Empty: it asks for none. */
  readonly key: string;
}

export function addAdminFlags(command: Command): Command {
  return command
    .option("--admin-host <host>", "Host of the node's admin port. Without it: the configured one, or 127.0.0.1.")
    .option("--admin-port <n>", "Number of the node's admin port. Without it: the configured one, or 8081.")
    .option("--admin-key <secret>", "Key of the node's admin port, if it needs one. Prefer FLUX_ADMIN_KEY: other users of this machine can read command lines.")
    .option(`${configFlag} <file>`, "Configuration file of the node, to read host, port and key from. Without it: the environment.");
}

/** From flags, environment or file, as start finds it. */
export function adminPort({ config: configFile, adminHost, adminPort, adminKey }: AdminGiven): AdminPort {
  // The host is only asked, not listened on: that start would want a key for it is not what is wrong here.
  const given = { ...(adminPort && { adminPort }), ...(adminKey && { adminKey }) };
  const { config } = loadConfig({ given, configFile }, process.env);
  const host = adminHost || config.adminHost;
  if (isIP(host) === 0 && !/^[\w.-]+$/.test(host)) throw new ConfigError([`--admin-host: must be a host name or an address, not ${JSON.stringify(host)}`]);
  return { url: `http://${at(host)}:${config.adminPort}`, key: config.adminKey };
}

/** Posts JSON. */
export function postTo(admin: AdminPort, path: string, body: object): Promise<Response> {
  return askAt(admin, path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/** What is not answered 200 is an error, and so is nobody there. */
export async function askAt(admin: AdminPort, path: string, request: RequestInit = {}): Promise<Response> {
  return ok(admin, path, await reach(admin, path, request));
}

/** As askAt, but null where the node knows no such path: it is of a version before there was one. */
export async function askIfKnown(admin: AdminPort, path: string): Promise<Response | null> {
  const response = await reach(admin, path, {});
  return response.status === 404 ? null : ok(admin, path, response);
}

async function reach({ url, key }: AdminPort, path: string, { headers, ...request }: RequestInit): Promise<Response> {
  try {
    return await fetch(url + path, { ...request, headers: { ...headers, ...(key !== "" && { Authorization: `Bearer ${key}` }) } });
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new ConfigError([`--admin-port: no node answers at ${url}${path}: ${cause}; is it running, and is this its admin port?`]);
  }
}

async function ok({ url, key }: AdminPort, path: string, response: Response): Promise<Response> {
  if (response.status === 200) return response;
  if (response.status === 401) {
    const way = key === "" ? "asks for its key; give it with --admin-key or FLUX_ADMIN_KEY" : "has another key than this one";
    throw new ConfigError([`--admin-key: the admin port at ${url} ${way}`]);
  }
  throw new ConfigError([`${url}${path} answered ${response.status}: ${said(await response.text())}`]);
}

/** Errors are `{"error":{"code","text"}}`; what else answers at this port says it in its own way. */
function said(body: string): string {
  try {
    const { error } = JSON.parse(body) as { error?: { code?: unknown; text?: unknown } };
    if (typeof error?.text === "string") return error.text;
  } catch {
    // It is no JSON.
  }
  return body.trim().slice(0, bodyCharsMax);
}

const bodyCharsMax = 500;

/** A host to connect to where the node listens on every address. */
function at(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
