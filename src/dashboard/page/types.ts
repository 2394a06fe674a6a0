/** What the node answers, as far as the page shows it. */
import type { Said } from "../answers.ts";
import type { Answers, NodeNow } from "../cluster.ts";

export type { About, Said } from "../answers.ts";
export type { Answers, NodeNow } from "../cluster.ts";
export type Now = Said<"now">;
export type Live = { readonly nodes: readonly NodeNow[]; readonly more: number };
export type Reason = Said<"reasons">[number];
export type ReasonAnswers = Answers<"reasons">;
