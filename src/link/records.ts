/**
 * The records on the rings, one pair of functions a kind: what is written in which order is read in the same.
 *
 * `slot` and `life` name a session of a reactor: slots are used again, a life is not. `member` names a session
 * in a room while it is on its way in. `handle` is the hub's number for a room, never used again.
 */
import type { Link, RecordReader } from "./link.ts";
import { textBytesMax } from "./link.ts";

export const kinds = {
  // reactor → hub
  join: 1,
  leave: 2,
  publish: 3,
  history: 4,
  next: 5,
  abandon: 6,
  hello: 7,
  gone: 8,
  ack: 13,
  unplaced: 14,
  presence: 30,
  watch: 31,
  behind: 12,
  // hub → reactor
  reply: 16,
  joined: 17,
  page: 18,
  refused: 19,
  deliver: 20,
  admitted: 21,
  kick: 22,
  moved: 23,
  presenceChanged: 40,
  status: 41,
} as const;

/** Who asked for something and how to answer. */
export interface Asker {
  slot: number;
  life: number;
  /** Id of the command, 0 where no reply is wanted. */
  id: number;
  /** Index of its wire format (protocol/formats/formats.ts). */
  wire: number;
}

// ------------------------------------------------------------------------------- reactor → hub

/** A session wants into a room; the hub answers joined or refused. */
export interface JoinRecord {
  member: number;
  slot: number;
  life: number;
  id: number;
  wire: number;
  /** The room's key. */
  room: string;
  /** Where to recover from, or null. */
  epoch: string | null;
  seq: number;
  /** Without recovery: how many of the newest publications to send. */
  history: number;
  /** The node does it, for a session that was resumed. */
  restored: boolean;
}

export function writeJoin(link: Link, r: JoinRecord): boolean {
  const bytes = 40 + textBytesMax(r.room) + textBytesMax(r.epoch ?? "");
  // What the hub promised a resumed session is not refused: there are no more of these than rooms it was in.
  if (!link.begin(kinds.join, bytes, r.restored)) return false;
  link.u32(r.member);
  link.u32(r.slot);
  link.u32(r.life);
  link.u32(r.id);
  link.u8(r.wire);
  link.u8((r.epoch === null ? 0 : 1) | (r.restored ? 2 : 0));
  link.f64(r.seq);
  link.u32(r.history);
  link.text(r.room);
  link.text(r.epoch ?? "");
  link.end();
  return true;
}

export function readJoin(r: RecordReader): JoinRecord {
  const member = r.u32();
  const slot = r.u32();
  const life = r.u32();
  const id = r.u32();
  const wire = r.u8();
  const flags = r.u8();
  const seq = r.f64();
  const history = r.u32();
  const room = r.text();
  const epoch = r.text();
  const restored = (flags & 2) !== 0;
  return { member, slot, life, id, wire, seq, history, room, epoch: (flags & 1) === 0 ? null : epoch, restored };
}

/** A member that was joined is gone. */
export interface LeaveRecord {
  slot: number;
  life: number;
  handle: number;
  wire: number;
  /** Its socket is lost: the session may come back and is then in the room again. */
  lost: boolean;
}

export function writeLeave(link: Link, r: LeaveRecord): void {
  link.begin(kinds.leave, 16, true);
  link.u32(r.slot);
  link.u32(r.life);
  link.u32(r.handle);
  link.u8(r.wire);
  link.u8(r.lost ? 1 : 0);
  link.end();
}

export function readLeave(r: RecordReader): LeaveRecord {
  const slot = r.u32();
  const life = r.u32();
  const handle = r.u32();
  const wire = r.u8();
  return { slot, life, handle, wire, lost: r.u8() !== 0 };
}

/** A publish command; `handle` is 0 where the reactor does not know the room's, `room` is then its key. */
export interface PublishRecord extends Asker {
  handle: number;
  room: string;
  /** A direct message: the room is somebody's inbox, and the answer is sent. */
  direct: boolean;
  sender: string;
  key: string;
  /** Of the payload. */
  format: number;
  excludeSelf: boolean;
  payload: Uint8Array;
}

/** Fields one by one: this is the data path, and an object a publish would be garbage. */
export function writePublish(
  link: Link,
  slot: number,
  life: number,
  id: number,
  wire: number,
  handle: number,
  room: string,
  sender: string,
  key: string,
  format: number,
  excludeSelf: boolean,
  direct: boolean,
  payload: Uint8Array,
): boolean {
  const bytes = 32 + textBytesMax(room) + textBytesMax(sender) + textBytesMax(key) + payload.length;
  if (!link.begin(kinds.publish, bytes, false)) return false;
  link.u32(slot);
  link.u32(life);
  link.u32(id);
  link.u8(wire);
  link.u8((excludeSelf ? 1 : 0) | (direct ? 2 : 0) | (format << 2));
  link.u32(handle);
  link.text(room);
  link.text(sender);
  link.text(key);
  link.blob(payload);
  link.end();
  return true;
}

/** Reads into `into`, which is used again for every publish. */
export function readPublish(r: RecordReader, into: PublishRecord): PublishRecord {
  into.slot = r.u32();
  into.life = r.u32();
  into.id = r.u32();
  into.wire = r.u8();
  const flags = r.u8();
  into.excludeSelf = (flags & 1) !== 0;
  into.direct = (flags & 2) !== 0;
  into.format = flags >> 2;
  into.handle = r.u32();
  into.room = r.text();
  into.sender = r.text();
  into.key = r.text();
  into.payload = r.blob();
  return into;
}

