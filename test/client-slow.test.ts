/** Clients of the SDK whose socket stalls, against a real node: what it says afterwards without being asked. */
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { WebSocket } from "ws";
import type { Gateway } from "../dist/index.js";
import type { Position } from "../src/client/index.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { isReady, numbers, startClient } from "./support/sdk.ts";
import { nobodyBehind, upTo } from "./support/slow.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const secret = "a secret of at least thirty-two bytes, for tests";
const filler = new Uint8Array(50_000);
/** More than the node's queue and both kernels' hold. */
const floodMax = 600;

const shown = { presence: "members", presenceEvents: true } as const;
const namespaces = {
  log: { ...shown, durable: true, historySize: 100_000, historyBytesMax: 200_000_000, slowReaders: "catch-up" },
  cursor: { ...shown, durable: false, slowReaders: "drop" },
} as const;

/** What a room or the inbox told, in order: seqs, or pairs of what a gap lies between. */
type Told = number | readonly [number, number];
type Source = { on(name: "gap", listener: (gap: { from: Position; to: Position }) => void): unknown };

/** A client whose socket can be made to read nothing, and one that writes. */
async function scene(t: Parameters<typeof startClient>[0]) {
  const node = await startNode(t, {
    authSecret: secret, reactors: 1, socketQueueBytesMax: 65_536, namespaces, tailPublicationsMax: 5,
    commandsPerSecond: 0, bytesPerSecond: 0, heartbeatMs: 60_000, inboxSize: 100_000, inboxBytesMax: 200_000_000,
  });
  const sockets: WebSocket[] = [];
  class Stallable extends WebSocket {
    constructor(url: string, protocols?: string | string[]) {
      super(url, protocols);
      sockets.push(this);
    }
  }
  const as = async (sub: string, options = {}) => startClient(t, node.url, { token: await token({ sub }, secret), ...options });
  const [slow, writer] = [await as("slow", { WebSocket: Stallable, heldPublicationsMax: 10_000 }), await as("writer")];
  await Promise.all([slow, writer].map(isReady));
  return { node, as, slow, writer, socket: () => sockets.at(-1)! };
}

function endOf(told: Told[]): number {
  const end = told.at(-1) ?? 0;
  return typeof end === "number" ? end : end[1];
}

function noteGaps(told: Told[], source: Source): void {
  source.on("gap", ({ from, to }) => told.push([from.seq, to.seq]));
}

/** Writes until the node has noticed that somebody is behind, and some more. */
async function flood(node: Gateway, write: () => Promise<Position>): Promise<number> {
  for (let written = 0; written < floodMax; written += 20) {
    const isBehind = sumOf(await node.metrics(), "flux_members_behind") > 0;
    const all = await Promise.all(numbers(1, 20).map(write));
    if (isBehind) return Math.max(...all.map(({ seq }) => seq));
  }
  throw new Error("nobody fell behind");
}

/** Joins, stalls, lets somebody in whom the slow one cannot see come, and reads on. */
async function stallIn(t: Parameters<typeof startClient>[0], name: string) {
  const { node, as, slow, writer, socket } = await scene(t);
  const told: Told[] = [];
  const [room, written] = [slow.join(name, { onPublication: ({ position }) => told.push(position.seq) }), writer.join(name)];
  noteGaps(told, room);
  await Promise.all([room.joined, written.joined]);
  const members = room.members();
  await until(() => members.has("writer"), "the list");
  socket().pause();
  const last = await flood(node, () => written.publish(filler));
  await (await as("late")).join(name).joined;
  await sleep(100); // changes are told together, a moment later
  socket().resume();
  await nobodyBehind(node);
  // Before anything live comes, which would show that something is missing.
  await until(() => endOf(told) === last, "what was missed");
  await until(() => members.has("late"), "who came meanwhile");
  for (const data of numbers(1, 3)) await written.publish(data);
  await until(() => told.at(-1) === last + 3, "what is live again");
  return { told, last };
}

t.test("in a room that catches up, a client that stalls is given everything, once and in order", async (t) => {
  const { told, last } = await stallIn(t, "log:a");
  t.same(told, upTo(last + 3));
});

t.test("in a room that drops, a client that stalls is told the gap and is live behind it", async (t) => {
  const { told, last } = await stallIn(t, "cursor:a");
  const gaps = told.filter((one) => typeof one !== "number");
  t.ok(gaps.length > 0, "there is a gap");
  let at = 0;
  for (const one of told) {
    const [from, to] = typeof one === "number" ? [one - 1, one] : one;
    if (from !== at) t.fail(`${JSON.stringify(one)} comes behind ${at}`);
    at = to;
  }
  t.equal(at, last + 3);
});

t.test("an inbox whose client stalls gives every message, once and in order", async (t) => {
  const { node, slow, writer, socket } = await scene(t);
  const told: Told[] = [];
  noteGaps(told, slow.inbox);
  slow.onMessage(({ position }) => void told.push(position.seq));
  await writer.send("slow", "first");
  await until(() => told.length === 1, "the first");
  socket().pause();
  const last = await flood(node, () => writer.send("slow", filler));
  socket().resume();
  await nobodyBehind(node);
  await until(() => endOf(told) === last, "what was missed");
  await writer.send("slow", "last");
  await until(() => told.at(-1) === last + 1, "the last");
  t.same(told, upTo(last + 1));
});
