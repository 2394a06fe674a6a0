/**
 * Texts for uWS. Its binary for Node 24 (3.0.6) sends a string whose characters all fit into a byte as those bytes: "ä"
 * as E4, which is not UTF-8, and browsers close the socket over it. Its binaries for Node 20 and 22 encode every string.
 */
const beyondAscii = /[^\0-\x7f]/;

/** The same text, as bytes where uWS could send it wrongly. For everything a client or the configuration may have named. */
export function safeText(text: string): string | Buffer {
  return beyondAscii.test(text) ? Buffer.from(text) : text;
}

/** JSON of the same value in ASCII. */
export function asciiJson(json: string): string {
  return beyondAscii.test(json) ? json.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`) : json;
}