/** A history command. */
export interface HistoryRecord extends Asker {
  room: string;
  direction: "since" | "before" | "newest";
  epoch: string;
  seq: number;
  limit: number;
}

const directions = ["since", "before", "newest"] as const;

export function writeHistory(link: Link, r: HistoryRecord): boolean {
  if (!link.begin(kinds.history, 40 + textBytesMax(r.room) + textBytesMax(r.epoch), false)) return false;
  link.u32(r.slot);
  link.u32(r.life);
  link.u32(r.id);
  link.u8(r.wire);
  link.u8(directions.indexOf(r.direction));
  link.f64(r.seq);
  link.u32(r.limit);
  link.text(r.room);
  link.text(r.epoch);
  link.end();
  return true;
}

export function readHistory(r: RecordReader): HistoryRecord {
  const slot = r.u32();
  const life = r.u32();
  const id = r.u32();
  const wire = r.u8();
  const direction = directions[r.u8()] ?? "newest";
  const seq = r.f64();
  const limit = r.u32();
  return { slot, life, id, wire, direction, seq, limit, room: r.text(), epoch: r.text() };
}

/** The last page of a member's replay has left: send the next one. */
export function writeNext(link: Link, member: number): void {
  writeMember(link, kinds.next, member);
}

/** A member that was being replayed to is gone; a leave follows. */
export function writeAbandon(link: Link, member: number): void {
  writeMember(link, kinds.abandon, member);
}

/** A member whose socket is full has everything up to `seq`, and gets nothing until it asks for the next page. */
export interface BehindRecord {
  member: number;
  handle: number;
  seq: number;
  /** Era of the room's stream in which it has that: in a later one the position means nothing. */
  era: number;
  wire: number;
  /** It is not given what it missed, but told of it. */
  skip: boolean;
}

export function writeBehind(link: Link, r: BehindRecord): void {
  link.begin(kinds.behind, 24, true);
  link.u32(r.member);
  link.u32(r.handle);
  link.f64(r.seq);
  link.u32(r.era);
  link.u8(r.wire);
  link.u8(r.skip ? 1 : 0);
  link.end();
}

export function readBehind(r: RecordReader): BehindRecord {
  const member = r.u32();
  const handle = r.u32();
  const seq = r.f64();
  const era = r.u32();
  const wire = r.u8();
  return { member, handle, seq, era, wire, skip: r.u8() !== 0 };
}

function writeMember(link: Link, kind: number, member: number): void {
  link.begin(kind, 4, true);
  link.u32(member);
  link.end();
}

// ------------------------------------------------------------------------------- hub → reactor

/** A frame for one session. */
export function writeReply(link: Link, slot: number, life: number, frame: Uint8Array): void {
  link.begin(kinds.reply, 16 + frame.length, true);
  link.u32(slot);
  link.u32(life);
  link.blob(frame);
  link.end();
}

/**
 * The answer to join. `live`: nothing more is to be replayed, what the room gets from here on is for it too.
 * With this frame the member has everything up to `seq` of the stream's `era`.
 */
export function writeJoined(link: Link, member: number, handle: number, live: boolean, seq: number, era: number, frame: Uint8Array): void {
  link.begin(kinds.joined, 32 + frame.length, true);
  link.u32(member);
  link.u32(handle);
  link.u8(live ? 1 : 0);
  link.f64(seq);
  link.u32(era);
  link.blob(frame);
  link.end();
}

/** One more page of a replay, as in joined. */
export function writePage(link: Link, member: number, live: boolean, seq: number, era: number, frame: Uint8Array): void {
  link.begin(kinds.page, 24 + frame.length, true);
  link.u32(member);
  link.u8(live ? 1 : 0);
  link.f64(seq);
  link.u32(era);
  link.blob(frame);
  link.end();
}

/** A join was refused. */
export function writeRefused(link: Link, member: number, frame: Uint8Array): void {
  link.begin(kinds.refused, 8 + frame.length, true);
  link.u32(member);
  link.blob(frame);
  link.end();
}

/** Slot that no session has: nobody is excluded. */
export const nobody = 0xffffffff;

/**
 * The publication `seq`, which came after `prev`, as a frame for every member of a room that speaks this format, but
 * the session `slot`, `life`.
 * @param at when the hub sent it, in milliseconds of `now()` of clock.ts
 */
export function writeDeliver(
  link: Link,
  handle: number,
  wire: number,
  slot: number,
  life: number,
  at: number,
  seq: number,
  prev: number,
  frame: Uint8Array,
): void {
  link.begin(kinds.deliver, 48 + frame.length, true);
  link.u32(handle);
  link.u8(wire);
  link.u32(slot);
  link.u32(life);
  link.f64(at);
  link.f64(seq);
  link.f64(prev);
  link.blob(frame);
  link.end();
}

/** Where the members of a room are, and where they will be with the frame that is sent to them. */
export interface Move {
  /** They have everything up to here of the stream's era. */
  readonly prev: number;
  readonly eraBefore: number;
  /** In which they are from here on. */
  readonly era: number;
}

/** A frame that tells every member of a room that speaks this format that its position is another one now, with a gap before it. */
export function writeMoved(link: Link, handle: number, wire: number, { prev, eraBefore, era }: Move, frame: Uint8Array): void {
  link.begin(kinds.moved, 32 + frame.length, true);
  link.u32(handle);
  link.u8(wire);
  link.f64(prev);
  link.u32(eraBefore);
  link.u32(era);
  link.blob(frame);
  link.end();
}
