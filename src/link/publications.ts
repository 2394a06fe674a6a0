/** The two records on the path of a publication: the session's command to the hub, and the delivery to a room's members. */
import type { EncodedPublication } from "../protocol/formats/format.ts";
import { formats } from "../protocol/formats/formats.ts";
import { textBytesMax, type Link, type RecordReader } from "./link.ts";
import { kinds, type Asker } from "./records.ts";

/** A publish command. `handle` is 0 where the reactor does not know the room's; `room` is then its key. */
export interface PublishRecord extends Asker {
  handle: number;
  room: string;
  /** A direct message: the room is a user's inbox, and the answer is sent. */
  direct: boolean;
  sender: string;
  key: string;
  /** Of the payload. */
  format: number;
  excludeSelf: boolean;
  payload: Uint8Array;
}

/** Separate fields instead of an object: on the data path an object per publish would be garbage. */
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

/** Reads into `into`, which is reused for every publish. */
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

/** A slot that no session has: no session is excluded. */
export const nobody = 0xffffffff;

/** Added to the wire format of a delivery that excludes a session. The session follows. */
export const excludes = 0x80;

/**
 * The publication `seq`, which follows `prev`, as a frame for every member of a room in this format. The session
 * `slot`, `life` is excluded, unless the slot is `nobody`. The format writes the frame into the ring.
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
  encoded: EncodedPublication,
): void {
  const format = formats[wire]!;
  link.begin(kinds.deliver, 48 + format.publicationBytesMax(encoded), true);
  link.u32(handle);
  link.u8(slot === nobody ? wire : wire | excludes);
  if (slot !== nobody) {
    link.u32(slot);
    link.u32(life);
  }
  link.f64(at);
  link.whole(seq);
  link.whole(prev);
  link.openBlob();
  format.writePublication(link, encoded);
  link.closeBlob();
  link.end();
}
