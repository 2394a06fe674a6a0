import { formats } from "../../protocol/constants.ts";
import type { Position as WirePosition, Publication as WirePublication, Ready as WireReady } from "../../protocol/messages.ts";
import { fluxError } from "../flux-error.ts";
import { bytesOf, tagOf } from "../values.ts";

/** The room with the user's own direct messages. */
export const inboxName = "@inbox";

/** Position in the stream of a room: `seq` grows within an epoch. Positions of different epochs cannot be compared. */
export type Position = { readonly epoch: string; readonly seq: number };

/** A message in a room. `Data`: what the application publishes there. */
export type Publication<Data = unknown> = {
  /** Name of the room. */
  readonly room: string;
  /** Position in the room. */
  readonly position: Position;
  /** The user who published. Empty: the application did. */
  readonly sender: string;
  /** Time of publishing, by the node's clock. */
  readonly time: Date;
  /** A Uint8Array if bytes were published, otherwise the JSON value. */
  readonly data: Data;
  /** The publication comes from history or recovery, not live. */
  readonly replayed: boolean;
};

/** A session as the node describes it. */
export type Ready = {
  /** Identifier of the session. */
  readonly session: string;
  /** User of the session. */
  readonly user: string;
  /** Name of the node. */
  readonly node: string;
  /** Time on the node's clock. */
  readonly time: Date;
  /** Silence after which the node pings the socket, in milliseconds. */
  readonly heartbeatMs: number;
  /** Bytes of a frame. */
  readonly frameBytesMax: number;
  /** Rooms a session may join. */
  readonly roomsMax: number;
  /** Bytes of a room name. */
  readonly roomNameBytesMax: number;
  /** Commands per second; 0: no limit. */
  readonly commandsPerSecond: number;
  /** The previous session goes on, with its rooms. Otherwise this is a new session. */
  readonly resumed: boolean;
  /** Time the session can be resumed after its socket is lost, in milliseconds. */
  readonly sessionTtlMs: number;
  /** Expiry of the token; null: never. */
  readonly expires: Date | null;
};

/** A publication as received: its position, and its payload still encoded. */
export type Arrival = Position & { readonly prev: number; readonly wire: WirePublication };

export type Payload = { payload: Uint8Array; format: number };

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder();

/** @throws FluxError bad_request if `data` is neither bytes nor JSON. */
export function encodePayload(data: unknown): Payload {
  const bytes = bytesOf(data);
  if (bytes !== null) return { payload: bytes.slice(), format: formats.BINARY };
  let text: string | undefined;
  try {
    text = JSON.stringify(data, checked);
  } catch (error) {
    throw fluxError("bad_request", `the data cannot be written as JSON: ${String(error)}`);
  }
  if (text === undefined) throw fluxError("bad_request", `JSON cannot represent ${typeof data}`);
  return { payload: utf8Encoder.encode(text), format: formats.JSON };
}

/** JSON would write these as `{}`, or bytes as an object with a property for each. */
const unwritable = /^\[object (Map|Set|WeakMap|WeakSet|Promise|Blob|File|FormData|(Shared)?ArrayBuffer)\]/;

function checked(_: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const tag = tagOf(value);
  if (unwritable.test(tag) || ArrayBuffer.isView(value)) throw new TypeError(`it contains ${tag}`);
  return value;
}

/**
 * Copies bytes, so that the received message can be freed.
 * @throws SyntaxError if the payload is not valid JSON.
 */
export function decodePayload(payload: Uint8Array | null | undefined, format: number | null | undefined): unknown {
  const bytes = payload ?? new Uint8Array(0);
  return format === formats.JSON ? JSON.parse(utf8Decoder.decode(bytes)) : bytes.slice();
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

/** No time for 0 or a missing value. */
export function toDate(ms: number | null | undefined): Date | null {
  return ms ? new Date(ms) : null;
}
