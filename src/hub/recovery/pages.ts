/** Reading history: where it comes from, how it is written, and how much of it is one page. */
import type { Broker, Stored } from "../../broker/broker.ts";
import type { Encoder } from "../../protocol/encoder.ts";
import type { HubRoom } from "../rooms.ts";

export interface Reading {
  readonly broker: Broker;
  readonly encoder: Encoder;
  /** About what the bodies of one page hold: well under a socket's queue, and no record too large for a ring. */
  readonly pageBytesMax: number;
}

/** A page's bodies, at most; its JSON text can be four times that, and a record may be half a ring. */
export function pageBytesFor(ringBytes: number): number {
  return Math.min(32 * 1024, ringBytes / 16);
}

/** What a publication takes in a page besides its payload, about. */
export function recordBytes(room: HubRoom): number {
  return 64 + 3 * room.name.length;
}

/** Publications of the broker as bodies, each in bytes of its own. */
export function bodiesOf(encoder: Encoder, room: HubRoom, publications: readonly Stored[]): Uint8Array[] {
  return publications.map(({ origin: _, ...publication }) =>
    Uint8Array.prototype.slice.call(encoder.binary.body({ room: room.name, ...publication })),
  );
}
