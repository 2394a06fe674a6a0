/**
 * The HTTP API, `/api/v1`: finds the call, asks who calls, reads and checks the request, lets the call answer. It runs
 * in the main thread, beside the hub. Most answers come in the turn of the request, without a promise.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import FindMyWay from "find-my-way";
import { strangeHost, strangePage } from "../admin/host.ts";
import { problemOf } from "../admin/problem.ts";
import { queryOf } from "../admin/request.ts";
import type { Audit } from "../admin/audit.ts";
import { ApiError } from "../api/error.ts";
import { permits, type ApiCaller, type ApiKeys, type ApiRefusal } from "../auth/apikeys.ts";
import { randomId } from "../platform/ids.ts";
import { Sparse } from "../platform/log/sparse.ts";
import type { Logger } from "../platform/log/log.ts";
import { Bodies, type Body } from "./body.ts";
import type { ApiCall, ApiNode } from "./call.ts";
import { refusal, type Refusal } from "./problems.ts";
import { documents, type Document } from "./documents.ts";
import { ApiRequest, sendProblem, type Called, type Desk } from "./request.ts";
import { Streams } from "./streams.ts";
import { basePath, calls } from "./table.ts";

export interface HttpApiOptions {
  readonly node: Omit<ApiNode, "streams">;
  readonly keys: ApiKeys;
  readonly audit: Audit;
  readonly log: Logger;
}

/** Requests that wait for their answers: as many as NATS may owe acknowledgements for would be too many for one node. */
const waitingMax = 4_096;
/** Bytes of one parameter: the longest room name, with every byte of it written as %XX. */
const parameterBytesMax = 3 * 4_096;
const methods = ["GET", "POST", "PUT", "DELETE"] as const;
const shownMax = 64;
const ownHostsMax = 64;
const ownId = /^[\w.:-]{1,64}$/;
const noQuery = {};

type Target = { readonly call: ApiCall; readonly document?: undefined } | { readonly call?: undefined; readonly document: Document };

export class HttpApi {
  readonly streams = new Streams();
  readonly #options: HttpApiOptions;
  readonly #node: ApiNode;
  readonly #desk: Desk;
  readonly #router = FindMyWay({ maxParamLength: parameterBytesMax, querystringParser: () => noQuery });
  readonly #bodies = new Bodies();
  readonly #counts = new Map<string, Map<string, number>>(calls.map(({ name }) => [name, new Map()]));
  readonly #refused = new Map<string, number>();
  readonly #reported = new Sparse();
  /** Of request ids: unlike those of other nodes, and of this node before it started again. */
  readonly #prefix = `${randomId(6)}-`;
  /** Of this machine, as requests name it, with the address that they reached. */
  readonly #ownHosts = new Set<string>();
  #lastId = 0;
  #waiting = 0;
  /** Requests whose credential is being verified. */
  #verifying = 0;
  #isClosed = false;

  constructor(options: HttpApiOptions) {
    this.#options = options;
    this.#node = { ...options.node, streams: this.streams };
    this.#desk = { answered: ({ name }, code) => add(this.#counts.get(name)!, code), failed: (request, error) => this.#refuseError(request, error), audit: options.audit };
    for (const call of calls) this.#router.on(call.method, basePath + call.path, () => undefined, { call } satisfies Target);
    for (const document of documents()) this.#router.on("GET", document.path, () => undefined, { document } satisfies Target);
  }

  /** Serves a request whose path begins with `/api/`. Never throws. */
  serve(req: IncomingMessage, res: ServerResponse): void {
    const given = req.headers["x-request-id"];
    const id = typeof given === "string" && ownId.test(given) ? given : this.#prefix + (++this.#lastId).toString(36);
    try {
      this.#serve(req, res, id);
    } catch (error) {
      this.#failed(res, id, null, error);
    }
  }

