/** The first characters of a payload, for people. */
const charsMax = 400;

export function preview(payload: Uint8Array): string {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, Math.min(payload.length, charsMax));
  const text = bytes.toString("utf8");
  const isText = !/[\u0000-\u0008\u000e-\u001f\ufffd]/.test(text.slice(0, -1));
  const shownBytes = isText ? charsMax : charsMax / 2;
  const shown = isText ? text.replace(/\ufffd$/, "") : bytes.toString("hex", 0, shownBytes);
  return payload.length > shownBytes ? `${shown}…` : shown;
}
