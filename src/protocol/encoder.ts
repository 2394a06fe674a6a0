/**
 * Frames of the node in the format a session speaks. What comes back is ready for one WebSocket message and
 * valid until the next call.
 */
import { errors, type ErrorCode } from "../errors.ts";
import { ServerFrameEncoder, type PageHead, type PageKind } from "./codec.ts";
import { encodeServerJson, pageJson } from "./json.ts";
import type { ServerFrame } from "./messages.ts";

const toUtf8 = new TextEncoder();

export class Encoder {
  readonly binary: ServerFrameEncoder;

  constructor(bytes: number) {
    this.binary = new ServerFrameEncoder(bytes);
  }

  frame(json: boolean, frame: ServerFrame): Uint8Array {
    return json ? toUtf8.encode(encodeServerJson(frame)) : this.binary.frame(frame);
  }

  page<K extends PageKind>(json: boolean, kind: K, id: number, head: PageHead[K], bodies: readonly Uint8Array[]) {
    return json ? toUtf8.encode(pageJson(kind, id, head, bodies)) : this.binary.page(kind, id, head, bodies);
  }

  /** An error reply; `text` where the table's is not precise enough. */
  error(json: boolean, id: number, code: ErrorCode, text?: string): Uint8Array {
    const { retryable } = errors[code];
    return this.frame(json, { id, error: { code, text: text ?? errors[code].text, retryable } });
  }
}
