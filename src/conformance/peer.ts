/** One socket of the client, seen from the scripted node. */
import type { WebSocket } from "uWebSockets.js";
import type { ClientFrame, CommandKind, ServerFrame } from "../protocol/messages.ts";
import { encode, Reader, show, type FormatName } from "./wire.ts";

export interface PeerData {
  peer: Peer | null;
  readonly situation: string;
  readonly path: string;
  readonly ticket: string;
  readonly format: FormatName;
}

/** How a socket ended that the script did not end. */
export interface Ending {
  readonly code: number;
}

export class Peer {
  /** 1 for the first socket of the situation. */
  readonly number: number;
  /** Behind the situation's name: `/ws`, or where `reconnect` sent the client. */
  readonly path: string;
  /** From the query; "" without one. */
  readonly ticket: string;
  readonly format: FormatName;
  readonly connectedAt: number;
  readonly reader: Reader;
  /** When the script ended the socket; 0 before. */
  endedAt = 0;
  ending: Ending | null = null;
  readonly #socket: WebSocket<PeerData>;
  readonly #trace: (line: string) => void;

  constructor(number: number, socket: WebSocket<PeerData>, trace: (line: string) => void) {
    const { path, ticket, format } = socket.getUserData();
    this.number = number;
    this.path = path;
    this.ticket = ticket;
    this.format = format;
    this.connectedAt = performance.now();
    this.reader = new Reader(format);
    this.#socket = socket;
    this.#trace = trace;
  }

  /** No command can come any more. */
  get isOver(): boolean {
    return this.endedAt > 0 || this.ending !== null;
  }

  send(...frames: ServerFrame[]): void {
    for (const frame of frames) {
      this.#trace(`← ${show(frame)}`);
      for (const message of encode(this.format, [frame])) this.#write(message);
    }
  }

  reply(command: ClientFrame, answer: ServerFrame): void {
    if (command.id) this.send({ id: command.id, ...answer });
  }

  /** Frames in one message. In a stream of bytes the last one is split over several. Plain JSON has a message for each. */
  sendPacked(...frames: ServerFrame[]): void {
    for (const frame of frames) this.#trace(`← ${show(frame)}`);
    for (const message of encode(this.format, frames)) {
      const cut = typeof message === "string" ? message.length : message.length - 7;
      this.#write(message.slice(0, cut));
      for (let at = cut; at < message.length; at += 3) this.#write(message.slice(at, at + 3));
    }
  }

  /** A message that no version of the protocol has, yet. */
  sendRaw(text: string, bytes: Uint8Array): void {
    this.#trace(`← ${text}`);
    this.#write(this.format === "protobuf" ? bytes : this.format === "JSON" ? text : `[${text}]`);
  }

  close(code: number, reason: string): void {
    if (this.isOver) return;
    this.#trace(`the node closes with ${code} ${reason}`);
    this.endedAt = performance.now();
    this.#socket.end(code, reason);
  }

  /** Without a close frame: the client sees 1006. */
  cut(): void {
    if (this.isOver) return;
    this.#trace("the socket is lost");
    this.endedAt = performance.now();
    this.#socket.close();
  }

  #write(message: Uint8Array | string): void {
    if (!this.isOver) this.#socket.send(message, typeof message !== "string");
  }
}

export function kindOf(command: ClientFrame): CommandKind | "" {
  return (Object.keys(command) as (keyof ClientFrame)[]).find((key): key is CommandKind => key !== "id" && (key as string) !== "command" && command[key] != null) ?? "";
}
