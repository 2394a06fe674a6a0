/** The drain of another node: asked for by a message, and followed in the registry and by what the node says of it. */
import type { DrainOptions, DrainProgress } from "../../messages/drainoptions.ts";
import type { DrainSaid, NodeMessages } from "../../messages/messages.ts";
import type { RegisteredNode, Registry } from "../../registry/registry.ts";

const lookMs = 200;
/** A message is told at most once, and a node that drains already joins a second call to the first. */
const askAgainMsDefault = 2000;
const asksMax = 5;

export interface RemoteDrainParts {
  readonly id: string;
  readonly registry: Registry;
  readonly messages: NodeMessages;
  /** Asks the node how far it is; null: it did not say. MUST NOT reject. */
  readonly look: () => Promise<DrainSaid | null>;
  readonly askAgainMs?: number;
}

export class RemoteDrain {
  readonly #parts: RemoteDrainParts;
  /** The life of the node that is meant: one that begins under its name is another. */
  readonly #started: number | undefined;
  #startedAt = performance.now();
  #sessions = 0;
  #windowMs = 0;
  #unheard = false;
  /** What the node said last. */
  #said: DrainSaid | null = null;
  #looking = false;

  constructor(parts: RemoteDrainParts) {
    this.#parts = parts;
    this.#started = parts.registry.nodes().find((node) => node.id === parts.id)?.started;
  }

  /** Resolves when the node is gone, or dead, and when it has not heard of it: `progress` tells which. */
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
   * As the node itself counts. Until it has said something, and where its version does not: sockets as of its last
   * heartbeat, and the window that was asked for, or 0. A node that died has left behind what it had.
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
