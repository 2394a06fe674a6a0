/**
 * flux.v1 in its binary subprotocol. Commands are encoded by the project's codec; what comes is read by hand, since
 * a decoder that makes objects could not follow two million publications a second, and a reader of its own would
 * notice if the codec were wrong about the wire format.
 */
import { decodeServerFrame, encodeClientFrame } from "../../src/protocol/codec.ts";
import { Format, type ClientFrame, protocolVersion, subprotocols } from "../../src/protocol/messages.ts";
import type { Conversation, Ear, Role } from "./conversation.ts";
import { binaryPayload, payloadBytes, readUint32, writePayload } from "./payload.ts";
import type { ClientSocket } from "./socket.ts";
import { opcodes } from "./websocket.ts";

/** Ephemeral, as the rooms of the controls are. */
const room = "live:bench";

export class FluxConversation implements Conversation {
  readonly path = "/ws";
  readonly subprotocol = subprotocols.binary;
  readonly #index: number;
  readonly #role: Role;
  readonly #ear: Ear;
  #socket: ClientSocket | undefined;
  #seq = 0;
  /** The beginning of a frame whose end comes in a later message. */
  #split: Buffer | null = null;

  constructor(index: number, role: Role, ear: Ear) {
    this.#index = index;
    this.#role = role;
    this.#ear = ear;
  }

  begin(socket: ClientSocket): void {
    this.#socket = socket;
    socket.send(opcodes.binary, this.#role === "member" ? helloAndJoin : hello);
  }

  hear(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (opcode !== opcodes.binary) throw new Error("not a binary message");
    if (this.#split === null) return this.#cut(bytes, start, end);
    const joined = Buffer.concat([this.#split, bytes.subarray(start, end)]);
    this.#split = null;
    this.#cut(joined, 0, joined.length);
  }

  publish(counter: number, sentAt: number): void {
    this.#sendPayload(publishTemplate, counter, sentAt);
  }

  echo(counter: number, sentAt: number): void {
    this.#sendPayload(echoTemplate, counter, sentAt);
  }

  #sendPayload(template: Template, counter: number, sentAt: number): void {
    writePayload(template.bytes, template.payloadAt, counter, sentAt);
    this.#socket?.send(opcodes.binary, template.bytes);
  }

  #cut(bytes: Buffer, start: number, end: number): void {
    let at = start;
    while (end - at >= 4) {
      const next = at + 4 + readUint32(bytes, at);
      if (next > end) break;
      this.#frame(bytes, at + 4, next);
      at = next;
    }
    if (at !== end) this.#split = Buffer.from(bytes.subarray(at, end));
  }

  #frame(bytes: Buffer, start: number, end: number): void {
    readFrame(bytes, start, end, read);
    if (read.event === events.publication) {
      const chained = read.prev === this.#seq;
      this.#seq = read.seq;
      this.#deliver(bytes, chained);
    } else if (read.event === events.echo) this.#deliver(bytes, true);
    else this.#rareFrame(bytes, start, end);
  }

  #deliver(bytes: Buffer, chained: boolean): void {
    if (read.payloadBytes !== payloadBytes) throw new Error("not a payload of ours");
    this.#ear.delivered(this.#index, readUint32(bytes, read.payloadAt), readUint32(bytes, read.payloadAt + 4), chained);
  }

  #rareFrame(bytes: Buffer, start: number, end: number): void {
    const { ready, joined, error } = decodeServerFrame(bytes, start, end);
    if (joined) this.#seq = joined.position?.seq ?? 0;
    if (joined || (ready && this.#role === "echo")) this.#ear.ready(this.#index);
    else if (error) this.#ear.refused(this.#index, `${error.code}: ${error.text}`);
  }
}

/** What readFrame found. One record for all frames, overwritten by the next. */
export type Read = { event: number; seq: number; prev: number; payloadAt: number; payloadBytes: number };

/** Field numbers of ServerFrame's oneof. */
export const events = { echo: 8, publication: 10 } as const;

const wireTypes = { varint: 0, delimited: 2 } as const;

/** Reads which event a ServerFrame is and, of publications and echoes, what the bench checks. */
export function readFrame(bytes: Uint8Array, start: number, end: number, into: Read): void {
  into.event = into.seq = into.prev = into.payloadAt = into.payloadBytes = 0;
  cursor = start;
  while (cursor < end) {
    const tag = readVarint(bytes, end);
    if ((tag & 7) === wireTypes.varint) readVarint(bytes, end);
    else {
      const bodyEnd = readDelimiter(bytes, tag, end);
      into.event = tag >>> 3;
      if (into.event === events.publication) readFields(bytes, bodyEnd, 7, into);
      else if (into.event === events.echo) readFields(bytes, bodyEnd, 1, into);
      cursor = bodyEnd;
    }
  }
}

/** Publication: seq = 3, prev = 4, payload = 7. Echo: payload = 1 (and no varint that could be taken for seq). */
function readFields(bytes: Uint8Array, end: number, payloadField: number, into: Read): void {
  while (cursor < end) {
    const tag = readVarint(bytes, end);
    const field = tag >>> 3;
    if ((tag & 7) === wireTypes.varint) {
      const value = readVarint(bytes, end);
      if (field === 3) into.seq = value;
      else if (field === 4) into.prev = value;
    } else {
      const fieldEnd = readDelimiter(bytes, tag, end);
      if (field === payloadField) {
        into.payloadAt = cursor;
        into.payloadBytes = fieldEnd - cursor;
      }
      cursor = fieldEnd;
    }
  }
}

/** Where the readers below are. A module variable, so that they need not return two values. */
let cursor = 0;

function readVarint(bytes: Uint8Array, end: number): number {
  let value = 0;
  let scale = 1;
  while (cursor < end) {
    const byte = bytes[cursor++]!;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
    scale *= 128;
  }
  throw new Error("a varint is cut off");
}

function readDelimiter(bytes: Uint8Array, tag: number, end: number): number {
  if ((tag & 7) !== wireTypes.delimited) throw new Error(`a field has wire type ${tag & 7}`);
  const length = readVarint(bytes, end);
  if (cursor + length > end) throw new Error("a field is longer than its message");
  return cursor + length;
}

const read: Read = { event: 0, seq: 0, prev: 0, payloadAt: 0, payloadBytes: 0 };

/** A command encoded once; only the first eight bytes of its payload change. */
type Template = { bytes: Uint8Array; payloadAt: number };

function template(command: ClientFrame): Template {
  const bytes = encodeClientFrame(command);
  return { bytes, payloadAt: Buffer.from(bytes).indexOf(binaryPayload()) };
}

const hello = encodeClientFrame({ id: 1, hello: { version: protocolVersion, client: "flux-bench" } });
const helloAndJoin = Buffer.concat([hello, encodeClientFrame({ id: 2, join: { room } })]);
/** id 0: no reply, as no control gives one. */
const publishTemplate = template({ publish: { room, payload: binaryPayload(), format: Format.BINARY } });
const echoTemplate = template({ id: 3, echo: { payload: binaryPayload(), format: Format.BINARY } });
