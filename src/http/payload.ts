/** Payloads as the HTTP API takes and gives them: JSON as `data`, bytes as `b64`. */
import { payloadOf, type Payload } from "../api/checks.ts";
import { ApiError } from "../api/error.ts";
import type { Stored } from "../broker/broker.ts";
import { Format } from "../protocol/messages.ts";
import { cursorOf } from "./cursor.ts";

export interface Content {
  readonly data?: unknown;
  readonly b64?: string | undefined;
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** @throws ApiError */
export function payloadIn({ data, b64 }: Content, bytesMax: number): Payload {
  if (b64 === undefined) {
    if (data === undefined) throw new ApiError("bad_request", "data: is missing; give data or b64");
    return payloadOf(data, bytesMax);
  }
  if (data !== undefined) throw new ApiError("bad_request", "b64: give either data or b64");
  if (!base64.test(b64)) throw new ApiError("bad_request", "b64: must be Base64, with padding");
  return payloadOf(new Uint8Array(Buffer.from(b64, "base64")), bytesMax);
}

export interface ShownPublication extends Content {
  readonly position: string;
  readonly sender: string;
  readonly time: string;
}

export function shown({ epoch, seq, sender, time, payload, format }: Pick<Stored, "epoch" | "seq" | "sender" | "time" | "payload" | "format">): ShownPublication {
  return { position: cursorOf({ epoch, seq }), sender, time: new Date(time).toISOString(), ...contentOf(payload, format) };
}

export function contentOf(payload: Uint8Array, format: number): Content {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  if (format === Format.JSON) {
    try {
      return { data: JSON.parse(bytes.toString()) as unknown };
    } catch {
      // Nodes check JSON before they publish it. Another program in NATS may not have: its bytes say more than nothing.
    }
  }
  return { b64: bytes.toString("base64") };
}
