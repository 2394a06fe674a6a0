/** Messages of a single node: there is no other node to send to. */
import type { NodeMessages } from "./messages.ts";

export function createMemoryMessages(): NodeMessages {
  return { send() {}, sendAll() {}, async stop() {} };
}
