/**
 * The HTTP API, `/api/v1`: finds the call, asks who calls, reads and checks the request, lets the call answer. It runs
 * in the main thread, beside the hub. Most answers come in the turn of the request, without a promise.
 */
import FindMyWay from "find-my-way";
import { problemOf } from "../admin/problem.ts";
import { queryOf } from "../admin/request.ts";
import type { Audit } from "../admin/audit.ts";
import { ApiError } from "../api/error.ts";
import { permits, type ApiCaller, type ApiKeys, type ApiRefusal } from "../auth/apikeys.ts";
import type { ClientTokens } from "../auth/clienttokens.ts";
import { randomId } from "../platform/ids.ts";
import { Sparse } from "../platform/log/sparse.ts";
import type { Logger } from "../platform/log/log.ts";
import { Bodies, type Body } from "./body.ts";
import type { ApiCall, ApiNode } from "./call.ts";
import { refusal, type Refusal } from "../protocol/problems.ts";
import { documents, type Document } from "./documents.ts";
import { Door } from "./door.ts";
import { headerOf, type Exchange } from "./exchange/exchange.ts";
import { tokenIn } from "./query.ts";
import { ApiRequest, sendProblem, type Called, type Desk } from "./request.ts";
import { Streams, type StreamBounds } from "./streams.ts";
import { basePath, calls } from "./table.ts";

export interface HttpApiOptions {
  readonly node: Omit<ApiNode, "streams">;
  readonly keys: ApiKeys;
  /** For the calls that take the tokens of clients. */
  readonly tokens: ClientTokens;
  readonly door: Door;
  readonly streams: StreamBounds;
  readonly audit: Audit;
  readonly log: Logger;
}

/** Requests that wait for their answers: as many as NATS may owe acknowledgements for would be too many for one node. */
const waitingMax = 4_096;
/** Bytes of one parameter: the longest room name, with every byte of it written as %XX. */
const parameterBytesMax = 3 * 4_096;
const methods = ["GET", "POST", "PUT", "DELETE"] as const;
const shownMax = 64;
const ownId = /^[\w.:-]{1,64}$/;
const noQuery = {};

/** URLs of each method that are remembered with their calls. A query may hold a token. */
const foundMax = 1_000;
const foundCharsMax = 256;

interface Found {
  readonly target: Target;
  readonly parameters: ApiRequest["parameters"];
}

type Target = { readonly call: ApiCall; readonly document?: undefined } | { readonly call?: undefined; readonly document: Document };

export class HttpApi {
  readonly streams: Streams;
  readonly #options: HttpApiOptions;
  readonly #node: ApiNode;
  readonly #desk: Desk;
  readonly #router = FindMyWay({ maxParamLength: parameterBytesMax, querystringParser: () => noQuery });
  /** By method and URL: backends repeat them. */
  readonly #found = new Map<string, Map<string, Found>>(["GET", "HEAD", ...methods.slice(1)].map((method) => [method, new Map()]));
  readonly #bodies = new Bodies();
  readonly #counts = new Map<string, Map<string, number>>(calls.map(({ name }) => [name, new Map()]));
  readonly #refused = new Map<string, number>();
  readonly #reported = new Sparse();
  /** Of request ids: unlike those of other nodes, and of this node before it started again. */
  readonly #prefix = `${randomId(6)}-`;
  #lastId = 0;
  #waiting = 0;
  /** Requests whose credential is being verified. */
  #verifying = 0;
  #isClosed = false;

  constructor(options: HttpApiOptions) {
    this.#options = options;
    this.streams = new Streams(options.streams);
    this.#node = { ...options.node, streams: this.streams };
    this.#desk = { answered: ({ name }, code) => add(this.#counts.get(name)!, code), failed: (request, error) => this.#refuseError(request, error), authenticate: (given) => options.keys.authenticate(given), audit: options.audit };
    for (const call of calls) this.#router.on(call.method, basePath + call.path, () => undefined, { call } satisfies Target);
    for (const document of documents()) {
      this.#counts.set(document.name, new Map());
      this.#router.on("GET", document.path, () => undefined, { document } satisfies Target);
    }
  }

