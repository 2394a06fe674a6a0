/** One WebSocket that sends and receives frames. Knows nothing of sessions and is used once. */
import { decodeServerFrame, encodeClientFrame } from "../../protocol/clientcodec.ts";
import { subprotocols } from "../../protocol/constants.ts";
import { bytesOf } from "../values.ts";
import { cutFrames, tooLarge } from "../../protocol/framing.ts";
import type { FramePool, SplitFrame } from "../../protocol/framing.ts";
import type { ClientFrame, ServerFrame } from "../../protocol/messages.ts";
import type { Traffic } from "./traffic.ts";

/** The part of a WebSocket that the SDK uses: that of browsers, of Node 22, or of the package `ws`. */
export interface WebSocketLike {
  binaryType: string;
  send(data: ArrayBuffer): void;
  close(code?: number, reason?: string): void;
  // Implementations differ in their event types. The handlers below accept all of them.
  onopen: unknown;
  onmessage: unknown;
  onerror: unknown;
  onclose: unknown;
}

/** A WebSocket class. */
export type WebSocketConstructor = new (url: string, protocols?: string | string[]) => WebSocketLike;

export type WireHandlers = {
  onOpen(): void;
  onFrame(frame: ServerFrame): void;
  /** Called last, exactly once. */
  onClose(code: number, reason: string): void;
};

export type Wire = {
  /** onClose was called. */
  readonly isGone: boolean;
  send(frame: ClientFrame): void;
  /** Closes the socket; onClose follows when the other side has answered. */
  close(code: number, reason: string): void;
  /** Abandons the socket: onClose is called at once. The code is not sent. */
  drop(code: number, reason: string): void;
};

/** No node sends a frame of this size. A larger one means that this is no stream of frames. */
const incomingFrameBytesMax = 64 * 1024 * 1024;
const unreadable = 4000;

/** @throws SyntaxError if the url is no valid WebSocket address. */
export function openWire(WebSocket: WebSocketConstructor, url: string, handlers: WireHandlers, traffic: Traffic): Wire {
  traffic.opening(url);
  const socket = new WebSocket(url, [subprotocols.binary]);
  socket.binaryType = "arraybuffer";
  let split: SplitFrame | null = null;
  let gone = false;

  // The handlers stay after drop: `ws` throws if an error has no listener.
  socket.onopen = () => {
    if (!gone) handlers.onOpen();
  };
  socket.onmessage = ({ data }: { data: unknown }) => {
    if (!gone) read(data);
  };
  socket.onerror = () => {
    // The close event that follows says the same.
  };
  socket.onclose = ({ code, reason }: { code: number; reason: string }) => end(code, reason);

  function read(data: unknown): void {
    const bytes = bytesOf(data);
    if (bytes === null) return drop(unreadable, "the message is not binary");
    const rest = cutFrames(split, bytes, incomingFrameBytesMax, freshBuffers, onFrame);
    if (rest === tooLarge) return drop(unreadable, "a frame is longer than any node sends");
    split = rest;
  }

  function onFrame(bytes: Uint8Array, start: number, end: number): boolean {
    let frame: ServerFrame;
    try {
      frame = decodeServerFrame(bytes, start, end);
    } catch (error) {
      drop(unreadable, `a frame is malformed: ${String(error)}`);
      return false;
    }
    traffic.received(frame, end - start);
    handlers.onFrame(frame);
    return !gone;
  }

  function end(code: number, reason: string): void {
    if (gone) return;
    gone = true;
    split = null;
    traffic.closed(code, reason);
    handlers.onClose(code, reason);
  }

  function drop(code: number, reason: string): void {
    end(code, reason);
    socket.close();
  }

  return {
    get isGone() {
      return gone;
    },
    send: (frame) => {
      if (gone) return;
      const { buffer } = encodeClientFrame(frame);
      traffic.sent(frame, buffer.byteLength);
      socket.send(buffer as ArrayBuffer); // it is never shared memory
    },
    close: (code, reason) => socket.close(code, reason),
    drop,
  };
}

/** Buffers are not reused: payloads that wait to be decoded are views into them. */
const freshBuffers: FramePool = {
  take: (bytesMin) => new Uint8Array(2 ** Math.ceil(Math.log2(Math.max(bytesMin, 512)))),
  give: () => {},
};

/** The platform's own. @throws Error where there is none */
export function platformWebSocket(): WebSocketConstructor {
  if (typeof WebSocket === "function") return WebSocket;
  throw new Error(
    'this platform has no WebSocket: install the package "ws" and pass { WebSocket: (await import("ws")).WebSocket }',
  );
}
