/** Payloads as the HTTP API takes and gives them: JSON as `data`, bytes as `b64`. */
import { payloadOf, type Payload } from "../api/checks.ts";
import { ApiError } from "../api/error.ts";
import type { Stored } from "../broker/broker.ts";
import { payloadProblem } from "../reactor/payload.ts";
import { Format } from "../protocol/messages.ts";
import { cursorOf } from "./cursor.ts";

export interface Content {
  readonly data?: unknown;
  readonly b64?: string | undefined;
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** @param text the bytes of `data`, where they are known. @throws ApiError */
export function payloadIn({ data, b64 }: Content, text: Uint8Array | null, bytesMax: number): Payload {
  if (b64 === undefined) {
    if (data === undefined) throw new ApiError("bad_request", "data: is missing; give data or b64");
    return text === null ? payloadOf(data, bytesMax) : jsonPayload(text, bytesMax);
  }
  if (data !== undefined) throw new ApiError("bad_request", "b64: give either data or b64");
  if (!base64.test(b64)) throw new ApiError("bad_request", "b64: must be Base64, with padding");
  return payloadOf(new Uint8Array(Buffer.from(b64, "base64")), bytesMax);
}

function jsonPayload(payload: Uint8Array, bytesMax: number): Payload {
  if (payload.length > bytesMax) throw new ApiError("too_large", `data: at most ${bytesMax} bytes (frameBytesMax)`);
  const problem = payloadProblem(payload, Format.JSON, true);
  if (problem !== null) throw new ApiError("bad_request", problem);
  return { payload, format: Format.JSON };
}

/** The JSON text of a publication. A JSON payload stands in it as it was published. */
export function shownText({ epoch, seq, sender, time, payload, format }: Pick<Stored, "epoch" | "seq" | "sender" | "time" | "payload" | "format">): string {
  const head = JSON.stringify({ position: cursorOf({ epoch, seq }), sender, time: timeText(time) }).slice(0, -1);
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  const text = format === Format.JSON ? bytes.toString() : "";
  return isJson(text) ? `${head},"data":${text}}` : `${head},"b64":"${bytes.toString("base64")}"}`;
}

/** A time that no date can show, as another program in NATS may have written it, is shown as 1970. */
function timeText(ms: number): string {
  return new Date(Math.abs(ms) <= dateMax ? ms : 0).toISOString();
}

const dateMax = 8.64e15;

/** Nodes check JSON before they publish it. Another program in NATS may not have: its bytes say more than nothing. */
function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
