/** The page of HTTP endpoints, from the tables beside the code that serves them. */
import { adminEndpoints, adminRefusals } from "../../src/admin/endpoints.ts";
import { code, table } from "../../src/cli/tables.ts";
import { publicEndpoints } from "../../src/reactor/transport/endpoints.ts";

interface Row {
  readonly method: string;
  readonly path: string;
  readonly takes?: string;
  readonly text: string;
  readonly answers: readonly string[];
}

export function httpDoc(): string {
  return [
    "## The port for clients",
    "`port`, 8080 unless configured. HTTPS with a certificate. `HEAD` works wherever `GET` does. Another method is answered 405, another path 404.",
    endpoints(publicEndpoints),
    'An error is `{"error":{"code":"unavailable","text":"…","retryable":true}}`.',
    "## The admin port",
    `\`adminPort\`, 8081 unless configured, on 127.0.0.1. Without \`adminKey\` it serves this machine only and rejects requests of web pages. With a
key, every request needs \`Authorization: Bearer KEY\`. It has no TLS. Answers are JSON, except for the metrics.`,
    endpoints(adminEndpoints),
    'An error is `{"error":{"code":"bad_request","text":"…"}}`:',
    table(["status", "code", "when"], adminRefusals.map(([status, name, when]) => [status, code(name), when])),
    "At most 64 connections are open at once, 32 of one address; with the HTTP API on this port 1,024, 512 of one address. A request has 10 s for its headers and 30 s in all.",
    "The [HTTP API](http-api.md), below `/api/v1`, is on this port as well, unless `apiPort` gives it one of its own.",
    "## The metrics port",
    "`metricsPort`, off unless configured. It serves `GET /metrics` without a key, and nothing else.",
  ].join("\n\n");
}

function endpoints(rows: readonly Row[]): string {
  return table(
    ["request", "takes", "what it does", "answers"],
    rows.map(({ method, path, takes, text, answers }) => [code(`${method} ${path}`), takes ?? "nothing", text, answers.join("<br>")]),
  );
}
