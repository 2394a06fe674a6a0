/**
 * Members of a durable room who use the SDK, so that they find back by themselves whatever happens to the nodes, a few of
 * whom write to each other directly, and the history of what they were given: at the end it is judged.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import { FluxError, type Client, type ClientOptions } from "../../src/client/index.ts";
import { startCorrespondence, type Attempt } from "./correspondence.ts";
import { createHistory, type History } from "./history.ts";
import { startClient } from "./sdk.ts";
import { open } from "./session.ts";
import { until } from "./until.ts";
import type { Verdict } from "./verdict.ts";

export interface PopulationOptions {
  readonly room: string;
  readonly members: number;
  /** Those of them that publish, one at a time each. Default: 4. */
  readonly publishers?: number;
  /** Time between two publishes of one of them. Default: 100 ms. */
  readonly everyMs?: number;
  readonly seed?: number | string;
  /** Waits of the clients. Short by default, so that tests are not slow. */
  readonly backoff?: { readonly baseMs: number; readonly capMs: number };
  /** For how long clients put up with a node that says nothing. Default: as the SDK has it. */
  readonly patienceMs?: number;
  /** Number of the first member, where others of the room are elsewhere. Default: 0. */
  readonly first?: number;
  /** What clients connect with. Default: that of `ws`. */
  readonly WebSocket?: NonNullable<ClientOptions["WebSocket"]>;
  /** Whom clients ask where to connect. */
  readonly locate?: NonNullable<ClientOptions["locate"]>;
}

export interface Population {
  readonly clients: readonly Client[];
  readonly history: History;
  /** Publications to the room acknowledged so far, and gaps that members were told of, in their inboxes, too. */
  readonly acknowledged: number;
  readonly gaps: number;
  /** Waits for so many more of them, and for direct messages. */
  progress(publications: number): Promise<void>;
  /** Waits until whoever asks at any of these nodes, and the members themselves, are told that exactly the members are there. */
  present(nodes: readonly { readonly port: number }[], limitMs: number): Promise<void>;
  /** Stops publishing. Resolves when what was under way has been answered, and direct messages are where they belong. */
  halt(): Promise<void>;
  /** Publishes once more; resolves with what. */
  publishLast(): Promise<string>;
  /** Waits until that is the last thing that everybody has been given. */
  reached(last: string): Promise<void>;
  /** Stops publishing, waits until everybody has everything, and judges. */
  stop(): Promise<Verdict>;
  /** Everybody leaves for good. */
  close(): Promise<void>;
}

/** Members that keep a list of who is there: as many see every kind of change, and the rest would only ask the same. */
const watching = 3;
/** Longer than the longest fault and the waits of clients after it. */
const limitMs = 180_000;
const lookMs = 250;

export async function startPopulation(t: Pick<Test, "teardown">, url: string, options: PopulationOptions): Promise<Population> {
  const { room: name, members, publishers = 4, everyMs = 100, seed = "none", backoff = { baseMs: 50, capMs: 1000 }, patienceMs, first = 0, WebSocket, locate } = options;
  const history = createHistory(seed);
  const nameOf = (i: number): string => `member${first + i}`;
  const patience = patienceMs === undefined ? {} : { graceMs: patienceMs, connectTimeoutMs: 2 * patienceMs };
  const given = { storage: null, backoff, commandTimeoutMs: 180_000, ...patience, ...(WebSocket && { WebSocket }), ...(locate && { locate }) };
  const clients = Array.from({ length: members }, () => startClient(t, url, given));
  const lastOf = new Map<number, string>();
  let gaps = 0;
  const rooms = clients.map((client, i) => {
    const room = client.join(name);
    let seq = 0;
    room.on("joined", ({ rejoined, position }) => {
      if (rejoined) return;
      seq = position.seq;
      history.joined(name, nameOf(i), position);
    });
    room.on("gap", ({ from, to }) => {
      gaps++;
      seq = to.seq;
      history.gap(name, nameOf(i), from, to, "sync");
    });
    room.on("publication", ({ data, position }) => {
      const id = String(data);
      history.delivered(name, nameOf(i), id, position, seq);
      seq = position.seq;
      lastOf.set(i, id);
    });
    return room;
  });
  await Promise.all(rooms.map((room) => room.joined));
  const lists = rooms.slice(0, watching).map((room) => room.members());

  let acknowledged = 0;
  let stopping = false;
  t.teardown(() => void (stopping = true));
  const attempt: Attempt = async (where, id, publish) => {
    history.attempted(where, id);
    try {
      history.acknowledged(where, id, await publish());
      return true;
    } catch (error) {
      // Nobody knows what became of one that was not answered.
      if (!(error instanceof FluxError)) throw error;
      if (error.code !== "timeout") history.refused(where, id, error.code);
      return false;
    }
  };
  const publish = async (i: number, id: string): Promise<boolean> => {
    const done = await attempt(name, id, () => rooms[i]!.publish(id));
    if (done) acknowledged++;
    return done;
  };
  const publishing = Promise.all(
    rooms.slice(0, publishers).map(async (_, i) => {
      for (let n = 0; !stopping; n++) {
        await publish(i, `${i}-${n}`);
        await sleep(everyMs);
      }
    }),
  );
  const messages = await startCorrespondence(t, clients.map((client, i) => ({ client, name: nameOf(i) })), history, attempt);

  const halt = async (): Promise<void> => {
    stopping = true;
    await Promise.all([publishing, messages.stop(limitMs)]);
  };
  const publishLast = async (): Promise<string> => {
    for (let n = 0; ; n++) if (await publish(0, `last-${n}`)) return `last-${n}`;
  };
  const reached = (last: string): Promise<void> =>
    until(() => clients.every((_, i) => lastOf.get(i) === last), "the last publication to be everywhere", limitMs);

  return {
    clients,
    history,
    get acknowledged() { return acknowledged; },
    get gaps() { return gaps + messages.gaps; },
    progress: async (publications) => {
      const goal = acknowledged + publications;
      const more = until(() => acknowledged >= goal, `${publications} more acknowledged publications`, limitMs);
      await Promise.all([more, messages.progress(limitMs)]);
    },
    present: async (nodes, limitMs) => {
      const askers = await Promise.all(nodes.map((node) => open(node)));
      const ask = async (asker: (typeof askers)[number]): Promise<string> => {
        const { presence, error } = await asker.request({ presence: { room: name } });
        if (!presence) return `${error?.code}`;
        return `${presence.sessions} sessions of ${presence.members?.map(({ user, sessions }) => `${user} ${sessions}`).sort().join()}`;
      };
      const users = () => clients.map(({ session }) => `${session?.user}`).sort();
      const wanted = () => `${members} sessions of ${users().map((user) => `${user} 1`).join()}`;
      const known = () => lists.map(({ list }) => list.map(({ user }) => user).sort().join());
      let answers: string[] = [];
      const isRight = async () => {
        answers = await Promise.all(askers.map(ask));
        return answers.every((answer) => answer === wanted()) && known().every((list) => list === users().join());
      };
      await until(async () => (await isRight()) || sleep(lookMs, false), "presence to be right", limitMs).catch(() => {
        throw new Error(`after ${limitMs} ms these should be there: ${wanted()}\nnodes say: ${answers.join("\n  ")}\nmembers know: ${known().join("\n  ")}`);
      });
      await Promise.all(askers.map((asker) => asker.bye()));
    },
    close: async () => void (await Promise.all(clients.map((client) => client.close()))),
    halt,
    publishLast,
    reached,
    stop: async () => {
      await halt();
      await reached(await publishLast());
      return history.judge();
    },
  };
}
