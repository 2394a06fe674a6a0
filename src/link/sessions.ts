/** The records of sessions; records.ts has the others. */
import type { CloseName } from "../errors.ts";
import type { Link, RecordReader } from "./link.ts";
import { textBytesMax } from "./link.ts";
import { kinds, type Asker } from "./records.ts";

// ------------------------------------------------------------------------------- reactor → hub

/** A client has said hello, and its token is verified. The hub answers admitted or kick. */
export interface HelloRecord {
  slot: number;
  life: number;
  wire: number;
  /** Key of the user (roomkeys.ts). */
  user: string;
  device: string;
  /** Of the token, or of the resume token where there is no other; milliseconds since 1970, 0 for unknown. */
  issuedAt: number;
  /** Whether it may begin a session where it cannot resume one. */
  mayBegin: boolean;
  /** The backend's verdict about it is that of its resume token, which holds for this session only, or until it ages. */
  decided: Decided;
  /** The session to resume, whose resume token was verified; "" for none. */
  resume: string;
  /** When that resume token was made, and the generation of the socket that it was given to. */
  resumeIssuedAt: number;
  resumeGeneration: number;
  /** The client's own positions in its rooms. */
  positions: readonly PlaceInRoom[];
}

const decisions = ["now", "for the session", "for a time"] as const;
/** now: the backend was asked just now, or there is no hook. */
export type Decided = (typeof decisions)[number];

/** A room by the name its members know, and a position in it. */
export interface PlaceInRoom {
  readonly name: string;
  readonly epoch: string;
  readonly seq: number;
}

export function writeHello(link: Link, r: HelloRecord): boolean {
  const texts = [r.user, r.device, r.resume];
  const bytes = 72 + texts.reduce((sum, text) => sum + textBytesMax(text), 0) + placesBytesMax(r.positions);
  if (!link.begin(kinds.hello, bytes, false)) return false;
  link.u32(r.slot);
  link.u32(r.life);
  link.u8(r.wire);
  link.u8(r.mayBegin ? 1 : 0);
  link.u8(decisions.indexOf(r.decided));
  link.f64(r.issuedAt);
  link.f64(r.resumeIssuedAt);
  link.f64(r.resumeGeneration);
  for (const text of texts) link.text(text);
  writePlaces(link, r.positions);
  // The joins that the client sent with hello follow in this turn.
  link.endInTurn();
  return true;
}

export function readHello(r: RecordReader): HelloRecord {
  const slot = r.u32();
  const life = r.u32();
  const wire = r.u8();
  const mayBegin = r.u8() !== 0;
  const decided = decisions[r.u8()] ?? "now";
  const issuedAt = r.f64();
  const resumeIssuedAt = r.f64();
  const resumeGeneration = r.f64();
  const user = r.text();
  const device = r.text();
  const resume = r.text();
  return { slot, life, wire, mayBegin, decided, user, device, issuedAt, resume, resumeIssuedAt, resumeGeneration, positions: readPlaces(r) };
}

/** A session has lost its socket, admitted or not yet. `over`: its client ended it for good. */
export function writeGone(link: Link, slot: number, life: number, over: boolean): void {
  link.begin(kinds.gone, 12, true);
  link.u32(slot);
  link.u32(life);
  link.u8(over ? 1 : 0);
  link.end();
}

/** A resumed session could not be brought back into this room, and is not in it any more. */
export function writeUnplaced(link: Link, slot: number, life: number, name: string): void {
  link.begin(kinds.unplaced, 16 + textBytesMax(name), true);
  link.u32(slot);
  link.u32(life);
  link.text(name);
  link.end();
}

export function readUnplaced(r: RecordReader): { slot: number; life: number; name: string } {
  return { slot: r.u32(), life: r.u32(), name: r.text() };
}

export interface AckRecord extends Asker {
  epoch: string;
  seq: number;
}

/** A device has acknowledged its user's inbox up to here. */
export function writeAck(link: Link, asker: Asker, epoch: string, seq: number): boolean {
  if (!link.begin(kinds.ack, 32 + textBytesMax(epoch), false)) return false;
  link.u32(asker.slot);
  link.u32(asker.life);
  link.u32(asker.id);
  link.u8(asker.wire);
  link.f64(seq);
  link.text(epoch);
  link.end();
  return true;
}

