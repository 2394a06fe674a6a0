/** One request to the HTTP API: who asks for what, and the answer. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Audit } from "../admin/audit.ts";
import { checkRoom, checkTenant, checkUser } from "../api/checks.ts";
import { ApiError } from "../api/error.ts";
import { permits, type ApiCaller, type Scope } from "../auth/apikeys.ts";
import type { Right } from "../auth/grants.ts";
import { keyCharsMax } from "../protocol/limits.ts";
import type { Body } from "./body.ts";
import { problems, problemText, problemType, retryAfterSeconds, type Refusal } from "./problems.ts";

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
  readonly audit: Audit;
}

export class ApiRequest<Q = unknown, B = unknown> {
  readonly id: string;
  readonly call: Called;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly caller: ApiCaller;
  /** The values of the path's `:name` parameters, decoded. */
  readonly parameters: Readonly<Record<string, string | undefined>>;
  query: Q = {} as Q;
  body: B = undefined as B;
  source: Body | null = null;
  /** Of the body that have been received. */
  bodyBytes = 0;
  /** Of the caller, or as the query says. */
  tenant = "";
  readonly #desk: Desk;

  constructor(id: string, call: Called, req: IncomingMessage, res: ServerResponse, caller: ApiCaller, parameters: ApiRequest["parameters"], desk: Desk) {
    this.id = id;
    this.call = call;
    this.req = req;
    this.res = res;
    this.caller = caller;
    this.parameters = parameters;
    this.#desk = desk;
  }

  answer(status: number, value: object): void {
    this.answerText(status, JSON.stringify(value));
  }

  /** @param text JSON. */
  answerText(status: number, text: string): void {
    if (this.res.headersSent) return;
    this.res.writeHead(status, ["Content-Type", "application/json", "Content-Length", String(Buffer.byteLength(text)), "X-Request-Id", this.id]).end(text);
    this.#desk.answered(this.call, "ok");
  }

  refuse(refusal: Refusal): void {
    if (this.res.headersSent) return void this.res.destroy();
    sendProblem(this.res, refusal, this.id);
    this.#desk.answered(this.call, refusal.code);
  }

  /** An answer that the call writes by itself, piece by piece. */
  begin(headers: readonly string[]): ServerResponse {
    // A write that fails concerns this response alone.
    this.res.on("error", () => this.res.destroy());
    this.res.writeHead(200, [...headers, "X-Request-Id", this.id]);
    this.#desk.answered(this.call, "ok");
    return this.res;
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
    const { id: requestId, caller: { name: key }, req } = this;
    this.#desk.audit.done({ from: req.socket.remoteAddress ?? "unknown", method: req.method ?? "", path: this.call.name, key, requestId }, action, asked, outcome);
  }

  covers(right: Right, room: string): boolean {
    return this.caller.rooms === null || permits(this.caller, this.call.scope, right, room) === null;
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
    const header = this.req.headers["idempotency-key"];
    if (typeof header !== "string" || header === "") return given ?? "";
    if (given !== undefined && given !== header) throw new ApiError("bad_request", "key: differs from the header Idempotency-Key");
    if (header.length > keyCharsMax) throw new ApiError("bad_request", `Idempotency-Key: must be at most ${keyCharsMax} characters long`);
    return header;
  }

  /** A key for the whole batch would protect none of its items from a repeat. @throws ApiError */
  refuseKeyHeader(): void {
    if ((this.req.headers["idempotency-key"] ?? "") !== "") throw new ApiError("bad_request", "Idempotency-Key: give each item of the batch a key of its own, in the body");
  }

  /** @throws ApiError */
  setTenant(asked: string | undefined): void {
    const { tenant } = this.caller;
    if (tenant !== null && asked !== undefined && asked !== tenant) throw new ApiError("forbidden", "tenant: the key belongs to another tenant");
    this.tenant = tenant ?? (asked === undefined ? "" : checkTenant(asked));
  }
}

export function sendProblem(res: ServerResponse, refusal: Refusal, id: string): void {
  const text = problemText(refusal, id);
  const headers = ["Content-Type", problemType, "Content-Length", String(Buffer.byteLength(text)), "X-Request-Id", id];
  const retryAfter = retryAfterSeconds(refusal);
  if (retryAfter > 0) headers.push("Retry-After", String(retryAfter));
  if (refusal.code === "unauthorized") headers.push("WWW-Authenticate", "Bearer");
  if (refusal.allow !== undefined) headers.push("Allow", refusal.allow);
  // The unread rest of the body would be taken for the next request.
  if (!res.req.complete) headers.push("Connection", "close");
  res.writeHead(problems[refusal.code].status, headers).end(text);
}
