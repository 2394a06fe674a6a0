/** Readers that stop reading until their queue on the node overflows, whatever the kernel holds for them. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import type { Gateway } from "../../dist/index.js";
import { startNode } from "./node.ts";
import { sumOf } from "./nodeprocess.ts";
import { opcodes } from "./rawsocket.ts";
import { open, seen, type SeenPosition, type TestSession } from "./session.ts";

export const queueBytes = 65_536;
/** More than queue and kernel hold: Linux lets a loopback socket have up to 10 MB. */
const floodBytes = 24 * 1024 * 1024;
/** Two of these share a message of the node (in JSON as base64); each of those is one by itself, and too large to be noted by uWS. */
export const small = Buffer.alloc(7_000, 0x61);
export const smallInJson = Buffer.alloc(5_000, 0x61);
export const large = Buffer.alloc(40_000, 0x61);

const namespaces = {
  log: { durable: true, historySize: 100_000, historyBytesMax: 200_000_000, slowReaders: "catch-up" },
  short: { durable: true, historySize: 50, slowReaders: "catch-up" },
  cursor: { durable: false, slowReaders: "drop" },
  // Who comes and goes is told there.
  seen: { durable: true, slowReaders: "catch-up", presence: "members", presenceEvents: true },
  strict: { durable: true, slowReaders: "disconnect" },
} as const;

export const node = (t: Test, options: object = {}): Promise<Gateway> =>
  startNode(t, { reactors: 1, socketQueueBytesMax: queueBytes, commandsPerSecond: 0, bytesPerSecond: 0, heartbeatMs: 60_000, namespaces, ...options });

/** Publishes `count` times, some at once, and returns the last position. */
export async function publishMany(writer: TestSession, room: string, count: number, bytes = large): Promise<SeenPosition> {
  let last: SeenPosition = { epoch: "", seq: 0 };
  for (let i = 0; i < count; i += 50) {
    const batch = await Promise.all(Array.from({ length: Math.min(50, count - i) }, () => writer.publish(room, bytes)));
    last = batch.at(-1)!;
  }
  return last;
}

/** Publishes until the node has noticed that a reader is behind. */
export async function overflow(gateway: Gateway, writer: TestSession, room: string, metric = "flux_members_behind", bytes = large): Promise<SeenPosition> {
  for (let sent = 0; sent < floodBytes; sent += 50 * bytes.length) {
    const last = await publishMany(writer, room, 50, bytes);
    if (sumOf(await gateway.metrics(), metric) > 0) return last;
  }
  throw new Error("the queue of the reader did not overflow");
}

/** Publishes to one room after the other, each of which the reader falls behind in only once, until `isFull` says so. */
export async function overflowUntil(gateway: Gateway, writer: TestSession, rooms: readonly string[], isFull: () => Promise<boolean>): Promise<void> {
  for (const room of rooms) {
    // Counted, not how many are behind: while it falls behind in this room, it may catch up in another.
    const missed = async () => sumOf(await gateway.metrics(), "flux_slow_rooms_total");
    const before = await missed();
    for (let sent = 0; (await missed()) === before; sent += 10 * large.length) {
      if (sent > floodBytes) throw new Error(`the queue of the reader did not overflow in ${room}`);
      await publishMany(writer, room, 10);
    }
    if (await isFull()) return;
  }
  throw new Error(`the queue of the reader was never full, with ${rooms.length} rooms`);
}

export async function nobodyBehind(gateway: Gateway): Promise<void> {
  while (sumOf(await gateway.metrics(), "flux_members_behind") > 0) await sleep(10);
}

const looksMax = 300;

/** Reads what the node had queued for the session: until then a reply would find no room, and end it. */
export async function readOn(gateway: Gateway, slow: TestSession): Promise<void> {
  const queued = async () => sumOf(await gateway.metrics(), "flux_socket_queue_longest_bytes") > 0;
  // The node looks once a second. Where it finds nothing in three, the kernel has taken it all.
  for (let looks = 0; looks < looksMax && !(await queued()); looks++) await sleep(10);
  slow.raw.resume();
  while (await queued()) await sleep(10);
}

const fillerPings = 50;

/**
 * Sends pings until so many of their pongs found no room. The kernel may have made some since the queue overflowed, so
 * pongs fill it up first, with the largest payload that a ping may have.
 */
export async function pingUntilDropped(gateway: Gateway, slow: TestSession, payloads: readonly (Uint8Array | string)[]): Promise<void> {
  const dropped = async () => sumOf(await gateway.metrics(), "flux_dropped_batches_total");
  const enough = (await dropped()) + payloads.length + fillerPings;
  while ((await dropped()) < enough) {
    for (let i = 0; i < fillerPings; i++) await slow.raw.send({ opcode: opcodes.ping, payload: "x".repeat(125) });
    for (const payload of payloads) await slow.raw.send({ opcode: opcodes.ping, payload });
  }
}

/** What the session has of a room: seqs in the order in which they came, and where it was told of a gap. */
export function watch(session: TestSession, room: string): { seqs: number[]; syncs: number[] } {
  const watched = { seqs: [] as number[], syncs: [] as number[] };
  session.onPublication((publication) => {
    if (publication.room === room) watched.seqs.push(publication.seq);
  });
  session.onEvent(({ sync }) => {
    if (sync?.room === room) watched.syncs.push(seen(sync.position).seq);
  });
  return watched;
}

export const upTo = (last: number, first = 1): number[] => Array.from({ length: last - first + 1 }, (_, i) => first + i);

/** A reader that has stopped reading and fallen behind in `room`, among the others it has joined. */
export async function stalled(t: Test, rooms: readonly string[], options: object = {}, json = false) {
  const gateway = await node(t, options);
  const [slow, writer] = [await open(gateway, { json, keep: false }), await open(gateway, { keep: false })];
  const got = Object.fromEntries(rooms.map((room) => [room, watch(slow, room)]));
  for (const session of [slow, writer]) for (const room of rooms) await session.join(room);
  slow.raw.pause();
  return { gateway, slow, writer, got };
}
