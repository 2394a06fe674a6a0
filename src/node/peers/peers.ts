/**
 * The other nodes, for parts that exist before any other node is known. Until `hear` and `know` are called, and in a
 * single node, the list holds no others and messages go nowhere.
 */
import type { DrainSaid, NodeMessage, NodeMessages } from "../../messages/messages.ts";
import type { OwnState, RegisteredNode, Registry } from "../../registry/registry.ts";
import { RemoteDrain } from "./remotedrain.ts";

export class OtherNodes {
  #messages: NodeMessages | null = null;
  #registry: Registry | null = null;
  #announced: OwnState | null = null;

  /** From here on messages reach other nodes. */
  hear(messages: NodeMessages): void {
    this.#messages = messages;
  }

  know(registry: Registry): void {
    this.#registry = registry;
  }

  /** All nodes, this one first. */
  nodes(): readonly RegisteredNode[] {
    return this.#registry?.nodes() ?? [];
  }

  /** The registry could not be read lately, so the list may be out of date. */
  get stale(): boolean {
    return this.#registry?.stale ?? false;
  }

  async announce(state: OwnState): Promise<void> {
    this.#announced = state;
    await this.#registry?.announce(state);
  }

  /** The facts about this node have changed: the others should not wait for the next heartbeat. */
  async announceAgain(): Promise<void> {
    if (this.#announced !== null) await this.#registry?.announce(this.#announced);
  }

  send(node: string, message: NodeMessage): void {
    this.#messages?.send(node, message);
  }

  sendAll(message: NodeMessage): void {
    this.#messages?.sendAll(message);
  }

  /** Null: no such node, or it is down. @param look asks the node for its progress; null: no answer. */
  drainOf(id: string, look: (id: string) => Promise<DrainSaid | null>): RemoteDrain | null {
    const isKnown = this.nodes().some((one) => one.id === id && one.state !== "down");
    return isKnown && this.#registry !== null && this.#messages !== null ? new RemoteDrain({ id, registry: this.#registry, messages: this.#messages, look: () => look(id) }) : null;
  }

  /** Removes this node from the lists of the others. */
  async leave(): Promise<void> {
    // Nothing announces it again: its entry would stay behind, and clients would be sent to it.
    this.#announced = null;
    await this.#registry?.stop();
  }

  async stopHearing(): Promise<void> {
    await this.#messages?.stop();
  }
}
