/** Frames of the scripted node in all wire formats, and how they read in a report. */
import { encodeServerJson, decodeClientJson } from "../protocol/formats/json.ts";
import { BadFrame } from "../protocol/formats/format.ts";
import { decodeClientFrame } from "../protocol/codec.ts";
import { BufferPool, cutFrames, frame as withLength, tooLarge, type SplitFrame } from "../protocol/framing.ts";
import { ServerFrame, type ClientFrame } from "../protocol/messages.ts";
import { Failure } from "./failure.ts";

export type FormatName = "protobuf" | "JSON" | "JSON arrays";
/** Bytes of a frame: what `ready` tells the client. */
export const frameBytesMax = 65_536;

/** Messages for the socket. Protobuf is a stream of bytes, an array holds all frames, and plain JSON has a message for each. */
export function encode(format: FormatName, frames: readonly ServerFrame[]): readonly (Uint8Array | string)[] {
  if (format === "protobuf") return [Buffer.concat(frames.map((frame) => withLength(ServerFrame.encode(frame).finish())))];
  const texts = frames.map(encodeServerJson);
  return format === "JSON" ? texts : [`[${texts.join()}]`];
}

/** Reads what a client sends, message by message. */
export class Reader {
  readonly #format: FormatName;
  readonly #pool = new BufferPool(frameBytesMax);
  #split: SplitFrame | null = null;

  constructor(format: FormatName) {
    this.#format = format;
  }

  /** @throws Failure for what is no frame */
  read(message: Uint8Array, isBinary: boolean): ClientFrame[] {
    if (isBinary !== (this.#format === "protobuf")) throw new Failure(`The client sent a ${isBinary ? "binary" : "text"} message on a socket of ${this.#format}. A node closes it with 3501.`);
    return isBinary ? this.#readBytes(message) : readText(message);
  }

  #readBytes(message: Uint8Array): ClientFrame[] {
    const frames: ClientFrame[] = [];
    let malformed = false;
    const rest = cutFrames(this.#split, message, frameBytesMax, this.#pool, (bytes, start, end) => {
      try {
        // Copied: the buffer is used again.
        frames.push(decodeClientFrame(bytes.slice(start, end), 0, end - start));
        return true;
      } catch {
        malformed = true;
        return false;
      }
    });
    if (malformed) throw new Failure("The client sent bytes that are no ClientFrame of flux.proto. A node closes such a socket with 3501.");
    if (rest === tooLarge) throw new Failure(`The client sent a frame longer than maxFrameBytes (${frameBytesMax}), or none with its length in front: 4 bytes, big-endian.`);
    this.#split = rest;
    return frames;
  }
}

function readText(message: Uint8Array): ClientFrame[] {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(message));
  } catch {
    throw new Failure("The client sent text that is not JSON. A node closes such a socket with 3501.");
  }
  return (Array.isArray(value) ? (value as unknown[]) : [value]).map((one) => {
    const frame = decodeClientJson(one);
    if (frame instanceof BadFrame) throw new Failure(`The client sent a frame that a node refuses with bad_request: ${frame.message}. The frame: ${shorten(JSON.stringify(one))}`);
    return frame;
  });
}

/** The frame as JSON, short enough for a line. */
export function show(frame: ClientFrame | ServerFrame): string {
  const { command: _, ...rest } = frame as ClientFrame & { command?: string };
  try {
    return shorten(encodeServerJson(rest as ServerFrame));
  } catch {
    return `a frame whose payload is not of its format: ${Object.keys(rest).join(", ")}`;
  }
}

function shorten(long: string): string {
  // Terminals, logs and TAP take these for the end of a line.
  const text = long.replace(/[\u2028\u2029]/g, (one) => `\\u${one.charCodeAt(0).toString(16)}`);
  return text.length <= 240 ? text : `${text.slice(0, 239)}…`;
}
