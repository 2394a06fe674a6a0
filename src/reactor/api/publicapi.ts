/**
 * The HTTP API on the port for clients. The reactor takes requests and passes them to the main thread, which knows keys
 * and rooms; it sends what comes back (link/api.ts). It refuses by itself what must not cost the main thread anything.
 *
 * uWS disconnects a client that sends headers for 10 s, a body slower than 16 KiB a second, or that reads nothing for 10 s.
 */
import { randomId } from "../../platform/ids.ts";
import type { HttpRequest, HttpResponse, TemplatedApp } from "uWebSockets.js";
import { fitsRecord, passedHeaders, pieceBytes, readBytes, readHead, readId, readPiece, requestHead, windowBytes, writeBytes, writeEnd, writePiece, writeRequest, type RequestHead } from "../../link/api.ts";
import type { RecordReader } from "../../link/link.ts";
import { kinds } from "../../link/records.ts";
import type { NodeState } from "../../link/threads.ts";
import { problems, problemText, problemType, refusal, retryAfterSeconds, type Refusal } from "../../protocol/problems.ts";
import type { Context } from "../context.ts";
import { answerAndClose, RequestHeaders } from "../transport/framing.ts";
import { safeText } from "../transport/safetext.ts";
import { respondHead, statusLine } from "./answers.ts";
import { Callers } from "./callers.ts";
import { Asked, Requests } from "./requests.ts";

/** Requests without an answer. */
const requestsMax = 4_096;
/** A body that is larger is refused by the main thread: it gets one byte more than it takes. */
const bodyBytesMax = 1_048_576 + 1;
/** Bytes of bodies and answers that wait in this reactor. */
const heldBytesMax = 32 * 1_048_576;
/** Longer than any body may take at uWS's slowest rate, and longer than a reader of an answer may take. */
const bodyMs = 90_000;
const answerMs = 60_000;
const lookMs = 5_000;

export interface PublicApiOptions extends Pick<Context, "link" | "counters"> {
  readonly ringBytes: number;
  readonly state: NodeState;
}

export class PublicApi {
  readonly #options: PublicApiOptions;
  readonly #pieceBytes: number;
  /** The main thread is told of so many sent bytes at once. */
  readonly #tellBytes: number;
  readonly #requests = new Requests();
  readonly #callers = new Callers();
  readonly #headers = new RequestHeaders();
  readonly #prefix = `${randomId(6)}-`;
  readonly #look = setInterval(() => this.#endSlow(), lookMs);
  /** Requests whose body waits for room on the link. */
  readonly #waiting = new Set<Asked>();
  #lastId = 0;
  #held = 0;

  constructor(options: PublicApiOptions) {
    this.#options = options;
    this.#pieceBytes = pieceBytes(options.ringBytes);
    this.#tellBytes = windowBytes(options.ringBytes) / 4;
  }

