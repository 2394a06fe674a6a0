/** Sends one message at a time from one socket to two others, with pauses: the cost of crossing reactors. */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { micros, since, stamp } from "./clock.ts";
import type { Order, Relayed } from "./orders.ts";
import type { Squad } from "./squad.ts";

type RelayOrder = Extract<Order, { kind: "relay" }>;

export class RelayEar {
  #latencies = new Map<number, RecordableHistogram>();
  #missing = new Set<number>();
  #done: () => void = () => {};

  chunk(): void {}

  delivered(socket: number, _counter: number, sentAt: number): void {
    if (!this.#missing.delete(socket)) return;
    this.#latencies.get(socket)?.record(since(sentAt, stamp(micros())) || 1);
    if (this.#missing.size === 0) this.#done();
  }

  async relay(squad: Squad, { from, near, far, samples, gapMs }: RelayOrder): Promise<Relayed> {
    const relayed = { near: createHistogram(), far: createHistogram() };
    const warmUp = Math.ceil(samples / 10);
    for (let n = 1; n <= warmUp + samples; n++) {
      if (n > warmUp) this.#latencies = new Map([[near, relayed.near], [far, relayed.far]]);
      await this.#once(squad, from, [near, far], n);
      await sleep(gapMs);
    }
    return relayed;
  }

  #once(squad: Squad, from: number, to: readonly number[], counter: number): Promise<void> {
    this.#missing = new Set(to);
    return new Promise((resolve) => {
      this.#done = resolve;
      squad.conversations[from]?.publish(counter, stamp(micros()));
    });
  }
}
