/** What applications pass, checked before it is sent: the node closes a socket on which it cannot read a frame. */

/** The bytes of a buffer or of a view on one, also of another realm; null for anything else. No copy. */
export function bytesOf(value: unknown): Uint8Array | null {
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return /^\[object (Shared)?ArrayBuffer/.test(tagOf(value)) ? new Uint8Array(value as ArrayBuffer) : null;
}

/** Such as `[object Map]`: `instanceof` does not know those of another realm. */
export function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value);
}

/** Why a node would not take the name of a device, or null. */
export function deviceProblem(device: string): string | null {
  if (/[\p{Cc}]/u.test(device)) return "device: has a control character";
  return new TextEncoder().encode(device).length > 128 ? "device: longer than 128 bytes" : problemOf(device, "device");
}

/** Why a field cannot be sent, or null. */
export function problemOf(value: unknown, name = ""): string | null {
  if (typeof value === "string") return /\p{Surrogate}/u.test(value) ? `${name}: has half a character (an unpaired surrogate)` : null;
  if (typeof value === "number") return Number.isSafeInteger(value) && value >= 0 ? null : `${name}: ${value} is no whole number from 0 to 2^53`;
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return null;
  for (const [key, field] of Object.entries(value)) {
    const problem = problemOf(field, Array.isArray(value) ? name : key);
    if (problem !== null) return problem;
  }
  return null;
}
