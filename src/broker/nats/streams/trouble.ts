/**
 * What is wrong with streams and is tried again until it is not, by as many as have rooms there: logged when it begins and
 * when it is over for all of them, not every time.
 */
import type { NatsLog } from "../connection/connection.ts";
import type { Stream } from "./streams.ts";

export class Trouble {
  readonly #log: NatsLog;
  readonly #beginning: string;
  readonly #end: string;
  readonly #with = new Set<Stream>();

  /** @param beginning of the log's line when there is trouble with the first. @param end when there is with none any more */
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
