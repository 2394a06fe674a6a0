/**
 * A wire format: how sessions with its subprotocol read and write frames. A new format is a file beside binary.ts,
 * json.ts and jsonarrays.ts, and an entry in formats.ts. The hub encodes a publication once for each format that has members. The reactor
 * decodes what sockets send, and publishes the hub's frames. No other code knows the form of a frame.
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
   * Every frame has its length in front (framing.ts): one message may hold several frames, and parts of them. `decode`
   * gets one frame, without its length. Otherwise a message is one frame or a batch, and `decode` gets all of it.
   */
  readonly isStream: boolean;
  /** A payload of JSON from `decode` was parsed, and needs no check. */
  readonly parsesPayloads: boolean;

  // ------------------------------------------------------------------------------- client → node

  /**
   * MUST NOT throw: null where the bytes are not of this format. In a stream, byte fields of the frame are views into
   * `bytes`.
   */
  decode(bytes: Uint8Array, start: number, end: number): ClientFrame | BadFrame | Batch | null;

  // ------------------------------------------------------------------------------- node → client
  //
  // `frame` and `page` answer with a whole message, which is valid until the next call. `encoder` is the thread's, to
  // use or not.

  frame(encoder: ServerFrameEncoder, frame: ServerFrame): Uint8Array;
  /** Bytes that `writePublication` writes at most. */
  publicationBytesMax(encoded: EncodedPublication): number;
  /** Writes the live event of one publication, a whole message. */
  writePublication(out: Out, encoded: EncodedPublication): void;
  /** An event that carries publications: `head` is the event without them, `bodies` are their binary bodies. */
  page<K extends PageKind>(encoder: ServerFrameEncoder, kind: K, id: number, head: PageHead[K], bodies: readonly Uint8Array[]): Uint8Array;

  /**
   * Puts a message behind others in `pack`, which end at `at`, so that all together are one message. Returns where that
   * ends: it is no longer than its parts. Null: a message holds one frame.
   */
  readonly append: ((pack: Uint8Array, at: number, message: Uint8Array) => number) | null;

  // ------------------------------------------------------------------------------- sent messages

  /** Whether a message answers a command, by its id. */
  isAnswer(message: Uint8Array): boolean;
  /**
   * The first event of a message to a room's members. Null for any other frame, `noFrame` where the node did not make
   * it. MUST NOT throw: uWS calls it, also with the payload of a client's ping.
   */
  firstOf(message: Uint8Array): FirstEvent | null | typeof noFrame;
}

/**
 * The one place where formats are made, so that all objects have one shape and the calls on the data path stay fast.
 */
export function wireFormat(format: WireFormat): WireFormat {
  const { name, subprotocol, isBinary, isStream, parsesPayloads, decode, frame, publicationBytesMax, writePublication, page, append, isAnswer, firstOf } = format;
  return { name, subprotocol, isBinary, isStream, parsesPayloads, decode, frame, publicationBytesMax, writePublication, page, append, isAnswer, firstOf };
}

/** Where a publication is written: a record of a ring. So its payload is not copied to anywhere else before. */
export interface Out {
  u8(value: number): void;
  raw(bytes: Uint8Array, start: number, end: number): void;
  /** In UTF-8. */
  rawText(text: string): void;
}

/** A publication: its binary body is `start` to `end` of `bytes`. `publication` is the same decoded, where it is at hand. */
export interface EncodedPublication {
  bytes: Uint8Array;
  start: number;
  end: number;
  publication: Publication | null;
}

/** A readable frame that is no valid command: its sender gets `bad_request` with this text. */
export class BadFrame extends Error {
  readonly id: number;
  /** The command that the client meant, as far as the frame shows it. */
  readonly kind: string;

  constructor(id: number, kind: string, text: string) {
    super(text);
    this.id = id;
    this.kind = kind;
  }
}

/**
 * Several frames in one message. Each is decoded when it is needed: the rest costs nothing once its client is closed.
 */
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

/** The publication or presence change that a message begins with. */
export interface FirstEvent {
  readonly room: string;
  /** The seq of a publication, or the version of a presence change. */
  readonly seq: number;
  readonly isPresence: boolean;
}

/** The message is no frame of the node but the payload of a client's ping, which uWS returns in a pong. */
export const noFrame = Symbol("no frame of the node");
