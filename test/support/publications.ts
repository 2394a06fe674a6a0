/** Publications as the hub writes them into rings: the whole message of a format, in bytes of its own. */
import type { EncodedPublication, Out } from "../../src/protocol/formats/format.ts";
import { formats } from "../../src/protocol/formats/formats.ts";
import { Format, type Publication } from "../../src/protocol/messages.ts";
import { bodyBytes, writeBody } from "../../src/protocol/publicationbody.ts";

export function bodyOf(publication: Publication): Uint8Array {
  const body = new Uint8Array(bodyBytes(publication));
  if (writeBody(body, 0, publication) !== body.length) throw new Error("the body is shorter than was said");
  return body;
}

/** Fields that are left out are empty. */
export function encoded(fields: Publication): EncodedPublication {
  const publication = { room: "", epoch: "", seq: 0, prev: 0, sender: "", time: 0, payload: new Uint8Array(0), format: Format.BINARY, ...fields };
  const bytes = bodyOf(publication);
  return { bytes, start: 0, end: bytes.length, publication };
}

export function messageOf(wire: number, publication: EncodedPublication): Buffer {
  const format = formats[wire]!;
  const out = new Message(format.publicationBytesMax(publication));
  format.writePublication(out, publication);
  return out.written;
}

/** Throws where more is written than was said. */
export class Message implements Out {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytesMax: number) {
    this.#bytes = Buffer.alloc(bytesMax);
  }

  get written(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  /** Begins again. */
  clear(): void {
    this.#at = 0;
  }

  u8(value: number): void {
    this.#at = this.#bytes.writeUInt8(value, this.#at);
  }

  raw(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes.set(bytes.subarray(start, end), this.#at);
    this.#at += end - start;
  }

  rawText(text: string): void {
    const bytes = Buffer.from(text);
    this.raw(bytes, 0, bytes.length);
  }
}
