/** `flux-gateway disconnect`: ends a user's sessions, through the admin port of a running node. */
import type { Command } from "commander";
import type { Survey } from "../../messages/survey.ts";
import { addAdminFlags, adminPort, postTo, type AdminGiven } from "../address.ts";

interface Given extends AdminGiven {
  readonly tenant: string;
  readonly signOut: boolean;
  readonly json: boolean;
}

export function addDisconnectCommand(program: Command): void {
  const command = program
    .command("disconnect")
    .description("Close all sessions of a user, on every node of the gateway. They cannot be resumed.")
    .argument("<user>", "the user, as in a token's sub")
    .option("--tenant <name>", "Tenant of the user.", "")
    .option("--sign-out", "Also reject every token of the user that was issued until now.", false);
  command.option("--json", "Print JSON.", false);
  addAdminFlags(command).action(disconnect);
}

async function disconnect(user: string, { tenant, signOut, json, ...given }: Given): Promise<void> {
  const response = await postTo(adminPort(given), "/disconnect", { user, tenant, signOut });
  const answer = (await response.json()) as Survey<"user">;
  if (json) return console.log(JSON.stringify(answer, null, 2));
  const { sessions, unanswered } = answer;
  const closed = `${sessions} ${sessions === 1 ? "session" : "sessions"} closed`;
  console.log(signOut ? `${closed}; tokens issued until now are rejected` : closed);
  if (unanswered.length > 0) console.log(`no answer from ${unanswered.join(", ")}: sessions there are not counted; they end when the node receives the message`);
}
