/**
 * How commands and scripts leave for Redis. A script leaves whole until Redis has answered it, and by its hash from then on.
 * A Redis that forgot it (SCRIPT FLUSH, a failover behind a proxy) answers NOSCRIPT and does nothing.
 *
 * To Redis Cluster scripts always leave whole. Each of its servers knows scripts of its own, and slots move between them:
 * NOSCRIPT would be an everyday answer there, and each costs everything behind it a second time.
 *
 * ioredis' own `defineCommand` was refused: it sends such a script again by itself, behind what was pipelined after it, and
 * says nothing of that. An enter and a leave change places then, and somebody who left stays (test/redis-scripts.test.ts).
 * Here the caller hears of it and sends again what has to come in order.
 */
import type { Cluster, Redis } from "ioredis";
import { Script } from "./scripts.ts";

export type Command = readonly [what: string | Script, ...args: (string | number)[]];

/** Redis does not know the script that it was to run by its hash, and did nothing. */
export function isUnknownScript(result: unknown): boolean {
  return result instanceof Error && result.message.startsWith("NOSCRIPT");
}

export class Sending {
  readonly #client: Redis | Cluster;
  readonly #isCluster: boolean;
  /** Those that Redis has been sent whole, and has answered. */
  readonly #known = new Set<Script>();

  constructor(client: Redis | Cluster, isCluster: boolean) {
    this.#client = client;
    this.#isCluster = isCluster;
  }

  /** The connection is another, and so may be what it leads to. */
  forget(): void {
    this.#known.clear();
  }

  /**
   * Sends commands in one piece; a result for each, an Error where Redis refused it.
   * @param isWhole sends all scripts whole: nothing depends on what Redis knows.
   * @throws where it is not known what they came to.
   */
  async send(commands: readonly Command[], isWhole: boolean): Promise<unknown[]> {
    const results = await this.#results(commands.map((command) => this.#written(command, isWhole || this.#isCluster)));
    // It forgets all of them at once.
    if (results.some(isUnknownScript)) this.#known.clear();
    else for (const [what] of commands) if (typeof what !== "string") this.#known.add(what);
    return results;
  }

  /** As Redis has it. */
  #written([what, ...args]: Command, isWhole: boolean): [string, ...(string | number)[]] {
    if (typeof what === "string") return [what, ...args];
    const isKnown = !isWhole && this.#known.has(what);
    return isKnown ? ["evalsha", what.hash, what.keys, ...args] : ["eval", what.text, what.keys, ...args];
  }

  /** A cluster's commands go to its nodes one by one: in a pipeline all would have to be for the same. */
  async #results(commands: readonly [string, ...(string | number)[]][]): Promise<unknown[]> {
    if (this.#isCluster || commands.length === 1) {
      return Promise.all(commands.map(([name, ...args]) => this.#client.call(name, ...args).catch(refusal)));
    }
    const results = await this.#client.pipeline(commands.map((command) => [...command])).exec();
    // Its type has null. Fewer results than commands would be taken for success.
    if (results?.length !== commands.length) throw new Error("the client library has no result for some of the commands");
    return results.map(([error, result]) => (error === null ? result : refusal(error)));
  }
}

/** Redis answered, and said no; anything else means that nobody knows. */
function refusal(error: Error): Error {
  if (error.name === "ReplyError") return error;
  throw error;
}
