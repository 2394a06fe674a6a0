/**
 * A client on raw TCP in the clothes of a raw WebSocket, so that tests talk to both in the same words: a message is
 * written as it is, every read counts as a frame, and the code is that of the node's `closed` frame.
 */
import type { Socket } from "node:net";
import { connectTcp, endsOf, opcodes, writeChopped, type Ending, type IncomingFrame, type RawSocket } from "./rawsocket.ts";
import { openOn, type OpenOptions, type TestSession } from "./session.ts";
import { binaryReader } from "./wire.ts";

export interface TcpOptions extends Pick<OpenOptions, "hello" | "keep"> {
  /** Bytes of a packet, for everything that is sent. */
  chop?: number;
}

/** Connects to the node's TCP port, says hello and waits for ready. */
export async function openTcp(node: { tcpPort: number | null }, options: TcpOptions = {}): Promise<TestSession> {
  return openOn(rawTcp(await connectTcp(node.tcpPort ?? 0), options.chop), options);
}

export function rawTcp(tcp: Socket, chopAlways?: number): RawSocket {
  const frames: IncomingFrame[] = [];
  const read = binaryReader();
  let listener: ((frame: IncomingFrame) => void) | undefined;
  let bytesReceived = 0;
  let ending: Ending = "dropped";
  tcp.on("data", (chunk: Buffer) => {
    bytesReceived += chunk.length;
    for (const { closed } of read(chunk)) if (closed) ending = { code: closed.code ?? 0, reason: closed.reason ?? "" };
    const frame = { fin: true, rsv: 0, opcode: opcodes.binary, payload: chunk };
    if (listener) listener(frame);
    else frames.push(frame);
  });
  const ended = new Promise<Ending>((resolve) => tcp.once("close", () => resolve(ending)));
  return {
    status: 0,
    headers: new Map(),
    get bytesReceived() { return bytesReceived; },
    write: (bytes, chop = chopAlways) => writeChopped(tcp, bytes, chop),
    send: ({ payload = "" }, chop = chopAlways) => writeChopped(tcp, Buffer.from(payload as Uint8Array), chop),
    nextFrame: () => Promise.reject(new Error("there are no messages on TCP")),
    onFrame: (given) => {
      listener = given;
      for (const frame of frames.splice(0)) given(frame);
    },
    ...endsOf(tcp, ended),
  };
}
