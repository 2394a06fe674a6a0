import { Format } from "../../protocol/messages.ts";
import type { Position as WirePosition, Publication as WirePublication, Ready as WireReady } from "../../protocol/messages.ts";
import { fluxError } from "../flux-error.ts";

/** A place in the stream of a room. Positions of different epochs cannot be compared. */
export type Position = { readonly epoch: string; readonly seq: number };

export type Publication = {
  readonly room: string;
  readonly position: Position;
  /** The user who published. */
  readonly sender: string;
  /** When the node took it, by the node's clock. */
  readonly time: Date;
  /** Bytes if they were published as bytes, otherwise what the JSON said. */
  readonly data: unknown;
  /** Read from history or caught up on after a loss, rather than delivered as it happened. */
  readonly replayed: boolean;
};

/** What the node said when the session began. */
export type Ready = {
  readonly session: string;
  readonly user: string;
  readonly node: string;
  readonly time: Date;
  readonly heartbeatMs: number;
  readonly frameBytesMax: number;
  readonly roomsMax: number;
  readonly roomNameBytesMax: number;
  /** 0: not limited. */
  readonly commandsPerSecond: number;
  /** It is the session there was before, with the rooms it was in; otherwise it is a new one. */
  readonly resumed: boolean;
  /** How long it can be resumed after its socket was lost. */
  readonly sessionTtlMs: number;
  /** When the token expires; null: never. */
  readonly expires: Date | null;
};

/** A publication as it came: its place in the room, and its payload not read yet. */
export type Arrival = Position & { readonly prev: number; readonly wire: WirePublication };

export type Payload = { payload: Uint8Array; format: number };

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder();

/** @throws FluxError bad_payload if `data` is neither bytes nor anything JSON can say. */
export function encodePayload(data: unknown): Payload {
  if (data instanceof Uint8Array) return { payload: data.slice(), format: Format.BINARY };
  let text: string | undefined;
  try {
    text = JSON.stringify(data);
  } catch (error) {
    throw fluxError("bad_payload", `the data cannot be written as JSON: ${String(error)}`);
  }
  if (text === undefined) throw fluxError("bad_payload", `JSON has no way to say ${typeof data}`);
  return { payload: utf8Encoder.encode(text), format: Format.JSON };
}

/**
 * Bytes are copied, so that the message they came in is not kept for them.
 * @throws SyntaxError if the payload is not the JSON it claims to be.
 */
export function decodePayload(payload: Uint8Array | null | undefined, format: number | null | undefined): unknown {
  const bytes = payload ?? new Uint8Array(0);
  return format === Format.JSON ? JSON.parse(utf8Decoder.decode(bytes)) : bytes.slice();
}

export function toPosition(wire: WirePosition | null | undefined): Position {
  return { epoch: wire?.epoch ?? "", seq: wire?.seq ?? 0 };
}

export function toArrival(wire: WirePublication): Arrival {
  return { epoch: wire.epoch ?? "", seq: wire.seq ?? 0, prev: wire.prev ?? 0, wire };
}

/** @throws SyntaxError, see decodePayload. */
export function toPublication({ epoch, seq, wire }: Arrival, replayed: boolean): Publication {
  return {
    room: wire.room ?? "",
    position: { epoch, seq },
    sender: wire.sender ?? "",
    time: new Date(wire.time ?? 0),
    data: decodePayload(wire.payload, wire.format),
    replayed,
  };
}

export function toReady(wire: WireReady): Ready {
  return {
    session: wire.session ?? "",
    user: wire.user ?? "",
    node: wire.node ?? "",
    time: new Date(wire.time ?? 0),
    heartbeatMs: wire.heartbeatMs ?? 0,
    frameBytesMax: wire.maxFrameBytes ?? 0,
    roomsMax: wire.maxRooms ?? 0,
    roomNameBytesMax: wire.maxRoomNameBytes ?? 0,
    commandsPerSecond: wire.commandsPerSecond ?? 0,
    resumed: wire.resumed ?? false,
    sessionTtlMs: wire.sessionTtlMs ?? 0,
    expires: toDate(wire.expires),
  };
}

/** 0 and nothing: no time. */
export function toDate(ms: number | null | undefined): Date | null {
  return ms ? new Date(ms) : null;
}
