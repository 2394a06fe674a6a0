/** The drain of another node: a message starts it; the registry and the node's answers show its progress. */
import type { DrainOptions, DrainProgress } from "../../messages/drainoptions.ts";
import type { DrainSaid, NodeMessages } from "../../messages/messages.ts";
import type { RegisteredNode, Registry } from "../../registry/registry.ts";

const lookMs = 200;
/**
 * Messages are delivered at most once, so the request is repeated. A draining node joins it to the drain in progress.
 */
const askAgainMsDefault = 2000;
const asksMax = 5;

export interface RemoteDrainParts {
  readonly id: string;
  readonly registry: Registry;
  readonly messages: NodeMessages;
  /** Asks the node for its progress. Null: no answer. MUST NOT reject. */
  readonly look: () => Promise<DrainSaid | null>;
  readonly askAgainMs?: number;
}

export class RemoteDrain {
  readonly #parts: RemoteDrainParts;
  /** Start time of the node meant: a restarted node of the same name is another node. */
  readonly #started: number | undefined;
  #startedAt = performance.now();
  #sessions = 0;
  #windowMs = 0;
  #unheard = false;
  /** Last answer of the node. */
  #said: DrainSaid | null = null;
  #looking = false;

  constructor(parts: RemoteDrainParts) {
    this.#parts = parts;
    this.#started = parts.registry.nodes().find((node) => node.id === parts.id)?.started;
  }

  /** Resolves when the node has left or died, or did not hear the request: `progress` tells which. */
  begin({ windowMs, url }: DrainOptions): Promise<void> {
    const { id, messages, askAgainMs = askAgainMsDefault } = this.#parts;
    this.#startedAt = performance.now();
    this.#sessions = this.#node?.sockets ?? 0;
    this.#windowMs = windowMs ?? 0;
    const ask = () => this.#started !== undefined && messages.send(id, { kind: "drain", started: this.#started, ...(windowMs !== undefined && { windowMs }), ...(url !== undefined && { url }) });
    ask();
    let askedAt = performance.now();
    let asks = 1;
    return new Promise((resolve) => {
      const timer = setInterval(() => {
        const isDue = this.#node?.state === "up" && performance.now() - askedAt >= askAgainMs;
        this.#unheard = isDue && asks === asksMax;
        if (this.progress().state !== "draining") {
          clearInterval(timer);
          return resolve();
        }
        void this.#look();
        if (!isDue) return;
        askedAt = performance.now();
        asks++;
        ask();
      }, lookMs).unref();
    });
  }

  /**
   * Progress as the node counts. Without an answer of the node: sockets as of its last heartbeat, and the window asked
   * for, or 0. For a node that died: the sockets it had left.
   */
  progress(): DrainProgress {
    const node = this.#node;
    const said = this.#said;
    const isThere = node !== undefined && node.state !== "down";
    const state = this.#unheard ? "serving" : isThere ? "draining" : "over";
    const elapsedMs = said !== null && isThere ? said.elapsedMs : Math.round(performance.now() - this.#startedAt);
    const left = node === undefined ? 0 : (said?.left ?? node.sockets);
    return { state, sessions: said?.sessions ?? this.#sessions, left, windowMs: said?.windowMs ?? this.#windowMs, elapsedMs };
  }

  /** One question at a time. */
  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    this.#said = (await this.#parts.look()) ?? this.#said;
    this.#looking = false;
  }

  get #node(): RegisteredNode | undefined {
    const { id: wanted, registry } = this.#parts;
    return registry.nodes().find(({ id, started }) => id === wanted && started === this.#started);
  }
}
