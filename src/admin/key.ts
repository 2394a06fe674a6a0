/** The key of the admin port. It allows everything that the port offers. */
import { createHash, timingSafeEqual } from "node:crypto";

/** A short id that names a key in the log without revealing it. */
export function keyId(key: string): string {
  return digest(`flux-gateway admin key\0${key}`).toString("hex").slice(0, 8);
}

/**
 * Whether an Authorization header carries the key. It compares digests, so the time reveals neither length nor prefix.
 */
export function keyCheck(key: string): (authorization: string | undefined) => boolean {
  const wanted = digest(key);
  return (authorization = "") => timingSafeEqual(digest(/^bearer +(\S+) *$/i.exec(authorization)?.[1] ?? ""), wanted);
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
