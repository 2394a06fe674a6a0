/**
 * Asks every node for /ready. Dials that fail are noticed at once, by the door; the checks find nodes that accept and
 * say nothing, that drain, or that are back. A check is a connection of its own, of a few hundred bytes.
 */
import { get as getPlain, type ClientRequest, type IncomingMessage } from "node:http";
import { get as getTls } from "node:https";
import pLimit from "p-limit";
import { isUsable, type BalancedNode, type Nodes } from "./nodes.ts";

export interface HealthOptions {
  readonly nodes: Nodes;
  readonly everyMs: number;
  /** Time that a node has for its answer. */
  readonly answerMs: number;
  readonly changed: (node: BalancedNode, problem: string) => void;
}

const noAnswer = "no answer to /ready";
/** Checks at once, of many nodes. */
const checksMax = 32;

export class Health {
  #options: HealthOptions;
  #timer: NodeJS.Timeout;
  readonly #checking = new Set<BalancedNode>();
  readonly #limit = pLimit(checksMax);

  constructor(options: HealthOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.checkAll(), options.everyMs).unref();
  }

  reload(times: Pick<HealthOptions, "everyMs" | "answerMs">): void {
    this.#options = { ...this.#options, ...times };
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.checkAll(), times.everyMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Nodes whose check waits or goes on are left out: a check has a time of its own. */
  checkAll(): void {
    for (const node of this.#options.nodes.all()) {
      if (this.#checking.has(node)) continue;
      this.#checking.add(node);
      void this.#limit(() => this.#check(node));
    }
  }

  /** Never rejects. */
  async #check(node: BalancedNode): Promise<void> {
    const wasUsable = isUsable(node);
    const problem = await this.#ask(node);
    this.#checking.delete(node);
    if (problem === "") [node.refuses, node.failedChecks] = [false, 0];
    else node.failedChecks++;
    if (isUsable(node) === wasUsable) return;
    this.#options.nodes.changed();
    this.#options.changed(node, problem);
  }

  /** "" where the node is ready. The list does not say whether a node serves TLS: the way that was answered last is tried first. */
  async #ask(node: BalancedNode): Promise<string> {
    const first = await this.#askBy(node, node.isTls);
    if (first.answered || first.problem === noAnswer) return first.problem;
    const second = await this.#askBy(node, !node.isTls);
    if (!second.answered) return first.problem;
    node.isTls = !node.isTls;
    return second.problem;
  }

  #askBy({ listed: { host, port } }: BalancedNode, tls: boolean): Promise<{ readonly answered: boolean; readonly problem: string }> {
    return new Promise((resolve) => {
      const options = { host, port, path: "/ready", agent: false, headers: { Host: "node", Connection: "close" } } as const;
      const answered = (response: IncomingMessage) => {
        response.resume();
        done(true, response.statusCode === 200 ? "" : `/ready answers ${response.statusCode}`);
      };
      const request = asked(() => (tls ? getTls({ ...options, rejectUnauthorized: false }, answered) : getPlain(options, answered)));
      if (typeof request === "string") return resolve({ answered: false, problem: request });
      const timer = setTimeout(() => request.destroy(new Error(noAnswer)), this.#options.answerMs);
      const done = (isAnswer: boolean, problem: string) => {
        clearTimeout(timer);
        resolve({ answered: isAnswer, problem });
      };
      request.on("error", (error: NodeJS.ErrnoException) => done(false, error.code === undefined || error.code.startsWith("HPE_") || error.code.startsWith("ERR_SSL") ? error.message : error.code));
    });
  }
}

/** Only whether it is ready matters here. Clients verify the certificate. An address that is none throws: other nodes give theirs. */
function asked(ask: () => ClientRequest): ClientRequest | string {
  try {
    return ask();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
