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
    text: `WebSocket. Subprotocols: \`${subprotocols.binary}\` (the default) and \`${subprotocols.json}\`. A token may stand in the first frame, in the header \`Authorization: Bearer TOKEN\`, or in \`?token=TOKEN\`. \`?resume=TICKET\` is for clients that reconnect.`,
    answers: [
      "101",
      "426 `bad_request`: not a WebSocket handshake of version 13",
      "503 `overloaded` or `unavailable`, with `Retry-After`: the node is full, drains, or admits no more handshakes now",
    ],
  },
  { method: "GET", path: "/health", text: "Liveness: the process serves requests.", answers: ['200 `{"status":"ok","node":"a"}`'] },
  { method: "GET", path: "/ready", text: "Readiness: whether a load balancer should send clients here.", answers: ['200 `{"status":"ready","node":"a"}`', "503 `unavailable`: `text` says why"] },
  { method: "GET", path: "/", text: "Demo page, unless `demo` is off.", answers: ["200 HTML"] },
  { method: "GET", path: "/flux-client.js", text: "The client for browsers, as an ES module, unless `demo` is off.", answers: ["200 JavaScript"] },
];
