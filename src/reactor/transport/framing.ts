/**
 * Where a request ends. uWS takes the first of several lengths, any Transfer-Encoding for chunks, and an empty length
 * for none. A proxy in front that reads it otherwise sees the rest of a body where uWS sees the next request: another
 * client's answer, or a request that no rule of the proxy has seen (request smuggling, RFC 9112, 11.2). So a request
 * whose end is not certain gets 400, and nothing after it on its connection is read.
 */
import type { HttpRequest, HttpResponse } from "uWebSockets.js";
import { passedHeaders } from "../../link/api.ts";

const names = [...passedHeaders, "transfer-encoding"] as const;
const indexes = new Map<string, number>(names.map((name, i) => [name, i]));
const indexOf = (name: (typeof names)[number]) => indexes.get(name)!;
const [host, contentLength, transferEncoding] = [indexOf("host"), indexOf("content-length"), indexOf("transfer-encoding")];
/** Those that may stand once at most. Of others the first one counts. */
const once = (1 << host) | (1 << contentLength) | (1 << transferEncoding);
/** More digits than any body has. */
const length = /^\d{1,15}$/;

/** The headers of one request after the other, read in one pass: uWS gives the first of a name only. */
export class RequestHeaders {
  /** Of the names in `passedHeaders`, in their order; "": there is none. */
  readonly values: string[] = names.map(() => "");
  #seen = 0;
  #repeated = 0;

  readonly #take = (name: string, value: string): void => {
    const index = indexes.get(name);
    if (index === undefined) return;
    const bit = 1 << index;
    if ((this.#seen & bit) !== 0) return void (this.#repeated |= bit);
    this.#seen |= bit;
    this.values[index] = value;
  };

  /** @returns why the end of the request is not certain; null: it is. */
  read(req: HttpRequest): string | null {
    this.#seen = 0;
    this.#repeated = 0;
    this.values.fill("");
    req.forEach(this.#take);
    const repeated = this.#repeated & once;
    if (repeated !== 0) return `${names[31 - Math.clz32(repeated)]!}: stands twice`;
    if (this.#has(contentLength) && !length.test(this.values[contentLength]!)) return "content-length: must be a number of bytes";
    if (!this.#has(transferEncoding)) return null;
    if (this.values[transferEncoding]!.toLowerCase() !== "chunked") return "transfer-encoding: must be chunked";
    return this.#has(contentLength) ? "content-length: must not stand beside transfer-encoding" : null;
  }

  get isChunked(): boolean {
    return this.#has(transferEncoding);
  }

  #has(index: number): boolean {
    return (this.#seen & (1 << index)) !== 0;
  }
}

/** uWS collects so many bytes of a turn before it sends them. */
const corkBytes = 16_384;

/**
 * Answers, and closes the connection before uWS reads on: uWS would serve what is behind the request in the same
 * packet, also where the answer says that the connection is closed. It closes in the turn only what it has sent, and it
 * sends in the turn only what is larger than it collects. So the answer is filled up with spaces.
 */
export function answerAndClose(res: HttpResponse, status: string, headers: Readonly<Record<string, string>>, json: string): void {
  res.writeStatus(status);
  for (const [name, value] of Object.entries(headers)) res.writeHeader(name, value);
  res.end(json.padEnd(corkBytes + 1), true);
}
