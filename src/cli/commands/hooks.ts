/** `flux-gateway hooks failed` and `replay`: events that endpoints of webhooks did not take. */
import type { Command } from "commander";
import type { FailedEvents, Replayed } from "../../admin/webhooks.ts";
import type { WebhookQueue } from "../../metrics/webhooks.ts";
import { ConfigError } from "../../config/config.ts";
import { addAdminFlags, adminPort, askAt, postTo, type AdminGiven } from "../address.ts";
import { tableOf } from "../table.ts";

interface Given extends AdminGiven {
  readonly json: boolean;
  readonly max: string;
}

export function addHooksCommand(program: Command): void {
  const hooks = program.command("hooks").description("Events that endpoints of webhooks did not take.");
  const failed = hooks
    .command("failed")
    .description("List the dead letters of each endpoint, the oldest first.")
    .option("--max <n>", "Dead letters of each endpoint that are listed, up to 1000.", "100")
    .option("--json", "Print JSON, with the bodies.", false);
  addAdminFlags(failed).action(async () => {
    const { json, max, ...given } = failed.optsWithGlobals<Given>();
    const { endpoints, queue } = (await (await askAt(adminPort(given), `/webhooks?max=${numberOf(max)}`)).json()) as { endpoints: FailedEvents[]; queue?: WebhookQueue };
    console.log(json ? JSON.stringify({ endpoints, queue }, null, 2) : [listed(endpoints), ...(queue === undefined ? [] : [waiting(queue)])].join("\n\n"));
  });

  const replay = hooks
    .command("replay")
    .description("Send dead letters to their endpoint once more, the oldest first, until one fails. Those that it takes are deleted. An endpoint that has answered 410 is enabled again.")
    .argument("<endpoint>", "name of the endpoint in the option webhooks")
    .option("--max <n>", "Dead letters to send, up to 1000.", "100")
    .option("--json", "Print JSON.", false);
  addAdminFlags(replay).action(async (endpoint: string) => {
    const { json, max, ...given } = replay.optsWithGlobals<Given>();
    const done = (await (await postTo(adminPort(given), "/webhooks", { endpoint, max: numberOf(max) })).json()) as Replayed;
    console.log(json ? JSON.stringify(done, null, 2) : `${endpoint}: ${done.told} told, ${done.left} left${done.problem === "" ? "" : `; stopped: ${done.problem}`}`);
    if (done.problem !== "") process.exitCode = 1;
  });
}

function listed(endpoints: readonly FailedEvents[]): string {
  return endpoints
    .map(({ endpoint, isDisabled, count, letters }) => {
      const head = `${endpoint}: ${count} dead letters${isDisabled ? ", disabled (it answered 410)" : ""}`;
      if (letters.length === 0) return head;
      const rows = letters.map(({ id, body, reason, at }) => [new Date(at).toISOString(), id, ...aboutOf(body), reason]);
      return `${head}\n${tableOf(["given up", "webhook-id", "event", "about", "reason"], rows)}`;
    })
    .join("\n\n");
}

function waiting({ events, eventsMax, bytes, bytesMax, refused }: WebhookQueue): string {
  const lost = refused.events + refused.bytes;
  return `waiting on this node: ${events} events of ${eventsMax} (webhookEventsMax), ${bytes} bytes of ${bytesMax} (webhookEventsBytesMax)${lost === 0 ? "" : `; refused since it started, as too many waited: ${lost}`}`;
}

function aboutOf(body: string): [type: string, about: string] {
  const { type = "", data = {} } = JSON.parse(body) as { type?: string; data?: { room?: string; user?: string } };
  return [type, [data.room, data.user].filter((part) => part !== undefined).join(" ")];
}

function numberOf(text: string): number {
  if (/^\d{1,4}$/.test(text) && Number(text) <= 1000) return Number(text);
  throw new ConfigError([`--max: must be a whole number from 0 to 1000, not ${JSON.stringify(text.slice(0, 64))}`]);
}
