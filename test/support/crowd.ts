/** Many SDK clients in one durable room, some of which publish, and what they saw of it while nodes come and go. */
import type { Test } from "tap";
import type { Client, Room } from "../../src/client/index.ts";
import { isReady, startClient } from "./sdk.ts";
import { until } from "./until.ts";

export interface Crowd {
  readonly clients: readonly Client[];
  /** Publications acknowledged so far. */
  readonly acknowledged: number;
  /** How often each client's socket ended, by reason: what the close code is called. */
  readonly causes: readonly Map<string, number>[];
  /** When clients began to come back, milliseconds of performance.now. */
  readonly returns: readonly number[];
  /** Waits until everybody has a session. */
  ready(): Promise<void>;
  /** Stops publishing, and waits until everybody has the last publication. */
  stop(): Promise<Seen>;
}

export interface Seen {
  readonly published: number;
  /** Members that lack something acknowledged, or have something twice, or in another order than the others; and gaps told. */
  readonly lacking: number;
  readonly doubled: number;
  readonly disordered: number;
  readonly gaps: number;
}

export interface CrowdOptions {
  readonly room: string;
  readonly clients: number;
  readonly publishers: number;
  readonly everyMs: number;
}

interface Member {
  readonly client: Client;
  readonly room: Room;
  readonly texts: string[];
}

export async function startCrowd(t: Pick<Test, "teardown">, url: string, { room: name, clients, publishers, everyMs }: CrowdOptions): Promise<Crowd> {
  const acknowledged: string[] = [];
  const returns: number[] = [];
  const causes: Map<string, number>[] = [];
  let gaps = 0;
  let isOver = false;
  const members = Array.from({ length: clients }, (): Member => {
    const client = startClient(t, url, { commandTimeoutMs: 180_000, waitingPublishesMax: 10_000, backoff: { baseMs: 100, capMs: 1000 } });
    const room = client.join(name);
    const texts: string[] = [];
    const why = new Map<string, number>();
    causes.push(why);
    room.on("publication", ({ data }) => texts.push(data as string));
    room.on("gap", () => gaps++);
    client.on("state", ({ state, cause, retryInMs }) => {
      if (state !== "waiting" || cause === null) return;
      why.set(cause.name, (why.get(cause.name) ?? 0) + 1);
      if (cause.name === "shutdown") returns.push(performance.now() + (retryInMs ?? 0));
    });
    return { client, room, texts };
  });
  await Promise.all(members.map(({ room }) => room.joined));
  const publishing = members.slice(0, publishers).map(async ({ room }, publisher) => {
    for (let n = 0; !isOver; n++) {
      await room.publish(`${publisher}-${n}`);
      acknowledged.push(`${publisher}-${n}`);
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  });
  return {
    clients: members.map(({ client }) => client),
    causes,
    returns,
    get acknowledged() { return acknowledged.length; },
    ready: async () => void (await Promise.all(members.map(({ client }) => isReady(client)))),
    stop: async () => {
      isOver = true;
      await Promise.all(publishing);
      await members[0]!.room.publish("last");
      await until(() => members.every(({ texts }) => texts.at(-1) === "last"), "everybody to have the last one");
      const order = members[0]!.texts.join();
      return {
        published: acknowledged.length,
        lacking: members.filter(({ texts }) => !isSubset(acknowledged, new Set(texts))).length,
        doubled: members.filter(({ texts }) => new Set(texts).size !== texts.length).length,
        disordered: members.filter(({ texts }) => texts.join() !== order).length,
        gaps,
      };
    },
  };
}

function isSubset(texts: readonly string[], of: ReadonlySet<string>): boolean {
  return texts.every((text) => of.has(text));
}
