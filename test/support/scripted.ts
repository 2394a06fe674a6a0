/**
 * A node whose answers a test writes, for what a real one does only in trouble: holes in the stream, refusals,
 * closes with any code.
 */
import type { AddressInfo } from "node:net";
import type { Test } from "tap";
import { WebSocketServer, type WebSocket } from "ws";
import { decodeClientFrame } from "../../src/protocol/codec.ts";
import { Format, protocolVersion, ServerFrame } from "../../src/protocol/messages.ts";
import type { ClientFrame, CommandKind, Publication } from "../../src/protocol/messages.ts";
import { lengthPrefixed } from "./wire.ts";

export type ScriptedSession = {
  /** 1 for the first socket the node saw, and so on. */
  readonly number: number;
  send(...frames: ServerFrame[]): void;
  /** One frame, a few bytes per message. */
  sendSplit(frame: ServerFrame): void;
  /** A message as it is. */
  raw(message: Uint8Array | string): void;
  close(code: number, reason?: string): void;
  /** Without a close frame. */
  cut(): void;
};

/** Answers one command; undefined: the node does its usual. Frames without id get that of the command. */
export type Script = (command: ClientFrame, session: ScriptedSession) => ServerFrame[] | undefined;

export type ScriptedNode = {
  readonly url: string;
  readonly sessions: ScriptedSession[];
  /** All commands of a kind that came, of all sessions. */
  commands(kind: CommandKind): ClientFrame[];
};

export const epoch = "e1";

export async function startScripted(t: Pick<Test, "teardown">, script: Script = () => undefined): Promise<ScriptedNode> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1", handleProtocols: (offered) => offered.values().next().value ?? false });
  const sessions: ScriptedSession[] = [];
  const received: ClientFrame[] = [];
  server.on("connection", (socket) => {
    const session = sessionOf(socket, sessions.length + 1);
    sessions.push(session);
    socket.on("message", (data: Buffer) => {
      for (const command of framesOf(data)) {
        received.push(command);
        const answers = script(command, session) ?? usual(command);
        session.send(...answers.map((answer) => ({ id: command.id ?? 0, ...answer })));
        if (command.bye) socket.close(1000, "bye");
      }
    });
  });
  await new Promise<void>((resolve) => server.on("listening", resolve));
  t.teardown(() => {
    for (const socket of server.clients) socket.terminate();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `ws://127.0.0.1:${port}/ws`, sessions, commands: (kind) => received.filter((frame) => frame[kind]) };
}

/** An empty room for everyone, and every command a success. */
function usual(command: ClientFrame): ServerFrame[] {
  if (command.hello) {
    const limits = { heartbeatMs: 25_000, maxFrameBytes: 65_536, maxRooms: 100, maxRoomNameBytes: 255, commandsPerSecond: 0 };
    return [{ ready: { session: "s", user: "u", node: "scripted", version: protocolVersion, time: Date.now(), ...limits } }];
  }
  if (command.join) {
    const { room, recover } = command.join;
    return [{ joined: { room: room ?? "", position: { epoch, seq: recover?.seq ?? 0 }, recovered: recover != null } }];
  }
  if (command.leave) return [{ left: { room: command.leave.room ?? "" } }];
  if (command.publish) return [{ published: { position: { epoch, seq: 1 }, receivers: 1 } }];
  if (command.history) return [{ history: { room: command.history.room ?? "", position: { epoch, seq: 0 } } }];
  if (command.ping) return [{ pong: { time: command.ping.time ?? 0, serverTime: Date.now() } }];
  if (command.echo) return [{ echo: command.echo }];
  return [];
}

/** A publication whose data is its seq. */
export function publication(seq: number, options: { prev?: number; room?: string; epoch?: string } = {}): Publication {
  const { prev = seq - 1, room = "chat:a" } = options;
  const payload = Buffer.from(String(seq));
  return { room, epoch: options.epoch ?? epoch, seq, prev, sender: "u", time: 1_700_000_000_000, payload, format: Format.JSON };
}

function sessionOf(socket: WebSocket, number: number): ScriptedSession {
  return {
    number,
    // In one message, so that what comes behind a reply is read in the same turn.
    send: (...frames) => {
      if (frames.length > 0) socket.send(Buffer.concat(frames.map(bytesOf)));
    },
    sendSplit: (frame) => {
      const bytes = bytesOf(frame);
      for (let at = 0; at < bytes.length; at += 3) socket.send(bytes.subarray(at, at + 3));
    },
    raw: (message) => socket.send(message),
    close: (code, reason = "") => socket.close(code, reason),
    cut: () => socket.terminate(),
  };
}

function bytesOf(frame: ServerFrame): Buffer {
  return lengthPrefixed(ServerFrame.encode(frame).finish());
}

function framesOf(data: Buffer): ClientFrame[] {
  const frames: ClientFrame[] = [];
  for (let at = 0; at < data.length; ) {
    const end = at + 4 + data.readUInt32BE(at);
    frames.push(decodeClientFrame(data, at + 4, end)); // with uint64 as numbers
    at = end;
  }
  return frames;
}
