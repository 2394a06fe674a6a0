/** Plays all situations: each with a driver that is started for it, or with whoever connects. */
import { spawn } from "node:child_process";
import type { Kit } from "./kit.ts";
import type { Feature, Result, Situation } from "./situation.ts";

export interface RunOptions {
  readonly situations: readonly Situation[];
  readonly without: ReadonlySet<Feature>;
  /** Program and arguments; the URL is added as the last one. Empty: clients connect by themselves. */
  readonly driver: readonly string[];
  /** Called as soon as there is a result. */
  onResult(result: Result, output: string): void;
}

/** Bytes of a driver's output that are kept for a failure. */
const outputMax = 4096;
const empty = { fault: "", advice: [], format: "", trace: [] } as const;

export async function playAll(kit: Kit, { situations, without, driver, onResult }: RunOptions): Promise<void> {
  const wanted = situations.filter((situation) => {
    const isSkipped = situation.needs !== undefined && without.has(situation.needs);
    if (isSkipped) onResult({ situation, outcome: "skipped", ...empty }, "");
    return !isSkipped;
  });
  if (driver.length === 0) {
    // The client decides which it plays, and when.
    await Promise.all(wanted.map(async (situation) => onResult(await kit.playNext(situation), "")));
    return;
  }
  for (const situation of wanted) {
    const { result, output } = await playWith(kit, situation, driver);
    onResult(result, output);
  }
}

async function playWith(kit: Kit, situation: Situation, [program, ...args]: readonly string[]): Promise<{ result: Result; output: string }> {
  const url = kit.url(situation);
  const playing = kit.play(situation);
  const child = spawn(program!, [...args, url], { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, FLUX_URL: url } });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output = (output + chunk.toString()).slice(-outputMax)));
  const end = () => void child.kill("SIGKILL");
  process.once("exit", end);
  child.once("error", (error) => kit.gone(situation, `The driver could not be started: ${error.message}.`));
  child.once("exit", (code, signal) => kit.gone(situation, `The driver ended (${signal ?? `exit code ${code}`}) before the situation was over.`));
  const result = await playing;
  end();
  process.off("exit", end);
  return { result, output };
}
