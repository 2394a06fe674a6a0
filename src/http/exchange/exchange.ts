/**
 * The seam between the HTTP API and what brings it requests: a port of node:http, the port for clients, or NATS. An
 * exchange is one request and its answer.
 *
 * - Nothing here throws. What is sent after the exchange is over has no effect.
 * - `onOver` MUST be called once for each exchange: when the whole answer is sent, or when the client has disconnected.
 * - `receive` MUST give every piece of the body, then null, unless the client disconnects. It is called once at most.
 * - The answer is either one `answer`, or `begin`, any number of `write`, then `end`.
 */
export interface Exchange {
  /** In capitals. */
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** Names in small letters. */
  readonly headers: Headers;
  /** The client's address, for the log. */
  readonly from: string;
  /** The address of this machine that the client reached; "" where it says nothing. */
  readonly localAddress: string;
  /** The status was given. */
  readonly hasBegun: boolean;
  /** The answer is sent, or the client has disconnected. */
  readonly isOver: boolean;
  onOver(callback: () => void): void;
  receive(onPiece: (piece: Buffer | null) => void): void;
  /** @param headers names and values in turn, without the length. The exchange adds to them. */
  answer(status: number, headers: string[], text: string): void;
  /** An answer in pieces, with the status 200. */
  begin(headers: readonly string[]): void;
  write(text: string): void;
  /** The client reads slower than is written: wait for `drained`. */
  readonly isFull: boolean;
  /** Resolves when there is room again, or the exchange is over. */
  drained(): Promise<void>;
  end(): void;
  /** Disconnects the client. */
  drop(): void;
}

export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** A header that may come once; an empty one counts as none. */
export function headerOf({ headers }: Pick<Exchange, "headers">, name: string): string | undefined {
  const value = headers[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}
