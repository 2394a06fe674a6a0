/** What a survey, one question to all nodes, comes to. */
import type { NodeAnswer, Question } from "./messages.ts";

/** What one node says, by what it was asked. */
export type AnswerTo<K extends Question["kind"]> = { readonly node: string } & Omit<Extract<NodeAnswer, { kind: K }>, "kind">;

/** What is added up of the answers. */
export const summed = { health: "sessions", user: "sessions", room: "members" } as const;

/** `sessions` or `members`, of all nodes that answered, and: */
export type Survey<K extends Question["kind"]> = { readonly [F in (typeof summed)[K]]: number } & {
  /** What each node says of itself, the one that was asked first. */
  readonly answers: readonly AnswerTo<K>[];
  /** Nodes whose part is missing: they did not answer in time, or are down and were not waited for. */
  readonly unanswered: readonly string[];
};

export interface SurveyOptions {
  /** How long nodes are waited for. Default 2,000, at most 60,000. */
  readonly timeoutMs?: number | undefined;
}
