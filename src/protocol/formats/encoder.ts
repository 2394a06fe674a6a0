/**
 * Encodes frames of the node in a session's format, named by its index. Each result is one whole WebSocket message,
 * valid until the next call.
 */
import { errors, type ErrorCode } from "../../errors.ts";
import { ServerFrameEncoder, type PageHead, type PageKind } from "../codec.ts";
import { formats } from "./formats.ts";
import type { ServerFrame } from "../messages.ts";

export class Encoder {
  /** Also makes the bodies of publications, which logs store and all formats start from. */
  readonly binary: ServerFrameEncoder;

  constructor(bytes: number) {
    this.binary = new ServerFrameEncoder(bytes);
  }

  frame(wire: number, frame: ServerFrame): Uint8Array {
    return formats[wire]!.frame(this.binary, frame);
  }

  page<K extends PageKind>(wire: number, kind: K, id: number, head: PageHead[K], bodies: readonly Uint8Array[]): Uint8Array {
    return formats[wire]!.page(this.binary, kind, id, head, bodies);
  }

  /** An error reply. `text` replaces the text of the table with a more precise one. */
  error(wire: number, id: number, code: ErrorCode, text?: string): Uint8Array {
    const { retryable } = errors[code];
    return this.frame(wire, { id, error: { code, text: text ?? errors[code].text, retryable } });
  }
}
