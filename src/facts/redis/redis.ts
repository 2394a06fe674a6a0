/**
 * The facts of all nodes in one Redis. Scripts of presence add them (lua/add.lua), in the step that makes them true. So
 * two nodes that clean up after a third add each fact once, and no fact depends on the node that saw it. The list of a
 * subject is in the slot of its room or user. Which subjects have facts, nodes know: from their own changes, and from
 * the lists of a dead node that presence cleans up.
 */
import { keysOfRoom, keysOfUser } from "../../redis/slots.ts";
import type { Command, RedisLink } from "../../redis/redis.ts";
import { Script } from "../../redis/scripts.ts";
import { bytesOfFact, claimMs as claimMsDefault, deadLettersMax, factOf, type DeadLetter, type Fact, type Facts, type Subject } from "../facts.ts";

export interface RedisFactsOptions {
  readonly redis: Pick<RedisLink, "run" | "runEach">;
  readonly prefix: string;
  /** This node. */
  readonly node: string;
  /** Endpoints that are told of the subject: what all of them know is deleted. */
  endpointsOf(subject: Subject): readonly string[];
  /** Replaced in tests. */
  readonly claimMs?: number;
}

const ofList = (name: string) => new Script(3, "facts/redis/lua/list.lua", `facts/redis/lua/${name}.lua`);
const claimFacts = ofList("claim");
const factsTold = ofList("told");
const countFacts = ofList("count");
const buryLetter = new Script(2, "facts/redis/lua/bury.lua");
const readBuried = new Script(2, "facts/redis/lua/buried.lua");
const unburyLetters = new Script(2, "facts/redis/lua/unbury.lua");

export function createRedisFacts({ redis, prefix, node, endpointsOf, claimMs = claimMsDefault }: RedisFactsOptions): Facts {
  const ofSubject = (script: Script, subject: Subject, ...args: (string | number)[]): Command => {
    const key = subject.slice(1);
    const keys = subject.startsWith("r") ? keysOfRoom(prefix, key, ["h", "w", "c"]) : keysOfUser(prefix, key, ["h", "w", "s"]);
    return [script, ...keys, ...args];
  };
  const ofEndpoint = (endpoint: string) => ["dead", "order"].map((part) => `${prefix}webhook:{${endpoint}}:${part}`);
  const offKey = (endpoint: string) => `${prefix}webhook:{${endpoint}}:off`;

  return {
    async claim(endpoint, subject, { max, gone }) {
      const answer = await redis.run(...ofSubject(claimFacts, subject, endpoint, node, claimMs, max, gone?.node ?? "", Math.floor(gone?.forMs ?? 0)));
      const [heldMs, epoch, waiting, lost, ...texts] = answer as [number, string, number, number, ...string[]];
      const facts = texts.map(factOf).filter((fact): fact is Fact => fact !== null);
      return { heldMs, epoch, waiting, lost, through: Number.parseInt(texts.at(-1) ?? "0", 10), facts, bytes: facts.reduce((sum, fact) => sum + bytesOfFact(fact), 0) };
    },

    async count(endpoint, subjects) {
      const answers = await redis.runEach(subjects.map((subject) => ofSubject(countFacts, subject, endpoint)));
      const failed = answers.find((answer) => answer instanceof Error);
      if (failed !== undefined) throw failed;
      return answers.map(Number);
    },

    usage: () => null,
    subjects: () => [],

    async told(endpoint, subject, { epoch, n, isOver }) {
      const others = endpointsOf(subject).filter((one) => one !== endpoint);
      return Number(await redis.run(...ofSubject(factsTold, subject, endpoint, node, claimMs, epoch, n, isOver ? 1 : 0, ...others)));
    },

    async bury(endpoint, letter) {
      await redis.run(buryLetter, ...ofEndpoint(endpoint), letter.id, JSON.stringify(letter), letter.at, deadLettersMax);
    },

    async buried(endpoint, max) {
      const [count, ...letters] = (await redis.run(readBuried, ...ofEndpoint(endpoint), max)) as [number, ...string[]];
      return { count, letters: letters.map((text) => JSON.parse(text) as DeadLetter) };
    },

    async unbury(endpoint, ids) {
      await redis.run(unburyLetters, ...ofEndpoint(endpoint), ...ids);
    },

    async disabled(endpoint) {
      return String((await redis.run("get", offKey(endpoint))) ?? "");
    },

    async disable(endpoint, url) {
      await (url === "" ? redis.run("del", offKey(endpoint)) : redis.run("set", offKey(endpoint), url));
    },

    async stop() {},
  };
}
