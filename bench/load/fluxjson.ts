/**
 * flux.v1 in its JSON subprotocols, as a member of one room. Commands are texts. Events are read by hand, as in flux.ts:
 * JSON.parse would cost the load client more than the server.
 */
import { threadId } from "node:worker_threads";
import { protocolVersion, subprotocols } from "../../src/protocol/messages.ts";
import type { Conversation, Ear, Role } from "./conversation.ts";
import { payloadBytes, readHex, textPayload, writeHex } from "./payload.ts";
import type { ClientSocket } from "./socket.ts";
import { tokenFor } from "./token.ts";
import { opcodes } from "./websocket.ts";

/** Ephemeral, like the rooms of the controls. */
const room = "live:bench";

export class FluxJsonConversation implements Conversation {
  readonly path = "/ws";
  readonly subprotocol: string = subprotocols.json;
  readonly #index: number;
  readonly #ear: Ear;
  #socket: ClientSocket | undefined;
  #seq = 0;
  /** Bytes between prev and the data: the same for all publications of one sender. */
  #dataAfter = 0;

  constructor(index: number, role: Role, ear: Ear) {
    if (role !== "member") throw new Error(`the role ${role} is not available in JSON`);
    this.#index = index;
    this.#ear = ear;
  }

  begin(socket: ClientSocket): void {
    this.#socket = socket;
    const token = tokenFor(`bench-${process.pid}-${threadId}-${this.#index}`);
    const hello = { id: 1, hello: { version: protocolVersion, client: "flux-bench", token } };
    socket.send(opcodes.text, Buffer.from(JSON.stringify([hello, { id: 2, join: { room } }])));
  }

  hear(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (opcode !== opcodes.text) throw new Error("not a text message");
    if (!startsWith(bytes, start, eventHead)) return this.rareFrame(JSON.parse(bytes.toString("utf8", start, end)) as RareFrame);
    if (this.event(bytes, start, end) !== end) throw new Error("something follows a publication");
  }

  /** Reads the publication at `start`. @returns where it ends */
  protected event(bytes: Buffer, start: number, end: number): number {
    at = start + eventHead.length;
    const seq = readNumber(bytes, end, seqKey);
    const chained = readNumber(bytes, end, prevKey) === this.#seq;
    if (!startsWith(bytes, at + this.#dataAfter, dataKey)) this.#dataAfter = find(bytes, at, end, dataKey) - at;
    const payloadAt = at + this.#dataAfter + dataKey.length;
    const endsAt = payloadAt + payloadBytes + eventEnd.length;
    if (endsAt > end || !startsWith(bytes, endsAt - eventEnd.length, eventEnd)) throw new Error("unknown payload");
    this.#seq = seq;
    this.#ear.delivered(this.#index, readHex(bytes, payloadAt), readHex(bytes, payloadAt + 8), chained);
    return endsAt;
  }

  publish(counter: number, sentAt: number): void {
    writeHex(publishTemplate, publishPayloadAt, counter);
    writeHex(publishTemplate, publishPayloadAt + 8, sentAt);
    this.#socket?.send(opcodes.text, publishTemplate);
  }

  echo(): void {
    throw new Error("echo is not available in JSON");
  }

  protected rareFrame({ joined, error }: RareFrame): void {
    if (joined !== undefined) {
      this.#seq = Number(joined.position.seq);
      this.#ear.ready(this.#index);
    } else if (error !== undefined) this.#ear.refused(this.#index, `${error.code}: ${error.text}`);
  }
}

/** In messages that are arrays of frames. */
export class FluxJsonArraysConversation extends FluxJsonConversation {
  override readonly subprotocol = subprotocols.jsonArrays;

  override hear(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (opcode !== opcodes.text || bytes[start] !== openingBracket) throw new Error("not an array");
    if (!startsWith(bytes, start + 1, eventHead)) return (JSON.parse(bytes.toString("utf8", start, end)) as RareFrame[]).forEach((frame) => this.rareFrame(frame));
    let next = start;
    do {
      next = this.event(bytes, next + 1, end);
    } while (bytes[next] === comma && startsWith(bytes, next + 1, eventHead));
    if (bytes[next] !== closingBracket || next + 1 !== end) throw new Error("something follows a publication");
  }
}

const [openingBracket, comma, closingBracket] = Buffer.from("[,]");

type RareFrame = { joined?: { position: { seq: string } }; error?: { code: string; text: string } };

/** id 0: no reply, since the controls send none. */
const publishTemplate = Buffer.from(`{"publish":{"room":"${room}","data":"${textPayload(0, 0)}"}}`);
const publishPayloadAt = publishTemplate.indexOf(textPayload(0, 0));

/** A publication as received: its fields always have the same order. */
const eventHead = Buffer.from(`{"publication":{"room":"${room}","epoch":"`);
const seqKey = Buffer.from('"seq":"');
const prevKey = Buffer.from('"prev":"');
const dataKey = Buffer.from('"data":"');
const eventEnd = Buffer.from('"}}');

/** Size of a control's message: as large as a publication in the middle of a measurement. */
export const jsonEventBytes = eventHead.length + payloadBytes + eventEnd.length +
  '0FAtMtJy","seq":"12345","prev":"12344","sender":"bench-12345-1-999","time":"1795323651843","data":"'.length;

/** Position of readNumber. A module variable, so that the function returns only one value. */
let at = 0;

/** The digits after the next occurrence of this key. */
function readNumber(bytes: Uint8Array, end: number, key: Uint8Array): number {
  at = find(bytes, at, end, key) + key.length;
  let value = 0;
  for (let digit = bytes[at]! - 0x30; digit >= 0 && digit <= 9; digit = bytes[++at]! - 0x30) value = 10 * value + digit;
  return value;
}

function find(bytes: Uint8Array, from: number, end: number, key: Uint8Array): number {
  while (!startsWith(bytes, from, key)) if (++from >= end) throw new Error("a publication lacks a field");
  return from;
}

function startsWith(bytes: Uint8Array, start: number, text: Uint8Array): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[start + i] !== text[i]) return false;
  return true;
}
