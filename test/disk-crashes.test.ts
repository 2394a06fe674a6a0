/**
 * kill -9 under load, again and again: everything that was acknowledged is there, once and in order, and no position is
 * used twice. One of two nodes has little room, so that it moves what is kept out of files that go, and is killed over that, too.
 */
import { readdirSync, statSync } from "node:fs";
import { join as path } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { createHistory, type History, type Position } from "./support/history.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { open, seen, type TestSession } from "./support/session.ts";

/** Of each node. Both at once, since it is starting them that takes the time. `npm run test:long` has 25. */
const kills = Number(process.env["TEST_KILLS"] ?? 4);
const publishers = 4;
/** Publishes that each of them has outstanding. */
const lanes = 4;
const room = "chat:load";
/** Rooms of which little is kept, and what makes the files fill up. */
const bulky = ["bulk:a", "bulk:b", "bulk:c", "bulk:d"];
const bulkBytes = 32 * 1024;
const bulkKept = 20;
const littleRoom = 16 * 2 ** 20;
/** Into each of them before each kill, so that they get twice what there is room for. */
const bulkEach = Math.ceil((2 * littleRoom) / (bulky.length * bulkBytes * kills));
const namespaces = JSON.stringify({ chat: { historySize: 10_000_000, historyBytesMax: "1GiB" }, bulk: { durable: true, historySize: bulkKept, publish: "anyone" } });

// A start takes a second, or several where other tests run beside it.
t.setTimeout(1_200_000);

/** A publisher's lane: publishes one after the other, and what was not answered again under the same key. */
class Lane {
  readonly room: string;
  readonly #name: string;
  readonly #history: History;
  readonly #bytes: number;
  #count = 0;
  #unanswered: string | null = null;
  /** By seq, what was acknowledged. */
  readonly acknowledged = new Map<number, string>();
  repeated = 0;
  duplicates = 0;

  constructor(name: string, room: string, history: History, bytes = 0) {
    this.room = room;
    this.#name = name;
    this.#history = history;
    this.#bytes = bytes;
  }

