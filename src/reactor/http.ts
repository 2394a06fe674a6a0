/** HTTP on the public port: health, readiness, the demo page; clear answers to everything else. */
import { readdirSync, readFileSync } from "node:fs";
import { basename, extname } from "node:path";
import type { HttpResponse, TemplatedApp } from "uWebSockets.js";
import type { Config } from "../config.ts";
import type { NodeState } from "../threads.ts";

const securityHeaders = {
  "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
} as const;

/** Types of the demo's files, by ending. */
const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

export function serveHttp(app: TemplatedApp, config: Config, state: NodeState): void {
  const health = (res: HttpResponse) => respondJson(res, "200 OK", { status: "ok", node: config.nodeId });
  const ready = (res: HttpResponse) => {
    if (state.ready) respondJson(res, "200 OK", { status: "ready", node: config.nodeId });
    else respondError(res, "503 Service Unavailable", "unavailable", state.problem);
  };
  app.get("/health", health).get("/ready", ready);
  // Some balancers ask with HEAD.
  app.head("/health", (res) => respondHead(res, "200 OK"));
  app.head("/ready", (res) => respondHead(res, state.ready ? "200 OK" : "503 Service Unavailable"));
  app.get("/ws", (res) => respondError(res, "426 Upgrade Required", "bad_request", "this is a WebSocket", { Upgrade: "websocket" }));
  const paths: string[] = ["/health", "/ready", "/ws"];
  if (config.demo) paths.push(...serveDemo(app));
  for (const path of paths) {
    app.any(path, (res) => respondError(res, "405 Method Not Allowed", "bad_request", "only GET", { Allow: "GET, HEAD" }));
  }
  app.any("/*", (res) => respondError(res, "404 Not Found", "bad_request", "nothing here; the WebSocket is at /ws"));
}

/** Serves the page and the SDK it uses from where the build has put them; the paths. */
function serveDemo(app: TemplatedApp): string[] {
  // The same from src as from dist.
  const dist = new URL("../../dist/", import.meta.url);
  const files = readdirSync(new URL("demo/", dist)).map((name) => `demo/${name}`);
  return [...files, "browser/flux-client.js"].map((file) => {
    const type = types[extname(file)] ?? "application/octet-stream";
    const bytes = readFileSync(new URL(file, dist));
    const path = file === "demo/index.html" ? "/" : `/${basename(file)}`;
    app.get(path, (res) => respond(res, "200 OK", type, bytes, securityHeaders));
    return path;
  });
}

/** An error as every HTTP answer of the node has it: `{error: {code, text, retryable}}`. `isLast`: the socket is closed. */
export function respondError(
  res: HttpResponse,
  status: string,
  code: string,
  text: string,
  headers: Record<string, string> = {},
  isLast = false,
): void {
  const retryable = status.startsWith("503");
  const retry = retryable ? { "Retry-After": "1" } : {};
  respond(res, status, jsonType, JSON.stringify({ error: { code, text, retryable } }), { ...retry, ...headers }, isLast);
}

const jsonType = "application/json; charset=utf-8";

function respondJson(res: HttpResponse, status: string, body: object): void {
  respond(res, status, jsonType, JSON.stringify(body), { "Cache-Control": "no-store" });
}

function respondHead(res: HttpResponse, status: string): void {
  res.cork(() => res.writeStatus(status).endWithoutBody());
}

function respond(
  res: HttpResponse,
  status: string,
  type: string,
  body: string | Uint8Array,
  headers: Record<string, string>,
  isLast = false,
): void {
  res.cork(() => {
    res.writeStatus(status).writeHeader("Content-Type", type);
    for (const [name, value] of Object.entries(headers)) res.writeHeader(name, value);
    res.end(body, isLast);
  });
}
