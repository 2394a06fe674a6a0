/**
 * The protocol of nats-server over its own WebSocket: lines that end with CR LF, in binary messages that need not end
 * where a line does. Payloads are texts.
 *
 *     INFO {…}, from the server      CONNECT {…}, SUB room 1, PING its answer      PONG: the subscription is there
 *     PUB room 128 ⏎ <payload> ⏎     MSG room 1 128 ⏎ <payload> ⏎, to every member and to the publisher
 */
import type { Conversation, Ear, Role } from "./conversation.ts";
import { payloadBytes, readHex, textPayload, writeHex } from "./payload.ts";
import type { ClientSocket } from "./socket.ts";
import { opcodes } from "./websocket.ts";

const first = Buffer.from('CONNECT {"verbose":false,"pedantic":false,"protocol":1}\r\nSUB room 1\r\nPING\r\n');
const messageHead = `MSG room 1 ${payloadBytes}\r\n`;
const messageBytes = messageHead.length + payloadBytes + 2;
const pong = Buffer.from("PONG\r\n");
const publishHead = `PUB room ${payloadBytes}\r\n`;
const publishTemplate = Buffer.from(`${publishHead}${textPayload(0, 0)}\r\n`);
const [charM, lineFeed] = [0x4d, 0x0a];

export class NatsConversation implements Conversation {
  readonly path = "/";
  readonly subprotocol = null;
  readonly #index: number;
  readonly #ear: Ear;
  #socket: ClientSocket | undefined;
  /** Start of a line or message that continues in a later WebSocket message. */
  #split: Buffer | null = null;

  constructor(index: number, role: Role, ear: Ear) {
    if (role !== "member") throw new Error(`the role ${role} is not available with NATS`);
    this.#index = index;
    this.#ear = ear;
  }

  begin(socket: ClientSocket): void {
    this.#socket = socket;
    socket.send(opcodes.binary, first);
  }

  hear(_opcode: number, bytes: Buffer, start: number, end: number): void {
    if (this.#split === null) return this.#cut(bytes, start, end);
    const joined = Buffer.concat([this.#split, bytes.subarray(start, end)]);
    this.#split = null;
    this.#cut(joined, 0, joined.length);
  }

  publish(counter: number, sentAt: number): void {
    writeHex(publishTemplate, publishHead.length, counter);
    writeHex(publishTemplate, publishHead.length + 8, sentAt);
    this.#socket?.send(opcodes.binary, publishTemplate);
  }

  echo(): void {
    throw new Error("echo is not available with NATS");
  }

  #cut(bytes: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end) {
      if (bytes[at] === charM) {
        if (end - at < messageBytes) break;
        const payloadAt = at + messageHead.length;
        this.#ear.delivered(this.#index, readHex(bytes, payloadAt), readHex(bytes, payloadAt + 8), true);
        at += messageBytes;
      } else {
        const feed = bytes.indexOf(lineFeed, at);
        if (feed === -1 || feed >= end) break;
        this.#line(bytes.toString("utf8", at, feed).trimEnd());
        at = feed + 1;
      }
    }
    if (at < end) this.#split = Buffer.from(bytes.subarray(at, end));
  }

  #line(line: string): void {
    if (line === "PONG") this.#ear.ready(this.#index);
    else if (line === "PING") this.#socket?.send(opcodes.binary, pong);
    else if (line.startsWith("-ERR")) this.#ear.refused(this.#index, line);
  }
}
