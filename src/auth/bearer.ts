/** Keys that stand in a header, as they are read and compared. */
import { hash, timingSafeEqual } from "node:crypto";

const bearer = /^bearer +(\S+) *$/i;

/** The credential in an Authorization header. "": it has none of this kind. */
export function bearerIn(authorization: string): string {
  return bearer.exec(authorization)?.[1] ?? "";
}

/** Digests are compared, so the time reveals neither length nor prefix. */
export function isSame(text: string, wanted: Buffer): boolean {
  return timingSafeEqual(digest(text), wanted);
}

export function digest(text: string): Buffer {
  return hash("sha256", text, "buffer");
}
