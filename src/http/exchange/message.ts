/** A request that came as one message, and whose answer leaves as one: over NATS. */
import type { Exchange } from "./exchange.ts";

export interface Message {
  readonly method: string;
  readonly url: string;
  /** Names in small letters. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** For the log, in place of an address. */
  readonly from: string;
}

export interface MessageAnswer {
  readonly status: number;
  /** JSON. */
  readonly text: string;
}

export class MessageExchange implements Exchange {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly from: string;
  readonly localAddress = "";
  readonly isFull = false;
  isOver = false;
  readonly #body: Uint8Array;
  readonly #done: (answer: MessageAnswer) => void;
  readonly #onOver: (() => void)[] = [];

  /** @param done called once. */
  constructor({ method, url, headers, body, from }: Message, done: (answer: MessageAnswer) => void) {
    this.method = method;
    this.url = url;
    this.headers = headers;
    this.from = from;
    this.#body = body;
    this.#done = done;
  }

  get hasBegun(): boolean {
    return this.isOver;
  }

  onOver(callback: () => void): void {
    this.#onOver.push(callback);
  }

  receive(onPiece: (piece: Buffer | null) => void): void {
    onPiece(Buffer.from(this.#body.buffer, this.#body.byteOffset, this.#body.length));
    onPiece(null);
  }

  answer(status: number, _headers: string[], text: string): void {
    if (this.isOver) return;
    this.isOver = true;
    try {
      this.#done({ status, text });
    } finally {
      for (const callback of this.#onOver) callback();
    }
  }

  /** No call over NATS answers in pieces. */
  begin(): void {
    this.drop();
  }

  write(): void {}

  drained(): Promise<void> {
    return Promise.resolve();
  }

  end(): void {
    this.drop();
  }

  drop(): void {
    this.answer(500, [], "");
  }
}
