/**
 * The other nodes, for parts that are there before any of them is known. Until this node hears and knows them, and where
 * it is alone, there are none, and what is said goes nowhere.
 */
import type { DrainSaid, NodeMessage, NodeMessages } from "../../messages/messages.ts";
import type { OwnState, RegisteredNode, Registry } from "../../registry/registry.ts";
import { RemoteDrain } from "./remotedrain.ts";

export class OtherNodes {
  #messages: NodeMessages | null = null;
  #registry: Registry | null = null;

  /** They can be spoken to from here on. */
  hear(messages: NodeMessages): void {
    this.#messages = messages;
  }

  know(registry: Registry): void {
    this.#registry = registry;
  }

  /** All of them, and this one first. */
  nodes(): readonly RegisteredNode[] {
    return this.#registry?.nodes() ?? [];
  }

  /** The registry could not be looked at lately. */
  get stale(): boolean {
    return this.#registry?.stale ?? false;
  }

  async announce(state: OwnState): Promise<void> {
    await this.#registry?.announce(state);
  }

  send(node: string, message: NodeMessage): void {
    this.#messages?.send(node, message);
  }

  sendAll(message: NodeMessage): void {
    this.#messages?.sendAll(message);
  }

  /** Null: there is no such node, or it is down. @param look asks it how far its drain is; null: it does not say. */
  drainOf(id: string, look: (id: string) => Promise<DrainSaid | null>): RemoteDrain | null {
    const isKnown = this.nodes().some((one) => one.id === id && one.state !== "down");
    return isKnown && this.#registry !== null && this.#messages !== null ? new RemoteDrain({ id, registry: this.#registry, messages: this.#messages, look: () => look(id) }) : null;
  }

  /** They forget this node. */
  async leave(): Promise<void> {
    await this.#registry?.stop();
  }

  async stopHearing(): Promise<void> {
    await this.#messages?.stop();
  }
}
