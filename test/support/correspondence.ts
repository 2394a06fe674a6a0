/** Direct messages among the members of a population: each inbox is a room of the history, and whose it is its only member. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import type { Client } from "../../src/client/index.ts";
import type { History, Position } from "./history.ts";
import { until } from "./until.ts";

/** Whether it was acknowledged; `where` and `id` are what the history calls it. */
export type Attempt = (where: string, id: string, publish: () => Promise<Position>) => Promise<boolean>;

export interface Correspondence {
  /** Gaps that somebody was told of. */
  readonly gaps: number;
  /** Resolves when everybody who writes has written once more. */
  progress(limitMs: number): Promise<void>;
  /** Stops writing, and waits until everybody has everything. */
  stop(limitMs: number): Promise<void>;
}

export interface Member {
  readonly client: Client;
  readonly name: string;
}

/** Who reads and who writes: the first and the last members. */
const pairsMax = 3;
/** No more than a user may send for long. */
const everyMs = 100;

export async function startCorrespondence(t: Pick<Test, "teardown">, members: readonly Member[], history: History, attempt: Attempt): Promise<Correspondence> {
  let gaps = 0;
  let stopping = false;
  t.teardown(() => void (stopping = true));
  const begin = async ({ client: reader, name: owner }: Member, { client: writer }: Member) => {
    const name = `inbox of ${owner}`;
    await until(() => reader.session !== null, "the reader to be somebody");
    // Over all sockets the same: a session that began anew would lack everything that is sent.
    const user = reader.session!.user;
    let written = 0;
    let last = "";
    let seq = 0;
    let begun: Position | null = null;
    const write = (id: string) => attempt(name, id, async () => {
      const position = await writer.send(user, id);
      begun ??= position;
      written++;
      return position;
    });
    // What is owed begins with the first: until then nobody knows the place.
    for (let n = 0; begun === null && !stopping; n++) await write(`first-${n}`);
    const { epoch, seq: firstSeq } = begun ?? { epoch: "", seq: 0 };
    seq = firstSeq - 1;
    history.joined(name, owner, { epoch, seq });
    reader.inbox.on("gap", ({ from, to }) => {
      gaps++;
      seq = to.seq;
      history.gap(name, owner, from, to, "sync");
    });
    reader.onMessage(({ data, position }) => {
      const id = String(data);
      history.delivered(name, owner, id, position, seq);
      seq = position.seq;
      last = id;
    });
    const writing = (async () => {
      for (let n = 0; !stopping; n++) {
        await write(`${n}`);
        await sleep(everyMs);
      }
    })();
    const end = async (limitMs: number): Promise<void> => {
      await writing;
      let end = "";
      for (let n = 0; end === ""; n++) if (await write(`last-${n}`)) end = `last-${n}`;
      await until(() => last === end, `the last message to be in ${name}`, limitMs);
    };
    return { end, written: () => written };
  };
  const pairs = Math.min(pairsMax, Math.floor(members.length / 2));
  const all = await Promise.all(Array.from({ length: pairs }, (_, i) => begin(members[i]!, members.at(-1 - i)!)));
  return {
    get gaps() { return gaps; },
    progress: async (limitMs) => {
      const goals = all.map(({ written }) => written() + 1);
      await until(() => all.every(({ written }, i) => written() >= goals[i]!), "a message more of everybody who writes", limitMs);
    },
    stop: async (limitMs) => {
      stopping = true;
      await Promise.all(all.map(({ end }) => end(limitMs)));
    },
  };
}
