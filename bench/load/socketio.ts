/**
 * The wire format of socket.io 4 over its websocket transport. It is written by hand, since socket.io's own client is
 * too slow for 1,000 members in one thread.
 *
 *     0{…}  open, from the server      40  connect, 40{…} its answer      2, 3  ping from the server, pong
 *     42["m","<payload as text>"]  event, both ways
 */
import type { Conversation, Ear, Role } from "./conversation.ts";
import { payloadBytes, readHex, textPayload } from "./payload.ts";
import type { ClientSocket } from "./socket.ts";
import { opcodes } from "./websocket.ts";

const eventHead = '42["m","';
const eventBytes = eventHead.length + payloadBytes + '"]'.length;
const [char0, char2, char4] = [0x30, 0x32, 0x34];

export class SocketIoConversation implements Conversation {
  readonly path: string;
  readonly subprotocol = null;
  readonly #index: number;
  readonly #ear: Ear;
  #socket: ClientSocket | undefined;

  constructor(index: number, role: Role, ear: Ear) {
    this.#index = index;
    this.#ear = ear;
    this.path = `/socket.io/?EIO=4&transport=websocket&role=${role}`;
  }

  begin(socket: ClientSocket): void {
    this.#socket = socket;
  }

  hear(opcode: number, bytes: Buffer, start: number, end: number): void {
    if (opcode !== opcodes.text) throw new Error("not a text message");
    const [kind, subkind] = [bytes[start], bytes[start + 1]];
    if (kind === char4 && subkind === char2 && end - start === eventBytes) {
      const at = start + eventHead.length;
      this.#ear.delivered(this.#index, readHex(bytes, at), readHex(bytes, at + 8), true);
    } else if (kind === char2) this.#say("3");
    else if (kind === char0) this.#say("40");
    else if (kind === char4 && subkind === char0) this.#ear.ready(this.#index);
    else this.#ear.refused(this.#index, bytes.toString("utf8", start, end));
  }

  publish(counter: number, sentAt: number): void {
    this.#say(`${eventHead}${textPayload(counter, sentAt)}"]`);
  }

  echo(counter: number, sentAt: number): void {
    this.publish(counter, sentAt);
  }

  #say(text: string): void {
    this.#socket?.send(opcodes.text, Buffer.from(text));
  }
}
