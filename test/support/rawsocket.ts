/**
 * A WebSocket client over node:net that does what it is told, right or wrong: it can send any bytes, in
 * pieces of any size, and reports exactly what came back. It answers nothing by itself, pings neither.
 */
import { once } from "node:events";
import { createHash, randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** How long a test waits for something the node should do at once, before it gives up and fails. */
export const patienceMs = 180_000;

export interface FrameShape {
  opcode: number;
  payload?: Uint8Array | string;
  fin?: boolean;
  /** The three reserved bits as a number from 0 to 7. */
  rsv?: number;
  /** The masking key; false leaves the frame unmasked. Default: a fixed key that changes every byte. */
  mask?: Uint8Array | false;
  /** Bits of the length field: 7, 16 or 64. Default: the shortest that fits. */
  lengthBits?: 7 | 16 | 64;
  /** The length the header announces, if it is to be another than the payload's. */
  announced?: bigint;
}

/** A whole message, put together from its fragments, or a control frame. */
export interface IncomingFrame {
  fin: boolean;
  rsv: number;
  opcode: number;
  payload: Buffer;
  /** Bytes of each of its fragments, where it came in more than one. */
  fragments?: number[];
}

/** How the socket ended: with a close frame (code 1005: one without a code), or without any. */
export type Ending = { code: number; reason: string } | "dropped";

export interface RawSocket {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  /** Every byte received so far that was part of a whole frame. */
  readonly bytesReceived: number;
  /** Writes the bytes, in pieces of `chop` bytes if given, each of which leaves in a packet of its own. */
  write(bytes: Uint8Array, chop?: number): Promise<void>;
  send(frame: FrameShape, chop?: number): Promise<void>;
  /** The next frame the node sent; fails when the socket ends first. */
  nextFrame(): Promise<IncomingFrame>;
  /** Calls back for every frame from now on, instead of keeping them for nextFrame. */
  onFrame(listener: (frame: IncomingFrame) => void): void;
  closed(): Promise<Ending>;
  /** As closed(), without giving up. */
  readonly ended: Promise<Ending>;
  /** Stops reading from the kernel, so that the node's writes pile up. */
  pause(): void;
  resume(): void;
  /** Sends FIN and goes on reading. */
  half(): void;
  destroy(): void;
}

export interface RawOptions {
  port: number;
  /** Default: 127.0.0.1. */
  host?: string;
  path?: string;
  subprotocol?: string;
  /** Added to the request, or replacing one of its headers; null leaves that one out. */
  headers?: Record<string, string | null>;
}

const fixedMask = Uint8Array.of(0x37, 0xfa, 0x21, 0x3d);

export function buildFrame(frame: FrameShape): Buffer {
  const payload = typeof frame.payload === "string" ? Buffer.from(frame.payload) : frame.payload ?? new Uint8Array(0);
  const announced = frame.announced ?? BigInt(payload.length);
  const bits = frame.lengthBits ?? (announced < 126n ? 7 : announced < 65536n ? 16 : 64);
  const mask = frame.mask === undefined ? fixedMask : frame.mask;
  const header = Buffer.alloc(bits === 7 ? 2 : bits === 16 ? 4 : 10);
  header[0] = (frame.fin === false ? 0 : 0x80) | ((frame.rsv ?? 0) << 4) | frame.opcode;
  header[1] = (mask ? 0x80 : 0) | (bits === 7 ? Number(announced) : bits === 16 ? 126 : 127);
  if (bits === 16) header.writeUInt16BE(Number(announced), 2);
  if (bits === 64) header.writeBigUInt64BE(announced, 2);
  if (!mask) return Buffer.concat([header, payload]);
  return Buffer.concat([header, mask, payload.map((byte, i) => byte ^ (mask[i & 3] ?? 0))]);
}

/** Payload of a close frame: [u16 code][reason]. */
export function closePayload(code: number, reason: string | Uint8Array = ""): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(code);
  return Buffer.concat([head, typeof reason === "string" ? Buffer.from(reason) : reason]);
}

