/** Reading history: its source, its encoder, and the size of a page. */
import type { Broker, Stored } from "../../broker/broker.ts";
import type { Encoder } from "../../protocol/formats/encoder.ts";
import type { HubRoom } from "../rooms.ts";

export interface Reading {
  readonly broker: Broker;
  readonly encoder: Encoder;
  /** About the bytes of the bodies in one page: well under a socket's queue, and no record too large for a ring. */
  readonly pageBytesMax: number;
}

/** Maximum bytes of a page's bodies. Its JSON text can be four times that, and a record may be half a ring. */
export function pageBytesFor(ringBytes: number): number {
  return Math.min(32 * 1024, ringBytes / 16);
}

/** About the bytes of a publication in a page besides its payload. */
export function recordBytes(room: Pick<HubRoom, "name">): number {
  return 64 + 3 * room.name.length;
}

/** Encodes the broker's publications as bodies, each in bytes of its own. */
export function bodiesOf(encoder: Encoder, room: HubRoom, publications: readonly Stored[]): Uint8Array[] {
  return publications.map(({ origin: _, key: _key, ...publication }) =>
    Uint8Array.prototype.slice.call(encoder.binary.body({ room: room.name, ...publication })),
  );
}
