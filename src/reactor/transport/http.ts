/** HTTP on the public port: health, readiness, the demo page, and an error for everything else. */
import { readdirSync, readFileSync } from "node:fs";
import { basename, extname } from "node:path";
import type { HttpResponse } from "uWebSockets.js";
import type { Config } from "../../config/config.ts";
import type { NodeState } from "../../link/threads.ts";
import { packageFolder } from "../../platform/version.ts";
import { serveClient } from "./clientfile.ts";
import { errorJson, jsonType } from "./errorjson.ts";
import type { Routes } from "./routes.ts";
import { safeText } from "./safetext.ts";

const securityHeaders = {
  "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
} as const;

/** Types of the demo's files, by file extension. */
const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

export function serveHttp(routes: Routes, config: Config, state: NodeState): void {
  const health: Handler = (res, isHead) => respondJson(res, "200 OK", { status: "ok", node: config.nodeId }, isHead);
  const ready: Handler = (res, isHead) => {
    if (state.ready) respondJson(res, "200 OK", { status: "ready", node: config.nodeId }, isHead);
    else respondError(res, "503 Service Unavailable", "unavailable", state.problem, { isHead });
  };
  const paths = new Map<string, Handler>([["/health", health], ["/ready", ready], ["/ws", (res, isHead) => respondUpgrade(res, "WebSocket handshake required", isHead)]]);
  const refuseOthers = (path: string) => routes.any(path, (res) => respondError(res, "405 Method Not Allowed", "bad_request", "only GET, HEAD", { headers: { Allow: "GET, HEAD" } }));
  if (config.demo) {
    for (const [path, handler] of demoFiles()) paths.set(path, handler);
    for (const path of serveClient(routes, config)) refuseOthers(path);
  }
  for (const [path, handler] of paths) {
    // Some load balancers ask with HEAD.
    routes.get(path, (res) => handler(res, false)).head(path, (res) => handler(res, true));
    refuseOthers(path);
  }
  routes.any("/*", (res, req) => {
    respondError(res, "404 Not Found", "bad_request", "not found: the WebSocket endpoint is /ws", { isHead: req.getMethod() === "head" });
  });
}

/** @param isHead sends only the head of the answer that GET would get. */
type Handler = (res: HttpResponse, isHead: boolean) => void;

/** The demo page as the build made it, by path. */
function demoFiles(): [path: string, handler: Handler][] {
  const dist = new URL("dist/", packageFolder);
  const files = readdirSync(new URL("demo/", dist)).map((name) => `demo/${name}`);
  return files.map((file) => {
    const type = types[extname(file)] ?? "application/octet-stream";
    const bytes = readFileSync(new URL(file, dist));
    const path = file === "demo/index.html" ? "/" : `/${basename(file)}`;
    return [path, (res, isHead) => respond(res, "200 OK", type, bytes, { headers: securityHeaders, isHead })];
  });
}

/** Parts of an answer besides its body. */
interface Extras {
  readonly headers?: Readonly<Record<string, string>>;
  readonly isHead?: boolean;
  /** Closes the socket after the answer. */
  readonly isLast?: boolean;
}

export function respondError(res: HttpResponse, status: string, code: string, text: string, { headers, ...extras }: Extras = {}): void {
  const retryable = status.startsWith("503");
  const retry = retryable ? { "Retry-After": "1" } : {};
  respond(res, status, jsonType, errorJson(code, text, retryable), { ...extras, headers: { ...retry, ...headers } });
}

/** Answers a request that is no WebSocket handshake, or has another version (RFC 6455, 4.4). */
export function respondUpgrade(res: HttpResponse, text: string, isHead = false): void {
  const headers = { Upgrade: "websocket", Connection: "Upgrade", "Sec-WebSocket-Version": webSocketVersion };
  respondError(res, "426 Upgrade Required", "bad_request", text, { headers, isHead });
}

/** The only version that uWS supports. */
export const webSocketVersion = "13";

function respondJson(res: HttpResponse, status: string, body: object, isHead: boolean): void {
  respond(res, status, jsonType, JSON.stringify(body), { headers: { "Cache-Control": "no-store" }, isHead });
}

function respond(
  res: HttpResponse,
  status: string,
  type: string,
  body: string | Uint8Array,
  { headers = {}, isHead = false, isLast = false }: Extras,
): void {
  res.cork(() => {
    res.writeStatus(status).writeHeader("Content-Type", type);
    for (const [name, value] of Object.entries(headers)) res.writeHeader(name, value);
    // With a length, endWithoutBody would wait for that many bytes of a body.
    if (isHead) res.writeHeader("Content-Length", String(Buffer.byteLength(body))).endWithoutBody();
    else res.end(typeof body === "string" ? safeText(body) : body, isLast);
  });
}