/** Connects and upgrades; fails when the answer is not 101. */
export async function openRawSocket(options: RawOptions): Promise<RawSocket> {
  const tcp = await connectTcp(options.port, options.host);
  const key = randomBytes(16).toString("base64");
  tcp.write(upgradeRequest(options, key));
  const { head, rest } = await readHead(tcp);
  const { status, headers } = parseHead(head);
  if (status !== 101) {
    tcp.destroy();
    throw new Error(`the upgrade was answered ${status}`);
  }
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  if (headers.get("sec-websocket-accept") !== accept) throw new Error("the upgrade was answered with a wrong accept key");
  return readingFrames(tcp, rest, status, headers);
}

/** Sends `bytes` to the port and returns what came back when the node closed, or when `enough` of it had. */
export async function exchange(
  port: number,
  bytes: Uint8Array | string,
  enough: (received: Buffer) => boolean = () => false,
  limitMs = patienceMs,
): Promise<Buffer> {
  const tcp = await connectTcp(port);
  let received: Buffer = Buffer.alloc(0);
  const done = new Promise<void>((resolve) => {
    tcp.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (enough(received)) resolve();
    });
    tcp.on("close", () => resolve());
  });
  tcp.write(bytes);
  await within(done, "the node to answer", limitMs).finally(() => tcp.destroy());
  return received;
}

