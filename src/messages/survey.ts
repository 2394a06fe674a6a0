/** The result of a survey: one question to all nodes. */
import type { NodeAnswer, Question } from "./messages.ts";

/** The answer of one node, by the kind of question. */
export type AnswerTo<K extends NodeAnswer["kind"]> = { readonly node: string } & Omit<Extract<NodeAnswer, { kind: K }>, "kind">;

/** The field of the answers that is summed. */
export const summed = { health: "sessions", user: "sessions", room: "members" } as const;

/** Rooms in the answer of a node to a question for rooms. */
export const roomsPerPageMax = 1_000;

/** Patterns of room names in such a question. */
export const roomPatternsMax = 100;

/** What nodes have answered. */
export interface Gathered<K extends NodeAnswer["kind"]> {
  /** The answer of each node, the asking node first. */
  readonly answers: readonly AnswerTo<K>[];
  /** Nodes without an answer: they did not answer in time, or are down and were not asked. */
  readonly unanswered: readonly string[];
}

/** `sessions` or `members`, of all nodes that answered, and: */
export type Survey<K extends Question["kind"]> = { readonly [F in (typeof summed)[K]]: number } & {
  /** The answer of each node, the asking node first. */
  readonly answers: readonly AnswerTo<K>[];
  /** Nodes without an answer: they did not answer in time, or are down and were not asked. */
  readonly unanswered: readonly string[];
};

export interface SurveyOptions {
  /** How long to wait for answers. Default 2,000, at most 60,000. */
  readonly timeoutMs?: number | undefined;
}
