/** `flux-gateway disconnect`: ends a user's sessions on a running node, by way of its admin port. */
import type { Command } from "commander";
import { ConfigError } from "../config.ts";
import { configFlag } from "./flags.ts";
import { loadConfig } from "./load.ts";

interface Given {
  readonly tenant: string;
  readonly signOut: boolean;
  readonly config?: string;
  readonly adminHost?: string;
  readonly adminPort?: string;
}

export function addDisconnectCommand(program: Command): void {
  program
    .command("disconnect")
    .description("Close a user's sessions on a running node; they cannot be resumed.")
    .argument("<user>", "the user, as in a token's sub")
    .option("--tenant <name>", "Of this tenant.", "")
    .option("--sign-out", "Refuse every token that was issued until now, too.", false)
    .option("--admin-host <host>", "Where the node's admin port is.")
    .option("--admin-port <n>", "And its number.")
    .option(`${configFlag} <file>`, "Find both in the node's configuration file; else in the environment, else the defaults.")
    .action(disconnect);
}

async function disconnect(user: string, { tenant, signOut, config: configFile, ...given }: Given): Promise<void> {
  const { config } = loadConfig({ given: { ...given }, configFile }, process.env);
  const url = `http://${at(config.adminHost)}:${config.adminPort}/disconnect`;
  const { status, text } = await post(url, { user, tenant, signOut });
  if (status !== 200) throw new ConfigError([`${url} answered ${status}: ${text.trim()}`]);
  const { sessions } = JSON.parse(text) as { sessions: number };
  const closed = `${sessions} ${sessions === 1 ? "session" : "sessions"} closed`;
  console.log(signOut ? `${closed}; tokens issued until now count no more` : closed);
}

async function post(url: string, body: object): Promise<{ status: number; text: string }> {
  try {
    const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    return { status: response.status, text: await response.text() };
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new ConfigError([`--admin-port: no node answers at ${url}: ${cause}; is it running, and is this its admin port?`]);
  }
}

/** A host to connect to where the node listens on every address. */
function at(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
