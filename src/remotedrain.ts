/** The drain of another node: asked for by a message, and followed in the registry. */
import type { DrainOptions, DrainProgress } from "./drain.ts";
import type { NodeMessages } from "./messages/messages.ts";
import type { RegisteredNode, Registry } from "./registry/registry.ts";

const lookMs = 200;
/** A message is told at most once, and a node that drains already joins a second call to the first. */
const askAgainMsDefault = 2000;
const asksMax = 5;

export class RemoteDrain {
  readonly #id: string;
  /** The life of the node that is meant: one that begins under its name is another. */
  readonly #started: number | undefined;
  readonly #registry: Registry;
  readonly #messages: NodeMessages;
  readonly #askAgainMs: number;
  #startedAt = performance.now();
  #sessions = 0;
  #windowMs = 0;
  #unheard = false;

  constructor(id: string, registry: Registry, messages: NodeMessages, askAgainMs = askAgainMsDefault) {
    this.#id = id;
    this.#registry = registry;
    this.#messages = messages;
    this.#askAgainMs = askAgainMs;
    this.#started = registry.nodes().find((node) => node.id === id)?.started;
  }

  /** Resolves when the node is gone, or dead, and when it has not heard of it: `progress` tells which. */
  begin({ windowMs, url }: DrainOptions): Promise<void> {
    this.#startedAt = performance.now();
    this.#sessions = this.#node?.sockets ?? 0;
    this.#windowMs = windowMs ?? 0;
    const ask = () => this.#started !== undefined && this.#messages.send(this.#id, { kind: "drain", started: this.#started, ...(windowMs !== undefined && { windowMs }), ...(url !== undefined && { url }) });
    ask();
    let askedAt = performance.now();
    let asks = 1;
    return new Promise((resolve) => {
      const timer = setInterval(() => {
        const isDue = this.#node?.state === "up" && performance.now() - askedAt >= this.#askAgainMs;
        this.#unheard = isDue && asks === asksMax;
        if (this.progress().state !== "draining") {
          clearInterval(timer);
          return resolve();
        }
        if (!isDue) return;
        askedAt = performance.now();
        asks++;
        ask();
      }, lookMs).unref();
    });
  }

  /** How many are left is as old as the node's last heartbeat. Its own window is not known here: 0 unless it was asked for. */
  progress(): DrainProgress {
    const node = this.#node;
    const isThere = node !== undefined && node.state !== "down";
    const state = this.#unheard ? "serving" : isThere ? "draining" : "over";
    const elapsedMs = performance.now() - this.#startedAt;
    return { state, sessions: this.#sessions, left: isThere ? node.sockets : 0, windowMs: this.#windowMs, elapsedMs };
  }

  get #node(): RegisteredNode | undefined {
    return this.#registry.nodes().find(({ id, started }) => id === this.#id && started === this.#started);
  }
}
