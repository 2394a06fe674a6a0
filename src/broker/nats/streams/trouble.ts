/**
 * Logs a retried problem of streams once when it begins, and once when it is over for all of them. Many rooms may meet
 * the same problem.
 */
import type { NatsLog } from "../connection/connection.ts";
import type { Stream } from "./streams.ts";

export class Trouble {
  readonly #log: NatsLog;
  readonly #beginning: string;
  readonly #end: string;
  readonly #with = new Set<Stream>();

  /**
   * @param beginning log line for the first stream with the problem. @param end log line when no stream has it any more
   */
  constructor(log: NatsLog, beginning: string, end: string) {
    this.#log = log;
    this.#beginning = beginning;
    this.#end = end;
  }

  begins(stream: Stream, error: unknown): void {
    if (this.#with.size === 0) this.#log.warn({ stream: stream.name, problem: String(error) }, this.#beginning);
    this.#with.add(stream);
  }

  ends(stream: Stream): void {
    if (this.#with.delete(stream) && this.#with.size === 0) this.#log.info({}, this.#end);
  }
}
