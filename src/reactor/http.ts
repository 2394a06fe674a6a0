/** HTTP on the public port: health, readiness, the demo page; clear answers to everything else. */
import { readFileSync } from "node:fs";
import type { HttpResponse, TemplatedApp } from "uWebSockets.js";
import type { Config } from "../config.ts";
import type { NodeState } from "../link/messages.ts";

const securityHeaders = {
  "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
} as const;

/** The demo's files where the build has put them: path, file under dist/, type. */
const demoFiles = [
  ["/", "demo/index.html", "text/html; charset=utf-8"],
  ["/demo.css", "demo/demo.css", "text/css; charset=utf-8"],
  ["/demo.js", "demo/demo.js", "text/javascript; charset=utf-8"],
  ["/flux-client.js", "browser/flux-client.js", "text/javascript; charset=utf-8"],
] as const;

export function serveHttp(app: TemplatedApp, config: Config, state: NodeState): void {
  app.get("/health", (res) => respondJson(res, "200 OK", { status: "ok", node: config.nodeId }));
  app.get("/ready", (res) => {
    if (state.ready) respondJson(res, "200 OK", { status: "ready", node: config.nodeId });
    else respondError(res, "503 Service Unavailable", "unavailable", "the node is starting or going away");
  });
  app.get("/ws", (res) => respondError(res, "426 Upgrade Required", "bad_request", "this is a WebSocket", { Upgrade: "websocket" }));
  const paths: string[] = ["/health", "/ready", "/ws"];
  if (config.demo) {
    serveDemo(app);
    paths.push(...demoFiles.map(([path]) => path));
  }
  for (const path of paths) {
    app.any(path, (res) => respondError(res, "405 Method Not Allowed", "bad_request", "only GET", { Allow: "GET" }));
  }
  app.any("/*", (res) => respondError(res, "404 Not Found", "bad_request", "nothing here; the WebSocket is at /ws"));
}

function serveDemo(app: TemplatedApp): void {
  for (const [path, file, type] of demoFiles) {
    // From src as from dist: the page needs the built SDK in both cases.
    const bytes = readFileSync(new URL(`../../dist/${file}`, import.meta.url));
    app.get(path, (res) => respond(res, "200 OK", type, bytes, securityHeaders));
  }
}

/** An error as every HTTP answer of the node has it: `{error: {code, text, retryable}}`. */
export function respondError(
  res: HttpResponse,
  status: string,
  code: string,
  text: string,
  headers: Record<string, string> = {},
): void {
  const retryable = status.startsWith("503");
  const retry = retryable ? { "Retry-After": "1" } : {};
  respond(res, status, jsonType, JSON.stringify({ error: { code, text, retryable } }), { ...retry, ...headers });
}

const jsonType = "application/json; charset=utf-8";

function respondJson(res: HttpResponse, status: string, body: object): void {
  respond(res, status, jsonType, JSON.stringify(body), { "Cache-Control": "no-store" });
}

function respond(
  res: HttpResponse,
  status: string,
  type: string,
  body: string | Uint8Array,
  headers: Record<string, string>,
): void {
  res.cork(() => {
    res.writeStatus(status).writeHeader("Content-Type", type);
    for (const [name, value] of Object.entries(headers)) res.writeHeader(name, value);
    res.end(body);
  });
}
