/** Reads the bodies of requests, within bounds: of each, of all together, and of how deep they are nested. */
import { isUtf8 } from "node:buffer";
import type { Exchange } from "./exchange/exchange.ts";
import { refusal, type Refusal } from "../protocol/problems.ts";
import { scan } from "./scan.ts";

export const bodyBytesMax = 1_048_576;
/** Of all bodies that are being read, or wait for their answers. */
const allBytesMax = 64 * 1_048_576;
/** A payload may be nested 100 deep, and stands inside of an item of an array. */
const depthMax = 103;

/** A request whose body is read. */
export interface Reading {
  readonly exchange: Exchange;
  bodyBytes: number;
}

export interface Body {
  readonly value: unknown;
  readonly bytes: Uint8Array;
  /** Of `data` in the bytes (scan.ts). */
  readonly spans: readonly number[];
}

export class Bodies {
  #bytes = 0;

  /** @param done called once, unless the client disconnects first. Whoever calls releases the request's bytes later. */
  read(reading: Reading, done: (body: Body | null, refused: Refusal | null) => void): void {
    const { exchange } = reading;
    if (Number(exchange.headers["content-length"]) > bodyBytesMax) return done(null, tooLarge());
    let first: Buffer | null = null;
    let more: Buffer[] | null = null;
    let isOver = false;
    const end = (body: Body | null, refused: Refusal | null) => {
      isOver = true;
      done(body, refused);
    };
    exchange.receive((chunk) => {
      if (isOver) return;
      if (chunk === null) return end(...read(more === null ? (first ?? nothing) : Buffer.concat(more)));
      reading.bodyBytes += chunk.length;
      this.#bytes += chunk.length;
      if (reading.bodyBytes > bodyBytesMax) return end(null, tooLarge());
      if (this.#bytes > allBytesMax) return end(null, refusal("overloaded", "the bodies of all requests are too large together; try again"));
      if (first === null) first = chunk;
      else (more ??= [first]).push(chunk);
    });
  }

  /** The request has been answered, or its client has disconnected. */
  release({ bodyBytes }: Reading): void {
    this.#bytes -= bodyBytes;
  }
}

function read(bytes: Buffer): [body: Body | null, refused: Refusal | null] {
  const { depth, spans } = scan(bytes);
  if (depth > depthMax) return [null, refusal("bad_request", `body: nested more than ${depthMax} deep`)];
  if (!isUtf8(bytes)) return [null, refusal("bad_request", "body: is not valid UTF-8")];
  try {
    return [{ value: JSON.parse(bytes.toString()) as unknown, bytes, spans }, null];
  } catch {
    return [null, refusal("bad_request", "body: is not valid JSON")];
  }
}

const nothing = Buffer.alloc(0);

function tooLarge(): Refusal {
  return refusal("too_large", `body: at most ${bodyBytesMax.toLocaleString("en")} bytes`);
}
