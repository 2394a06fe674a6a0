/** The routes of an App that take no body in chunks. No handler sees a request whose end is not certain (framing.ts). */
import type { HttpRequest, HttpResponse, TemplatedApp } from "uWebSockets.js";
import type { Counters } from "../../link/counters.ts";
import { errorJson, jsonType } from "./errorjson.ts";
import { answerAndClose, RequestHeaders } from "./framing.ts";

export type Handler = (res: HttpResponse, req: HttpRequest) => void;
type Method = "get" | "head" | "options" | "any";

export type Routes = Record<Method, (path: string, handler: Handler) => Routes>;

export function routesOf(app: TemplatedApp, counters: Counters): Routes {
  const headers = new RequestHeaders();
  const guarded = (handler: Handler) => (res: HttpResponse, req: HttpRequest): void => {
    if (isCertain(res, req, headers, counters)) handler(res, req);
  };
  const route = (method: Method) => (path: string, handler: Handler): Routes => {
    app[method](path, guarded(handler));
    return routes;
  };
  const routes: Routes = { get: route("get"), head: route("head"), options: route("options"), any: route("any") };
  return routes;
}

/** For handlers that take no body in chunks. @returns false: the request has been refused. */
export function isCertain(res: HttpResponse, req: HttpRequest, headers: RequestHeaders, counters: Counters): boolean {
  const problem = headers.read(req) ?? (headers.isChunked ? "transfer-encoding: this path takes no body in chunks" : null);
  if (problem === null) return true;
  counters.add("httpMalformed", 1);
  answerAndClose(res, badRequest, { "Content-Type": jsonType }, errorJson("bad_request", problem, false));
  return false;
}

const badRequest = "400 Bad Request";
