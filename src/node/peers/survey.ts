/**
 * Asks all nodes one question and collects the answers. Messages between nodes are delivered at most once, so an answer
 * may be missing. Each survey ends after a timeout and names the nodes that did not answer.
 */
import * as z from "zod";
import { randomId } from "../../platform/ids.ts";
import type { NodeAnswer, NodeMessage, Question, ReplyTo } from "../../messages/messages.ts";
import { summed, type Survey, type SurveyOptions } from "../../messages/survey.ts";
import type { RegisteredNode } from "../../registry/registry.ts";

/** The limits that other nodes check. */
const name = z.string().min(1).max(256);
const questionShape = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("health") }),
  z.object({ kind: z.literal("user"), user: name, tenant: name.or(z.literal("")).optional() }),
  z.object({ kind: z.literal("room"), room: z.string().min(1).max(4096), tenant: name.or(z.literal("")).optional() }),
]);

export interface SurveysOptions {
  readonly node: string;
  /** All nodes, including this one. */
  readonly nodes: () => readonly RegisteredNode[];
  /** The answer of this node. */
  readonly answer: (question: Question) => NodeAnswer;
  /** Whether messages to other nodes leave at once. */
  readonly reachable: () => boolean;
  readonly send: (node: string, message: NodeMessage) => void;
  readonly sendAll: (message: NodeMessage) => void;
}

/** A survey in progress. */
interface Open {
  readonly kind: Question["kind"];
  readonly answers: Map<string, NodeAnswer>;
  /** Nodes that can answer and have not yet. */
  readonly awaited: Set<string>;
  readonly end: () => void;
}

const timeoutMsDefault = 2_000;
/** Upper limit of a survey's timeout. */
const timeoutMsMax = 60_000;
/** Surveys at the same time. Beyond it a survey waits for no other node and reports all of them as missing. */
const openMax = 1_000;

export class Surveys {
  readonly #options: SurveysOptions;
  readonly #open = new Map<string, Open>();

  constructor(options: SurveysOptions) {
    this.#options = options;
  }

  /**
   * Never rejects.
   * @throws TypeError for an invalid question, which only an embedding program can ask.
   */
  ask<Q extends Question>(question: Q, options: SurveyOptions = {}): Promise<Survey<Q["kind"]>> {
    const { answer, reachable, sendAll } = this.#options;
    const { error } = questionShape.safeParse(question);
    if (error !== undefined) throw new TypeError(`survey: ${error.issues[0]?.path.join(".") || "question"}: ${error.issues[0]?.message}`);
    // Without Redis the question is neither queued nor sent: nobody would wait for the answers.
    const tell = (replyTo: ReplyTo) => void (reachable() && this.#open.has(replyTo.survey) && sendAll({ kind: "question", question, replyTo }));
    return this.hear<Q["kind"]>(answer(question), tell, options);
  }

  /**
   * Collects answers of the same kind as this node's own.
   * @param tell makes all other nodes answer to this address.
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

  /** The answer of one other node. Null: it did not answer in time, or cannot be reached. */
  askOne<Q extends Question>(node: string, question: Q, timeoutMs = timeoutMsDefault): Promise<Extract<NodeAnswer, { kind: Q["kind"] }> | null> {
    if (!this.#options.reachable() || this.#open.size >= openMax) return Promise.resolve(null);
    return new Promise((resolve) => {
      const survey = randomId(12);
      const answers = new Map<string, NodeAnswer>();
      const end = () => {
        clearTimeout(timer);
        this.#open.delete(survey);
        // Answers of another kind are dropped.
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

  /** Takes the answer of another node. Dropped if the survey is over or has this node's answer already. */
  answered({ survey, node, answer }: Extract<NodeMessage, { kind: "answer" }>): void {
    const open = this.#open.get(survey);
    if (open === undefined || answer.kind !== open.kind || open.answers.has(node)) return;
    // Unknown nodes may answer too, up to a limit.
    if (!open.awaited.delete(node) && open.answers.size >= openMax) return;
    open.answers.set(node, answer);
    if (open.awaited.size === 0) open.end();
  }

  /** Ends the surveys in progress with the answers they have. */
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
