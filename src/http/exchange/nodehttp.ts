/** A request to a port of node:http. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Exchange, Headers } from "./exchange.ts";

export class NodeExchange implements Exchange {
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;

  constructor(req: IncomingMessage, res: ServerResponse) {
    this.#req = req;
    this.#res = res;
  }

  get method(): string {
    return this.#req.method ?? "";
  }

  get url(): string {
    return this.#req.url ?? "";
  }

  get headers(): Headers {
    return this.#req.headers;
  }

  get from(): string {
    return this.#req.socket.remoteAddress ?? "unknown";
  }

  get localAddress(): string {
    return this.#req.socket.localAddress ?? "";
  }

  get hasBegun(): boolean {
    return this.#res.headersSent;
  }

  get isOver(): boolean {
    return this.#res.destroyed || this.#res.writableFinished;
  }

  onOver(callback: () => void): void {
    this.#res.on("close", callback);
  }

  receive(onPiece: (piece: Buffer | null) => void): void {
    this.#req.on("data", onPiece);
    this.#req.on("end", () => onPiece(null));
  }

  answer(status: number, headers: string[], text: string): void {
    const bytes = Buffer.byteLength(text);
    headers.push("Content-Length", String(bytes));
    // Nothing reads the rest of the body.
    if (!this.#req.complete && hasBody(this.#req)) headers.push("Connection", "close");
    // ASCII is the same in both. Node writes Latin-1 without looking for what takes more bytes.
    this.#res.writeHead(status, headers).end(text, bytes === text.length ? "latin1" : "utf8");
  }

  begin(headers: readonly string[]): void {
    // A write that fails concerns this response alone.
    this.#res.on("error", () => this.#res.destroy());
    this.#res.writeHead(200, [...headers]);
  }

  write(text: string): void {
    if (!this.#res.destroyed) this.#res.write(text);
  }

  get isFull(): boolean {
    return this.#res.writableNeedDrain;
  }

  drained(): Promise<void> {
    return new Promise((resolve) => {
      const over = () => {
        this.#res.off("drain", over);
        this.#res.off("close", over);
        resolve();
      };
      this.#res.on("drain", over);
      this.#res.on("close", over);
    });
  }

  end(): void {
    this.#res.end();
  }

  drop(): void {
    this.#res.destroy();
  }
}

/** Before the body has arrived, node:http does not call a request complete, even where it has none. */
function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}
