/**
 * Centrifugo's client protocol in JSON: objects separated by line feeds, several in a message.
 *
 *     {"id":1,"connect":{}}                    {"id":1,"connect":{"client":…,"ping":25,"pong":true}}
 *     {"id":2,"subscribe":{"channel":"bench"}} {"id":2,"subscribe":{…}}
 *     {"id":3,"publish":{"channel":"bench","data":…}}  {"id":3,"publish":{}}
 *     {"push":{"channel":"bench","pub":{"data":…,"info":…,"offset":…}}}   {} ping, answered by {}
 */
import type { Conversation, Ear, Role } from "./conversation.ts";
import { payloadBytes, readHex, textPayload, writeHex } from "./payload.ts";
import type { ClientSocket } from "./socket.ts";
import { opcodes } from "./websocket.ts";

const channel = "bench";
const connect = Buffer.from('{"id":1,"connect":{}}');
const subscribe = Buffer.from(`{"id":2,"subscribe":{"channel":"${channel}"}}`);
const publishTemplate = Buffer.from(`{"id":3,"publish":{"channel":"${channel}","data":"${textPayload(0, 0)}"}}`);
const publishPayloadAt = publishTemplate.indexOf(textPayload(0, 0));
const pong = Buffer.from("{}");
/** The server writes the fields of a publication in this order. */
const pushHead = Buffer.from(`{"push":{"channel":"${channel}","pub":{"data":"`);
const lineFeed = 0x0a;

type Reply = { id?: number; error?: { code: number; message: string }; connect?: object; subscribe?: object; publish?: object; push?: { pub?: { data?: unknown } } };

export class CentrifugoConversation implements Conversation {
  readonly path = "/connection/websocket";
  readonly subprotocol = null;
  readonly #index: number;
  readonly #ear: Ear;
  #socket: ClientSocket | undefined;

  constructor(index: number, role: Role, ear: Ear) {
    if (role !== "member") throw new Error(`the role ${role} is not available with Centrifugo`);
    this.#index = index;
    this.#ear = ear;
  }

  begin(socket: ClientSocket): void {
    this.#socket = socket;
    socket.send(opcodes.text, connect);
  }

  hear(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (opcode !== opcodes.text) throw new Error("not a text message");
    for (let at = start; at < end; ) {
      const feed = bytes.indexOf(lineFeed, at);
      const lineEnd = feed === -1 || feed > end ? end : feed;
      this.#line(bytes, at, lineEnd);
      at = lineEnd + 1;
    }
  }

  publish(counter: number, sentAt: number): void {
    writeHex(publishTemplate, publishPayloadAt, counter);
    writeHex(publishTemplate, publishPayloadAt + 8, sentAt);
    this.#socket?.send(opcodes.text, publishTemplate);
  }

  echo(): void {
    throw new Error("echo is not available with Centrifugo");
  }

  #line(bytes: Buffer, start: number, end: number): void {
    const payloadAt = start + pushHead.length;
    if (payloadAt + payloadBytes < end && pushHead.compare(bytes, start, payloadAt) === 0) {
      this.#ear.delivered(this.#index, readHex(bytes, payloadAt), readHex(bytes, payloadAt + 8), true);
    } else if (end > start) this.#rareLine(bytes.toString("utf8", start, end));
  }

  #rareLine(text: string): void {
    const reply = JSON.parse(text) as Reply;
    if (reply.error !== undefined) this.#ear.refused(this.#index, `${reply.error.code}: ${reply.error.message}`);
    else if (reply.connect !== undefined) this.#socket?.send(opcodes.text, subscribe);
    else if (reply.subscribe !== undefined) this.#ear.ready(this.#index);
    else if (Object.keys(reply).length === 0) this.#socket?.send(opcodes.text, pong);
    else if (reply.push?.pub !== undefined) throw new Error(`a publication the load client cannot read: ${text}`);
  }
}
