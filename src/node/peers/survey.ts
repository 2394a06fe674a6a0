/**
 * One question to all nodes, answered in one place. Messages between nodes are told at most once, so an answer may be
 * missing: each survey ends after a while and says which nodes it has not heard.
 */
import * as z from "zod";
import { randomId } from "../../platform/ids.ts";
import type { NodeAnswer, NodeMessage, Question, ReplyTo } from "../../messages/messages.ts";
import { summed, type Survey, type SurveyOptions } from "../../messages/survey.ts";
import type { RegisteredNode } from "../../registry/registry.ts";

/** Other nodes would not answer another. */
const name = z.string().min(1).max(256);
const questionShape = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("health") }),
  z.object({ kind: z.literal("user"), user: name, tenant: name.or(z.literal("")).optional() }),
  z.object({ kind: z.literal("room"), room: z.string().min(1).max(4096), tenant: name.or(z.literal("")).optional() }),
]);

export interface SurveysOptions {
  readonly node: string;
  /** All nodes, this one too. */
  readonly nodes: () => readonly RegisteredNode[];
  /** What this node says. */
  readonly answer: (question: Question) => NodeAnswer;
  /** Whether messages to others leave at once. */
  readonly reachable: () => boolean;
  readonly send: (node: string, message: NodeMessage) => void;
  readonly sendAll: (message: NodeMessage) => void;
}

/** A survey that waits for answers. */
interface Open {
  readonly kind: Question["kind"];
  readonly answers: Map<string, NodeAnswer>;
  /** Those that are not there yet, of nodes that should be able to. */
  readonly awaited: Set<string>;
  readonly end: () => void;
}

const timeoutMsDefault = 2_000;
/** Longer is no survey, and past 2^31 no timer. */
const timeoutMsMax = 60_000;
/** Surveys at once. Beyond that the other nodes are not waited for, and none of them has answered. */
const openMax = 1_000;

export class Surveys {
  readonly #options: SurveysOptions;
  readonly #open = new Map<string, Open>();

  constructor(options: SurveysOptions) {
    this.#options = options;
  }

  /**
   * Never rejects.
   * @throws TypeError at a question that is none: only a program that embeds a node can ask one.
   */
  ask<Q extends Question>(question: Q, options: SurveyOptions = {}): Promise<Survey<Q["kind"]>> {
    const { answer, reachable, sendAll } = this.#options;
    const { error } = questionShape.safeParse(question);
    if (error !== undefined) throw new TypeError(`survey: ${error.issues[0]?.path.join(".") || "question"}: ${error.issues[0]?.message}`);
    // Neither left to wait for Redis nor asked in vain: nobody would be there for the answers.
    const tell = (replyTo: ReplyTo) => void (reachable() && this.#open.has(replyTo.survey) && sendAll({ kind: "question", question, replyTo }));
    return this.hear<Q["kind"]>(answer(question), tell, options);
  }

  /**
   * Collects answers of the same kind as this node's own.
   * @param tell has all other nodes answer to this address.
   */
  hear<K extends Question["kind"]>(own: NodeAnswer, tell: (replyTo: ReplyTo) => void, { timeoutMs = timeoutMsDefault }: SurveyOptions = {}): Promise<Survey<K>> {
    const { node, reachable } = this.#options;
    const others = this.#options.nodes().filter(({ id }) => id !== node);
    const answers = new Map<string, NodeAnswer>([[node, own]]);
    const survey = randomId(12);
    const result = () => surveyOf<K>(own.kind, answers, others.map(({ id }) => id).filter((id) => !answers.has(id)));
    const awaited = new Set(others.filter(({ state }) => state !== "down").map(({ id }) => id));
    if (awaited.size === 0 || !reachable() || this.#open.size >= openMax) {
      tell({ node, survey });
      return Promise.resolve(result());
    }
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#open.delete(survey);
        resolve(result());
      };
      const timer = setTimeout(end, Math.min(timeoutMsMax, Math.max(0, timeoutMs || 0)));
      this.#open.set(survey, { kind: own.kind, answers, awaited, end });
      tell({ node, survey });
    });
  }

  /** What one other node says; null: it does not answer in time, or cannot be asked. */
  askOne<Q extends Question>(node: string, question: Q, timeoutMs = timeoutMsDefault): Promise<Extract<NodeAnswer, { kind: Q["kind"] }> | null> {
    if (!this.#options.reachable() || this.#open.size >= openMax) return Promise.resolve(null);
    return new Promise((resolve) => {
      const survey = randomId(12);
      const answers = new Map<string, NodeAnswer>();
      const end = () => {
        clearTimeout(timer);
        this.#open.delete(survey);
        // Answers of another kind are not kept.
        resolve((answers.get(node) as Extract<NodeAnswer, { kind: Q["kind"] }> | undefined) ?? null);
      };
      const timer = setTimeout(end, timeoutMs);
      this.#open.set(survey, { kind: question.kind, answers, awaited: new Set([node]), end });
      this.#options.send(node, { kind: "question", question, replyTo: { node: this.#options.node, survey } });
    });
  }

  /** Answers another node. */
  asked(question: Question, replyTo: ReplyTo): void {
    this.reply(replyTo, this.#options.answer(question));
  }

  reply({ node: to, survey }: ReplyTo, answer: NodeAnswer): void {
    const { node, send } = this.#options;
    send(to, { kind: "answer", survey, node, answer });
  }

  /** Another node has answered; for a survey that is over, or has this node's answer, it comes too late. */
  answered({ survey, node, answer }: Extract<NodeMessage, { kind: "answer" }>): void {
    const open = this.#open.get(survey);
    if (open === undefined || answer.kind !== open.kind || open.answers.has(node)) return;
    // Others than those that are known may answer as well, if not without end.
    if (!open.awaited.delete(node) && open.answers.size >= openMax) return;
    open.answers.set(node, answer);
    if (open.awaited.size === 0) open.end();
  }

  /** Ends those that wait, with what they have. */
  stop(): void {
    for (const { end } of [...this.#open.values()]) end();
  }
}

/** All answers are of this kind. */
function surveyOf<K extends Question["kind"]>(kind: NodeAnswer["kind"], given: ReadonlyMap<string, NodeAnswer>, unanswered: string[]): Survey<K> {
  const answers = [...given].map(([node, { kind: _, ...answer }]) => ({ node, ...answer }));
  const sum = [...given.values()].reduce((before, answer) => before + (answer.kind === "room" ? answer.members : answer.sessions), 0);
  return { [summed[kind]]: sum, answers, unanswered } as unknown as Survey<K>;
}
