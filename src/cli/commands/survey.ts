/** `flux-gateway survey`: asks all nodes about a user or a room, through the admin port of one node. */
import type { Command } from "commander";
import type { Survey } from "../../messages/survey.ts";
import { addAdminFlags, adminPort, askAt, type AdminGiven } from "../address.ts";

interface Given extends AdminGiven {
  readonly tenant: string;
  readonly json: boolean;
}

export function addSurveyCommand(program: Command): void {
  const survey = program.command("survey").description("Ask all nodes of the gateway about a user or a room.");
  for (const [kind, what] of [["user", "Count the sessions of a user on each node."], ["room", "Count the members of a room on each node."]] as const) {
    const command = survey
      .command(kind)
      .description(what)
      .argument("<name>", `name of the ${kind}`)
      .option("--tenant <name>", `Tenant of the ${kind}.`, "")
      .option("--json", "Print JSON.", false);
    addAdminFlags(command).action((name: string, given: Given) => ask(kind, name, given));
  }
}

async function ask(kind: "user" | "room", name: string, { tenant, json, ...given }: Given): Promise<void> {
  const query = new URLSearchParams({ kind, [kind]: name, tenant });
  const answer = (await (await askAt(adminPort(given), `/survey?${query.toString()}`)).json()) as Survey<"user"> | Survey<"room">;
  if (json) return console.log(JSON.stringify(answer, null, 2));
  console.log("sessions" in answer ? `sessions: ${answer.sessions}` : `members: ${answer.members}`);
  for (const said of answer.answers) console.log(`  ${said.node}: ${"sessions" in said ? said.sessions : said.members}`);
  if (answer.unanswered.length > 0) console.log(`no answer from ${answer.unanswered.join(", ")}`);
}
