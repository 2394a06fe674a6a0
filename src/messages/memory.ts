/** A node that is alone has nobody to tell anything. */
import type { NodeMessages } from "./messages.ts";

export function createMemoryMessages(): NodeMessages {
  return { send() {}, sendAll() {}, async stop() {} };
}
