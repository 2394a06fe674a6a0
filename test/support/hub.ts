/** A hub without a node around it: its reactors are links that read when the test says so. */
import { resolveConfig } from "../../src/config/config.ts";
import { createMemoryBroker } from "../../src/broker/memory.ts";
import type { Broker, Origin } from "../../src/broker/broker.ts";
import { Hub } from "../../src/hub/hub.ts";
import { HubRooms, type AttachedReactor } from "../../src/hub/rooms.ts";
import { TailBudget } from "../../src/hub/recovery/tail.ts";
import { Link, type RecordReader } from "../../src/link/link.ts";
import { excludes } from "../../src/link/publications.ts";
import * as records from "../../src/link/records.ts";
import { createRing } from "../../src/link/ring.ts";
import { createLogger } from "../../src/platform/log/log.ts";
import { createMemoryPresence } from "../../src/presence/memory.ts";
import { decodeServerFrame } from "../../src/protocol/codec.ts";
import { Encoder } from "../../src/protocol/formats/encoder.ts";
import { Format, type ServerFrame } from "../../src/protocol/messages.ts";
import { compileKinds } from "../../src/config/roomnames.ts";
import { createMemorySessions } from "../../src/sessions/memory.ts";
import type { Sessions } from "../../src/sessions/sessions.ts";

/** A record to a reactor. Of a JSON frame only the text's meaning is there. */
export interface Seen {
  readonly kind: number;
  readonly member: number;
  readonly live: boolean;
  readonly seq: number;
  readonly era: number;
  /** Slot and life of the session that is left out, "" for nobody. */
  readonly excluded: string;
  /** Of a reply: the reactor counts it among the answers that the session waits for. */
  readonly isOwed: boolean;
  readonly frame: ServerFrame;
}

const { kinds } = records;
const ringBytes = 16_384;

function read(kind: number, record: RecordReader): Seen {
  const seen = { kind, member: 0, live: false, seq: -1, era: 0, excluded: "", isOwed: false };
  if (kind === kinds.admitted || kind === kinds.kick) return { ...seen, frame: {} };
  let json = false;
  if (kind === kinds.reply) [, , seen.isOwed] = [record.u32(), record.u32(), record.u8() !== 0];
  if (kind === kinds.joined || kind === kinds.page || kind === kinds.refused) seen.member = record.u32();
  if (kind === kinds.joined) record.u32();
  if (kind === kinds.joined || kind === kinds.page) [seen.live, seen.seq, seen.era] = [record.u8() !== 0, record.f64(), record.u32()];
  if (kind === kinds.deliver || kind === kinds.moved) {
    const [, flags] = [record.u32(), record.u8()];
    json = (flags & ~excludes) !== 0;
    if ((flags & excludes) !== 0) seen.excluded = `${record.u32()} ${record.u32()}`;
  }
  if (kind === kinds.deliver) [, seen.seq] = [record.f64(), record.whole(), record.whole()];
  if (kind === kinds.moved) [, , seen.era] = [record.f64(), record.u32(), record.u32()];
  const frame = record.blob();
  // Frames to one session come in its own format: JSON begins with a brace, binary with a length.
  // A page that the hub could not read.
  if (frame.length === 0) return { ...seen, frame: {} };
  return { ...seen, frame: json || frame[0] === 0x7b ? (JSON.parse(frame.toString()) as ServerFrame) : decodeServerFrame(frame, 4, frame.length) };
}

export interface HubOptions {
  readonly reactors?: number;
  readonly overflowBytesMax?: number;
  /** Replaces what the memory broker does. */
  readonly broker?: (memory: Broker) => Partial<Broker>;
  /** Replaces what the memory store does. */
  readonly store?: (memory: Sessions) => Partial<Sessions>;
  readonly namespaces?: object;
  readonly tailPublicationsMax?: number;
}

