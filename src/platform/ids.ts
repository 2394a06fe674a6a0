/** Random identifiers. */
import { randomFillSync } from "node:crypto";

/** One call of the system's generator takes as long as 4 KiB of its bytes (9 µs), and every new session has an identifier. */
const pool = Buffer.allocUnsafe(4096);
let used = pool.length;

/** `bytes` random bytes, at most 64, in base64url: letters, digits, `-` and `_`. */
export function randomId(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const id = pool.toString("base64url", used, used + bytes);
  // A copy of the memory tells nobody an identifier that may be a secret.
  pool.fill(0, used, used + bytes);
  used += bytes;
  return id;
}
