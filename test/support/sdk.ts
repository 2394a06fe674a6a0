/** The SDK as the tests use it. Node 20 has no WebSocket of its own, so it is given the one of `ws`. */
import type { Test } from "tap";
import { WebSocket } from "ws";
import { connect, type Client, type ClientOptions, type Clock, type Room } from "../../src/client/index.ts";
import { until } from "./until.ts";

/** Connects; closed with the test. Waits are short, so that tests which lose sockets are not slow. */
export function startClient(t: Pick<Test, "teardown">, url: string, options: ClientOptions = {}): Client {
  const client = connect(url, { WebSocket, backoff: { baseMs: 20, capMs: 200 }, ...options });
  t.teardown(() => client.close());
  return client;
}

export function isReady(client: Client): Promise<void> {
  return until(() => client.state === "ready", "a session");
}

export const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

export type Heard = { kind: "joined" | "publication" | "recovered" | "gap" | "error" | "left"; what: unknown };

/** What a room tells, in order, each as short as can be: data of publications, codes of errors, seqs of positions. */
export function listen(room: Room): Heard[] {
  const heard: Heard[] = [];
  room.on("joined", ({ recovered, rejoined }) => heard.push({ kind: "joined", what: { recovered, rejoined } }));
  room.on("publication", ({ data }) => heard.push({ kind: "publication", what: data }));
  room.on("recovered", ({ from, to, publications }) => heard.push({ kind: "recovered", what: [from.seq, to.seq, publications] }));
  room.on("gap", ({ from, to }) => heard.push({ kind: "gap", what: [from.seq, to.seq] }));
  room.on("error", ({ code }) => heard.push({ kind: "error", what: code }));
  room.on("left", (error) => heard.push({ kind: "left", what: error?.code ?? null }));
  return heard;
}

/** Data of the publications among it. */
export function publicationsIn(heard: Heard[]): unknown[] {
  return heard.flatMap(({ kind, what }) => (kind === "publication" ? [what] : []));
}

/** A clock that stands still until it is moved. */
export class ManualClock implements Clock {
  #now = 0;
  #timers = new Set<{ at: number; run: () => void }>();

  now(): number {
    return this.#now;
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { at: this.#now + delayMs, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Runs what is due on the way, in order. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.run();
    }
    this.#now = end;
  }
}
