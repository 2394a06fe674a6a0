/** One WebSocket, speaking frames. Knows nothing of sessions; is used once. */
import { decodeServerFrame, encodeClientFrame } from "../../protocol/codec.ts";
import { cutFrames, tooLarge } from "../../protocol/framing.ts";
import type { FramePool, SplitFrame } from "../../protocol/framing.ts";
import { subprotocols } from "../../protocol/messages.ts";
import type { ClientFrame, ServerFrame } from "../../protocol/messages.ts";

/** The part of a WebSocket that the SDK uses: that of browsers, of Node 22, or of the package `ws`. */
export interface WebSocketLike {
  binaryType: string;
  send(data: Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
  // Implementations disagree about the types of their events; the handlers below take what all of them have.
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
  /** The last call; comes exactly once. */
  onClose(code: number, reason: string): void;
};

export type Wire = {
  send(frame: ClientFrame): void;
  /** Says goodbye; onClose comes when the other side has answered. */
  close(code: number, reason: string): void;
  /** Gives the socket up: onClose comes now, without waiting for anyone. The code stays on this side. */
  drop(code: number, reason: string): void;
};

/** A node sends nothing near it. More means that the stream is not what we take it for. */
const incomingFrameBytesMax = 64 * 1024 * 1024;
const unreadable = 4000;

/** @throws SyntaxError if the url is none a WebSocket can have. */
export function openWire(WebSocket: WebSocketConstructor, url: string, handlers: WireHandlers): Wire {
  const socket = new WebSocket(url, [subprotocols.binary]);
  socket.binaryType = "arraybuffer";
  let split: SplitFrame | null = null;
  let gone = false;

  // The handlers stay in place after drop: `ws` throws when an error finds nobody listening.
  socket.onopen = () => {
    if (!gone) handlers.onOpen();
  };
  socket.onmessage = ({ data }: { data: unknown }) => {
    if (!gone) read(data);
  };
  socket.onerror = () => {
    // Says nothing that the close event behind it does not say.
  };
  socket.onclose = ({ code, reason }: { code: number; reason: string }) => end(code, reason);

  function read(data: unknown): void {
    if (!(data instanceof ArrayBuffer)) return drop(unreadable, "a message that is not binary");
    const rest = cutFrames(split, new Uint8Array(data), incomingFrameBytesMax, freshBuffers, onFrame);
    if (rest === tooLarge) return drop(unreadable, "a frame of a length no node sends");
    split = rest;
  }

  function onFrame(bytes: Uint8Array, start: number, end: number): boolean {
    let frame: ServerFrame;
    try {
      frame = decodeServerFrame(bytes, start, end);
    } catch (error) {
      drop(unreadable, `a frame that cannot be read: ${String(error)}`);
      return false;
    }
    handlers.onFrame(frame);
    return !gone;
  }

  function end(code: number, reason: string): void {
    if (gone) return;
    gone = true;
    split = null;
    handlers.onClose(code, reason);
  }

  function drop(code: number, reason: string): void {
    end(code, reason);
    socket.close();
  }

  return {
    send: (frame) => {
      if (!gone) socket.send(encodeClientFrame(frame) as Uint8Array<ArrayBuffer>); // it is not shared memory
    },
    close: (code, reason) => socket.close(code, reason),
    drop,
  };
}

/** Buffers are not used again: payloads which wait to be read are views into them. */
const freshBuffers: FramePool = {
  take: (bytesMin) => new Uint8Array(2 ** Math.ceil(Math.log2(Math.max(bytesMin, 512)))),
  give: () => {},
};
