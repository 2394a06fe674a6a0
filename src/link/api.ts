/**
 * Records of requests to the HTTP API on the port for clients. A reactor takes the request, the main thread answers it.
 * Bodies and answers go over in pieces, and the receiver says how much more it takes: one request fills no ring.
 *
 *     reactor                                         main thread
 *     request (with the body, if it is small)    →
 *                                                ←    more (bytes of the body that may follow)
 *     body, body, …                              →
 *                                                ←    head (with the answer, if it is small)
 *                                                ←    piece, piece, …
 *     sent (bytes that the client's socket took) →
 *     gone (the client has disconnected)         →
 *                                                ←    drop (disconnect the client)
 *
 * `slot` and `life` name a request of a reactor: slots are used again, and `life` tells the requests of a slot apart.
 */
import { textBytesMax, type Link, type RecordReader } from "./link.ts";
import { kinds } from "./records.ts";
import { ringRecordMax } from "./ring.ts";

/** The kinds of these records are the highest. */
export const firstApiKind = kinds.apiRequest;

/** Headers that a client sends alike with many of its requests, and those that a request has of its own. */
const commonHeaders = ["host", "authorization", "content-type", "origin", "sec-fetch-site"] as const;
const ownHeaders = ["content-length", "idempotency-key", "x-request-id", "last-event-id"] as const;
/** Headers that the main thread gets, in this order. */
export const passedHeaders = [...commonHeaders, ...ownHeaders] as const;

/** Bytes of a body or an answer in one record. */
export function pieceBytes(ringBytes: number): number {
  return Math.min(16_384, ringRecordMax(ringBytes) / 4);
}

/** Bytes of one body or answer that may be on the way to the other end. */
export function windowBytes(ringBytes: number): number {
  return Math.min(65_536, ringBytes / 4);
}

export interface RequestId {
  readonly slot: number;
  readonly life: number;
}

export interface RequestRecord extends RequestId {
  /** Address, method, URL and the common headers, each on a line: the same text for many requests. */
  readonly head: string;
  /** The headers of its own, each on a line; "": it has none that matters. */
  readonly own: string;
  /** All of it; null: it follows. */
  readonly body: Uint8Array | null;
}

/** Whether a request fits into a record. */
export function fitsRecord(ringBytes: number, { head, own }: RequestHead): boolean {
  return requestBytes(head, own) + pieceBytes(ringBytes) <= ringRecordMax(ringBytes);
}

function requestBytes(head: string, own: string): number {
  return 17 + textBytesMax(head) + textBytesMax(own);
}

export type RequestHead = Pick<RequestRecord, "head" | "own">;

/** @param values of `passedHeaders`. */
export function requestHead(address: string, method: string, url: string, values: readonly string[]): RequestHead {
  let head = `${address}\n${method}\n${url}`;
  for (let i = 0; i < commonHeaders.length; i++) head += `\n${values[i]!}`;
  const [length, key, id, last] = [values[commonHeaders.length]!, values[commonHeaders.length + 1]!, values[commonHeaders.length + 2]!, values[commonHeaders.length + 3]!];
  // A small body is in the same record.
  const isPlain = key === "" && id === "" && last === "" && length.length <= smallDigits;
  return { head, own: isPlain ? "" : `${length}\n${key}\n${id}\n${last}` };
}

const smallDigits = 4;

/** The lines of both texts. Null: a header has a line break in it. */
export function readLines({ head, own }: RequestHead): { readonly from: string; readonly method: string; readonly url: string; readonly values: readonly string[] } | null {
  const [from = "", method = "", url = "", ...common] = head.split("\n");
  const values = own === "" ? ownHeaders.map(() => "") : own.split("\n");
  return common.length === commonHeaders.length && values.length === ownHeaders.length ? { from, method, url, values: [...common, ...values] } : null;
}

/** @returns false where the other end lags too far. */
export function writeRequest(link: Link, { slot, life }: RequestId, { head, own }: RequestHead, body: Uint8Array | null): boolean {
  if (!link.begin(kinds.apiRequest, requestBytes(head, own) + (body?.length ?? 0), false)) return false;
  link.u32(slot);
  link.u32(life);
  link.u8(body === null ? 0 : 1);
  link.text(head);
  link.text(own);
  if (body !== null) link.blob(body);
  link.endInTurn();
  return true;
}

/** The body lies in the ring, and is valid until the record has been handled. */
export function readRequest(r: RecordReader): RequestRecord {
  const slot = r.u32();
  const life = r.u32();
  const isWhole = r.u8() === 1;
  const head = r.text();
  const own = r.text();
  return { slot, life, head, own, body: isWhole ? r.blob() : null };
}

/** A piece of a body, or of an answer. */
export function writePiece(link: Link, kind: typeof kinds.apiBody | typeof kinds.apiPiece, { slot, life }: RequestId, piece: Uint8Array, isLast: boolean): void {
  link.begin(kind, 16 + piece.length, true);
  link.u32(slot);
  link.u32(life);
  link.u8(isLast ? 1 : 0);
  link.blob(piece);
  link.endInTurn();
}

/** The piece lies in the ring. */
export function readPiece(r: RecordReader): RequestId & { readonly isLast: boolean; readonly piece: Buffer } {
  const slot = r.u32();
  const life = r.u32();
  const isLast = r.u8() === 1;
  return { slot, life, isLast, piece: r.blob() };
}

/** So many bytes of the body may follow, or were sent to the client. */
export function writeBytes(link: Link, kind: typeof kinds.apiMore | typeof kinds.apiSent, { slot, life }: RequestId, bytes: number): void {
  link.begin(kind, 12, true);
  link.u32(slot);
  link.u32(life);
  link.u32(bytes);
  link.end();
}

export function readBytes(r: RecordReader): RequestId & { readonly bytes: number } {
  const slot = r.u32();
  const life = r.u32();
  return { slot, life, bytes: r.u32() };
}

export function writeEnd(link: Link, kind: typeof kinds.apiGone | typeof kinds.apiDrop, { slot, life }: RequestId): void {
  link.begin(kind, 8, true);
  link.u32(slot);
  link.u32(life);
  link.end();
}

export function readId(r: RecordReader): RequestId {
  const slot = r.u32();
  return { slot, life: r.u32() };
}

export interface AnswerHead {
  readonly status: number;
  /** Names and values in turn, each on a line. */
  readonly headers: string;
  /** Bytes of the whole answer; -1: it has no length, and ends with its last piece. */
  readonly total: number;
}

/** @param text the whole answer, where it is small. */
export function writeHead(link: Link, { slot, life }: RequestId, { status, headers, total }: AnswerHead, text: string | null): void {
  link.begin(kinds.apiHead, 25 + textBytesMax(headers) + textBytesMax(text ?? ""), true);
  link.u32(slot);
  link.u32(life);
  link.u32(status);
  link.f64(total);
  link.u8(text === null ? 0 : 1);
  link.text(headers);
  if (text !== null) link.text(text);
  link.endInTurn();
}

/** The answer lies in the ring. */
export function readHead(r: RecordReader): RequestId & AnswerHead & { readonly body: Buffer | null } {
  const slot = r.u32();
  const life = r.u32();
  const status = r.u32();
  const total = r.f64();
  const isWhole = r.u8() === 1;
  const headers = r.text();
  return { slot, life, status, total, headers, body: isWhole ? r.blob() : null };
}
