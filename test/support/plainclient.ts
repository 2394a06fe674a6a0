/**
 * Clients by the ten thousand from one process: a TCP socket that upgrades, says hello, joins a room and counts, in JSON, and
 * nothing that costs memory for each. It never sends a close, and can stop reading.
 */
import { connect, type Socket } from "node:net";
import { buildFrame, opcodes } from "./rawsocket.ts";

export type Fate = "joined" | "refused" | "dropped";

export interface PlainClient {
  readonly tcp: Socket;
  /** Joined; refused with an HTTP status, a close or an error; or dropped without a word. Settles once. */
  readonly fate: Promise<Fate>;
  /** What the kernel said last, where it said something. */
  readonly error: string;
  /** Messages that came after it joined, of any kind. */
  readonly messages: number;
  send(frame: object): void;
  /** Called with each whole message from now on; else they are only counted. */
  onMessage: ((text: string) => void) | null;
}

const upgrade = (port: number) =>
  `GET /ws HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: flux.v1.json\r\n\r\n";
const text = (frame: object) => buildFrame({ opcode: opcodes.text, payload: JSON.stringify(frame) });
const hello = text({ id: 1, hello: { version: 1 } });

/** @param source one of 127.0.0.0/8: each has 28,000 ports. */
export function plainClient(port: number, room: string, source: string): PlainClient {
  const tcp = connect({ host: "127.0.0.1", port, localAddress: source, noDelay: true });
  let settle: (fate: Fate) => void;
  const fate = new Promise<Fate>((resolve) => (settle = resolve));
  let stage: "upgrade" | "hello" | "join" | "in" = "upgrade";
  let pending: Buffer | null = null;
  const client = { tcp, fate, error: "", messages: 0, onMessage: null as PlainClient["onMessage"], send: (frame: object) => void tcp.write(text(frame)) };

  const onText = (message: string): void => {
    if (stage === "in") {
      client.messages++;
      client.onMessage?.(message);
    } else if (stage === "hello" && message.includes('"ready"')) {
      stage = "join";
      client.send({ id: 2, join: { room } });
    } else if (stage === "join" && message.includes('"joined"')) {
      stage = "in";
      settle("joined");
    } else if (message.includes('"error"')) {
      settle("refused");
    }
  };
  tcp.on("data", (chunk: Buffer) => {
    let bytes = pending === null ? chunk : Buffer.concat([pending, chunk]);
    pending = null;
    if (stage === "upgrade") {
      const end = bytes.indexOf("\r\n\r\n");
      if (end < 0) return void (pending = bytes);
      if (!bytes.toString("latin1", 0, 12).endsWith(" 101")) return settle("refused");
      stage = "hello";
      tcp.write(hello);
      bytes = bytes.subarray(end + 4);
    }
    for (;;) {
      const length = frameLength(bytes);
      if (length === null) break;
      const { at, size } = length;
      const opcode = bytes[0]! & 15;
      if (opcode === opcodes.text) onText(bytes.toString("utf8", at, at + size));
      else if (opcode === opcodes.ping) tcp.write(buildFrame({ opcode: opcodes.pong, payload: bytes.subarray(at, at + size) }));
      else if (opcode === opcodes.close) settle("refused");
      bytes = bytes.subarray(at + size);
    }
    if (bytes.length > 0) pending = bytes;
  });
  tcp.once("connect", () => tcp.write(upgrade(port)));
  tcp.on("error", (error: NodeJS.ErrnoException) => (client.error = error.code ?? error.message));
  tcp.on("close", () => settle("dropped"));
  return client;
}

function frameLength(bytes: Buffer): { at: number; size: number } | null {
  if (bytes.length < 2) return null;
  const short = bytes[1]! & 127;
  const at = short === 126 ? 4 : short === 127 ? 10 : 2;
  if (bytes.length < at) return null;
  const size = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short;
  return bytes.length < at + size ? null : { at, size };
}
