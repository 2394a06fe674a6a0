/** The wire format of the controls uWS and `ws`: the URL names the role, and a message is only a payload. */
import type { Conversation, Ear, Role } from "./conversation.ts";
import { jsonEventBytes } from "./fluxjson.ts";
import { binaryPayload, payloadBytes, readHex, readUint32, textPayload, writeHex, writePayload } from "./payload.ts";
import type { ClientSocket } from "./socket.ts";
import { opcodes } from "./websocket.ts";

export class PlainConversation implements Conversation {
  readonly path: string;
  readonly subprotocol = null;
  readonly #index: number;
  readonly #ear: Ear;
  #socket: ClientSocket | undefined;

  constructor(index: number, role: Role, ear: Ear) {
    this.#index = index;
    this.#ear = ear;
    this.path = role === "member" ? "/room" : "/echo";
  }

  /** The server subscribes the socket before it answers the upgrade, or before it reads on. */
  begin(socket: ClientSocket): void {
    this.#socket = socket;
    this.#ear.ready(this.#index);
  }

  hear(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (opcode !== opcodes.binary || end - start !== payloadBytes) throw new Error("not a payload");
    this.#ear.delivered(this.#index, readUint32(bytes, start), readUint32(bytes, start + 4), true);
  }

  publish(counter: number, sentAt: number): void {
    writePayload(payload, 0, counter, sentAt);
    this.#socket?.send(opcodes.binary, payload);
  }

  echo(counter: number, sentAt: number): void {
    this.publish(counter, sentAt);
  }
}

/** With text payloads as long as flux-gateway's JSON for one publication. */
export class PlainTextConversation implements Conversation {
  readonly path: string;
  readonly subprotocol = null;
  readonly #index: number;
  readonly #ear: Ear;
  #socket: ClientSocket | undefined;

  constructor(index: number, role: Role, ear: Ear) {
    this.#index = index;
    this.#ear = ear;
    this.path = role === "member" ? "/room" : "/echo";
  }

  begin(socket: ClientSocket): void {
    this.#socket = socket;
    this.#ear.ready(this.#index);
  }

  hear(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (opcode !== opcodes.text || end - start !== jsonEventBytes) throw new Error("not a payload");
    this.#ear.delivered(this.#index, readHex(bytes, start), readHex(bytes, start + 8), true);
  }

  publish(counter: number, sentAt: number): void {
    writeHex(text, 0, counter);
    writeHex(text, 8, sentAt);
    this.#socket?.send(opcodes.text, text);
  }

  echo(counter: number, sentAt: number): void {
    this.publish(counter, sentAt);
  }
}

/** `send` copies it, so one is enough. */
const payload = binaryPayload();
const text = Buffer.from(textPayload(0, 0).padEnd(jsonEventBytes, "."));
