/** The paths of the port for clients, as the documentation shows them. test/docs-endpoints.test.ts requests each. */
import { subprotocols } from "../../protocol/messages.ts";

export interface PublicEndpoint {
  readonly method: "GET";
  readonly path: string;
  readonly text: string;
  readonly answers: readonly string[];
}

export const publicEndpoints: readonly PublicEndpoint[] = [
  {
    method: "GET", path: "/ws",
    text: `WebSocket. Subprotocols: \`${subprotocols.binary}\` (the default), \`${subprotocols.json}\` and \`${subprotocols.jsonArrays}\`. A token may stand in the first frame, in the header \`Authorization: Bearer TOKEN\`, or in \`?token=TOKEN\`. \`?resume=TICKET\` is for clients that reconnect, \`?ticket=TICKET\` for those that \`/api/connection-url\` sent.`,
    answers: [
      "101",
      "426 `bad_request`: not a WebSocket handshake of version 13",
      "503 `overloaded` or `unavailable`, with `Retry-After`: the node is full, drains, or admits no more handshakes now",
    ],
  },
  {
    method: "GET", path: "/api/connection-url",
    text:
      "The node that a client should connect to, its WebSocket URL, and how long to wait before connecting. All parameters are optional. `user`: the user who connects; with a token in `Authorization: Bearer TOKEN` only the token's own. " +
      "`not`: nodes that the client could not reach, separated by commas. `region`: nodes of this region first. `resume`: the ticket of `ready`, for clients that reconnect. Pages of `allowedOrigins` may ask.",
    answers: [
      '200 `{"url":"wss://gw.example.com/ws?node=a&ticket=TICKET","node":"a","placement":"any","ticket":"TICKET","expiresAt":1767225600000,"retryAfterMs":0}`; with `partition` where `placement` is `hash`. `ticket` and `expiresAt` are missing where no ticket is needed',
      "400 `bad_request`: a parameter is invalid",
      "401 `unauthorized`: a token is needed, or the node cannot verify it",
      "403 `forbidden`: the token is another user's, or the page's origin is not allowed",
      "503 `overloaded` or `unavailable`, with `Retry-After`: too many clients ask, or no node takes clients",
    ],
  },
  {
    method: "GET", path: "/api/v1/docs",
    text: "The page of the HTTP API, and below `/api/v1` all its [calls](http-api.md), with `apiPublic`. Every request needs an API key; a stream of a room takes the token of a client instead.",
    answers: ["200 HTML", "401 `unauthorized`, as `application/problem+json`: the request has no valid credential"],
  },
  { method: "GET", path: "/health", text: "Liveness: the process serves requests.", answers: ['200 `{"status":"ok","node":"a"}`'] },
  { method: "GET", path: "/ready", text: "Readiness: whether a load balancer should send clients here.", answers: ['200 `{"status":"ready","node":"a"}`', "503 `unavailable`: `text` says why"] },
  { method: "GET", path: "/", text: "Demo page, unless `demo` is off.", answers: ["200 HTML"] },
  { method: "GET", path: "/flux-client.js", text: "The client for browsers, as an ES module, compressed by gzip or Brotli, with `ETag`, unless `demo` is off. Pages of `allowedOrigins` may load it.", answers: ["200 JavaScript", "304: it is that of `If-None-Match`"] },
  { method: "GET", path: "/flux-client.json", text: "The path of the same file with its version and hash, which caches keep for a year, and its hash for [subresource integrity](../client.md#a-page-without-a-bundler).", answers: ['200 `{"version":"0.1.0","path":"/flux-client-0.1.0-4f1c2a90.js","integrity":"sha384-…"}`'] },
];
