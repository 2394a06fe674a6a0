/**
 * Sends commands and scripts to Redis. A script is sent whole until Redis has answered it once, and by its hash from
 * then on. A Redis that has dropped it (SCRIPT FLUSH, a failover behind a proxy) answers NOSCRIPT and does nothing.
 *
 * Redis Cluster always gets scripts whole. Each of its servers has its own scripts, and slots move between them.
 * NOSCRIPT would be a common answer there, and each one means sending everything behind it a second time.
 *
 * ioredis' own `defineCommand` does not fit. It resends such a script by itself, behind the commands pipelined after
 * it, and does not report that. An enter and a leave would change places, and a user who left would stay
 * (test/redis-scripts.test.ts). Here the caller learns of it and resends in order.
 */
import type { Cluster, Redis } from "ioredis";
import { Script } from "./scripts.ts";

export type Command = readonly [what: string | Script, ...args: (string | number)[]];

/** Redis does not know the script's hash, and did nothing. */
export function isUnknownScript(result: unknown): boolean {
  return result instanceof Error && result.message.startsWith("NOSCRIPT");
}

export class Sending {
  readonly #client: Redis | Cluster;
  readonly #isCluster: boolean;
  /** Scripts that Redis has been sent whole, and has answered. */
  readonly #known = new Set<Script>();

  constructor(client: Redis | Cluster, isCluster: boolean) {
    this.#client = client;
    this.#isCluster = isCluster;
  }

  /** Call this when the connection is a new one: the server behind it may be another. */
  forget(): void {
    this.#known.clear();
  }

  /**
   * Sends commands in one piece. Returns a result for each, an Error where Redis refused it.
   * @param isWhole sends all scripts whole: nothing depends on the scripts that Redis knows.
   * @throws where it is not known which commands Redis ran.
   */
  async send(commands: readonly Command[], isWhole: boolean): Promise<unknown[]> {
    const results = await this.#results(commands.map((command) => this.#written(command, isWhole || this.#isCluster)));
    // Redis drops all scripts at once.
    if (results.some(isUnknownScript)) this.#known.clear();
    else for (const [what] of commands) if (typeof what !== "string") this.#known.add(what);
    return results;
  }

  /** The command in the words of Redis. */
  #written([what, ...args]: Command, isWhole: boolean): [string, ...(string | number)[]] {
    if (typeof what === "string") return [what, ...args];
    const isKnown = !isWhole && this.#known.has(what);
    return isKnown ? ["evalsha", what.hash, what.keys, ...args] : ["eval", what.text, what.keys, ...args];
  }

  /** A cluster's commands go out one by one: a pipeline must stay on one server. */
  async #results(commands: readonly [string, ...(string | number)[]][]): Promise<unknown[]> {
    if (this.#isCluster || commands.length === 1) {
      return Promise.all(commands.map(([name, ...args]) => this.#client.call(name, ...args).catch(refusal)));
    }
    const results = await this.#client.pipeline(commands.map((command) => [...command])).exec();
    // The result type includes null. Missing results would pass for success.
    if (results?.length !== commands.length) throw new Error("the Redis client returned no result for some commands");
    return results.map(([error, result]) => (error === null ? result : refusal(error)));
  }
}

/** ReplyError: Redis refused the command. After any other error the outcome is unknown. */
function refusal(error: Error): Error {
  if (error.name === "ReplyError") return error;
  throw error;
}
