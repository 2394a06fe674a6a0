/** The bench's handle of a load thread. */
import { Worker } from "node:worker_threads";
import { type Answers, type Order, type Request, type Response, sharedWords, type WorkerData } from "./orders.ts";

type Pending = { resolve: (answer: never) => void; reject: (error: Error) => void };

export class LoadThread<O extends { readonly kind: string } = Order, A = Answers> {
  readonly #shared = new Uint32Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #id = 0;

  /** @param script worker.ts or members.ts, compiled. */
  constructor(script: URL) {
    const workerData: WorkerData = { shared: this.#shared };
    this.#worker = new Worker(script, { workerData });
    this.#worker.on("message", (response: Response<A[keyof A]>) => this.#settle(response));
    this.#worker.on("error", (error: Error) => this.#rejectAll(error));
  }

  /** Payloads received by its sockets so far. */
  get delivered(): number {
    return this.#shared[sharedWords.delivered]!;
  }

  /** The kernel's number of the thread; 0 before it runs. */
  get threadId(): number {
    return this.#shared[sharedWords.threadId]!;
  }

  ask<K extends O["kind"] & keyof A>(order: Extract<O, { kind: K }>): Promise<A[K]> {
    const id = ++this.#id;
    return new Promise<A[K]>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.postMessage({ id, order } satisfies Request<O>);
    });
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
    this.#rejectAll(new Error("the load thread was stopped"));
  }

  #settle(response: Response<A[keyof A]>): void {
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
