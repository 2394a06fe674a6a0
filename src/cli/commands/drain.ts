/** `flux-gateway drain`: drains a running node and prints the progress. */
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import type { Command } from "commander";
import { ConfigError } from "../../config/config.ts";
import { time } from "../../config/values.ts";
import type { DrainProgress } from "../../messages/drainoptions.ts";
import { addAdminFlags, adminPort, postTo, type AdminGiven } from "../address.ts";

interface Given extends AdminGiven {
  readonly window?: string;
  readonly url?: string;
  readonly json: boolean;
}

const dayMs = 86_400_000;

export function addDrainCommand(program: Command): void {
  const command = program
    .command("drain")
    .description("Drain a running node: it moves its sessions to other nodes and exits. Prints the progress.")
    .argument("[node]", "id of the node to drain (flux-gateway nodes lists ids); without it, the node that is asked")
    .option("--window <time>", "Time over which the node closes its sessions. Without it: drainMs of that node.")
    .option("--url <url>", "Address that clients reconnect to (ws:// or wss://). Without it: the address they came from.")
    .option("--json", "Print the progress as one JSON object a line, every half second.", false);
  addAdminFlags(command).action(drain);
}

async function drain(node: string | undefined, { window, url, json, ...given }: Given): Promise<void> {
  const asked = { ...(node !== undefined && { node }), ...(window !== undefined && { windowMs: windowMs(window) }), ...(url !== undefined && { url }) };
  const admin = adminPort(given);
  const address = `${admin.url}/drain`;
  const response = await postTo(admin, "/drain", asked);
  let last: DrainProgress | undefined;
  try {
    // The body is a web stream as fetch knows it; Node's type for it differs only in name.
    for await (const line of createInterface(Readable.fromWeb(response.body as ReadableStream))) {
      last = JSON.parse(line) as DrainProgress;
      if (json) console.log(line);
      else show(last);
    }
  } catch (error) {
    throw new ConfigError([`${address}: the connection was lost: ${String(error)}; ${leftBehind(last)}`]);
  }
  if (last?.state === "serving") throw new ConfigError([`node ${node ?? ""} does not drain: it did not receive the request; check that Redis and the node are reachable, and try again`]);
  if (last?.state === "over" && last.left > 0) throw new ConfigError([`node ${node ?? ""} has exited; ${leftBehind(last)}`]);
  if (last?.state !== "over") throw new ConfigError([`${address} closed the connection early; ${leftBehind(last)}`]);
}

function windowMs(text: string): number {
  const { data, error } = time(0, dayMs).schema.safeParse(text);
  if (data === undefined) throw new ConfigError([`--window: ${error?.issues[0]?.message}`]);
  return data;
}

function leftBehind(last: DrainProgress | undefined): string {
  return `the node exited before the drain was complete, with ${last?.left ?? "some"} of its sessions left`;
}

/** One changing line on a terminal, otherwise one line per update. */
function show({ state, sessions, left, windowMs, elapsedMs }: DrainProgress): void {
  const text =
    state === "over"
      ? `drained: ${sessions} sessions closed in ${seconds(elapsedMs)}; the node exits`
      : `${left} of ${sessions} left, ${seconds(elapsedMs)}${windowMs > 0 ? ` of ${seconds(windowMs)}` : ""}`;
  if (!process.stdout.isTTY) return console.log(text);
  process.stdout.write(`\r\x1b[K${text}${state === "over" ? "\n" : ""}`);
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
