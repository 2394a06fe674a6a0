/**
 * What all nodes say of themselves, for those who look at this node's dashboard. While somebody looks, every node is
 * asked once a second, however many look. When nobody does, nothing is asked.
 */
import type { Gathered } from "../messages/survey.ts";
import type { LookQuestion } from "../messages/messages.ts";
import { checked, type About, type Said } from "./answers.ts";

export interface ClusterOptions {
  readonly node: string;
  /** All nodes, this one first. */
  nodes(): readonly ListedNode[];
  /** Asks all nodes. Never rejects. */
  ask(question: LookQuestion, timeoutMs: number): Promise<Gathered<"look">>;
}

export interface ListedNode {
  readonly id: string;
  readonly state: "up" | "draining" | "down";
  readonly url: string;
  readonly region: string;
}

/** Null: it has not answered since somebody looks. `silentMs`: since its last answer. */
export interface NodeNow extends ListedNode {
  readonly now: Said<"now"> | null;
  readonly silentMs: number;
}

export interface Answers<A extends About> {
  readonly answers: readonly { readonly node: string; readonly said: Said<A> }[];
  /** Nodes that did not answer in time, or said something else. */
  readonly unanswered: readonly string[];
}

const everyMs = 1_000;
/** Pages ask every second; one that has not asked for so long is gone. */
const lookedMs = 4_000;
const liveTimeoutMs = 900;
const timeoutMs = 2_000;
/** Nodes in one answer. */
const nodesMax = 200;

export class Cluster {
  readonly #options: ClusterOptions;
  readonly #known = new Map<string, { readonly said: Said<"now">; readonly at: number }>();
  #timer: NodeJS.Timeout | null = null;
  #wantedAt = -Infinity;
  #asking: Promise<void> | null = null;

  constructor(options: ClusterOptions) {
    this.#options = options;
  }

  /** All nodes, as of the last second. */
  async now(): Promise<{ readonly nodes: readonly NodeNow[]; readonly more: number }> {
    this.#wantedAt = performance.now();
    if (this.#timer === null) {
      this.#timer = setInterval(() => this.#again(), everyMs).unref();
      await this.#ask();
    } else if (this.#known.size === 0) {
      await this.#asking;
    }
    const at = performance.now();
    const all = this.#options.nodes();
    const nodes = all.slice(0, nodesMax).map(({ id, state, url, region }): NodeNow => {
      const known = this.#known.get(id);
      return { id, state, url, region, now: known?.said ?? null, silentMs: known === undefined ? -1 : Math.round(at - known.at) };
    });
    return { nodes, more: all.length - nodes.length };
  }

  /** Asks all nodes about something. */
  async about<A extends About>(about: A, details: Omit<LookQuestion, "kind" | "about"> = {}): Promise<Answers<A>> {
    const { answers, unanswered } = await this.#options.ask({ kind: "look", about, ...details }, timeoutMs);
    const read = answers.map(({ node, said }) => ({ node, said: checked(about, said) }));
    return {
      answers: read.filter((one): one is { node: string; said: Said<A> } => one.said !== null),
      unanswered: [...unanswered, ...read.filter(({ said }) => said === null).map(({ node }) => node)],
    };
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#known.clear();
  }

  #again(): void {
    if (performance.now() - this.#wantedAt > lookedMs) return this.stop();
    void this.#ask();
  }

  #ask(): Promise<void> {
    this.#asking ??= this.#askAll().finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #askAll(): Promise<void> {
    const { answers } = await this.#options.ask({ kind: "look", about: "now" }, liveTimeoutMs);
    const at = performance.now();
    for (const { node, said } of answers) {
      const now = checked("now", said);
      if (now !== null) this.#known.set(node, { said: now, at });
    }
    const listed = new Set(this.#options.nodes().map(({ id }) => id));
    for (const node of this.#known.keys()) if (!listed.has(node)) this.#known.delete(node);
  }
}
