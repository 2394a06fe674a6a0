/** Random identifiers. */
import { randomBytes } from "node:crypto";

/** `bytes` random bytes in base64url: letters, digits, `-` and `_`. */
export function randomId(bytes: number): string {
  return randomBytes(bytes).toString("base64url");
}
