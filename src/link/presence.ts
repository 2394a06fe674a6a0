/** The records of presence; records.ts has the others. */
import type { Link, RecordReader } from "./link.ts";
import { textBytesMax } from "./link.ts";
import { kinds, type Asker } from "./records.ts";

// ------------------------------------------------------------------------------- reactor → hub

/** A presence command. */
export interface PresenceRecord extends Asker {
  /** The room's key. */
  room: string;
  after: string;
  /** 0: counts only. */
  limit: number;
}

export function writePresence(link: Link, r: PresenceRecord): boolean {
  if (!link.begin(kinds.presence, 24 + textBytesMax(r.room) + textBytesMax(r.after), false)) return false;
  writeAsker(link, r);
  link.u32(r.limit);
  link.text(r.room);
  link.text(r.after);
  link.end();
  return true;
}

export function readPresence(r: RecordReader): PresenceRecord {
  const asker = readAsker(r);
  const limit = r.u32();
  return { ...asker, limit, room: r.text(), after: r.text() };
}

/** A watch command, or an unwatch. */
export interface WatchRecord extends Asker {
  begin: boolean;
  /** Names, of the session's own tenant. */
  users: readonly string[];
}

export function writeWatch(link: Link, r: WatchRecord): boolean {
  const bytes = r.users.reduce((sum, user) => sum + textBytesMax(user), 24);
  if (!link.begin(kinds.watch, bytes, false)) return false;
  writeAsker(link, r);
  link.u8(r.begin ? 1 : 0);
  link.u32(r.users.length);
  for (const user of r.users) link.text(user);
  link.end();
  return true;
}

export function readWatch(r: RecordReader): WatchRecord {
  const asker = readAsker(r);
  const begin = r.u8() !== 0;
  return { ...asker, begin, users: Array.from({ length: r.u32() }, () => r.text()) };
}

function writeAsker(link: Link, { slot, life, id, wire }: Asker): void {
  link.u32(slot);
  link.u32(life);
  link.u32(id);
  link.u8(wire);
}

function readAsker(r: RecordReader): Asker {
  return { slot: r.u32(), life: r.u32(), id: r.u32(), wire: r.u8() };
}

// ------------------------------------------------------------------------------- hub → reactor

/** A presence change as a frame, with its version, for the members of a room in this format that see presence. */
export function writePresenceChanged(link: Link, handle: number, wire: number, version: number, frame: Uint8Array): void {
  link.begin(kinds.presenceChanged, 24 + frame.length, true);
  link.u32(handle);
  link.u8(wire);
  link.f64(version);
  link.blob(frame);
  link.end();
}

/** A frame for several sessions with one format. */
export function writeStatus(link: Link, sessions: readonly Pick<Asker, "slot" | "life">[], frame: Uint8Array): void {
  link.begin(kinds.status, 16 + 8 * sessions.length + frame.length, true);
  link.blob(frame);
  link.u32(sessions.length);
  for (const { slot, life } of sessions) {
    link.u32(slot);
    link.u32(life);
  }
  link.end();
}
