/** The wire formats there are. Hub, reactor and link name them by their index, which is the order here. */
import { binary } from "./binary.ts";
import type { WireFormat } from "./format.ts";
import { json } from "./json.ts";

export const formats: readonly WireFormat[] = [binary, json];
export const formatCount = formats.length;

/** What a socket without a subprotocol speaks: raw TCP, and WebSockets that offer none. */
export const defaultFormat = formats.indexOf(binary);

/** -1: there is no such subprotocol. */
export function formatOfSubprotocol(subprotocol: string): number {
  return formats.findIndex((format) => format.subprotocol === subprotocol);
}