export function startHub({ reactors: count = 1, overflowBytesMax = 8_000, broker: change, store: changeStore, namespaces, tailPublicationsMax = 10 }: HubOptions = {}) {
  const { config } = resolveConfig({ options: { logLevel: "silent", ...(namespaces && { namespaces }) } as never });
  const tailLimits = { publicationsMax: tailPublicationsMax, bytesMax: 65_536 };
  const rooms = new HubRooms({ roomsMax: 1_000, reactors: count, tailLimits, tailBudget: new TailBudget(1 << 20) });
  const memory = createMemoryBroker({ roomsMax: 1_000, historyTotalBytesMax: 1 << 22, keyWindowMs: 1_000, keysPerRoomMax: 10 },
    (room, publication) => hub.deliver(room, publication));
  const broker = { ...memory, ...change?.(memory) };
  const inMemory = createMemorySessions({ ttlMs: 1_000, sessionsMax: 10, cursorsMax: 10 });
  const store = { ...inMemory, ...changeStore?.(inMemory) };
  const presence = createMemoryPresence(
    { graceMs: 0, intervalMs: 10, namedUsersMax: 10, namedChangesMax: 10, lastSeenTtlMs: 0, lastSeenMax: 1 },
    { roomChanged: () => {}, statusChanged: () => {} },
  );
  const kindOf = compileKinds(config);
  const hub: Hub = new Hub({
    broker, store, presence, watchedPerSessionMax: 10, rooms, node: "n", toNode: () => {}, sendsPerMinute: 0, newInboxesPerHour: 0, roomNamesBytesMax: 1000, isRoomName: () => true,
    sessionsPerUserMax: 10, keepMs: 10_000, kindOf, pageBytesMax: 1024, encoder: new Encoder(4_096), log: createLogger(config),
  });
  /** Starts one, in the place of one that ended. */
  const startReactor = (index: number) => {
    const [toHub, fromHub] = [createRing(ringBytes), createRing(ringBytes)];
    const common = { overflowBytesMax, readBudgetBytes: 1 << 20, ringDoorbell: () => {}, onBatchEnd: () => {} };
    const seen: Seen[] = [];
    const reader = new Link({ ...common, out: toHub, in: fromHub, onRecord: (kind, record) => void seen.push(read(kind, record)) });
    const link: Link = new Link({
      ...common, out: fromHub, in: toHub, onRoom: () => hub.onRoom(reactor), onRecord: (kind, record) => hub.onRecord(reactor, kind, record),
    });
    const reactor: AttachedReactor = { index, link, live: true };
    hub.attach(reactor);
    const join = (member: number, room: string, more: Partial<records.JoinRecord> = {}) =>
      records.writeJoin(reader, { member, slot: 0, life: 1, id: member, wire: 0, room, epoch: null, seq: 0, history: 0, restored: false, assigned: false, ahead: false, ...more });
    /** The reactor reads, the hub goes on, until neither has anything left. */
    const drain = () => {
      for (let i = 0; i < 100; i++) (reader.wake(), link.wake());
    };
    const publications = () => seen.filter(({ kind }) => kind === kinds.deliver).map(({ seq }) => seq);
    const excluded = () => seen.filter(({ kind }) => kind === kinds.deliver).map((one) => one.excluded);
    return { reactor, link, reader, seen, join, drain, publications, excluded };
  };
  /** As another node publishes: nobody here is asked whether there is room. */
  const publishElsewhere = (room: string, bytes = 500, origin: Origin = "") => {
    const draft = { sender: "ann", key: "", format: Format.BINARY, payload: new Uint8Array(bytes), origin, asksFirst: false };
    memory.publish(room, kindOf(room)!.retention, draft, () => {});
  };
  const stop = () => (hub.close(), memory.stop());
  return { hub, broker, memory, rooms, reactors: Array.from({ length: count }, (_, index) => startReactor(index)), startReactor, publishElsewhere, stop };
}
