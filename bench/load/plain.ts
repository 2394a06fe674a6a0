/** The wire format of the controls bare uWS and `ws`: the URL names the role, a message is a payload and no more. */
import type { Conversation, Ear, Role } from "./conversation.ts";
import { binaryPayload, payloadBytes, readUint32, writePayload } from "./payload.ts";
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

  /** The server has subscribed the socket before it answered the upgrade, or does so before it reads on. */
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

/** Copied by `send`, so one is enough. */
const payload = binaryPayload();
