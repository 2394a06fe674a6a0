/** A Dockerfile as a test can follow it: its stages, and what each of them does, in order. */
import { DockerfileParser } from "dockerfile-ast";

export type Step =
  | { readonly kind: "copy"; readonly from: string | null; readonly sources: readonly string[]; readonly target: string }
  | { readonly kind: "run"; readonly command: string };

export interface Stage {
  readonly base: string;
  readonly name: string;
  readonly steps: readonly Step[];
  /** The arguments of everything else, the last of each keyword: USER, STOPSIGNAL, ENTRYPOINT … */
  readonly settings: ReadonlyMap<string, string>;
}

export function readDockerfile(text: string): Stage[] {
  const stages: { base: string; name: string; steps: Step[]; settings: Map<string, string> }[] = [];
  for (const instruction of DockerfileParser.parse(text).getInstructions()) {
    const keyword = instruction.getKeyword();
    // With its flags, which getArguments leaves out.
    const said = oneLine(instruction.getTextContent()).slice(keyword.length).trim();
    if (keyword === "FROM") {
      const [base = "", , name = ""] = said.split(" ");
      stages.push({ base, name, steps: [], settings: new Map() });
      continue;
    }
    const stage = stages.at(-1);
    if (stage === undefined) throw new Error(`${keyword} before FROM`);
    if (keyword === "COPY") stage.steps.push(copy(said));
    else if (keyword === "RUN") stage.steps.push({ kind: "run", command: said });
    else stage.settings.set(keyword, said);
  }
  return stages;
}

/** A list of words in JSON, as ENTRYPOINT and CMD have it. */
export function words(said: string | undefined): string[] {
  return JSON.parse(said ?? "[]") as string[];
}

function copy(said: string): Step {
  const all = said.split(" ");
  const from = all[0]?.startsWith("--from=") ? all[0].slice("--from=".length) : null;
  const paths = all.filter((word) => !word.startsWith("--"));
  return { kind: "copy", from, sources: paths.slice(0, -1), target: paths.at(-1) ?? "" };
}

/** Lines that go on are joined, and comments between them left out, as Docker does. */
function oneLine(text: string): string {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.filter((line) => !line.startsWith("#")).map((line) => line.replace(/\\$/, "").trim()).join(" ");
}