/** Fails, naming what was waited for, when it takes longer than anyone should wait. */
export async function within<T>(promise: Promise<T>, what: string, limitMs = patienceMs): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${limitMs} ms for ${what}`)), limitMs);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export async function connectTcp(port: number, host = "127.0.0.1"): Promise<Socket> {
  const tcp = connect({ host, port, noDelay: true });
  await within(once(tcp, "connect"), "a TCP connection");
  // A reset is one of the ways a socket ends here; `close` follows and is what is waited for.
  tcp.on("error", () => undefined);
  return tcp;
}

function upgradeRequest(options: RawOptions, key: string): string {
  const headers: Record<string, string | null> = {
    Host: `127.0.0.1:${options.port}`,
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": key,
    "Sec-WebSocket-Protocol": options.subprotocol ?? null,
    ...options.headers,
  };
  const lines = Object.entries(headers).flatMap(([name, value]) => (value === null ? [] : [`${name}: ${value}`]));
  return [`GET ${options.path ?? "/ws"} HTTP/1.1`, ...lines, "", ""].join("\r\n");
}

/** Reads up to the empty line that ends a response's head. */
async function readHead(tcp: Socket): Promise<{ head: string; rest: Buffer }> {
  let received: Buffer = Buffer.alloc(0);
  const whole = new Promise<{ head: string; rest: Buffer }>((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      const end = received.indexOf("\r\n\r\n");
      if (end < 0) return;
      tcp.pause();
      tcp.off("data", onData);
      resolve({ head: received.toString("latin1", 0, end), rest: received.subarray(end + 4) });
    };
    tcp.on("data", onData);
    tcp.once("close", () => reject(new Error("the node closed before it answered the upgrade")));
  });
  return within(whole, "the answer to the upgrade");
}

function parseHead(head: string): { status: number; headers: Map<string, string> } {
  const [first = "", ...lines] = head.split("\r\n");
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  return { status: Number(first.split(" ")[1]), headers };
}

function readingFrames(tcp: Socket, rest: Buffer, status: number, headers: Map<string, string>): RawSocket {
  const frames: IncomingFrame[] = [];
  const waiting: { resolve(frame: IncomingFrame): void; reject(error: Error): void }[] = [];
  let listener: ((frame: IncomingFrame) => void) | undefined;
  let pending = rest;
  let bytesReceived = 0;
  let ending: Ending = "dropped";

  let fragments: IncomingFrame[] = [];

  const take = (): void => {
    for (let cut = cutFrame(pending); cut; cut = cutFrame(pending)) {
      pending = pending.subarray(cut.size);
      bytesReceived += cut.size;
      if (cut.frame.opcode === opcodes.close) ending = readClose(cut.frame.payload);
      const frame = whole(cut.frame);
      if (frame === null) continue;
      if (listener) listener(frame);
      else if (waiting.length > 0) waiting.shift()?.resolve(frame);
      else frames.push(frame);
    }
  };
  /** Null: more of its message is to come. Control frames may come between two fragments (RFC 6455, 5.4). */
  const whole = (frame: IncomingFrame): IncomingFrame | null => {
    if (frame.opcode >= opcodes.close || (frame.fin && fragments.length === 0 && frame.opcode !== opcodes.continuation)) return frame;
    if ((frame.opcode === opcodes.continuation) !== fragments.length > 0) throw new Error("the node sent a fragment of no message, or a message inside another");
    fragments.push(frame);
    if (!frame.fin) return null;
    const [{ opcode, rsv }] = fragments as [IncomingFrame];
    const all = fragments.map(({ payload }) => payload);
    fragments = [];
    return { fin: true, rsv, opcode, payload: Buffer.concat(all), fragments: all.map(({ length }) => length) };
  };
  const ended = new Promise<Ending>((resolve) => {
    tcp.once("close", () => {
      for (const { reject } of waiting.splice(0)) reject(new Error(`the socket ended: ${JSON.stringify(ending)}`));
      resolve(ending);
    });
  });
  tcp.on("data", (chunk: Buffer) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    take();
  });
  take();
  tcp.resume();

  return {
    status,
    headers,
    get bytesReceived() { return bytesReceived; },
    write: (bytes, chop) => writeChopped(tcp, bytes, chop),
    send: (frame, chop) => writeChopped(tcp, buildFrame(frame), chop),
    nextFrame: () => {
      const kept = frames.shift();
      if (kept) return Promise.resolve(kept);
      if (tcp.closed) return Promise.reject(new Error(`the socket ended: ${JSON.stringify(ending)}`));
      return within(new Promise((resolve, reject) => waiting.push({ resolve, reject })), "a frame");
    },
    onFrame: (given) => {
      listener = given;
      for (const frame of frames.splice(0)) given(frame);
    },
    ...endsOf(tcp, ended),
  };
}

/** What tests do to a socket, and how it ends, on any transport. */
export function endsOf(tcp: Socket, ended: Promise<Ending>): Pick<RawSocket, "closed" | "ended" | "pause" | "resume" | "half" | "destroy"> {
  return {
    closed: () => within(ended, "the node to close the socket"),
    ended,
    pause: () => void tcp.pause(),
    resume: () => void tcp.resume(),
    half: () => void tcp.end(),
    destroy: () => void tcp.destroy(),
  };
}

/** The first whole frame of `bytes`, with the number of bytes it took. */
function cutFrame(bytes: Buffer): { frame: IncomingFrame; size: number } | undefined {
  if (bytes.length < 2) return undefined;
  const first = bytes.readUInt8(0);
  const short = bytes.readUInt8(1);
  if (short & 0x80) throw new Error("the node masked a frame");
  const start = short === 126 ? 4 : short === 127 ? 10 : 2;
  if (bytes.length < start) return undefined;
  const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
  if (bytes.length < start + length) return undefined;
  const payload = Buffer.from(bytes.subarray(start, start + length));
  return { frame: { fin: first >= 0x80, rsv: (first >> 4) & 7, opcode: first & 15, payload }, size: start + length };
}

function readClose(payload: Buffer): Ending {
  return payload.length < 2 ? { code: 1005, reason: "" } : { code: payload.readUInt16BE(0), reason: payload.toString("utf8", 2) };
}

/** Resolves when the kernel has the bytes, or the socket is gone. */
export async function writeChopped(tcp: Socket, bytes: Uint8Array, chop = Math.max(1, bytes.length)): Promise<void> {
  for (let at = 0; at < bytes.length && tcp.writable; at += chop) {
    await new Promise<void>((resolve) => {
      tcp.write(bytes.subarray(at, at + chop), () => resolve());
    });
    if (chop < bytes.length) await new Promise((resolve) => setImmediate(resolve));
  }
}
