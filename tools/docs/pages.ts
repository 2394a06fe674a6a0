/** The generated pages of the documentation, by path. Each is made from the tables in the code alone, so that it is the same on every machine. */
import { closesDoc, errorsDoc, namespacesDoc, optionsDoc, schemaText } from "../../src/cli/tables.ts";
import { apiDoc } from "./api.ts";
import { cliDoc } from "./cli.ts";
import { httpDoc } from "./http.ts";
import { httpApiDoc } from "./httpapi.ts";
import { logEventsDoc } from "./logevents.ts";
import { metricsDoc } from "./metrics.ts";
import { protocolDoc } from "./protocol.ts";
import { sdkDoc } from "./sdk.ts";

export interface Page {
  readonly title: string;
  /** What the page is made from, for whoever wants to change it. */
  readonly from: string;
  /** Two or three sentences before the tables. */
  readonly intro: string;
  body(): string | Promise<string>;
}

/** By file name below docs/reference. */
export const pages: Readonly<Record<string, Page>> = {
  "options.md": {
    title: "Options",
    from: "src/config/options.ts",
    intro: `Every option of a node. Give it as a flag, as an environment variable, or as a key of a JSON file (\`--config FILE\`). A flag
overrides the environment, the environment overrides the file, and the file overrides the default.

Write a time as \`500ms\`, \`30s\`, \`15m\`, \`24h\` or \`7d\`, and a size as \`64KiB\`, \`1MiB\` or \`1GiB\`. A bare number is milliseconds or bytes.
Options of rooms are on the page [namespaces](namespaces.md). "Beyond it: close" and "Beyond it: error" name what a client gets that
exceeds the limit: see [close codes](close-codes.md) and [errors](errors.md).`,
    body: optionsDoc,
  },
  "namespaces.md": {
    title: "Namespaces",
    from: "src/config/namespaces.ts",
    intro: `A namespace is a kind of room. The part of a room's name before the first colon selects it: \`chat:general\` is in the namespace
\`chat\`. A name without a colon is in \`default\`. Set namespaces with the option [\`namespaces\`](options.md#rooms).`,
    body: namespacesDoc,
  },
  "close-codes.md": {
    title: "Close codes",
    from: "src/errors.ts",
    intro: `The node closes a WebSocket with one of these codes; the close reason is the name. After \`forbidden_origin\`, a colon and advice follow: \`forbidden_origin: allow it with --allowed-origins https://app.example.com\`. On raw TCP the last frame is \`closed {code, reason}\`.
Codes up to 3499: reconnect, the session and its positions are kept. Codes from 3500: do not reconnect before something changes.`,
    body: closesDoc,
  },
  "errors.md": {
    title: "Errors",
    from: "src/errors.ts",
    intro: `An error reply rejects one command. The session goes on. The same command may succeed later without any change if the error is retryable.`,
    body: errorsDoc,
  },
  "metrics.md": {
    title: "Metrics",
    from: "src/metrics/",
    intro: `Every metric of a node, as \`GET /metrics\` on the [admin port](http.md#the-admin-port) or the metrics port serves it. The label \`reactor\` is
the number of the worker thread, from 0. No label has a value that a client chooses.`,
    body: metricsDoc,
  },
  "log-events.md": {
    title: "Events of the log",
    from: "src/platform/log/events.ts",
    intro: `With \`--log-format json\`, each line of the log is one event, and its field \`event\` is one of these names. Names stay the same when texts change: alert and search by them.
\`*\` stands for what differs from line to line. No line has a token, a key, a password or a payload. The log for people (\`pretty\`) has the texts alone.`,
    body: logEventsDoc,
  },
  "cli.md": {
    title: "Command line",
    from: "src/cli/program.ts",
    intro: "Commands of `flux-gateway`. `flux-gateway help COMMAND` prints the same.",
    body: cliDoc,
  },
  "http.md": {
    title: "HTTP endpoints",
    from: "src/reactor/transport/endpoints.ts and src/admin/endpoints.ts",
    intro: "What a node answers over HTTP, on each of its ports.",
    body: httpDoc,
  },
  "http-api.md": {
    title: "HTTP API",
    from: "src/http/",
    intro: `What a backend does without a socket. A node serves these calls on its admin port (8081), or on \`apiPort\`. \`/api/v1/docs\` is the same page
on the node, and \`/api/v1/openapi.json\` describes the calls for machines (OpenAPI 3.1).

Requests and answers are JSON, and a body needs \`Content-Type: application/json\`. With keys, each request needs \`Authorization: Bearer KEY\`. Without keys, a port on
loopback is open to the programs of its machine, and closed to web pages. An error is \`application/problem+json\` with \`code\`, \`detail\`, \`retryable\` and \`requestId\`; every
answer has \`X-Request-Id\`. A position is \`epoch:seq\`, and serves as a cursor. Give \`tenant\` in the query, unless the key belongs to one.`,
    body: httpApiDoc,
  },
  "sdk.md": {
    title: "Client SDK",
    from: "src/client/",
    intro: `Everything that \`flux-gateway/client\` exports, and the [hooks for React](#react), as their types and comments say it. Promises reject with a [FluxError](#fluxerror). \`on\` returns a
function that removes the listener.`,
    body: sdkDoc,
  },
  "api.md": {
    title: "Embedding API",
    from: "src/api/",
    intro: `What a program that embeds a node can do without a socket, as its types and comments say it. The object that \`createGateway\` returns has
the calls of [Api](#api). [Embedding](../embedding.md) shows them.`,
    body: apiDoc,
  },
  "protocol.md": {
    title: "Protocol messages",
    from: "proto/flux.proto",
    intro: `Every message between a client and a node. A client sends \`ClientFrame\`, a node sends \`ServerFrame\`. Field names are those of the JSON
form; \`flux.proto\` writes them in snake case.`,
    body: protocolDoc,
  },
};

/** Every generated file, by path from the root of the repository. */
export async function generated(): Promise<Map<string, string>> {
  const files = new Map([["flux.schema.json", schemaText()]]);
  for (const [name, page] of Object.entries(pages)) files.set(`docs/reference/${name}`, await textOf(page));
  files.set("docs/reference/README.md", index());
  return files;
}

async function textOf({ title, from, intro, body }: Page): Promise<string> {
  return [made(from), `# ${title}`, intro, (await body()).trim()].join("\n\n") + "\n";
}

function index(): string {
  const list = Object.entries(pages).map(([name, { title, from }]) => `- [${title}](${name}), from \`${from}\``);
  return [
    made("tools/docs/pages.ts"),
    "# Reference",
    "`npm run docs` makes these pages from the code. A test fails when one is stale.",
    list.join("\n"),
  ].join("\n\n") + "\n";
}

function made(from: string): string {
  return `<!-- Made by "npm run docs" from ${from}. Do not edit. -->`;
}
