/**
 * The records on the rings, one pair of functions a kind: fields are read in the order they are written.
 *
 * `slot` and `life` name a session of a reactor: slots are reused, and `life` tells the sessions of a slot apart.
 * `member` names a session in a room while it is on its way in. `handle` is the hub's number for a room, never used
 * again.
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
  ask: 15,
  // api.ts, in both directions
  apiRequest: 50,
  apiBody: 51,
  apiSent: 52,
  apiGone: 53,
  apiHead: 60,
  apiPiece: 61,
  apiMore: 62,
  apiDrop: 63,
  // hub → reactor
  reply: 16,
  joined: 17,
  page: 18,
  refused: 19,
  deliver: 20,
  admitted: 21,
  kick: 22,
  moved: 23,
  assign: 24,
  unassign: 25,
  verdict: 26,
  claim: 27,
  presenceChanged: 40,
  status: 41,
} as const;

/** The session that sent a command, and how to answer it. */
export interface Asker {
  slot: number;
  life: number;
  /** Id of the command, 0 where no reply is wanted. */
  id: number;
  /** Index of its wire format (protocol/formats/formats.ts). */
  wire: number;
}

// ------------------------------------------------------------------------------- reactor → hub

/** A session joins a room. The hub answers joined or refused. */
export interface JoinRecord {
  member: number;
  slot: number;
  life: number;
  id: number;
  wire: number;
  /** The room's key. */
  room: string;
  /** The position to recover from, or null. */
  epoch: string | null;
  seq: number;
  /** Without recovery: how many of the newest publications to send. */
  history: number;
  /** The node itself joins: the session was resumed, or the application joins it. */
  restored: boolean;
  /** The application has joined the user into the room. */
  assigned: boolean;
  /** It follows its session's hello, which may not be answered yet. */
  ahead: boolean;
}

export function writeJoin(link: Link, r: JoinRecord): boolean {
  const bytes = 40 + textBytesMax(r.room) + textBytesMax(r.epoch ?? "");
  // The hub has promised the session its rooms, so this is not refused. The session's rooms bound the number.
  if (!link.begin(kinds.join, bytes, r.restored)) return false;
  link.u32(r.member);
  link.u32(r.slot);
  link.u32(r.life);
  link.u32(r.id);
  link.u8(r.wire);
  link.u8((r.epoch === null ? 0 : 1) | (r.restored ? 2 : 0) | (r.assigned ? 4 : 0) | (r.ahead ? 8 : 0));
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
  const assigned = (flags & 4) !== 0;
  const ahead = (flags & 8) !== 0;
  return { member, slot, life, id, wire, seq, history, room, epoch: (flags & 1) === 0 ? null : epoch, restored, assigned, ahead };
}

/** A joined member has left. */
export interface LeaveRecord {
  slot: number;
  life: number;
  handle: number;
  wire: number;
  /** The socket is lost: the session may be resumed and is then in the room again. */
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

/** A history command. */
export interface HistoryRecord extends Asker {
  room: string;
  direction: "since" | "before" | "newest";
  epoch: string;
  seq: number;
  limit: number;
  /** With `since`: begins with the oldest kept, where the position is not covered. */
  orOldest: boolean;
}

const directions = ["since", "before", "newest"] as const;

export function writeHistory(link: Link, r: HistoryRecord): boolean {
  if (!link.begin(kinds.history, 40 + textBytesMax(r.room) + textBytesMax(r.epoch), false)) return false;
  link.u32(r.slot);
  link.u32(r.life);
  link.u32(r.id);
  link.u8(r.wire);
  link.u8(directions.indexOf(r.direction) | (r.orOldest ? 4 : 0));
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
  const flags = r.u8();
  const direction = directions[flags & 3] ?? "newest";
  const seq = r.f64();
  const limit = r.u32();
  return { slot, life, id, wire, direction, seq, limit, orOldest: (flags & 4) !== 0, room: r.text(), epoch: r.text() };
}

/** The last page of a member's replay has left: send the next one. */
export function writeNext(link: Link, member: number): void {
  writeMember(link, kinds.next, member);
}

/** A member with a replay under way is gone; a leave follows. */
export function writeAbandon(link: Link, member: number): void {
  writeMember(link, kinds.abandon, member);
}

/** A member whose socket is full has everything up to `seq`. It gets nothing until it asks for the next page. */
export interface BehindRecord {
  member: number;
  handle: number;
  seq: number;
  /** The era of the room's stream that `seq` belongs to. In a later era the position means nothing. */
  era: number;
  wire: number;
  /** The member learns what it missed, but does not get it. */
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

/**
 * A frame for one session.
 * @param isOwed false: it answers a command that the reactor does not count as unanswered, a refused ack with an id
 */
export function writeReply(link: Link, slot: number, life: number, frame: Uint8Array, isOwed = true): void {
  link.begin(kinds.reply, 17 + frame.length, true);
  link.u32(slot);
  link.u32(life);
  link.u8(isOwed ? 1 : 0);
  link.blob(frame);
  link.end();
}

/**
 * The answer to join. `live`: no page follows, and later deliveries to the room are for this member too. With this
 * frame the member has everything up to `seq` of the stream's `era`.
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

/** From here on, the inboxes of a partition are delivered under this claim (placement/leases/gate.ts). */
export function writeClaim(link: Link, partition: number, claim: number): void {
  link.begin(kinds.claim, 8, true);
  link.u32(partition);
  link.u32(claim);
  link.end();
}

/** The position of a room's members before and after a frame that moves it. */
export interface Move {
  /** The members have everything up to here, in `eraBefore`. */
  readonly prev: number;
  readonly eraBefore: number;
  /** Their era from here on. */
  readonly era: number;
}

/** A frame that tells every member of a room in this format its new position, with a gap before it. */
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
