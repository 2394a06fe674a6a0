/**
 * Finds in a body how deep it is nested, and where the value of each `data` begins and ends. These bytes become the
 * payload as they are: no number loses digits, and nothing is written anew.
 */

export interface Scanned {
  /** How deep arrays and objects are nested. */
  readonly depth: number;
  /** Begin and end of `data` in each item: the body, or each element of an array. -1: it has none, or not as a plain key. */
  readonly spans: readonly number[];
}

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;
const colon = 0x3a;
const [openArray, closeArray, openObject, closeObject] = [0x5b, 0x5d, 0x7b, 0x7d];

/** @param json may be anything. Only for valid JSON the result means something. */
export function scan(json: Uint8Array): Scanned {
  const spans: number[] = [];
  let depth = 0;
  let deepest = 0;
  /** Depth within an item: 1 for an object alone, 2 in an array. */
  let level = 0;
  let isKey = false;
  let isData = false;
  let valueAt = -1;
  for (let i = 0; i < json.length; i++) {
    const byte = json[i]!;
    if (byte === quote) {
      const start = i + 1;
      let isPlain = true;
      for (i = start; i < json.length && json[i] !== quote; i++) {
        if (json[i] !== backslash) continue;
        isPlain = false;
        i++;
      }
      if (!isKey || depth !== level) continue;
      isKey = false;
      isData = i - start === 4 && json[start] === 0x64 && json[start + 1] === 0x61 && json[start + 2] === 0x74 && json[start + 3] === 0x61;
      // Written with escapes, another key may be "data" too.
      if (!isPlain && spans.length > 0) spans[spans.length - 1] = spans[spans.length - 2] = notPlain;
    } else if (byte === openObject || byte === openArray) {
      if (level === 0) level = byte === openObject ? 1 : 2;
      depth++;
      if (depth > deepest) deepest = depth;
      if (depth !== level || byte !== openObject) continue;
      spans.push(none, none);
      isKey = true;
      isData = false;
    } else if (depth !== level) {
      if (byte === closeObject || byte === closeArray) depth--;
    } else if (byte === colon) {
      if (isData) valueAt = i + 1;
    } else if (byte === comma || byte === closeObject) {
      if (valueAt >= 0) setSpan(spans, json, valueAt, i);
      valueAt = -1;
      isData = false;
      isKey = byte === comma;
      if (byte === closeObject) depth--;
    } else if (byte === closeArray) depth--;
  }
  return { depth: deepest, spans };
}

const none = -1;
const notPlain = -2;

function setSpan(spans: number[], json: Uint8Array, from: number, to: number): void {
  if (spans.length === 0 || spans[spans.length - 1] === notPlain) return;
  while (from < to && isSpace(json[from]!)) from++;
  while (to > from && isSpace(json[to - 1]!)) to--;
  spans[spans.length - 2] = from;
  spans[spans.length - 1] = to;
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
