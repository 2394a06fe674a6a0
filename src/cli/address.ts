/** Finds the admin port of a running node, for the commands that use it. */
import { isIP } from "node:net";
import type { Command } from "commander";
import { ConfigError } from "../config/config.ts";
import { configFlag } from "./flags.ts";
import { loadConfig } from "./load.ts";

/** Options of every command that uses the admin port. */
export interface AdminGiven {
  readonly config?: string;
  readonly adminHost?: string;
  readonly adminPort?: string;
  readonly adminKey?: string;
}

/** Address and key of an admin port. */
export interface AdminPort {
  /** `http://127.0.0.1:8081` */
  readonly url: string;
  /** Empty where the port needs no key. */
  readonly key: string;
}

export function addAdminFlags(command: Command): Command {
  return command
    .option("--admin-host <host>", "Host of the node's admin port. Without it: the configured one, or 127.0.0.1.")
    .option("--admin-port <n>", "Number of the node's admin port. Without it: the configured one, or 8081.")
    .option("--admin-key <secret>", "Key of the node's admin port, if it needs one. Prefer FLUX_ADMIN_KEY: other users of this machine can read command lines.")
    .option(`${configFlag} <file>`, "Configuration file of the node, to read host, port and key from. Without it: the environment.");
}

/** From flags, environment or file, with the same rules as start. */
export function adminPort({ config: configFile, adminHost, adminPort, adminKey }: AdminGiven): AdminPort {
  // The host is only connected to. So start's rule, that a public admin host needs a key, does not apply here.
  const given = { ...(adminPort && { adminPort }), ...(adminKey && { adminKey }) };
  const { config } = loadConfig({ given, configFile }, process.env);
  const host = adminHost || config.adminHost;
  if (isIP(host) === 0 && !/^[\w.-]+$/.test(host)) throw new ConfigError([`--admin-host: must be a host name or an address, not ${JSON.stringify(host)}`]);
  return { url: `http://${at(host)}:${config.adminPort}`, key: config.adminKey };
}

/** Sends JSON by POST. */
export function postTo(admin: AdminPort, path: string, body: object): Promise<Response> {
  return askAt(admin, path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/** Throws unless the answer is 200. */
export async function askAt(admin: AdminPort, path: string, request: RequestInit = {}): Promise<Response> {
  return ok(admin, path, await reach(admin, path, request));
}

/** Like askAt, but null where the path is unknown: the node is an older version. */
export async function askIfKnown(admin: AdminPort, path: string): Promise<Response | null> {
  const response = await reach(admin, path, {});
  return response.status === 404 ? null : ok(admin, path, response);
}

async function reach({ url, key }: AdminPort, path: string, { headers, ...request }: RequestInit): Promise<Response> {
  try {
    return await fetch(url + path, { ...request, headers: { ...headers, ...(key !== "" && { Authorization: `Bearer ${key}` }) } });
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new ConfigError([`--admin-port: no node answers at ${url}${path}: ${cause}; check that the node runs and that this is its admin port`]);
  }
}

async function ok({ url, key }: AdminPort, path: string, response: Response): Promise<Response> {
  if (response.status === 200) return response;
  if (response.status === 401) {
    const way = key === "" ? "needs a key; set --admin-key or FLUX_ADMIN_KEY" : "rejects this key";
    throw new ConfigError([`--admin-key: the admin port at ${url} ${way}`]);
  }
  throw new ConfigError([`${url}${path} answered ${response.status}: ${said(await response.text())}`]);
}

/** Errors are `{"error":{"code","text"}}`. Other servers on this port may answer in another form. */
function said(body: string): string {
  try {
    const { error } = JSON.parse(body) as { error?: { code?: unknown; text?: unknown } };
    if (typeof error?.text === "string") return error.text;
  } catch {
    // Not JSON.
  }
  return body.trim().slice(0, bodyCharsMax);
}

const bodyCharsMax = 500;

/** A host to connect to, where the node listens on every address. */
function at(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
