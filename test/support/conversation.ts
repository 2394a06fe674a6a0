/** Cases of the WebSocket layer as data: frames to send, what must come back, and how it must end. */
import type { Test } from "tap";
import { opcodes, openRawSocket, type Ending, type FrameShape, type IncomingFrame, type RawSocket } from "./rawsocket.ts";
import { binaryReader, encodeBinary, encodeText, readText } from "./wire.ts";
import type { ServerFrame } from "../../src/protocol/messages.ts";

export type Step =
  | { send: FrameShape; chop?: number }
  /** Several frames in one write, or bytes that no frame builder would make. */
  | { write: Uint8Array; chop?: number }
  /** The payload of the next echo reply that must come. */
  | { echo: Uint8Array | string }
  | { pong: Uint8Array | string };

/** Still open: a ping is answered. Failed: the socket is dropped. Else the close frame that must come. */
export type Outcome = "open" | "failed" | { code: number; reason?: string };

export interface Case {
  title: string;
  json?: boolean;
  steps: Step[];
  end: Outcome;
}

/** Runs one case on a socket of its own that has said hello. */
export async function converse(t: Test, node: { port: number }, { json = false, steps, end }: Case): Promise<void> {
  const raw = await openRawSocket({ port: node.port, subprotocol: json ? "flux.v1.json" : "flux.v1.proto" });
  t.teardown(() => raw.destroy());
  const next = reading(raw, json);
  const hello = { id: 1, hello: { version: 1 } };
  await raw.send(json ? { opcode: opcodes.text, payload: encodeText(hello) } : { opcode: opcodes.binary, payload: encodeBinary(hello) });
  t.equal((await next()).reply?.ready?.version, 1, "hello is answered");

  for (const step of steps) {
    if ("send" in step) await raw.send(step.send, step.chop);
    else if ("write" in step) await raw.write(step.write, step.chop);
    else if ("echo" in step) sameBytes(t, (await next()).reply?.echo?.payload, step.echo, "echo");
    else sameBytes(t, (await next()).pong, step.pong, "pong");
  }
  if (end === "open") {
    await raw.send({ opcode: opcodes.ping, payload: "still open" });
    sameBytes(t, (await next()).pong, "still open", "the socket is still open");
    return;
  }
  t.strictSame(await restOf(raw, next), [], "nothing else is sent");
  t.match(await raw.closed(), end === "failed" ? "dropped" : end satisfies Ending | { code: number });
}

/** One thing the node said: a frame of the protocol, or a control frame. */
interface Heard {
  reply?: ServerFrame;
  pong?: Buffer;
  close?: Buffer;
}

function reading(raw: RawSocket, json: boolean): () => Promise<Heard> {
  const read = json ? readText : binaryReader();
  const heard: Heard[] = [];
  const take = (frame: IncomingFrame): void => {
    if (!frame.fin || frame.rsv !== 0) throw new Error(`the node sent fin ${frame.fin}, rsv ${frame.rsv}`);
    if (frame.opcode === opcodes.pong) heard.push({ pong: frame.payload });
    else if (frame.opcode === opcodes.close) heard.push({ close: frame.payload });
    else if (frame.opcode === (json ? opcodes.text : opcodes.binary)) heard.push(...read(frame.payload).map((reply) => ({ reply })));
    else throw new Error(`the node sent opcode ${frame.opcode}`);
  };
  return async () => {
    while (heard.length === 0) take(await raw.nextFrame());
    return heard.shift() as Heard;
  };
}

/** What comes before the socket ends, other than the close frame. */
async function restOf(raw: RawSocket, next: () => Promise<Heard>): Promise<Heard[]> {
  const rest: Heard[] = [];
  let over = false;
  void raw.ended.then(() => (over = true));
  while (true) {
    try {
      const heard = await next();
      if (!heard.close) rest.push(heard);
    } catch (error) {
      await raw.closed();
      if (over) return rest;
      throw error;
    }
  }
}

function sameBytes(t: Test, found: Uint8Array | null | undefined, wanted: Uint8Array | string, what: string): void {
  const expected = Buffer.from(wanted);
  if (found && Buffer.from(found).equals(expected)) t.pass(what);
  else t.strictSame(found && Buffer.from(found), expected, what);
}
