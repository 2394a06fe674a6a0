/**
 * Checks payloads of format JSON. The node copies such a payload unchanged into the text for JSON clients, so it must
 * be valid JSON. Its nesting is limited, because a deep one overflows the stack of a recursive parser.
 */
import { isUtf8 } from "node:buffer";
import { Format } from "../protocol/messages.ts";

const depthMax = 100;

/** Why a payload is refused, or null. `parsed`: the wire format has made it from parsed JSON. */
export function payloadProblem(payload: Uint8Array, format: number, parsed: boolean): string | null {
  if (format === Format.BINARY) return null;
  if (format !== Format.JSON) return "format: BINARY or JSON";
  if (!parsed && !isJson(payload)) return "payload: not valid JSON in UTF-8, though its format is JSON";
  return depth(payload) > depthMax ? `payload: nested more than ${depthMax} deep` : null;
}

function isJson(payload: Uint8Array): boolean {
  if (!isUtf8(payload)) return false;
  try {
    JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.length).toString());
    return true;
  } catch {
    return false; // the reply only says that it is no JSON
  }
}

const quote = 0x22;
const backslash = 0x5c;

/** How deep arrays and objects are nested. The bytes must be valid JSON. */
function depth(json: Uint8Array): number {
  let now = 0;
  let most = 0;
  let inString = false;
  for (let i = 0; i < json.length; i++) {
    const byte = json[i]!;
    if (byte === quote) inString = !inString;
    else if (inString) i += byte === backslash ? 1 : 0;
    else if (byte === 0x5b || byte === 0x7b) most = Math.max(most, ++now); // [ {
    else if (byte === 0x5d || byte === 0x7d) now--; // ] }
  }
  return most;
}
