/** A request to the port for clients: a reactor has its socket (link/api.ts). */
import type { Link } from "../../link/link.ts";
import { writeBytes, writeEnd, writeHead, writePiece, type AnswerHead, type RequestId } from "../../link/api.ts";
import { kinds } from "../../link/records.ts";
import type { Exchange, Headers } from "./exchange.ts";

/** What exchanges share of their reactor. */
export interface ReactorEnd {
  readonly link: Link;
  readonly pieceBytes: number;
  /** Bytes that may be on the way. */
  readonly windowBytes: number;
  /** The link is full: call `goOn` when it has room. */
  wait(exchange: LinkExchange): void;
  /** The exchange is over. */
  free(exchange: LinkExchange): void;
}

export interface LinkRequest extends RequestId {
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  readonly from: string;
  /** All of it; null: it follows. */
  readonly body: Buffer | null;
}

export class LinkExchange implements Exchange {
  readonly slot: number;
  readonly life: number;
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  readonly from: string;
  readonly localAddress = "";
  hasBegun = false;
  isOver = false;
  readonly #end: ReactorEnd;
  readonly #body: Buffer | null;
  #onPiece: ((piece: Buffer | null) => void) | null = null;
  /** Bytes of the body that were received since the reactor was told to send more. */
  #taken = 0;
  #onOver: (() => void) | (() => void)[] | null = null;
  /** Not yet sent: the head, with the whole answer where it is small; then pieces. */
  #head: AnswerHead | null = null;
  #text: string | null = null;
  #pieces: Buffer[] = [];
  #queuedBytes = 0;
  /** Sent to the reactor, but not by it. */
  #onTheWay = 0;
  #isEnded = false;
  #onRoom: (() => void)[] = [];

  constructor({ slot, life, method, url, headers, from, body }: LinkRequest, end: ReactorEnd) {
    this.slot = slot;
    this.life = life;
    this.method = method;
    this.url = url;
    this.headers = headers;
    this.from = from;
    this.#body = body;
    this.#end = end;
  }

  onOver(callback: () => void): void {
    if (this.#onOver === null) this.#onOver = callback;
    else if (typeof this.#onOver === "function") this.#onOver = [this.#onOver, callback];
    else this.#onOver.push(callback);
  }

  receive(onPiece: (piece: Buffer | null) => void): void {
    if (this.#body === null) {
      this.#onPiece = onPiece;
      return writeBytes(this.#end.link, kinds.apiMore, this, this.#end.windowBytes);
    }
    onPiece(this.#body);
    onPiece(null);
  }

  answer(status: number, headers: string[], text: string): void {
    if (this.isOver || this.hasBegun) return;
    this.hasBegun = true;
    this.#isEnded = true;
    const total = Buffer.byteLength(text);
    this.#head = { status, headers: headers.join("\n"), total };
    if (total <= this.#end.pieceBytes || this.method === "HEAD") this.#text = this.method === "HEAD" ? "" : text;
    else this.#queue(Buffer.from(text));
    this.#send();
  }

  begin(headers: readonly string[]): void {
    if (this.isOver || this.hasBegun) return;
    this.hasBegun = true;
    this.#head = { status: 200, headers: headers.join("\n"), total: -1 };
    this.#send();
  }

  write(text: string): void {
    if (this.isOver || this.#isEnded) return;
    this.#queue(Buffer.from(text));
    this.#send();
  }

  get isFull(): boolean {
    return !this.isOver && this.#queuedBytes + this.#onTheWay >= this.#end.windowBytes;
  }

  drained(): Promise<void> {
    return new Promise((resolve) => {
      if (this.isFull) this.#onRoom.push(resolve);
      else resolve();
    });
  }

  end(): void {
    if (this.isOver || this.#isEnded) return;
    this.#isEnded = true;
    this.#queue(nothing);
    this.#send();
  }

  drop(): void {
    if (this.isOver) return;
    writeEnd(this.#end.link, kinds.apiDrop, this);
    this.gone();
  }

  // ------------------------------------------------------------------------------- what the reactor tells

  /** @param piece is copied. */
  received(piece: Uint8Array, isLast: boolean): void {
    const onPiece = this.#onPiece;
    if (onPiece === null || this.isOver) return;
    if (piece.length > 0) onPiece(Buffer.from(piece));
    if (isLast) {
      this.#onPiece = null;
      return onPiece(null);
    }
    this.#taken += piece.length;
    // Once it is answered, the rest is of no use.
    if (this.#taken < this.#end.windowBytes / 2 || this.hasBegun) return;
    writeBytes(this.#end.link, kinds.apiMore, this, this.#taken);
    this.#taken = 0;
  }

  sent(bytes: number): void {
    this.#onTheWay -= bytes;
    this.goOn();
  }

  /** There is room on the link, or in the client's socket. */
  goOn(): void {
    this.#send();
    if (!this.isFull) for (const resolve of this.#onRoom.splice(0)) resolve();
  }

  /** Nothing can be sent any more. */
  gone(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#pieces = [];
    this.#end.free(this);
    const callbacks = this.#onOver;
    this.#onOver = null;
    if (typeof callbacks === "function") callbacks();
    else for (const callback of callbacks ?? []) callback();
    for (const resolve of this.#onRoom.splice(0)) resolve();
  }

  #queue(bytes: Buffer): void {
    const { pieceBytes } = this.#end;
    for (let at = 0; at === 0 || at < bytes.length; at += pieceBytes) this.#pieces.push(bytes.subarray(at, at + pieceBytes));
    this.#queuedBytes += bytes.length;
  }

  /** As much as link and client take now. */
  #send(): void {
    if (this.isOver) return;
    const { link, windowBytes } = this.#end;
    if (this.#head !== null) {
      if (link.full) return this.#end.wait(this);
      writeHead(link, this, this.#head, this.#text);
      this.#head = null;
      if (this.#text !== null) return this.gone();
    }
    while (this.#pieces.length > 0 && this.#onTheWay < windowBytes) {
      if (link.full) return this.#end.wait(this);
      const piece = this.#pieces.shift()!;
      const isLast = this.#isEnded && this.#pieces.length === 0;
      this.#queuedBytes -= piece.length;
      this.#onTheWay += piece.length;
      writePiece(link, kinds.apiPiece, this, piece, isLast);
      if (isLast) return this.gone();
    }
  }
}

const nothing = Buffer.alloc(0);
