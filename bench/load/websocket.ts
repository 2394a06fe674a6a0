/**
 * The part of RFC 6455 that a load client needs, at less cost than the servers'. Frames are read in place, as offsets
 * into the received bytes. No memory is allocated per frame.
 */
export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

export const finalBit = 0x80;
export const opcodeBits = 0x0f;

/** Receives every complete frame: its first byte (FIN, RSV, opcode) and the offsets of its payload in `bytes`. */
export interface FrameSink {
  frame(first: number, bytes: Buffer, start: number, end: number): void;
}

/**
 * Cuts server frames (never masked) from `bytes`. Returns the start of the first incomplete frame.
 *
 *     [FIN RSV×3 opcode×4][0 length×7][u16 length if 126 | u64 length if 127][payload]
 */
export function cutFrames(bytes: Buffer, start: number, end: number, sink: FrameSink): number {
  let at = start;
  while (end - at >= 2) {
    let length = bytes[at + 1]!;
    let payload = at + 2;
    if (length > 125) {
      if (length > 127) throw new Error("the server masked a frame");
      payload = at + (length === 126 ? 4 : 10);
      if (payload > end) return at;
      length = length === 126 ? bytes.readUInt16BE(at + 2) : readLength64(bytes, at + 2);
    }
    const next = payload + length;
    if (next > end) return at;
    sink.frame(bytes[at]!, bytes, payload, next);
    at = next;
  }
  return at;
}

function readLength64(bytes: Buffer, at: number): number {
  const length = bytes.readUInt32BE(at) * 0x1_0000_0000 + bytes.readUInt32BE(at + 4);
  if (length > Number.MAX_SAFE_INTEGER) throw new Error("the server announced a frame of 2^53 bytes or more");
  return length;
}

/** The example of RFC 6455. A browser uses a random mask per frame; unmasking costs the server the same. */
const mask = [0x37, 0xfa, 0x21, 0x3d] as const;

/** A message as one masked frame, in its own buffer: the socket may keep it until it is written. */
export function maskedFrame(opcode: number, payload: Uint8Array): Buffer {
  const length = payload.length;
  const lengthBytes = length < 126 ? 0 : length < 65536 ? 2 : 8;
  const body = 2 + lengthBytes + 4;
  const frame = Buffer.allocUnsafe(body + length);
  frame[0] = finalBit | opcode;
  frame[1] = finalBit | (lengthBytes === 0 ? length : lengthBytes === 2 ? 126 : 127);
  if (lengthBytes === 2) frame.writeUInt16BE(length, 2);
  if (lengthBytes === 8) frame.writeBigUInt64BE(BigInt(length), 2);
  for (let i = 0; i < 4; i++) frame[body - 4 + i] = mask[i]!;
  for (let i = 0; i < length; i++) frame[body + i] = payload[i]! ^ mask[i & 3]!;
  return frame;
}
