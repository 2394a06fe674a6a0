/** Commands to a running haproxy, over the socket of its configuration. */
import { connect } from "node:net";

const answerMs = 5_000;
/** Lines of a map in one command: haproxy reads a command into a buffer of 16 KiB. */
const linesPerCommand = 256;

/** @throws where haproxy does not run, or refuses the command */
export function ask(path: string, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let said = "";
    socket.setTimeout(answerMs, () => socket.destroy(new Error("haproxy does not answer on its socket")));
    socket.on("error", reject).on("data", (chunk: Buffer) => (said += chunk.toString()));
    socket.on("end", () => resolve(said.trim()));
    // Haproxy answers, and closes.
    socket.end(`${command}\n`);
  });
}

/** Replaces a map in one step: connections see all of it, or all of the one before. */
export async function replaceMap(path: string, map: string, content: string): Promise<void> {
  const version = /New version created: (\d+)/.exec(await ask(path, `prepare map ${map}`))?.[1];
  if (version === undefined) throw new Error(`haproxy has no map ${map}`);
  const lines = content.split("\n").filter((line) => line !== "");
  for (let i = 0; i < lines.length; i += linesPerCommand) {
    await confirmed(path, `add map @${version} ${map} <<\n${lines.slice(i, i + linesPerCommand).join("\n")}\n`);
  }
  await confirmed(path, `commit map @${version} ${map}`);
}

/** Haproxy says something only where a command fails, or has changed an address. */
export async function confirmed(path: string, command: string): Promise<void> {
  const said = await ask(path, command);
  if (said !== "" && !/changed|no need to change|nothing changed/i.test(said)) throw new Error(`haproxy refuses "${command.split("\n")[0]}": ${said}`);
}

/** Of the process that answers. Another one has read its files. */
export async function pidOf(path: string): Promise<string> {
  return /^Pid: (\d+)/m.exec(await ask(path, "show info"))?.[1] ?? "";
}