  /** Serves a request whose path begins with `/api/`. Never throws. */
  serve(exchange: Exchange): void {
    const given = headerOf(exchange, "x-request-id");
    const id = given !== undefined && ownId.test(given) ? given : this.#prefix + (++this.#lastId).toString(36);
    try {
      this.#serve(exchange, id);
    } catch (error) {
      this.#failed(exchange, id, null, error);
    }
  }

  #serve(exchange: Exchange, id: string): void {
    const found = this.#find(exchange);
    if ("code" in found) return this.#refuse(exchange, id, found);
    const { target: { call, document }, parameters } = found;
    const { keys, tokens, door } = this.#options;
    if (document !== undefined && !door.isPublic) {
      // It says nothing of this node, so it needs no key. Where there is none, pages elsewhere must not find the node by it.
      const refused = keys.isOpen ? door.strange(exchange) : null;
      return refused === null ? this.#sendDocument(exchange, document) : this.#refuse(exchange, id, refused, document);
    }
    const token = call?.takesToken === true ? tokenIn(exchange) : null;
    const forPage = token === null ? [] : door.forPage(exchange);
    const goOn = (known: ApiCaller | ApiRefusal) => {
      // The client may have disconnected while its token was verified, and its end will not come again.
      if (exchange.isOver) return;
      if ("refused" in known) return this.#refuse(exchange, id, refusalOf(known), call ?? document, forPage);
      if (document !== undefined) return this.#sendDocument(exchange, document);
      this.#begin(new ApiRequest({ id, call, exchange, caller: known, parameters, desk: this.#desk, forPage }), call);
    };
    const caller = token === null ? keys.authenticate(headerOf(exchange, "authorization")) : tokens.authenticate(token);
    if (!(caller instanceof Promise)) return goOn(caller);
    if (this.#verifying >= waitingMax) return this.#refuse(exchange, id, refusal("overloaded", `${waitingMax} requests wait for their token to be verified already; this one was not begun`), call);
    this.#verifying++;
    caller.finally(() => this.#verifying--).then(goOn).catch((error: unknown) => this.#failed(exchange, id, call ?? null, error));
  }

  #sendDocument(exchange: Exchange, document: Document): void {
    document.send(exchange);
    add(this.#counts.get(document.name)!, "ok");
  }

  #find({ method, url }: Exchange): Found | Refusal {
    const urls = this.#found.get(method);
    const before = urls?.get(url);
    if (before !== undefined) return before;
    const route = this.#router.find(method === "HEAD" ? "GET" : (method as "GET"), url);
    if (route !== null) {
      const found = { target: route.store as Target, parameters: route.params };
      if (urls !== undefined && url.length <= foundCharsMax && !url.includes("?")) {
        if (urls.size >= foundMax) urls.clear();
        urls.set(url, found);
      }
      return found;
    }
    const allowed = methods.filter((one) => this.#router.find(one, url) !== null);
    if (allowed.length > 0) return { ...refusal("method_not_allowed"), allow: allowed.flatMap((one) => (one === "GET" ? ["GET", "HEAD"] : [one])).join(", ") };
    return refusal("not_found", `unknown path ${JSON.stringify(pathOf(url).slice(0, shownMax))}: ${basePath}/docs lists the calls`);
  }

  /** The caller is known. */
  #begin(request: ApiRequest, call: ApiCall): void {
    const { exchange, caller } = request;
    const refused = this.#mayBegin(call) ?? this.#options.door.refuses(exchange, call, caller) ?? refusalOrNull(permits(caller, call.scope));
    if (refused !== null) return this.#refuseKnown(request, refused);
    this.#waiting++;
    exchange.onOver(() => {
      this.#waiting--;
      this.#bodies.release(request);
    });
    if (call.needsQuery || exchange.url.includes("?")) {
      const checked = call.query.safeParse(queryOf(exchange.url));
      if (!checked.success) return request.refuse(refusal("bad_request", problemOf(checked.error, "query")));
      request.query = checked.data;
    }
    try {
      request.setTenant((request.query as { tenant?: string }).tenant);
    } catch (error) {
      return this.#refuseError(request, error);
    }
    if (call.body === null) return this.#run(request, call);
    this.#bodies.read(request, (body, problem) => (body === null ? request.refuse(problem!) : this.#onBody(request, call, body)));
  }

