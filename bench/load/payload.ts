/**
 * Every payload has 128 bytes. Binary: [u32 counter][u32 stamp of the intended sending time][filler]. In text, each of
 * the two numbers is eight hex digits. The counter starts at 1 and grows by one for each payload of a sender.
 */
export const payloadBytes = 128;
/** For tests that overflow a queue: the kernel alone buffers megabytes for each socket. */
export const largePayloadBytes = 1600;

const filler = 0x2e;

export function binaryPayload(bytes = payloadBytes): Buffer {
  return Buffer.alloc(bytes, filler);
}

export function writePayload(bytes: Uint8Array, at: number, counter: number, sentAt: number): void {
  writeUint32(bytes, at, counter);
  writeUint32(bytes, at + 4, sentAt);
}

/** Written by hand, since it runs two million times a second. */
export function readUint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

function writeUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

export function textPayload(counter: number, sentAt: number): string {
  return (hex(counter) + hex(sentAt)).padEnd(payloadBytes, String.fromCharCode(filler));
}

export function readHex(bytes: Uint8Array, at: number): number {
  let value = 0;
  for (let i = 0; i < 8; i++) {
    const char = bytes[at + i]!;
    value = (value << 4) | (char < 0x3a ? char - 0x30 : char - 0x57);
  }
  return value >>> 0;
}

/** Overwrites a number of textPayload in place. */
export function writeHex(bytes: Uint8Array, at: number, value: number): void {
  for (let i = 0; i < 8; i++) {
    const digit = (value >>> (28 - 4 * i)) & 0xf;
    bytes[at + i] = digit < 10 ? 0x30 + digit : 0x57 + digit;
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(8, "0");
}
