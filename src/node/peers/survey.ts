/**
 * Asks all nodes one question and collects the answers. Messages between nodes are delivered at most once, so an answer
 * may be missing. Each survey ends after a timeout and names the nodes that did not answer.
 */
import * as z from "zod";
import { randomId } from "../../platform/ids.ts";
import type { ListQuestion, NodeAnswer, NodeMessage, Question, ReplyTo } from "../../messages/messages.ts";
import { summed, type AnswerTo, type Gathered, type Survey, type SurveyOptions } from "../../messages/survey.ts";
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
  /** The answer of this node. To a question for a list it comes later; null: none. */
  readonly answer: (question: Question | ListQuestion) => NodeAnswer | Promise<NodeAnswer | null>;
  /** Whether messages to other nodes leave at once. */
  readonly reachable: () => boolean;
  readonly send: (node: string, message: NodeMessage) => void;
  readonly sendAll: (message: NodeMessage) => void;
}

/** A survey in progress. */
interface Open {
  readonly kind: NodeAnswer["kind"];
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
    return this.hear<Q["kind"]>(answer(question) as OfKind<Q["kind"]>, tell, options);
  }

  /**
   * Collects answers of the same kind as this node's own.
   * @param tell makes all other nodes answer to this address.
   */
  async hear<K extends Question["kind"]>(own: OfKind<K>, tell: (replyTo: ReplyTo) => void, options?: SurveyOptions): Promise<Survey<K>> {
    const { kind } = own as NodeAnswer;
    return surveyOf<K>(kind as K, await this.gather<K>(kind as K, own as OfKind<K>, tell, options));
  }

  /** Asks all nodes for their part of a list. Never rejects. */
  list<Q extends ListQuestion>(question: Q, options?: SurveyOptions): Promise<Gathered<Q["kind"]>> {
    const { answer, reachable, sendAll } = this.#options;
    const tell = (replyTo: ReplyTo) => void (reachable() && this.#open.has(replyTo.survey) && sendAll({ kind: "question", question, replyTo }));
    return this.gather<Q["kind"]>(question.kind, answer(question) as Promise<OfKind<Q["kind"]> | null>, tell, options);
  }

  /**
   * Never rejects.
   * @param own this node's answer, or null where it has none
   * @param tell makes all other nodes answer to this address.
   */
  gather<K extends NodeAnswer["kind"]>(kind: K, own: OfKind<K> | Promise<OfKind<K> | null>, tell: (replyTo: ReplyTo) => void, { timeoutMs = timeoutMsDefault }: SurveyOptions = {}): Promise<Gathered<K>> {
    const { node, reachable } = this.#options;
    const all = this.#options.nodes().filter(({ id }) => id !== node);
    const answers = new Map<string, NodeAnswer>();
    const survey = randomId(12);
    const result = () => gathered<K>(answers, [node, ...all.map(({ id }) => id)]);
    const mayAsk = reachable() && this.#open.size < openMax;
    const awaited = new Set(mayAsk ? all.filter(({ state }) => state !== "down").map(({ id }) => id) : []);
    if (own instanceof Promise) awaited.add(node);
    else answers.set(node, own);
    if (awaited.size === 0) {
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
      this.#open.set(survey, { kind, answers, awaited, end });
      tell({ node, survey });
      if (own instanceof Promise) void own.catch(() => null).then((answer) => this.#ownAnswer(survey, answer));
    });
  }

  #ownAnswer(survey: string, answer: NodeAnswer | null): void {
    const { node } = this.#options;
    if (answer !== null) return this.answered({ kind: "answer", survey, node, answer });
    const open = this.#open.get(survey);
    if (open?.awaited.delete(node) === true && open.awaited.size === 0) open.end();
  }

  /** The answer of one other node. Null: it did not answer in time, or cannot be reached. */
  askOne<Q extends Question>(node: string, question: Q, timeoutMs = timeoutMsDefault): Promise<OfKind<Q["kind"]> | null> {
    return this.tellOne<Q["kind"]>(node, question.kind, (replyTo) => this.#options.send(node, { kind: "question", question, replyTo }), timeoutMs);
  }

  /**
   * The answer of one other node to a message. Null: it did not answer in time, or cannot be reached.
   * @param kind of the answer
   * @param tell sends the message, with this address for the answer.
   */
  tellOne<K extends NodeAnswer["kind"]>(node: string, kind: K, tell: (replyTo: ReplyTo) => void, timeoutMs = timeoutMsDefault): Promise<OfKind<K> | null> {
    if (!this.#options.reachable() || this.#open.size >= openMax) return Promise.resolve(null);
    return new Promise((resolve) => {
      const survey = randomId(12);
      const answers = new Map<string, NodeAnswer>();
      const end = () => {
        clearTimeout(timer);
        this.#open.delete(survey);
        // Answers of another kind are dropped.
        resolve((answers.get(node) as OfKind<K> | undefined) ?? null);
      };
      const timer = setTimeout(end, timeoutMs);
      this.#open.set(survey, { kind, answers, awaited: new Set([node]), end });
      tell({ node: this.#options.node, survey });
    });
  }

  /** Answers another node. */
  asked(question: Question | ListQuestion, replyTo: ReplyTo): void {
    const answer = this.#options.answer(question);
    if (!(answer instanceof Promise)) return this.reply(replyTo, answer);
    void answer.catch(() => null).then((late) => {
      if (late !== null) this.reply(replyTo, late);
    });
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

type OfKind<K extends NodeAnswer["kind"]> = Extract<NodeAnswer, { kind: K }>;

/** All answers are of this kind. @param nodes this one first */
function gathered<K extends NodeAnswer["kind"]>(given: ReadonlyMap<string, NodeAnswer>, nodes: readonly string[]): Gathered<K> {
  const known = new Set([...nodes.slice(0, 1), ...given.keys()]);
  const answers = [...known].flatMap((node) => {
    const answer = given.get(node);
    if (answer === undefined) return [];
    const { kind: _, ...said } = answer;
    return [{ node, ...said }];
  });
  return { answers: answers as unknown as readonly AnswerTo<K>[], unanswered: nodes.filter((node) => !given.has(node)) };
}

function surveyOf<K extends Question["kind"]>(kind: K, { answers, unanswered }: Gathered<K>): Survey<K> {
  const field = summed[kind];
  const sum = (answers as readonly Record<string, unknown>[]).reduce((before, answer) => before + Number(answer[field]), 0);
  return { [field]: sum, answers, unanswered } as unknown as Survey<K>;
}
