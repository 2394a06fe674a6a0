/** The names that scripts, drivers and docs/conformance.md share. */
import { Format, type Publication } from "../protocol/messages.ts";

/** The room that a driver joins. */
export const room = "conformance:room";
/** The room into which it reports. */
export const logRoom = "conformance:log";
export const inbox = "@inbox";
export const epoch = "e1";
/** The position of the room's newest publication when the client joins. */
export const head = 10;

/** A publication whose data is `{"n": seq}`. */
export function publication(seq: number, options: { prev?: number; epoch?: string; room?: string; data?: unknown } = {}): Publication {
  const { prev = seq - 1, data = { n: seq } } = options;
  return {
    room: options.room ?? room, epoch: options.epoch ?? epoch, seq, prev, sender: "bob", time: 1_764_000_000_000 + seq,
    payload: Buffer.from(JSON.stringify(data)), format: Format.JSON,
  };
}
