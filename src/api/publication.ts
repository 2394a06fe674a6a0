import type { Position, Stored } from "../broker/broker.ts";
import { Format } from "../protocol/messages.ts";

/** A message in a room, as the embedding program reads it. */
export interface Publication {
  /** Name of the room. */
  readonly room: string;
  /** Position in the room. */
  readonly position: Position;
  /** The user who published. Empty: the application did. */
  readonly sender: string;
  /** Time of publishing, by the clock of the node that published. */
  readonly time: Date;
  /** A Uint8Array if bytes were published, otherwise the JSON value. */
  readonly data: unknown;
}

export type Kept = Pick<Stored, "epoch" | "seq" | "sender" | "time" | "payload" | "format">;

/** Copies the payload. */
export function toPublication(room: string, { epoch, seq, sender, time, payload, format }: Kept): Publication {
  return { room, position: { epoch, seq }, sender, time: new Date(time), data: dataOf(payload, format) };
}

const utf8 = new TextDecoder();

function dataOf(payload: Uint8Array, format: number): unknown {
  if (format === Format.JSON) {
    try {
      return JSON.parse(utf8.decode(payload));
    } catch {
      // Nodes check JSON before they publish it. Another program in NATS may not have: its bytes say more than nothing.
    }
  }
  return new Uint8Array(payload);
}
