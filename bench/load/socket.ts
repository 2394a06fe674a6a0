/** A WebSocket client over node:net that reads all sockets into one buffer. */
import { createHash, randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { cutFrames, finalBit, maskedFrame, opcodeBits, opcodes } from "./websocket.ts";

export type Address = { host: string; port: number; path: string; localAddress: string; subprotocol: string | null };

/** Callbacks of a socket. Offsets are valid until the call returns. */
export interface Listener {
  /** New bytes are about to be read. */
  chunk(): void;
  opened(): void;
  message(opcode: number, bytes: Buffer, start: number, end: number): void;
  /** Called once, also if the socket never opened, and after `close`. */
  closed(reason: string): void;
}

/**
 * The read buffer of all sockets of a thread: each read is parsed completely before the next. The rest of an incomplete
 * frame is stored with its socket and put before the next read, so that frames are always contiguous.
 *
 *     [space for the rest: 1 MiB][one read: 64 KiB]
 */
export class ReadBuffer {
  static readonly headroom = 1024 * 1024;
  readonly bytes = Buffer.allocUnsafeSlow(ReadBuffer.headroom + 64 * 1024);
  readonly window = this.bytes.subarray(ReadBuffer.headroom);
}

const acceptGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const headEnd = Buffer.from("\r\n\r\n");

export class ClientSocket {
  readonly #listener: Listener;
  readonly #read: ReadBuffer;
  readonly #net: Socket;
  readonly #key = randomBytes(16).toString("base64");
  #opened = false;
  #reason = "";
  #left = Buffer.alloc(0);
  #leftBytes = 0;
  #fragments: Buffer[] = [];
  #fragmentsOpcode = 0;

  constructor(address: Address, read: ReadBuffer, listener: Listener) {
    this.#listener = listener;
    this.#read = read;
    this.#net = connect({
      host: address.host,
      port: address.port,
      localAddress: address.localAddress,
      noDelay: true,
      onread: { buffer: read.window, callback: (bytesRead) => this.#take(bytesRead) },
    });
    this.#net.on("connect", () => this.#net.write(this.#request(address)));
    this.#net.on("error", (error) => (this.#reason ||= error.message));
    this.#net.on("end", () => this.#net.destroy());
    this.#net.on("close", () => listener.closed(this.#reason || "the server closed the connection"));
  }

  send(opcode: number, payload: Uint8Array): void {
    this.#net.write(maskedFrame(opcode, payload));
  }

  stall(stalled: boolean): void {
    if (stalled) this.#net.pause();
    else this.#net.resume();
  }

  close(): void {
    this.#fail("closed by the bench");
  }

  /** Called by cutFrames. */
  frame(first: number, bytes: Buffer, start: number, end: number): void {
    const opcode = first & opcodeBits;
    if (first === (finalBit | opcode) && (opcode === opcodes.binary || opcode === opcodes.text)) {
      this.#listener.message(opcode, bytes, start, end);
    } else this.#rareFrame(first, bytes.subarray(start, end));
  }

  #take(bytesRead: number): boolean {
    const { bytes } = this.#read;
    const end = ReadBuffer.headroom + bytesRead;
    let at = ReadBuffer.headroom - this.#leftBytes;
    if (this.#leftBytes > 0) bytes.set(this.#left.subarray(0, this.#leftBytes), at);
    try {
      this.#listener.chunk();
      if (!this.#opened) at = this.#upgrade(at, end);
      if (this.#opened) at = cutFrames(bytes, at, end, this);
      this.#keep(at, end);
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error));
    }
    return true;
  }

  #keep(at: number, end: number): void {
    this.#leftBytes = end - at;
    if (this.#leftBytes === 0) return;
    if (this.#leftBytes > ReadBuffer.headroom) throw new Error("a message is larger than the load client can hold");
    if (this.#leftBytes > this.#left.length) this.#left = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(this.#leftBytes)));
    this.#read.bytes.copy(this.#left, 0, at, end);
  }

  #request({ host, port, path, subprotocol }: Address): string {
    const offer = subprotocol === null ? "" : `Sec-WebSocket-Protocol: ${subprotocol}\r\n`;
    return `GET ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${this.#key}\r\n${offer}\r\n`;
  }

  /** Returns the start of the first frame, or `start` while the response is incomplete. */
  #upgrade(start: number, end: number): number {
    const response = this.#read.bytes.subarray(start, end);
    const length = response.indexOf(headEnd);
    if (length === -1) return start;
    const head = response.toString("latin1", 0, length);
    const accept = createHash("sha1").update(this.#key + acceptGuid).digest("base64");
    if (!head.startsWith("HTTP/1.1 101 ") || !head.includes(accept)) throw new Error(`upgrade rejected: ${head.split("\r\n")[0]}`);
    this.#opened = true;
    this.#listener.opened();
    return start + length + headEnd.length;
  }

  /** Control frames, fragments, and invalid frames. */
  #rareFrame(first: number, payload: Buffer): void {
    const opcode = first & opcodeBits;
    if (opcode === opcodes.ping) return this.send(opcodes.pong, payload);
    if (opcode === opcodes.pong) return;
    if (opcode === opcodes.close) return this.#fail(closeReason(payload));
    if ((first & 0x70) !== 0 || opcode > opcodes.binary) throw new Error(`frame starts with 0x${first.toString(16)}`);
    if (opcode !== opcodes.continuation) this.#fragmentsOpcode = opcode;
    this.#fragments.push(Buffer.from(payload));
    if ((first & finalBit) === 0) return;
    const message = Buffer.concat(this.#fragments);
    this.#fragments = [];
    this.#listener.message(this.#fragmentsOpcode, message, 0, message.length);
  }

  #fail(reason: string): void {
    this.#reason ||= reason;
    this.#net.destroy();
  }
}

function closeReason(payload: Buffer): string {
  if (payload.length < 2) return "the server closed without a code";
  return `the server closed with ${payload.readUInt16BE(0)} ${payload.toString("utf8", 2)}`.trimEnd();
}
