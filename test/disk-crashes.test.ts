/** kill -9, fifty times under load in all: everything that was acknowledged is there, once and in order, and no position is used twice. */
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { createHistory, type History, type Position } from "./support/history.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { open, seen, type TestSession } from "./support/session.ts";

/** Two nodes at once, since it is starting them that takes the time. */
const nodes = 2;
const kills = 25;
const publishers = 4;
/** Publishes that each of them has outstanding. */
const lanes = 4;
const room = "chat:load";
const everything = JSON.stringify({ chat: { historySize: 10_000_000, historyBytesMax: "1GiB" } });

// A start takes a second, or several where other tests run beside it.
t.setTimeout(400_000);

/** A publisher's lane: publishes one after the other, and what was not answered again under the same key. */
class Lane {
  readonly #name: string;
  readonly #history: History;
  #count = 0;
  #unanswered: string | null = null;
  acknowledged = 0;
  repeated = 0;
  duplicates = 0;

  constructor(name: string, history: History) {
    this.#name = name;
    this.#history = history;
  }

  /** Until the session's socket is gone, or `done` says so. */
  async run(session: TestSession, done: () => boolean): Promise<void> {
    while (this.#unanswered !== null || !done()) {
      if (this.#unanswered === null) {
        this.#unanswered = `${this.#name}-${this.#count++}`;
        this.#history.attempted(room, this.#unanswered);
      } else {
        this.repeated++;
      }
      const id = this.#unanswered;
      const reply = await session.request({ publish: { room, payload: Buffer.from(id), format: 0, key: id } }).catch(() => null);
      if (reply === null) return;
      if (reply.published == null) throw new Error(`${id} was refused: ${reply.error?.code}`);
      this.#history.acknowledged(room, id, seen(reply.published.position));
      this.#unanswered = null;
      this.acknowledged++;
      if (reply.published.duplicate) this.duplicates++;
    }
  }
}

/** Joins as a member whose deliveries are written down; with a position it recovers from there. */
async function join(node: NodeProcess, history: History, member: string, from: Position | null): Promise<{ session: TestSession; at(): Position }> {
  const session = await open(node, { keep: false });
  let at: Position = from ?? { epoch: "", seq: 0 };
  session.onEvent(({ joined, sync }) => {
    if (sync != null) throw new Error(`${member} was told of a gap`);
    if (joined == null) return;
    if (from === null) history.joined(room, member, (at = seen(joined.position)));
    else history.rejoined(room, member, from, { recovered: joined.recovered ?? false, position: seen(joined.position) });
  });
  session.onPublication(({ payload, epoch, seq, prev }) => {
    at = { epoch, seq };
    history.delivered(room, member, payload.toString(), at, prev);
  });
  await session.join(room, from === null ? {} : { recover: from });
  return { session, at: () => at };
}

t.jobs = nodes;
for (let which = 1; which <= nodes; which++) {
  t.test(`after kill -9 ${kills} times under load nothing acknowledged is lost, doubled or out of order (${which} of ${nodes})`, killed);
}

async function killed(t: Test): Promise<void> {
  const dataDir = t.testdir();
  const history = createHistory(`${kills} kills`);
  const writing = Array.from({ length: publishers * lanes }, (_, i) => new Lane(`lane${i}`, history));
  const sum = (of: (lane: Lane) => number) => writing.reduce((total, lane) => total + of(lane), 0);
  let node: NodeProcess | null = null;
  t.teardown(() => node?.kill());
  const flags = ["--reactors", "1", "--data-dir", dataDir, "--namespaces", everything, "--commands-per-second", "0"];
  const start = async () => (node = await startNodeProcess([...flags, ...(node === null ? [] : ["--port", String(node.port)])]));

  let readAt: Position | null = null;
  let first: Position | null = null;
  for (let kill = 0; kill <= kills; kill++) {
    const running = await start();
    const reader = await join(running, history, "reader", readAt);
    first ??= reader.at();
    const sessions = await Promise.all(
      Array.from({ length: publishers }, async () => {
        const session = await open(running, { keep: false });
        await session.join(room);
        return session;
      }),
    );
    const last = kill === kills;
    const enough = sum(({ acknowledged }) => acknowledged) + 60 + Math.floor(Math.random() * 200);
    const isEnough = () => sum(({ acknowledged }) => acknowledged) >= enough;
    const lanesDone = Promise.all(writing.map((lane, i) => lane.run(sessions[i % publishers]!, () => last && isEnough())));
    while (!isEnough() && running.ended === undefined) await sleep(1);
    if (!last) await running.kill();
    await lanesDone;
    if (last) {
      // Every publication, as the disk has it.
      const auditor = await join(running, history, "auditor", first);
      const goal = sum(({ acknowledged }) => acknowledged);
      t.ok(auditor.at().seq >= goal, `${auditor.at().seq} on disk, ${goal} acknowledged`);
      await reader.session.waitFor(() => reader.at().seq === auditor.at().seq, "the reader to have everything");
    }
    readAt = reader.at();
  }

  const verdict = history.judge();
  t.equal(verdict.faults, 0, verdict.report);
  t.ok(verdict.acknowledged >= kills * 60, `${verdict.acknowledged} acknowledged`);
  t.ok(sum(({ repeated }) => repeated) > kills, `${sum(({ repeated }) => repeated)} sent again`);
  t.comment(`${verdict.acknowledged} acknowledged, ${sum(({ repeated }) => repeated)} sent again, of which ${sum(({ duplicates }) => duplicates)} had been stored`);
  t.equal(new Set(history.events.flatMap((event) => ("position" in event ? [event.position.epoch] : []))).size, 1, "one epoch throughout");
}