  #serve(req: IncomingMessage, res: ServerResponse, id: string): void {
    const found = this.#find(req);
    if ("code" in found) return this.#refuse(req, res, id, found);
    const { target: { call, document }, parameters } = found;
    const caller = this.#options.keys.authenticate(req.headers.authorization);
    if (document !== undefined) {
      // It says nothing of this node, so it needs no key. Where there is none, pages elsewhere must not find the node by it.
      const refused = !(caller instanceof Promise) && "kind" in caller && caller.kind === "open" ? this.#strange(req) : null;
      return refused === null ? document.send(res) : this.#refuse(req, res, id, refused);
    }
    const goOn = (known: ApiCaller | ApiRefusal) => {
      // The client may have disconnected while its token was verified, and `close` will not come again.
      if (res.destroyed) return;
      if ("refused" in known) return this.#refuse(req, res, id, refusalOf(known), call);
      this.#begin(new ApiRequest(id, call, req, res, known, parameters, this.#desk), call);
    };
    if (!(caller instanceof Promise)) return goOn(caller);
    if (this.#verifying >= waitingMax) return this.#refuse(req, res, id, refusal("overloaded", `${waitingMax} requests wait for their token to be verified already; ${call.name} was not begun`), call);
    this.#verifying++;
    caller.finally(() => this.#verifying--).then(goOn).catch((error: unknown) => this.#failed(res, id, call, error));
  }

  #find(req: IncomingMessage): { readonly target: Target; readonly parameters: ApiRequest["parameters"] } | Refusal {
    const { method = "", url = "" } = req;
    const found = this.#router.find(method === "HEAD" ? "GET" : (method as "GET"), url);
    if (found !== null) return { target: found.store as Target, parameters: found.params };
    const allowed = methods.filter((one) => this.#router.find(one, url) !== null);
    if (allowed.length > 0) return { ...refusal("method_not_allowed"), allow: allowed.flatMap((one) => (one === "GET" ? ["GET", "HEAD"] : [one])).join(", ") };
    return refusal("not_found", `unknown path ${JSON.stringify(pathOf(url).slice(0, shownMax))}: ${basePath}/docs lists the calls`);
  }

  /** The caller is known. */
  #begin(request: ApiRequest, call: ApiCall): void {
    const { req, caller } = request;
    const refused = this.#mayBegin(call) ?? (caller.kind === "open" ? this.#strange(req) : null) ?? pageOrForm(req, call) ?? refusalOrNull(permits(caller, call.scope));
    if (refused !== null) return this.#refuseKnown(request, refused);
    this.#waiting++;
    request.res.on("close", () => {
      this.#waiting--;
      this.#bodies.release(request);
    });
    if (call.needsQuery || req.url?.includes("?")) {
      const checked = call.query.safeParse(queryOf(req.url));
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
      return this.#failed(request.res, request.id, call, error);
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

  /** Without a key, a web page could name another host that points to this machine. Only its own loopback names pass. */
  #strange(req: IncomingMessage): Refusal | null {
    // Parsing addresses costs more than all the rest of a publish.
    const known = `${req.headers.host} ${req.socket.localAddress}`;
    if (req.headers.origin !== undefined) return refusal("forbidden", "web pages may not send this: the request has an Origin header");
    const text = strangePage(req) ?? (this.#ownHosts.has(known) ? null : strangeHost(req));
    if (text !== null) return refusal("forbidden", text);
    if (this.#ownHosts.size >= ownHostsMax) this.#ownHosts.clear();
    this.#ownHosts.add(known);
    return null;
  }

  #mayBegin(call: ApiCall): Refusal | null {
    if (this.#isClosed) return refusal("unavailable", "the node is closing");
    if (this.#waiting < waitingMax) return null;
    return refusal("overloaded", `${waitingMax} requests wait for their answers already; ${call.name} was not begun`);
  }

  #refuseError(request: ApiRequest, error: unknown): void {
    if (!(error instanceof ApiError)) return this.#failed(request.res, request.id, request.call, error);
    request.refuse({ code: error.code, text: error.text });
  }

  /** Before the call has begun: the log has these, since somebody may be trying keys, or a page may be. */
  #refuseKnown(request: ApiRequest, refused: Refusal): void {
    request.refuse(refused);
    this.#tell(request.req, request.id, refused);
  }

  #refuse(req: IncomingMessage, res: ServerResponse, id: string, refused: Refusal, call?: ApiCall): void {
    sendProblem(res, refused, id);
    if (call === undefined) add(this.#refused, refused.code);
    else add(this.#counts.get(call.name)!, refused.code);
    this.#tell(req, id, refused);
  }

  #tell({ socket, method = "", url = "" }: IncomingMessage, requestId: string, { code, text }: Refusal): void {
    if (code !== "unauthorized" && code !== "forbidden") return;
    this.#options.audit.refused({ from: socket.remoteAddress ?? "unknown", method, path: pathOf(url).slice(0, shownMax), requestId }, code, text);
  }

  /** A bug of ours, or of a part that the embedding program supplied. */
  #failed(res: ServerResponse, requestId: string, call: Called | null, err: unknown): void {
    const name = call?.name ?? "none";
    const unsaid = this.#reported.due(name);
    if (unsaid !== null) this.#options.log.error({ err, call: name, requestId, unsaid }, "http api: a request failed by a bug and got 500: report it");
    add(call === null ? this.#refused : this.#counts.get(call.name)!, "internal");
    if (res.headersSent) return void res.destroy();
    sendProblem(res, refusal("internal", "the request failed: the log of the node says why"), requestId);
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


/** What changes something is sent by programs, not by pages: a page cannot send JSON to another origin without asking first. */
function pageOrForm({ headers: { origin, "sec-fetch-site": site, "content-type": type = "" } }: IncomingMessage, { method, body }: ApiCall): Refusal | null {
  if (method !== "GET" && (origin !== undefined || site !== undefined)) return refusal("forbidden", "web pages may not send this: the request has an Origin or Sec-Fetch-Site header");
  if (body === null || type === "application/json") return null;
  return type.split(";", 1)[0]!.trim().toLowerCase() === "application/json" ? null : refusal("unsupported_media_type", "Content-Type: must be application/json");
}

function pathOf(url: string): string {
  return url.split("?", 1)[0]!;
}
