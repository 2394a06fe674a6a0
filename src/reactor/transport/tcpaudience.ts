/** Rooms on TCP: which sockets a publication goes to, and when their writes are sent. */
import type { Audience } from "./socket.ts";

export interface Subscriber {
  /** Takes bytes that all subscribers share. */
  deliver(bytes: Buffer): void;
  /** Sends the writes that were held back to leave together. */
  uncork(): void;
  getTopics(): string[];
}

/** The sockets of this reactor that are on TCP. */
export class TcpAudience implements Audience {
  readonly #subscribers = new Map<string, Set<Subscriber>>();
  #corked: Subscriber[] = [];

  publish(topic: string, bytes: Uint8Array): boolean {
    return this.publishExcept(null, topic, bytes);
  }

  /** Copies the bytes once for all: a socket may still hold them when the ring is written over. */
  publishExcept(excluded: Subscriber | null, topic: string, bytes: Uint8Array): boolean {
    const sockets = this.#subscribers.get(topic);
    if (sockets === undefined) return false;
    const copy = Buffer.from(bytes);
    for (const socket of sockets) if (socket !== excluded) socket.deliver(copy);
    return true;
  }

  subscribe(socket: Subscriber, topic: string): void {
    const sockets = this.#subscribers.get(topic);
    if (sockets === undefined) this.#subscribers.set(topic, new Set([socket]));
    else sockets.add(socket);
  }

  unsubscribe(socket: Subscriber, topic: string): void {
    const sockets = this.#subscribers.get(topic);
    if (sockets?.delete(socket) === true && sockets.size === 0) this.#subscribers.delete(topic);
  }

  /** Call this when the socket is gone. */
  forget(socket: Subscriber): void {
    for (const topic of socket.getTopics()) this.unsubscribe(socket, topic);
  }

  /** Uncorks once the code under way is done: a batch of the ring, or one read of a socket. */
  uncorkSoon(socket: Subscriber): void {
    if (this.#corked.push(socket) === 1) process.nextTick(() => this.#uncork());
  }

  #uncork(): void {
    const sockets = this.#corked;
    this.#corked = [];
    for (const socket of sockets) socket.uncork();
  }
}