export function readAck(r: RecordReader): AckRecord {
  const slot = r.u32();
  const life = r.u32();
  const id = r.u32();
  const wire = r.u8();
  const seq = r.f64();
  return { slot, life, id, wire, seq, epoch: r.text() };
}

// ------------------------------------------------------------------------------- hub → reactor

/** The answer to hello: the session is admitted. */
export interface AdmittedRecord {
  slot: number;
  life: number;
  session: string;
  /** Which of the session's sockets this is, as its resume token says. */
  generation: number;
  resumed: boolean;
  /** The rooms to join again, each with the position to recover from. */
  rooms: readonly PlaceInRoom[];
  /** Only the client says that it was in them: the store is unavailable. */
  isClaimed: boolean;
  /** The rooms into which the application has joined the user, whether or not they are among those. */
  assigned: readonly string[];
  /** They could not be read. */
  isUnread: boolean;
}

export function writeAdmitted(link: Link, r: AdmittedRecord): void {
  const bytes = r.assigned.reduce((sum, name) => sum + textBytesMax(name), 45 + textBytesMax(r.session) + placesBytesMax(r.rooms));
  link.begin(kinds.admitted, bytes, true);
  link.u32(r.slot);
  link.u32(r.life);
  link.whole(r.generation);
  link.u8((r.resumed ? 1 : 0) | (r.isClaimed ? 2 : 0));
  link.text(r.session);
  writePlaces(link, r.rooms);
  link.u8(r.isUnread ? 1 : 0);
  link.u32(r.assigned.length);
  for (const name of r.assigned) link.text(name);
  // The answers to the joins that came with hello follow in this turn.
  link.endInTurn();
}

export function readAdmitted(r: RecordReader): AdmittedRecord {
  const slot = r.u32();
  const life = r.u32();
  const generation = r.whole();
  const flags = r.u8();
  const resumed = (flags & 1) !== 0;
  const isClaimed = (flags & 2) !== 0;
  const session = r.text();
  const rooms = readPlaces(r);
  const isUnread = r.u8() !== 0;
  return { slot, life, generation, resumed, session, rooms, isClaimed, isUnread, assigned: Array.from({ length: r.u32() }, () => r.text()) };
}

/** The application joins the session into a room. */
export function writeAssign(link: Link, slot: number, life: number, room: string): void {
  writeRoomOf(link, kinds.assign, slot, life, room);
}

/** The application takes the session out of a room. */
export function writeUnassign(link: Link, slot: number, life: number, room: string): void {
  writeRoomOf(link, kinds.unassign, slot, life, room);
}

function writeRoomOf(link: Link, kind: number, slot: number, life: number, room: string): void {
  link.begin(kind, 8 + textBytesMax(room), true);
  link.u32(slot);
  link.u32(life);
  link.text(room);
  link.end();
}

/** Of assign and unassign. */
export function readRoomOf(r: RecordReader): { slot: number; life: number; room: string } {
  return { slot: r.u32(), life: r.u32(), room: r.text() };
}

/** The session is to be closed with this name of errors.ts. */
export function writeKick(link: Link, slot: number, life: number, name: CloseName): void {
  link.begin(kinds.kick, 16 + textBytesMax(name), true);
  link.u32(slot);
  link.u32(life);
  link.text(name);
  link.endAtOnce();
}

export function readKick(r: RecordReader): { slot: number; life: number; name: CloseName } {
  return { slot: r.u32(), life: r.u32(), name: r.text() as CloseName };
}

// ------------------------------------------------------------------------------- places

function placesBytesMax(places: readonly PlaceInRoom[]): number {
  return places.reduce((sum, { name, epoch }) => sum + 8 + textBytesMax(name) + textBytesMax(epoch), 4);
}

function writePlaces(link: Link, places: readonly PlaceInRoom[]): void {
  link.u32(places.length);
  for (const { name, epoch, seq } of places) {
    link.f64(seq);
    link.text(name);
    link.text(epoch);
  }
}

function readPlaces(r: RecordReader): PlaceInRoom[] {
  return Array.from({ length: r.u32() }, () => {
    const seq = r.f64();
    return { seq, name: r.text(), epoch: r.text() };
  });
}
