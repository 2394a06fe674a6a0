/** One request to the HTTP API: who asks for what, and the answer. */
import type { Audit } from "../admin/audit.ts";
import { checkRoom, checkTenant, checkUser } from "../api/checks.ts";
import { ApiError } from "../api/error.ts";
import { permits, type ApiCaller, type ApiKeys, type Scope } from "../auth/apikeys.ts";
import type { Right } from "../auth/grants.ts";
import { keyCharsMax } from "../protocol/limits.ts";
import type { Body } from "./body.ts";
import { headerOf, type Exchange } from "./exchange/exchange.ts";
import { problems, problemText, problemType, retryAfterSeconds, type Refusal } from "../protocol/problems.ts";

/** The call that is asked for, as an entry of the table. */
export interface Called {
  readonly name: string;
  readonly scope: Scope;
}

/** What a request tells the server of. */
export interface Desk {
  /** Counts answers, by call and by code. */
  answered(call: Called, code: string): void;
  /** Answers for a call that threw. */
  failed(request: ApiRequest, error: unknown): void;
  readonly authenticate: ApiKeys["authenticate"];
  readonly audit: Audit;
}

interface Known {
  readonly id: string;
  readonly call: Called;
  readonly exchange: Exchange;
  readonly caller: ApiCaller;
  /** The values of the path's `:name` parameters, decoded. */
  readonly parameters: Readonly<Record<string, string | undefined>>;
  /** Headers that let a page read the answer. */
  readonly forPage: readonly string[];
  readonly desk: Desk;
}

export class ApiRequest<Q = unknown, B = unknown> {
  readonly id: string;
  readonly call: Called;
  readonly exchange: Exchange;
  readonly caller: ApiCaller;
  readonly parameters: Known["parameters"];
  query: Q = {} as Q;
  body: B = undefined as B;
  source: Body | null = null;
  /** Of the body that have been received. */
  bodyBytes = 0;
  /** Of the caller, or as the query says. */
  tenant = "";
  readonly #forPage: readonly string[];
  readonly #desk: Desk;

  constructor({ id, call, exchange, caller, parameters, forPage, desk }: Known) {
    this.id = id;
    this.call = call;
    this.exchange = exchange;
    this.caller = caller;
    this.parameters = parameters;
    this.#forPage = forPage;
    this.#desk = desk;
  }

  answer(status: number, value: object): void {
    this.answerText(status, JSON.stringify(value));
  }

  /** @param text JSON. */
  answerText(status: number, text: string): void {
    if (this.exchange.hasBegun) return;
    this.exchange.answer(status, ["Content-Type", "application/json", "X-Request-Id", this.id], text);
    this.#desk.answered(this.call, "ok");
  }

  refuse(refusal: Refusal): void {
    if (this.exchange.hasBegun) return this.exchange.drop();
    sendProblem(this.exchange, refusal, this.id, this.#forPage);
    this.#desk.answered(this.call, refusal.code);
  }

  /** An answer that the call writes by itself, piece by piece. */
  begin(headers: readonly string[]): Exchange {
    this.exchange.begin([...headers, "X-Request-Id", this.id, ...this.#forPage]);
    this.#desk.answered(this.call, "ok");
    return this.exchange;
  }

  /** For a callback that makes much of what it is given: what it throws must not reach the broker. */
  guarded<T>(use: (given: T) => void): (given: T) => void {
    return (given) => {
      try {
        use(given);
      } catch (error) {
        this.#desk.failed(this as ApiRequest, error);
      }
    };
  }

  /** One line of the log, for what disconnects or removes. */
  audit(action: string, asked: object, outcome: object): void {
    const { id: requestId, caller: { name: key }, exchange: { from, method } } = this;
    this.#desk.audit.done({ from, method, path: this.call.name, key, requestId }, action, asked, outcome);
  }

  covers(right: Right, room: string): boolean {
    return this.caller.rooms === null || permits(this.caller, this.call.scope, right, room) === null;
  }

  /**
   * For answers that take long to a caller with a key: whether it still allows this, or why not. It may be revoked or
   * changed meanwhile. Null also where that cannot be told now. Never rejects.
   */
  async revoked(right: Right, room: string): Promise<string | null> {
    const caller = await this.#desk.authenticate(headerOf(this.exchange, "authorization"));
    if ("refused" in caller) return caller.refused === "unavailable" ? null : caller.refused;
    if (caller.tenant !== null && caller.tenant !== this.tenant) return "forbidden";
    return permits(caller, this.call.scope, right, room)?.refused ?? null;
  }

  /** The rooms that it covers. Undefined: all. */
  patterns(right: Right): readonly string[] | undefined {
    return this.caller.rooms?.filter(({ rights }) => rights.includes(right)).map(({ pattern }) => pattern);
  }

  /** The room in the path, where the caller may use it. @throws ApiError */
  room(right: Right, bytesMax: number): string {
    return this.usable(this.parameters.room, right, bytesMax);
  }

  /** @throws ApiError */
  usable(name: unknown, right: Right, bytesMax: number): string {
    const room = checkRoom(name, bytesMax);
    const refused = this.caller.rooms === null ? null : permits(this.caller, this.call.scope, right, room);
    if (refused !== null) throw new ApiError(refused.refused, refused.text);
    return room;
  }

  /** The bytes of `data` in the body or in an item of it, as they came; null: it has none, or not as a plain key. */
  dataText(item = 0): Uint8Array | null {
    const { bytes, spans } = this.source!;
    const [from = -1, to = -1] = [spans[2 * item], spans[2 * item + 1]];
    return from < 0 ? null : bytes.subarray(from, to);
  }

  /** The user in the path. @throws ApiError */
  user(): string {
    return checkUser(this.parameters.user);
  }

  /** The idempotency key: of the body, or the header Idempotency-Key. @throws ApiError */
  key(given: string | undefined): string {
    const header = headerOf(this.exchange, "idempotency-key");
    if (header === undefined) return given ?? "";
    if (given !== undefined && given !== header) throw new ApiError("bad_request", "key: differs from the header Idempotency-Key");
    if (header.length > keyCharsMax) throw new ApiError("bad_request", `Idempotency-Key: must be at most ${keyCharsMax} characters long`);
    return header;
  }

  /** A key for the whole batch would protect none of its items from a repeat. @throws ApiError */
  refuseKeyHeader(): void {
    if (headerOf(this.exchange, "idempotency-key") !== undefined) throw new ApiError("bad_request", "Idempotency-Key: give each item of the batch a key of its own, in the body");
  }

  /** @throws ApiError */
  setTenant(asked: string | undefined): void {
    const { tenant } = this.caller;
    if (tenant !== null && asked !== undefined && asked !== tenant) throw new ApiError("forbidden", "tenant: the key belongs to another tenant");
    this.tenant = tenant ?? (asked === undefined ? "" : checkTenant(asked));
  }
}

/** @param forPage headers that let a page read it. */
export function sendProblem(exchange: Exchange, refusal: Refusal, id: string, forPage: readonly string[] = []): void {
  const headers = ["Content-Type", problemType, "X-Request-Id", id, ...forPage];
  const retryAfter = retryAfterSeconds(refusal);
  if (retryAfter > 0) headers.push("Retry-After", String(retryAfter));
  if (refusal.code === "unauthorized") headers.push("WWW-Authenticate", "Bearer");
  if (refusal.allow !== undefined) headers.push("Allow", refusal.allow);
  exchange.answer(problems[refusal.code].status, headers, problemText(refusal, id));
}
