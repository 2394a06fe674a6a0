/**
 * The wire format of the controls uWS and `ws`: the URL names the role, and a message is a payload. To members a message
 * is as long as flux-gateway's publication: the servers send the same number of bytes.
 */
import { binaryEventBytes } from "./flux.ts";
import type { Conversation, Ear, Role } from "./conversation.ts";
import { jsonEventBytes } from "./fluxjson.ts";
import { binaryPayload, payloadBytes, readHex, readUint32, textPayload, writeHex, writePayload } from "./payload.ts";
import type { ClientSocket } from "./socket.ts";
import { opcodes } from "./websocket.ts";

/** How a message carries its two numbers. Nothing is allocated for a message: the load has to cost less than the servers. */
interface Shape {
  readonly opcode: number;
  readonly bytes: number;
  /** Where the second number begins. */
  readonly second: number;
  read(message: Buffer, at: number): number;
  /** The socket copies what this returns. */
  write(counter: number, sentAt: number): Buffer;
}

class Plain implements Conversation {
  readonly path: string;
  readonly subprotocol = null;
  readonly #index: number;
  readonly #ear: Ear;
  readonly #shape: Shape;
  #socket: ClientSocket | undefined;

  constructor(index: number, role: Role, ear: Ear, shape: Shape) {
    this.#index = index;
    this.#ear = ear;
    this.#shape = shape;
    this.path = isMember(role) ? "/room" : "/echo";
  }

  /** The server subscribes the socket before it answers the upgrade, or before it reads on. */
  begin(socket: ClientSocket): void {
    this.#socket = socket;
    this.#ear.ready(this.#index);
  }

  hear(opcode: number, bytes: Buffer, start: number, end: number): void {
    const { opcode: expected, bytes: length, second, read } = this.#shape;
    if (opcode !== expected || end - start !== length) throw new Error("not a payload");
    this.#ear.delivered(this.#index, read(bytes, start), read(bytes, start + second), true);
  }

  publish(counter: number, sentAt: number): void {
    this.#socket?.send(this.#shape.opcode, this.#shape.write(counter, sentAt));
  }

  echo(counter: number, sentAt: number): void {
    this.publish(counter, sentAt);
  }
}

function isMember(role: Role): boolean {
  return role === "member" || role === "excluder";
}

export class PlainConversation extends Plain {
  constructor(index: number, role: Role, ear: Ear) {
    super(index, role, ear, isMember(role) ? binary : binaryEcho);
  }
}

export class PlainTextConversation extends Plain {
  constructor(index: number, role: Role, ear: Ear) {
    super(index, role, ear, json);
  }
}

const binary = binaryShape(binaryEventBytes);
const binaryEcho = binaryShape(payloadBytes);

function binaryShape(bytes: number): Shape {
  const message = binaryPayload(bytes);
  return {
    opcode: opcodes.binary,
    bytes,
    second: 4,
    read: readUint32,
    write(counter, sentAt) {
      writePayload(message, 0, counter, sentAt);
      return message;
    },
  };
}

const text = Buffer.from(textPayload(0, 0).padEnd(jsonEventBytes, "."));
const json: Shape = {
  opcode: opcodes.text,
  bytes: jsonEventBytes,
  second: 8,
  read: readHex,
  write(counter, sentAt) {
    writeHex(text, 0, counter);
    writeHex(text, 8, sentAt);
    return text;
  },
};
