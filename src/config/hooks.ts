/** Which hooks a configuration has: the questions that a node asks the application's backend. */
import { label, type Source } from "./sources.ts";
import type { Namespaces } from "./namespaces.ts";

interface HookOptions {
  readonly hookConnect: string;
  readonly hookRefresh: string;
  readonly hookSecret: string;
  readonly hookSecretPrevious: string;
  readonly namespaces: Namespaces;
}

export function hasHooks({ hookConnect, hookRefresh, namespaces }: Pick<HookOptions, "hookConnect" | "hookRefresh" | "namespaces">): boolean {
  return hookConnect !== "" || hookRefresh !== "" || Object.values(namespaces).some(({ hookJoin, hookPublish }) => hookJoin !== "" || hookPublish !== "");
}

/** What is wrong with the hooks together, one sentence each. `sourceOf` also knows `namespaces.NAME.OPTION`. */
export function hookProblems(options: HookOptions, refused: ReadonlySet<string>, sourceOf: (key: string) => Source): string[] {
  if (options.hookSecret !== "" || refused.has("hookSecret")) return [];
  const called = (key: string) => {
    const source = sourceOf(key);
    return source.rank === "default" ? source.name : label(source, key);
  };
  const unsigned = `its questions are signed, and there is no key; set ${called("hookSecret")} to a key that your backend knows too`;
  const problems = (["hookConnect", "hookRefresh"] as const).filter((key) => options[key] !== "").map((key) => `${called(key)}: ${unsigned}`);
  for (const [name, namespace] of Object.entries(options.namespaces)) {
    for (const key of ["hookJoin", "hookPublish"] as const) {
      if (namespace[key] !== "") problems.push(`${label(sourceOf(`namespaces.${name}.${key}`), "namespaces", `${name}.${key}`)}: ${unsigned}`);
    }
  }
  if (options.hookSecretPrevious !== "") problems.push(`${called("hookSecretPrevious")}: there is no current key; set ${called("hookSecret")} to the key that signs questions now`);
  return problems;
}
