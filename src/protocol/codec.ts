/**
 * Binary frames of flux.v1: `[u32 big-endian length][protobuf]`. Each writer keeps one growing buffer, so a frame
 * allocates none. Writers return a view that the next call overwrites.
 */
import protobuf from "protobufjs/minimal.js";
import { ClientFrame, HistoryPage, Joined, Publication, Replay, ServerFrame } from "./messages.ts";
import { bodyBytes, writeBody } from "./publicationbody.ts";

/** Bytes of the length before every frame. */
export const headerBytes = 4;

/** `@throws` protobufjs's error for malformed bytes. Byte fields are views into `bytes`. */
export function decodeClientFrame(bytes: Uint8Array, start: number, end: number): ClientFrame {
  return ClientFrame.decode(at(bytes, start, end));
}

/** `@throws` on malformed bytes. Byte fields are views into `bytes`. */
export function decodeServerFrame(bytes: Uint8Array, start: number, end: number): ServerFrame {
  return ServerFrame.decode(at(bytes, start, end));
}

/** `@throws` on malformed bytes. The payload is a view into `bytes`. */
export function decodePublication(bytes: Uint8Array): Publication {
  return Publication.decode(at(bytes, 0, bytes.length));
}

/** One client frame with its length, in a buffer of its own. */
export function encodeClientFrame(frame: ClientFrame): Uint8Array {
  const writer = protobuf.Writer.create().fixed32(0);
  return withLength(ClientFrame.encode(frame, writer).finish());
}

/**
 * Encodes frames of the node. Publications are encoded once, as bodies (publicationbody.ts). Replays and history pages are
 * made by splicing bodies. Protobuf allows that, since a field's bytes do not depend on its place.
 */
export class ServerFrameEncoder {
  // A body is spliced into the frame while it is still in its own buffer, so there are two.
  readonly #frames: GrowingWriter;
  #body: Uint8Array;
  #bodiesGrown = 0;

  /** @param bytes that each of the two buffers has from the start */
  constructor(bytes: number) {
    this.#frames = new GrowingWriter(bytes);
    this.#body = new Uint8Array(bytes);
  }

  /** Times a buffer had to grow. */
  get grown(): number {
    return this.#frames.grown + this.#bodiesGrown;
  }

  /** The frame with its length; a view that is valid until the next call. */
  frame(frame: ServerFrame): Uint8Array {
    ServerFrame.encode(frame, this.#begin());
    return this.#finish();
  }

  /** A publication without frame or length. Logs store it, and the other methods splice it. */
  body(publication: Publication): Uint8Array {
    const bytes = bodyBytes(publication);
    if (bytes > this.#body.length) {
      this.#body = new Uint8Array(Math.max(bytes, 2 * this.#body.length));
      this.#bodiesGrown++;
    }
    return this.#body.subarray(0, writeBody(this.#body, 0, publication));
  }

  /** An event that carries publications: `head` is the event without them, `bodies` are spliced in. */
  page<K extends PageKind>(kind: K, id: number, head: PageHead[K], bodies: readonly Uint8Array[]): Uint8Array {
    const { type, event, publications } = pages[kind];
    const writer = this.#begin();
    if (id !== 0) writer.uint32(tags.id).uint32(id);
    type.encode(head, writer.uint32(event).fork());
    for (const body of bodies) writer.uint32(publications).bytes(body);
    writer.ldelim();
    return this.#finish();
  }

  #begin(): protobuf.Writer {
    return this.#frames.begin().fixed32(0);
  }

  #finish(): Uint8Array {
    return withLength(this.#frames.view());
  }
}

/** A protobuf writer that keeps its buffer from one message to the next. */
class GrowingWriter {
  grown = 0;
  readonly #writer = new protobuf.Writer();
  #capacity: number;

  constructor(bytes: number) {
    this.#writer.buf = new Uint8Array(bytes);
    this.#capacity = bytes;
  }

  begin(): protobuf.Writer {
    this.#writer.pos = 0;
    this.#writer.states = null; // left over if an encoder threw
    return this.#writer;
  }

  view(): Uint8Array {
    if (this.#writer.buf.length !== this.#capacity) {
      this.#capacity = this.#writer.buf.length;
      this.grown++;
    }
    return this.#writer.finish(true);
  }
}

export type PageKind = "joined" | "replay" | "history";
export interface PageHead {
  joined: Joined;
  replay: Replay;
  history: HistoryPage;
}

/** Field tags of flux.proto for splicing: field number × 8 + wire type. */
const tags = { id: 8 } as const;
const pages = {
  joined: { type: Joined, event: delimited(3), publications: delimited(4) },
  history: { type: HistoryPage, event: delimited(6), publications: delimited(3) },
  replay: { type: Replay, event: delimited(11), publications: delimited(2) },
} as const;

function delimited(field: number): number {
  return field * 8 + 2;
}

/** Writes the frame's length into the 4 bytes that were left for it. */
function withLength(bytes: Uint8Array): Uint8Array {
  const length = bytes.length - headerBytes;
  bytes[0] = length >>> 24;
  bytes[1] = length >>> 16;
  bytes[2] = length >>> 8;
  bytes[3] = length;
  return bytes;
}

/** protobufjs makes a Long of every uint64 when `long` is installed. Ours all fit a number; larger ones are refused. */
class NumberReader extends protobuf.Reader {
  override uint64 = (): never => {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10 && this.pos < this.len; i++) {
      const byte = this.buf[this.pos++]!;
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) throw new RangeError("number over 2^53");
        return value as never;
      }
      scale *= 128;
    }
    throw new RangeError("varint over 10 bytes or cut off");
  };
}

const reader = new NumberReader(new Uint8Array(0));

function at(bytes: Uint8Array, start: number, end: number): NumberReader {
  reader.buf = bytes;
  reader.pos = start;
  reader.len = end;
  return reader;
}