  /** In a turn of its own: nobody above catches. */
  #onBody(request: ApiRequest, call: ApiCall, body: Body): void {
    try {
      const checked = call.body!.safeParse(body.value);
      if (!checked.success) return request.refuse(refusal("bad_request", problemOf(checked.error, "body")));
      request.body = checked.data;
      request.source = body;
    } catch (error) {
      return this.#failed(request.exchange, request.id, call, error);
    }
    this.#run(request, call);
  }

  #run(request: ApiRequest, call: ApiCall): void {
    const { caller, body } = request;
    const refused = refusalOrNull(this.#options.keys.admit(caller, call.publications?.(body) ?? 0));
    if (refused !== null) return request.refuse(refused);
    try {
      const answered = call.serve(this.#node, request);
      if (answered !== undefined) answered.catch((error: unknown) => this.#refuseError(request, error));
    } catch (error) {
      this.#refuseError(request, error);
    }
  }

  #mayBegin(call: ApiCall): Refusal | null {
    if (this.#isClosed) return refusal("unavailable", "the node is closing");
    if (this.#waiting < waitingMax) return null;
    return refusal("overloaded", `${waitingMax} requests wait for their answers already; ${call.name} was not begun`);
  }

  #refuseError(request: ApiRequest, error: unknown): void {
    if (!(error instanceof ApiError)) return this.#failed(request.exchange, request.id, request.call, error);
    request.refuse({ code: error.code, text: error.text });
  }

  /** Before the call has begun: the log has these, since somebody may be trying keys, or a page may be. */
  #refuseKnown(request: ApiRequest, refused: Refusal): void {
    request.refuse(refused);
    this.#tell(request.exchange, request.id, refused);
  }

  #refuse(exchange: Exchange, id: string, refused: Refusal, call?: Pick<ApiCall, "name">, forPage: readonly string[] = []): void {
    sendProblem(exchange, refused, id, forPage);
    if (call === undefined) add(this.#refused, refused.code);
    else add(this.#counts.get(call.name)!, refused.code);
    this.#tell(exchange, id, refused);
  }

  #tell({ from, method, url }: Exchange, requestId: string, { code, text }: Refusal): void {
    if (code !== "unauthorized" && code !== "forbidden") return;
    this.#options.audit.refused({ from, method, path: pathOf(url).slice(0, shownMax), requestId }, code, text);
  }

  /** A bug of ours, or of a part that the embedding program supplied. */
  #failed(exchange: Exchange, requestId: string, call: Called | null, err: unknown): void {
    const name = call?.name ?? "none";
    const unsaid = this.#reported.due(name);
    if (unsaid !== null) this.#options.log.error({ err, call: name, requestId, unsaid }, "http api: a request failed by a bug and got 500: report it");
    add(call === null ? this.#refused : this.#counts.get(call.name)!, "internal");
    if (exchange.hasBegun) return exchange.drop();
    sendProblem(exchange, refusal("internal", "the request failed: the log of the node says why"), requestId);
  }

  /** Before the hub and the stores close: every later request is refused. */
  close(): void {
    this.#isClosed = true;
  }

  usage(): { readonly waiting: number; readonly streams: number; readonly answered: readonly { readonly call: string; readonly code: string; readonly count: number }[] } {
    const answered = [...this.#counts, ["none", this.#refused] as const].flatMap(([call, counts]) => [...counts].map(([code, count]) => ({ call, code, count })));
    return { waiting: this.#waiting, streams: this.streams.count, answered };
  }
}

function add(counts: Map<string, number>, code: string): void {
  counts.set(code, (counts.get(code) ?? 0) + 1);
}

function refusalOf({ refused, text, retryAfterMs }: ApiRefusal): Refusal {
  return { code: refused, text, retryAfterMs };
}

function refusalOrNull(refused: ApiRefusal | null): Refusal | null {
  return refused === null ? null : refusalOf(refused);
}

function pathOf(url: string): string {
  return url.split("?", 1)[0]!;
}
