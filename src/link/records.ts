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
  // hub → reactor
  reply: 16,
  joined: 17,
  page: 18,
  refused: 19,
  deliver: 20,
} as const;

/** Who asked for something and how to answer. */
export interface Asker {
  slot: number;
  life: number;
  /** Id of the command, 0 where no reply is wanted. */
  id: number;
  json: boolean;
}

// ------------------------------------------------------------------------------- reactor → hub

/** A session wants into a room; the hub answers joined or refused. */
export interface JoinRecord {
  member: number;
  id: number;
  json: boolean;
  room: string;
  /** Where to recover from, or null. */
  epoch: string | null;
  seq: number;
  /** Without recovery: how many of the newest publications to send. */
  history: number;
}

export function writeJoin(link: Link, r: JoinRecord): boolean {
  const bytes = 32 + textBytesMax(r.room) + textBytesMax(r.epoch ?? "");
  if (!link.begin(kinds.join, bytes, false)) return false;
  link.u32(r.member);
  link.u32(r.id);
  link.u8((r.json ? 1 : 0) | (r.epoch === null ? 0 : 2));
  link.f64(r.seq);
  link.u32(r.history);
  link.text(r.room);
  link.text(r.epoch ?? "");
  link.end();
  return true;
}

export function readJoin(r: RecordReader): JoinRecord {
  const member = r.u32();
  const id = r.u32();
  const flags = r.u8();
  const seq = r.f64();
  const history = r.u32();
  const room = r.text();
  const epoch = r.text();
  return { member, id, json: (flags & 1) !== 0, seq, history, room, epoch: (flags & 2) === 0 ? null : epoch };
}

/** A member that was joined is gone. */
export function writeLeave(link: Link, handle: number, json: boolean): void {
  link.begin(kinds.leave, 8, true);
  link.u32(handle);
  link.u8(json ? 1 : 0);
  link.end();
}

/** A publish command; `handle` is 0 where the reactor does not know the room's, `room` is then its name. */
export interface PublishRecord extends Asker {
  handle: number;
  room: string;
  sender: string;
  key: string;
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
  json: boolean,
  handle: number,
  room: string,
  sender: string,
  key: string,
  format: number,
  excludeSelf: boolean,
  payload: Uint8Array,
): boolean {
  const bytes = 32 + textBytesMax(room) + textBytesMax(sender) + textBytesMax(key) + payload.length;
  if (!link.begin(kinds.publish, bytes, false)) return false;
  link.u32(slot);
  link.u32(life);
  link.u32(id);
  link.u8((json ? 1 : 0) | (excludeSelf ? 2 : 0) | (format << 2));
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
  const flags = r.u8();
  into.json = (flags & 1) !== 0;
  into.excludeSelf = (flags & 2) !== 0;
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
  link.u8(r.json ? 1 : 0);
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
  const json = r.u8() !== 0;
  const direction = directions[r.u8()] ?? "newest";
  const seq = r.f64();
  const limit = r.u32();
  return { slot, life, id, json, direction, seq, limit, room: r.text(), epoch: r.text() };
}

/** The last page of a member's replay has left: send the next one. */
export function writeNext(link: Link, member: number): void {
  writeMember(link, kinds.next, member);
}

/** A member that was being replayed to is gone; a leave follows. */
export function writeAbandon(link: Link, member: number): void {
  writeMember(link, kinds.abandon, member);
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

/** The answer to join. `live`: nothing more is to be replayed, what the room gets from here on is for it too. */
export function writeJoined(link: Link, member: number, handle: number, live: boolean, frame: Uint8Array): void {
  link.begin(kinds.joined, 24 + frame.length, true);
  link.u32(member);
  link.u32(handle);
  link.u8(live ? 1 : 0);
  link.blob(frame);
  link.end();
}

/** One more page of a replay, as in joined. */
export function writePage(link: Link, member: number, live: boolean, frame: Uint8Array): void {
  link.begin(kinds.page, 16 + frame.length, true);
  link.u32(member);
  link.u8(live ? 1 : 0);
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
 * A frame for every member of a room that speaks this format, but the session `slot`, `life`.
 * @param at when the hub sent it, in milliseconds of `now()` of clock.ts
 */
export function writeDeliver(
  link: Link,
  handle: number,
  json: boolean,
  slot: number,
  life: number,
  at: number,
  frame: Uint8Array,
): void {
  link.begin(kinds.deliver, 32 + frame.length, true);
  link.u32(handle);
  link.u8(json ? 1 : 0);
  link.u32(slot);
  link.u32(life);
  link.f64(at);
  link.blob(frame);
  link.end();
}