  serve(app: TemplatedApp): void {
    app.any("/api/v1/*", (res, req) => this.#asked(res, req));
  }

  stop(): void {
    clearInterval(this.#look);
  }

  onRecord(kind: number, record: RecordReader): void {
    switch (kind) {
      case kinds.apiHead: {
        const head = readHead(record);
        const asked = this.#requests.find(head);
        return asked && this.#begin(asked, head);
      }
      case kinds.apiPiece: {
        const read = readPiece(record);
        const asked = this.#requests.find(read);
        return asked && this.#piece(asked, read.piece, read.isLast);
      }
      case kinds.apiMore: {
        const more = readBytes(record);
        const asked = this.#requests.find(more);
        if (asked === undefined) return;
        asked.credit += more.bytes;
        return this.#passBody(asked);
      }
      case kinds.apiDrop: {
        const asked = this.#requests.find(readId(record));
        return void (asked && this.#close(asked));
      }
    }
  }

  // ------------------------------------------------------------------------------- requests

  #asked(res: HttpResponse, req: HttpRequest): void {
    const { counters, state } = this.#options;
    const method = req.getMethod();
    const isHead = method === "head";
    const problem = this.#headers.read(req) ?? (this.#headers.isChunked && (isHead || method === "get") ? "transfer-encoding: this call takes no body in chunks" : null);
    if (problem !== null) return this.#refuseMalformed(res, problem);
    const { values, isChunked } = this.#headers;
    const authorization = values[authorizationAt]!;
    const query = req.getQuery() ?? "";
    // Streams take the token of a client in the query.
    const credential = authorization === "" ? (req.getQuery("token") ?? "") : authorization;
    const refuse = (code: RefusedHere, text: string) => this.#refuse(res, { isHead, isChunked }, code, text);
    if (credential === "") return refuse("unauthorized", "the request needs an API key (Authorization: Bearer KEY)");
    if (state.shortOfMemory || this.#requests.size >= requestsMax) return refuse("overloaded", state.shortOfMemory ? "the node is short of memory" : `${requestsMax} requests wait for their answers already`);
    const address = textOf(res.getRemoteAddressAsText());
    const refused = this.#callers.begin(address, credential);
    if (refused !== null) return refuse(refused, refused === "overloaded" ? "too many requests of this address wait for their answers" : "too many requests with wrong keys came from this address");
    const slot = this.#requests.freeSlot();
    const asked = new Asked(slot, this.#requests.lifeOf(slot), { res, isHead, isChunked, address, credential, startedAt: performance.now() });
    this.#requests.add(asked);
    counters.add("apiRequests", 1);
    const url = query === "" ? req.getUrl() : `${req.getUrl()}?${query}`;
    const head = requestHead(address, method.toUpperCase(), url, values);
    res.onAborted(() => this.#gone(asked));
    const length = Number(values[lengthAt]);
    if (length === 0 && !isChunked) return this.#pass(asked, head, nothing);
    if (length > this.#pieceBytes) this.#pass(asked, head, null);
    // It was refused: uWS throws where an answered request is read.
    if (asked.isOver) return;
    res.onData((chunk, isLast) => this.#onData(asked, head, chunk, isLast));
  }

  #onData(asked: Asked, head: RequestHead, chunk: ArrayBuffer, isLast: boolean): void {
    if (asked.isOver || asked.isWhole) return;
    asked.isWhole = isLast;
    // It is being answered: nobody wants the rest.
    if (asked.status !== 0) return;
    if (!asked.isPassed) {
      if (isLast && chunk.byteLength <= this.#pieceBytes) return this.#pass(asked, head, new Uint8Array(chunk));
      this.#pass(asked, head, null);
      if (asked.isOver) return;
    }
    const bytes = Math.min(chunk.byteLength, bodyBytesMax - asked.received);
    asked.received += bytes;
    if (asked.received === bodyBytesMax) asked.isWhole = true;
    if (this.#held + bytes > heldBytesMax) return this.#refuseLate(asked, "overloaded", "the bodies of all requests are too large together; try again");
    // uWS takes the chunk back.
    if (bytes > 0) (asked.body ??= []).push(Buffer.from(chunk.slice(0, bytes)));
    asked.bodyBytes += bytes;
    this.#held += bytes;
    this.#passBody(asked);
  }

  /** @param body all of it, or null: it follows. */
  #pass(asked: Asked, head: RequestHead, body: Uint8Array | null): void {
    const { link, ringBytes } = this.#options;
    asked.isPassed = true;
    if (body !== null) asked.isWhole = true;
    if (!fitsRecord(ringBytes, head)) return this.#refuseLate(asked, "bad_request", "the headers are too large");
    if (!writeRequest(link, asked, head, body)) this.#refuseLate(asked, "overloaded", "the node has too much to do");
  }

  /** As much of the body as the main thread takes. */
  #passBody(asked: Asked): void {
    if (asked.status !== 0) return;
    const { link } = this.#options;
    const body = (asked.body ??= []);
    while (asked.credit > 0 && (body.length > 0 || asked.isWhole)) {
      if (link.full) return void this.#waiting.add(asked);
      const first = body[0] ?? nothing;
      const piece = first.subarray(0, Math.min(asked.credit, this.#pieceBytes));
      if (piece.length < first.length) body[0] = first.subarray(piece.length);
      else body.shift();
      asked.credit -= piece.length;
      asked.bodyBytes -= piece.length;
      this.#held -= piece.length;
      const isLast = asked.isWhole && body.length === 0;
      writePiece(link, kinds.apiBody, asked, piece, isLast);
      if (isLast) asked.credit = 0;
    }
  }

  /** There is room on the link again. */
  onRoom(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const asked of waiting) this.#passBody(asked);
  }

  // ------------------------------------------------------------------------------- answers

  #begin(asked: Asked, { status, headers, total, body }: ReturnType<typeof readHead>): void {
    asked.status = status;
    asked.total = total;
    this.#dropBody(asked);
    const { res, isHead } = asked;
    res.cork(() => {
      respondHead(res, status, headers);
      if (isHead) {
        if (total >= 0) res.writeHeader("Content-Length", String(total));
        res.endWithoutBody();
        // Nothing would read the rest of a body that has not arrived.
      } else if (body !== null) res.end(body, !asked.isWhole || asked.isChunked);
    });
    if (isHead || body !== null) return this.#over(asked);
    // What is collected is sent as a whole, whatever room the socket has.
    if (!asked.isChunked) res.onWritable(() => this.#writable(asked));
  }

  #piece(asked: Asked, piece: Buffer, isLast: boolean): void {
    asked.isLast = isLast;
    if (asked.isBlocked && this.#held + piece.length > heldBytesMax) return this.#close(asked);
    if (piece.length > 0) (asked.pieces ??= []).push(Buffer.from(piece));
    this.#held += piece.length;
    if (asked.isChunked) this.#collected(asked);
    else if (!asked.isBlocked) asked.res.cork(() => this.#send(asked));
  }

  /** uWS closes the connection only behind an answer that it gets as a whole. No stream answers a body in chunks. */
  #collected(asked: Asked): void {
    if (asked.isLast) {
      asked.res.cork(() => asked.res.end(Buffer.concat(asked.pieces ?? []), true));
      return this.#over(asked);
    }
    if (this.#held > heldBytesMax) return this.#close(asked);
    writeBytes(this.#options.link, kinds.apiSent, asked, asked.pieces!.at(-1)!.length);
  }

  /** The socket has room. uWS wants to know whether everything was written. */
  #writable(asked: Asked): boolean {
    if (asked.isOver) return true;
    asked.res.cork(() => {
      // uWS sends what it has itself only with the next write: a comment, to readers of events.
      asked.isBlocked = asked.total < 0 && !asked.res.write(":\n\n");
      if (!asked.isBlocked) this.#send(asked);
    });
    return !asked.isBlocked;
  }

  #send(asked: Asked): void {
    const { res, total } = asked;
    const pieces = (asked.pieces ??= []);
    while (pieces.length > 0 && !asked.isBlocked) {
      const piece = pieces[0]!;
      if (total < 0) {
        // uWS keeps what the socket does not take.
        asked.isBlocked = !res.write(piece);
      } else {
        const [isSent, isDone] = res.tryEnd(piece.subarray(res.getWriteOffset() - asked.sentTo), total);
        if (isDone) return this.#over(asked);
        asked.isBlocked = !isSent;
        if (!isSent) return;
      }
      pieces.shift();
      asked.sentTo += piece.length;
      this.#sent(asked, piece.length);
    }
    if (total >= 0 || !asked.isLast || pieces.length > 0) return;
    res.end();
    this.#over(asked);
  }

  #sent(asked: Asked, bytes: number): void {
    this.#held -= bytes;
    asked.untold += bytes;
    if (asked.untold < this.#tellBytes || asked.isLast) return;
    writeBytes(this.#options.link, kinds.apiSent, asked, asked.untold);
    asked.untold = 0;
  }

  // ------------------------------------------------------------------------------- ends

  /** The client has disconnected, or uWS has disconnected it. */
  #gone(asked: Asked): void {
    if (asked.isOver) return;
    // The main thread has forgotten a request whose last piece is here.
    if (asked.isPassed && !asked.isLast) writeEnd(this.#options.link, kinds.apiGone, asked);
    this.#over(asked);
  }

  #over(asked: Asked): void {
    asked.isOver = true;
    this.#dropBody(asked);
    for (const { length } of asked.pieces?.splice(0) ?? []) this.#held -= length;
    this.#waiting.delete(asked);
    this.#requests.remove(asked);
    this.#callers.ended(asked.address, asked.credential, asked.status);
  }

  #dropBody(asked: Asked): void {
    asked.body = null;
    this.#held -= asked.bodyBytes;
    asked.bodyBytes = 0;
  }

  #close(asked: Asked): void {
    asked.res.close();
  }

  /** Before the main thread hears of it. */
  #refuse(res: HttpResponse, { isHead, isChunked }: Pick<Asked, "isHead" | "isChunked">, code: RefusedHere, text: string): void {
    this.#options.counters.add(counterOf[code], 1);
    const refused = refusal(code, text);
    const status = statusLine(problems[code].status);
    const retryAfter = retryAfterSeconds(refused);
    const { headers, body } = this.#problem(refused);
    if (code === "unauthorized") headers["WWW-Authenticate"] = "Bearer";
    if (retryAfter > 0) headers["Retry-After"] = String(retryAfter);
    if (isChunked) return answerAndClose(res, status, headers, body);
    res.cork(() => {
      res.writeStatus(status);
      for (const name in headers) res.writeHeader(name, headers[name]!);
      if (isHead) res.writeHeader("Content-Length", String(Buffer.byteLength(body))).endWithoutBody();
      else res.end(safeText(body), true);
    });
  }

  #refuseMalformed(res: HttpResponse, problem: string): void {
    this.#options.counters.add("httpMalformed", 1);
    const { headers, body } = this.#problem(refusal("bad_request", problem));
    answerAndClose(res, statusLine(problems.bad_request.status), headers, body);
  }

  #problem(refused: Refusal): { headers: Record<string, string>; body: string } {
    const id = this.#prefix + (++this.#lastId).toString(36);
    return { headers: { "Content-Type": problemType, "X-Request-Id": id }, body: problemText(refused, id) };
  }

  /** The main thread may have heard of it. */
  #refuseLate(asked: Asked, code: RefusedHere, text: string): void {
    if (asked.isOver) return;
    asked.status = problems[code].status;
    if (asked.isPassed) writeEnd(this.#options.link, kinds.apiGone, asked);
    this.#over(asked);
    this.#refuse(asked.res, asked, code, text);
  }

  /** Bodies that do not arrive, and answers that are not read. */
  #endSlow(): void {
    const now = performance.now();
    for (const asked of this.#requests.all()) {
      const isAnswered = asked.status !== 0;
      const isSlow = isAnswered ? asked.total >= 0 && now - asked.startedAt > bodyMs + answerMs : !asked.isWhole && now - asked.startedAt > bodyMs;
      if (isSlow) this.#close(asked);
    }
  }
}

type RefusedHere = "unauthorized" | "rate_limited" | "overloaded" | "bad_request";
const counterOf = { unauthorized: "apiUnauthorized", rate_limited: "apiRateLimited", overloaded: "apiOverloaded", bad_request: "apiBad" } as const;
const [authorizationAt, lengthAt] = [passedHeaders.indexOf("authorization"), passedHeaders.indexOf("content-length")];
const nothing = Buffer.alloc(0);

function textOf(bytes: ArrayBuffer): string {
  return Buffer.from(bytes).toString("latin1");
}
