/** All wire formats. Hub, reactor and link name them by their index in this array. */
import { binary } from "./binary.ts";
import type { WireFormat } from "./format.ts";
import { json } from "./json.ts";
import { jsonArrays } from "./jsonarrays.ts";

export const formats: readonly WireFormat[] = [binary, json, jsonArrays];
export const formatCount = formats.length;

/** The format of sockets without a subprotocol: raw TCP, and WebSockets that offer none. */
export const defaultFormat = formats.indexOf(binary);

/** -1: no format has this subprotocol. */
export function formatOfSubprotocol(subprotocol: string): number {
  return formats.findIndex((format) => format.subprotocol === subprotocol);
}
