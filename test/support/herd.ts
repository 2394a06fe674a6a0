/**
 * Thousands of sessions in one room that come back by themselves when their socket is lost, lighter than the SDK: frames
 * over raw sockets, and the history of what each was given.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Format } from "../../src/protocol/messages.ts";
import { createHistory } from "./history.ts";
import type { NodeProcess } from "./nodeprocess.ts";
import { resumeOf } from "./resume.ts";
import { open, seen, type Reply, type SeenPosition, type TestSession } from "./session.ts";
import { until } from "./until.ts";
import type { Verdict } from "./verdict.ts";

export interface HerdOptions {
  readonly room: string;
  readonly sessions: number;
  /** Time between two publishes of the publisher at each node. */
  readonly everyMs: number;
}

export interface Herd {
  /** Sessions that went on at another node, sessions that could not and began anew, and those that are away now. */
  readonly resumed: number;
  readonly begunAnew: number;
  readonly away: number;
  /** Sessions at each node. */
  readonly at: ReadonlyMap<NodeProcess, number>;
  /** Waits until everybody is there, and has so many publications more. */
  progress(publications: number): Promise<void>;
  /** Stops publishing, waits until everybody has everything, and judges. */
  stop(): Promise<Verdict>;
  close(): void;
}

/** As the SDK's first wait from a node that has told no window: these come back more of a crowd than its clients would. */
const backoffMs = 500;
/** More at once overflow the queue of the kernel. */
const openingMax = 50;
const limitMs = 180_000;

export async function startHerd(nodes: readonly NodeProcess[], { room, sessions, everyMs }: HerdOptions): Promise<Herd> {
  const history = createHistory("herd");
  const at = new Map<NodeProcess, number>(nodes.map((node) => [node, 0]));
  const newest: string[] = Array.from({ length: sessions }, () => "");
  const sockets = new Set<TestSession>();
  let resumed = 0;
  let begunAnew = 0;
  let away = sessions;
  let acknowledged = 0;
  let last = "";
  let isStopping = false;
  let isOver = false;
  let turn = 0;

  const alive = (): NodeProcess => {
    for (;;) {
      const node = nodes[turn++ % nodes.length]!;
      if (node.ended === undefined) return node;
    }
  };

  /** One member, for all its sockets. */
  function member(index: number) {
    const name = `member${index}`;
    let place: SeenPosition | null = null;
    const onEvent = ({ joined }: Reply): void => {
      if (!joined) return;
      const position = seen(joined.position);
      if (place === null) history.joined(room, name, (place = position));
      else if (joined.recovered !== true) {
        history.gap(room, name, place, position, "not recovered");
        place = position;
      }
    };
    const live = async (before: TestSession | null): Promise<void> => {
      const node = alive();
      const session = await open(node, { hello: null, keep: false }).catch(() => null);
      // It may have been killed a moment ago.
      if (session === null) return sleep(Math.random() * backoffMs).then(() => live(before));
      sockets.add(session);
      session.onEvent(onEvent);
      session.onPublication(({ epoch, seq, prev, payload }) => {
        const id = payload.toString();
        history.delivered(room, name, id, { epoch, seq }, prev);
        place = { epoch, seq };
        newest[index] = id;
      });
      const positions = place === null ? [] : [{ room, position: place }];
      const { ready } = await session.request({ hello: { version: 1, ...(before && resumeOf(before, positions)) } });
      if (!ready) throw new Error("a session was refused");
      Object.assign(session, { ready });
      if (before === null) await session.join(room);
      else if (ready.resumed) resumed++;
      else begunAnew++;
      away--;
      at.set(node, at.get(node)! + 1);
      void session.raw.ended.then(async () => {
        sockets.delete(session);
        if (isOver) return;
        away++;
        at.set(node, at.get(node)! - 1);
        // Whatever keeps it from coming back shows in the number of those who are away.
        while (!isOver) {
          await sleep(Math.random() * backoffMs);
          if (await live(session).then(() => true, () => false)) return;
        }
      });
    };
    return live(null);
  }

  let next = 0;
  await Promise.all(Array.from({ length: openingMax }, async () => {
    while (next < sessions) await member(next++);
  }));

  const attempt = (publisher: TestSession, id: string) =>
    publisher.request({ publish: { room, payload: Buffer.from(id), format: Format.BINARY, key: `herd-${id}` } });
  const publish = async (publisher: TestSession, id: string): Promise<void> => {
    history.attempted(room, id);
    let answer = await attempt(publisher, id);
    // NATS may be too slow on a busy machine: what is refused so is said again, under its key.
    for (; answer.error?.retryable; answer = await attempt(publisher, id)) await sleep(everyMs);
    if (!answer.published) throw new Error(`refused: ${answer.error?.code}: ${answer.error?.text}`);
    history.acknowledged(room, id, seen(answer.published.position));
    acknowledged++;
    last = id;
  };
  const publishing = Promise.all(nodes.map(async (node, n) => {
    const publisher = await open(node, { keep: false });
    sockets.add(publisher);
    await publisher.join(room);
    for (let i = 0; !isStopping; i++) {
      try {
        await publish(publisher, `${n}-${i}`);
      } catch (error) {
        // What was under way when its node was killed may have taken place or not.
        return until(() => node.ended !== undefined, `a publisher to fail only where its node has ended: ${String(error)}`);
      }
      await sleep(everyMs);
    }
  }));

  return {
    at,
    get resumed() { return resumed; },
    get begunAnew() { return begunAnew; },
    get away() { return away; },
    progress: async (publications) => {
      const goal = acknowledged + publications;
      await until(() => away === 0 && acknowledged >= goal, `${publications} more publications`, limitMs);
    },
    stop: async () => {
      isStopping = true;
      await publishing;
      const publisher = await open(alive(), { keep: false });
      sockets.add(publisher);
      await publisher.join(room);
      await publish(publisher, "last");
      await until(() => newest.every((id) => id === last), "the last publication to be everywhere", limitMs);
      return history.judge();
    },
    close: () => {
      isOver = true;
      for (const { raw } of sockets) raw.destroy();
    },
  };
}
