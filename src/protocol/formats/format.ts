/**
 * A wire format: how sessions that chose its subprotocol read and write frames. A third one is a file beside binary.ts and
 * json.ts, and an entry in formats.ts. The hub encodes a publication once for each format that has members; the reactor
 * reads what sockets send and publishes what the hub encoded. Nothing else knows what a frame looks like.
 */
import type { PageHead, PageKind, ServerFrameEncoder } from "../codec.ts";
import type { ClientFrame, Publication, ServerFrame } from "../messages.ts";

/** Members of an object that `wireFormat` makes. All are there in every format: V8 sees one shape. */
export interface WireFormat {
  /** For logs. */
  readonly name: string;
  readonly subprotocol: string;
  /** Its WebSocket messages are binary ones. */
  readonly isBinary: boolean;
  /**
   * Every frame has its length in front (framing.ts): one message may hold several frames, and parts of them. `decode` is
   * given one frame, without its length. Otherwise a message is one frame or a batch, and `decode` is given all of it.
   */
  readonly isStream: boolean;
  /** A payload of JSON that `decode` gives was parsed, and needs no check. */
  readonly parsesPayloads: boolean;

  // ------------------------------------------------------------------------------- client → node

  /** MUST NOT throw: null where the bytes are not of this format. In a stream, byte fields of the frame are views into `bytes`. */
  decode(bytes: Uint8Array, start: number, end: number): ClientFrame | BadFrame | Batch | null;

  // ------------------------------------------------------------------------------- node → client
  //
  // Each answers with a whole message, which is valid until the next call. `encoder` is the thread's, to use or not.

  frame(encoder: ServerFrameEncoder, frame: ServerFrame): Uint8Array;
  /** The live event of one publication: `body` is its binary body, `publication` the same decoded, where it is at hand. */
  publication(encoder: ServerFrameEncoder, body: Uint8Array, publication: Publication | null): Uint8Array;
  /** An event that carries publications: `head` is the event without them, `bodies` are their binary bodies. */
  page<K extends PageKind>(encoder: ServerFrameEncoder, kind: K, id: number, head: PageHead[K], bodies: readonly Uint8Array[]): Uint8Array;

  // ------------------------------------------------------------------------------- what was sent

  /** Whether a message answers a command, by its id. */
  isAnswer(message: Uint8Array): boolean;
  /**
   * What a message to a room's members begins with, null for any other frame, and `noFrame` where it is no frame of ours.
   * MUST NOT throw: it is called inside uWS, and with what the client put into a ping.
   */
  firstOf(message: Uint8Array): FirstEvent | null | typeof noFrame;
}

/** The one place where formats are made, so that all objects have one shape and the calls on the data path stay fast. */
export function wireFormat(format: WireFormat): WireFormat {
  const { name, subprotocol, isBinary, isStream, parsesPayloads, decode, frame, publication, page, isAnswer, firstOf } = format;
  return { name, subprotocol, isBinary, isStream, parsesPayloads, decode, frame, publication, page, isAnswer, firstOf };
}

/** A frame that can be read but is not a command: its sender gets `bad_request` with this text. */
export class BadFrame extends Error {
  readonly id: number;
  /** The command it would have been, as far as that can be seen. */
  readonly kind: string;

  constructor(id: number, kind: string, text: string) {
    super(text);
    this.id = id;
    this.kind = kind;
  }
}

/** Several frames in one message. Each is decoded when it is asked for: the rest costs nothing once its client is closed. */
export class Batch {
  readonly #values: readonly unknown[];
  readonly #decode: (value: unknown) => ClientFrame | BadFrame;

  constructor(values: readonly unknown[], decode: (value: unknown) => ClientFrame | BadFrame) {
    this.#values = values;
    this.#decode = decode;
  }

  get length(): number {
    return this.#values.length;
  }

  at(i: number): ClientFrame | BadFrame {
    return this.#decode(this.#values[i]);
  }
}

/** The publication or the change of presence that a message begins with. */
export interface FirstEvent {
  readonly room: string;
  /** Of a publication its seq, of a change its version. */
  readonly seq: number;
  readonly isPresence: boolean;
}

/** Not a frame of ours: the payload of a ping, which uWS sends back in a pong. */
export const noFrame = Symbol("no frame of the node");
