/** The bench's end of a load thread. */
import { Worker } from "node:worker_threads";
import type { Answers, Order, Request, Response, WorkerData } from "./orders.ts";

type Pending = { resolve: (answer: never) => void; reject: (error: Error) => void };

export class LoadThread {
  readonly #delivered = new Uint32Array(new SharedArrayBuffer(4));
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #id = 0;

  /** @param script worker.ts, compiled. */
  constructor(script: URL) {
    const workerData: WorkerData = { delivered: this.#delivered };
    this.#worker = new Worker(script, { workerData });
    this.#worker.on("message", (response: Response) => this.#settle(response));
    this.#worker.on("error", (error: Error) => this.#rejectAll(error));
  }

  /** Payloads its sockets have seen so far, as of now. */
  get delivered(): number {
    return this.#delivered[0]!;
  }

  ask<K extends Order["kind"]>(order: Extract<Order, { kind: K }>): Promise<Answers[K]> {
    const id = ++this.#id;
    return new Promise<Answers[K]>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, order } satisfies Request);
    });
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
    this.#rejectAll(new Error("the load thread was stopped"));
  }

  #settle(response: Response): void {
    const pending = this.#pending.get(response.id);
    this.#pending.delete(response.id);
    if ("error" in response) pending?.reject(new Error(response.error));
    else pending?.resolve(response.answer as never);
  }

  #rejectAll(error: Error): void {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