  /** Until the session's socket is gone, or `done` says so. */
  async run(session: TestSession, done: () => boolean): Promise<void> {
    const { room } = this;
    while (this.#unanswered !== null || !done()) {
      if (this.#unanswered === null) {
        this.#unanswered = `${this.#name}-${this.#count++}`;
        this.#history.attempted(room, this.#unanswered);
      } else {
        this.repeated++;
      }
      const id = this.#unanswered;
      const reply = await session.request({ publish: { room, payload: Buffer.from(id.padEnd(this.#bytes)), format: 0, key: id } }).catch(() => null);
      if (reply === null) return;
      if (reply.error?.code === "overloaded") {
        // There is no room until a file has been cleaned.
        await sleep(2);
        continue;
      }
      if (reply.published == null) throw new Error(`${id} was refused: ${reply.error?.code}`);
      const position = seen(reply.published.position);
      this.#history.acknowledged(room, id, position);
      this.acknowledged.set(position.seq, id);
      this.#unanswered = null;
      if (reply.published.duplicate) this.duplicates++;
    }
  }
}

/** What is kept of a room of which not everything is: the newest without a hole, and nothing else at the place of what was acknowledged. */
async function checkKept(session: TestSession, { room, acknowledged }: Lane): Promise<string[]> {
  const kept = new Map<number, string>();
  let before: Position | undefined;
  await session.join(room);
  for (let more = true; more; ) {
    const { history } = await session.request({ history: { room, limit: bulkKept, ...(before && { before }) } });
    const publications = history?.publications ?? [];
    for (const { seq, payload } of publications) kept.set(Number(seq), Buffer.from(payload ?? []).toString().trimEnd());
    more = publications.length > 0 && (history?.more ?? false);
    if (more) before = { epoch: String(history?.position?.epoch), seq: Number(publications[0]!.seq) };
  }
  await session.request({ leave: { room } });
  const [first, last] = [Math.min(...kept.keys()), Math.max(...kept.keys())];
  const newest = Math.max(0, ...acknowledged.keys());
  const wrong = [...acknowledged].filter(([seq, id]) => seq >= first && kept.get(seq) !== id);
  return [
    ...wrong.map(([seq, id]) => `${room} has ${kept.get(seq)} at ${seq}, where ${id} was acknowledged`),
    ...(kept.size > 0 && last - first + 1 !== kept.size ? [`${room} has ${kept.size} from ${first} to ${last}`] : []),
    ...(kept.size < Math.min(bulkKept, acknowledged.size) ? [`${room} has ${kept.size} of ${acknowledged.size} acknowledged`] : []),
    ...(acknowledged.size > 0 && last < newest ? [`${room} ends at ${last}, ${newest} was acknowledged`] : []),
  ];
}

/** Joins as a member whose deliveries are written down; with a position it recovers from there. */
async function join(node: NodeProcess, history: History, member: string, from: Position | null): Promise<{ session: TestSession; at(): Position }> {
  const session = await open(node, { keep: false });
  let at: Position = from ?? { epoch: "", seq: 0 };
  session.onEvent(({ joined, sync }) => {
    if (sync != null) throw new Error(`${member} was told of a gap`);
    if (joined == null) return;
    if (from === null) history.joined(room, member, (at = seen(joined.position)));
    else {
      const [first] = joined.publications ?? [];
      const begin = first ? { epoch: first.epoch ?? "", seq: first.prev ?? 0 } : seen(joined.position);
      history.rejoined(room, member, from, { recovered: joined.recovered ?? false, position: begin });
    }
  });
  session.onPublication(({ payload, epoch, seq, prev }) => {
    at = { epoch, seq };
    history.delivered(room, member, payload.toString(), at, prev);
  });
  await session.join(room, from === null ? {} : { recover: from });
  return { session, at: () => at };
}

t.jobs = 2;
t.test(`after kill -9 ${kills} times under load nothing acknowledged is lost, doubled or out of order`, (t) => killed(t, []));
t.test(`nor where files are cleaned all the while, and of what is not kept whole the newest is there`, (t) => killed(t, bulky));

/** @param bulk rooms that fill a node of little room; none: it has plenty */
async function killed(t: Test, bulk: readonly string[]): Promise<void> {
  const dataDir = t.testdir();
  const history = createHistory(`${kills} kills`);
  const writing = Array.from({ length: publishers * lanes }, (_, i) => new Lane(`lane${i}`, room, history));
  const filling = bulk.map((room) => new Lane(room, room, history, bulkBytes));
  const sum = (of: (lane: Lane) => number, lanes = writing) => lanes.reduce((total, lane) => total + of(lane), 0);
  const acknowledged = (lanes?: Lane[]) => sum((lane) => lane.acknowledged.size, lanes);
  let node: NodeProcess | null = null;
  t.teardown(() => node?.kill());
  const flags = [
    "--reactors", "1", "--data-dir", dataDir, "--namespaces", namespaces, "--commands-per-second", "0", "--bytes-per-second", "0",
    ...(bulk.length > 0 ? ["--data-bytes-max", String(littleRoom)] : []),
  ];
  const start = async () => (node = await startNodeProcess([...flags, ...(node === null ? [] : ["--port", String(node.port)])]));

  let readAt: Position | null = null;
  let first: Position | null = null;
  const problems: string[] = [];
  for (let kill = 0; kill <= kills; kill++) {
    const running = await start();
    const reader = await join(running, history, "reader", readAt);
    first ??= reader.at();
    const connect = async () => {
      const session = await open(running, { keep: false });
      await session.join(room);
      return session;
    };
    const sessions = await Promise.all(Array.from({ length: publishers }, connect));
    for (const lane of filling) problems.push(...(await checkKept(sessions[0]!, lane)));
    const last = kill === kills;
    const enough = acknowledged() + 60 + Math.floor(Math.random() * 200);
    const bulkEnough = acknowledged(filling) + filling.length * bulkEach;
    const isEnough = () => acknowledged() >= enough && acknowledged(filling) >= bulkEnough;
    const run = (lane: Lane, i: number) => lane.run(sessions[i % publishers]!, () => last && isEnough());
    const lanesDone = Promise.all([...writing.map(run), ...filling.map(run)]);
    while (!isEnough() && running.ended === undefined) await sleep(1);
    if (!last) await running.kill();
    await lanesDone;
    if (last) {
      for (const lane of filling) problems.push(...(await checkKept(sessions[0]!, lane)));
      // Every publication, as the disk has it.
      const auditor = await join(running, history, "auditor", first);
      t.ok(auditor.at().seq >= acknowledged(), `${auditor.at().seq} on disk, ${acknowledged()} acknowledged`);
      await reader.session.waitFor(() => reader.at().seq === auditor.at().seq, "the reader to have everything");
    }
    readAt = reader.at();
  }

  const verdict = history.judge();
  const repeated = sum((lane) => lane.repeated);
  t.equal(verdict.faults, 0, verdict.report);
  t.same(problems, []);
  t.ok(acknowledged() >= kills * 60, `${acknowledged()} acknowledged`);
  t.ok(repeated > kills, `${repeated} sent again`);
  t.comment(`${acknowledged()} acknowledged, ${repeated} sent again, of which ${sum((lane) => lane.duplicates)} had been stored`);
  const epochs = history.events.flatMap((event) => ("position" in event && event.room === room ? [event.position.epoch] : []));
  t.equal(new Set(epochs).size, 1, "one epoch throughout");
  if (bulk.length === 0) return;
  const written = acknowledged(filling) * bulkBytes;
  const there = readdirSync(dataDir, { recursive: true, encoding: "utf8" }).reduce((bytes, name) => bytes + statSync(path(dataDir, name)).size, 0);
  t.comment(`${(written / 2 ** 20).toFixed(0)} MiB written to rooms of which little is kept, ${(there / 2 ** 20).toFixed(1)} MiB there`);
  t.ok(written > 1.5 * littleRoom, "files had to go");
  t.ok(there <= littleRoom + 2 ** 20, "they went");
}
