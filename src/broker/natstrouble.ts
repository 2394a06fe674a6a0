/**
 * What many have at once, and each tries again several times a second until it has it no more: logged when the first has
 * it and when the last is rid of it, not every time.
 */
import type { NatsLog } from "./natsconnection.ts";

export class Trouble {
  readonly #log: NatsLog;
  readonly #beginning: string;
  readonly #end: string;
  readonly #having = new Set<object>();

  constructor(log: NatsLog, beginning: string, end: string) {
    this.#log = log;
    this.#beginning = beginning;
    this.#end = end;
  }

  begins(one: object, fields: object): void {
    if (this.#having.size === 0) this.#log.warn(fields, this.#beginning);
    this.#having.add(one);
  }

  ends(one: object): void {
    if (this.#having.delete(one) && this.#having.size === 0) this.#log.info({}, this.#end);
  }
}
