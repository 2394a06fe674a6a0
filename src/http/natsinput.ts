/**
 * The calls of the HTTP API over NATS: requests, and publishes without a reply, on `flux.api.>`.
 *
 *     flux.api.publish.chat:general      payload: the body of the call
 *     flux.api.history.chat:general      payload: the query of a call without a body, as a JSON object
 *
 * The names of the call come first, then those that its path has. `%`, `.`, `*`, `>` and spaces in them are
 * percent-encoded. The header Flux-Tenant names the tenant. Who may use which subject is the business of the NATS account.
 */
import type { Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";
import type { HttpApi } from "./http.ts";
import { MessageExchange, type MessageAnswer } from "./exchange/message.ts";
import { namesIn } from "./openapi.ts";
import { problems, problemText, refusal, type Refusal } from "../protocol/problems.ts";
import { basePath, calls } from "./table.ts";

export interface NatsRequest {
  /** Behind `flux.api.`. */
  readonly subject: string;
  readonly payload: Uint8Array;
  /** "": none. */
  header(name: string): string;
  /** Null: nobody waits for an answer. */
  readonly answer: ((answer: MessageAnswer) => void) | null;
}

export interface NatsInputUsage {
  readonly answered: number;
  /** Done without an answer: nobody waited for one, or it could not be sent. */
  readonly unanswered: number;
  /** Refused before they began, and nobody learns of it. */
  readonly dropped: number;
}

/** Requests that wait for their turn. NATS does not slow its publishers down, so more are refused. */
const waitingMax = 4_096;
const waitingBytesMax = 64 * 1_048_576;
const perTurn = 64;
/** A stream answers more than once. With createToken, whoever may publish on its subject could be any user. */
const leftOut = ["stream", "createToken"];

export class NatsInput {
  readonly #http: HttpApi;
  readonly #log: Logger;
  readonly #reported = new Sparse();
  readonly #calls = new Map(calls.filter(({ name }) => !leftOut.includes(name)).map((call) => [call.name, { ...call, names: namesIn(call.path) }]));
  readonly #waiting: NatsRequest[] = [];
  #waitingBytes = 0;
  #isScheduled = false;
  #usage = { answered: 0, unanswered: 0, dropped: 0 };
  /** Requests that were received and are not answered. */
  #open = 0;
  readonly #onIdle: (() => void)[] = [];

  /** @param http whose keys let every request in. */
  constructor(http: HttpApi, log: Logger) {
    this.#http = http;
    this.#log = log;
  }

  /** Resolves when every request has its answer. */
  async idle(): Promise<void> {
    if (this.#open > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  receive(request: NatsRequest): void {
    this.#open++;
    const bytes = request.payload.length;
    if (this.#waiting.length >= waitingMax || this.#waitingBytes + bytes > waitingBytesMax) return this.#refuse(request, refusal("overloaded", "too many requests wait for their turn"));
    this.#waiting.push(request);
    this.#waitingBytes += bytes;
    this.#schedule();
  }

  usage(): NatsInputUsage {
    return { ...this.#usage };
  }

  #schedule(): void {
    if (this.#isScheduled || this.#waiting.length === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      for (const request of this.#waiting.splice(0, perTurn)) {
        this.#waitingBytes -= request.payload.length;
        this.#serve(request);
      }
      this.#schedule();
    });
  }

  #serve(request: NatsRequest): void {
    const [name = "", ...given] = request.subject.split(".");
    const call = this.#calls.get(name);
    if (call === undefined) return this.#refuse(request, refusal("not_found", `unknown call: the calls are ${[...this.#calls.keys()].join(", ")}`));
    const names = given.map(decoded);
    if (names.length !== call.names.length || names.includes(null)) return this.#refuse(request, refusal("not_found", `the subject of ${name} is ${[name, ...call.names.map((one) => `<${one}>`)].join(".")}, with names percent-encoded`));
    if (request.answer === null && call.method === "GET") return this.#refuse(request, refusal("bad_request", "nobody waits for the answer"));
    const query = call.body === null ? queryIn(request.payload) : new URLSearchParams();
    if (query === null) return this.#refuse(request, refusal("bad_request", `the payload of ${name} must be empty, or a JSON object of texts, numbers and booleans`));
    const tenant = request.header("Flux-Tenant");
    if (tenant !== "") query.set("tenant", tenant);
    let i = 0;
    const path = basePath + call.path.replaceAll(/:\w+/g, () => encodeURIComponent(names[i++]!));
    const key = request.header("Idempotency-Key");
    const headers = { "content-type": "application/json", ...(key !== "" && { "idempotency-key": key }) };
    const url = query.size === 0 ? path : `${path}?${query.toString()}`;
    const body = call.body === null ? nothing : request.payload;
    this.#http.serve(new MessageExchange({ method: call.method, url, headers, body, from: "nats" }, (answer) => this.#answer(request, answer)));
  }

  #refuse(request: NatsRequest, refused: Refusal): void {
    if (request.answer !== null) return this.#answer(request, { status: problems[refused.code].status, text: problemText(refused, "") });
    this.#usage.dropped++;
    this.#ended();
    const unsaid = this.#reported.due(refused.code);
    if (unsaid !== null) this.#log.warn({ code: refused.code, ...(unsaid > 0 && { unsaid }) }, `NATS API: a message without a reply subject was dropped: ${refused.text}`);
  }

  #answer({ answer: tell }: NatsRequest, answer: MessageAnswer): void {
    if (tell !== null && this.#told(tell, answer)) this.#usage.answered++;
    else this.#usage.unanswered++;
    this.#ended();
  }

  /** False: the connection is closed, for example. The backend repeats the request with its key. */
  #told(tell: NonNullable<NatsRequest["answer"]>, answer: MessageAnswer): boolean {
    try {
      tell(answer);
      return true;
    } catch (error) {
      const unsaid = this.#reported.due("answer");
      if (unsaid !== null) this.#log.warn({ problem: String(error), ...(unsaid > 0 && { unsaid }) }, "NATS API: an answer could not be sent; the request was done");
      return false;
    }
  }

  #ended(): void {
    if (--this.#open === 0) for (const resolve of this.#onIdle.splice(0)) resolve();
  }
}

const nothing = new Uint8Array();

function decoded(token: string): string | null {
  try {
    return decodeURIComponent(token);
  } catch {
    return null;
  }
}

/** A query as a JSON object. Null: it is none. */
function queryIn(payload: Uint8Array): URLSearchParams | null {
  if (payload.length === 0) return new URLSearchParams();
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
    if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
    const entries = Object.entries(value);
    return entries.every(([, one]) => ["string", "number", "boolean"].includes(typeof one)) ? new URLSearchParams(entries.map(([key, one]) => [key, String(one)])) : null;
  } catch {
    return null;
  }
}
