/**
 * Where a request ends, byte by byte, on every port that reads requests. Behind a proxy that counts otherwise, what the
 * node takes for the next request would be another client's (request smuggling).
 */
import { join } from "node:path";
import { connect } from "node:net";
import t from "tap";
import { ask } from "./support/api.ts";
import { createKey, openFileKeyWriter } from "./support/apikeys.ts";
import { startNode } from "./support/node.ts";
import { exchange as exchangeFor } from "./support/rawsocket.ts";

const exchange: typeof exchangeFor = (port, bytes, enough) => exchangeFor(port, bytes, enough, 4_000);
const path = join(t.testdir(), "keys");
const key = await createKey(openFileKeyWriter(path), "shop", {});
const node = await startNode(t, { demo: true, reactors: 1, apiPublic: true, apiKeys: path, apiPort: 0, metricsPort: 0 });
const authorized = { Authorization: `Bearer ${key}` };
const publications = "/api/v1/rooms/chat:a/publications";
const body = '{"data":1}';
/** Behind the request: it must not be answered. */
const next = `GET /health HTTP/1.1\r\nHost: a\r\n\r\n`;
const chunks = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
const length = `Content-Length: ${body.length}\r\n`;
const longer = `Content-Length: ${body.length + next.length}\r\n`;
const chunked = "Transfer-Encoding: chunked\r\n";

/** Each of them is read by some server in another way than by another one. */
const uncertain: Readonly<Record<string, readonly [headers: string, body: string]>> = {
  "two lengths": [length + longer, body],
  "two lengths, the longer one first": [longer + length, body],
  "the same length twice": [length + length, body],
  "an empty length and another": [`Content-Length: \r\n${longer}`, ""],
  "an empty length": ["Content-Length: \r\n", ""],
  "a list of lengths": [`Content-Length: ${body.length}, ${body.length}\r\n`, body],
  "a length with a sign": [`Content-Length: +${body.length}\r\n`, body],
  "a negative length": [`Content-Length: -${body.length}\r\n`, body],
  "a length with a letter": [`Content-Length:  ${body.length}x\r\n`, body],
  "a length in hexadecimal": ["Content-Length: 0xa\r\n", body],
  "a length beyond 64 bits": ["Content-Length: 18446744073709551626\r\n", body],
  "chunks and a length": [chunked + length, chunks],
  "a length and chunks": [length + chunked, chunks],
  "no encoding that is known": ["Transfer-Encoding: identity\r\n", body],
  "no encoding that is known, with chunks": ["Transfer-Encoding: identity\r\n", chunks],
  "an encoding that contains the name": ["Transfer-Encoding: xchunked\r\n", chunks],
  "chunks that are not the last encoding": ["Transfer-Encoding: chunked, identity\r\n", chunks],
  "an empty encoding": ["Transfer-Encoding: \r\n", ""],
  "an empty encoding and chunks": [`Transfer-Encoding: \r\n${chunked}`, chunks],
  "two encodings": [`${chunked}Transfer-Encoding: identity\r\n`, chunks],
};
/** The parser itself does not get to their end: uWebSockets.js for Node 20 says nothing, and waits for more. */
const unread: typeof uncertain = {
  "a space before the colon": [`Content-Length : ${body.length}\r\n`, body],
  "a folded line": [`X-A: b\r\n ${length}`, ""],
  "a length that is folded": [`Content-Length: 1\r\n 0\r\n`, body],
  "a line that ends without CR": [`X-A: b\n${length}`, body],
  "a CR alone": [`X-A: b\r${length}`, ""],
  "a zero byte in a name": [`Content-Length\0: ${body.length}\r\n`, ""],
};

const request = (line: string, headers: string, body: string) => `${line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\n${headers}\r\n${body}`;
const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n";
const answersIn = (bytes: Buffer) => bytes.toString("latin1").match(/HTTP\/1\.1 \d+/g) ?? [];
const published = async () => ((await ask(node.port, "/rooms/chat:a/history", { headers: authorized })).json!.publications as unknown[]).length;

t.test("port for clients: a request whose end is not certain gets 400, and its connection ends there", async (t) => {
  const before = await published();
  for (const [title, [headers, body]] of Object.entries(uncertain)) {
    for (const line of [`POST ${publications}`, "GET /health", "POST /nowhere", "GET /api/connection-url"]) {
      t.strictSame(answersIn(await exchange(node.port, request(line, headers, body + next))), ["HTTP/1.1 400"], `${line}, ${title}`);
    }
  }
  t.strictSame(await published(), before, "nothing is published");
});

t.test("port for clients: every path refuses them, an upgrade too, and says why", async (t) => {
  const [headers, body] = uncertain["two lengths"]!;
  for (const line of ["GET /", "HEAD /ready", "POST /ws", "OPTIONS /api/connection-url", "PUT /api/connection-url", "GET /flux-client.js", "DELETE /api/v1/users/ann/sessions"]) {
    t.strictSame(answersIn(await exchange(node.port, request(line, headers, body + next))), ["HTTP/1.1 400"], line);
  }
  t.strictSame(answersIn(await exchange(node.port, request("GET /ws", upgrade + headers, body + next))), ["HTTP/1.1 400"], "an upgrade");
  t.strictSame(answersIn(await exchange(node.port, request("GET /ws", upgrade + chunked, chunks + next))), ["HTTP/1.1 400"], "an upgrade with chunks");
  t.strictSame(answersIn(await exchange(node.port, request("GET /health", "Host: b\r\n", next))), ["HTTP/1.1 400"], "two hosts");
  t.strictSame(answersIn(await exchange(node.port, request("GET /health", chunked, chunks + next))), ["HTTP/1.1 400"], "only the HTTP API takes chunks");
  t.strictSame(answersIn(await exchange(node.port, request("GET /api/v1/docs", chunked, chunks + next))), ["HTTP/1.1 400"], "and only with a call that has a body");
  const problem = await ask(node.port, "/rooms/chat:a/publications", { method: "POST", headers: { ...authorized, "Transfer-Encoding": "gzip, chunked" } });
  t.match(problem, { status: 400, headers: { "content-type": "application/problem+json", connection: "close" }, json: { code: "bad_request", detail: "transfer-encoding: must be chunked", requestId: /./ } });
  const health = await fetch(`http://127.0.0.1:${node.port}/health`, { method: "POST", body: new Blob([body]).stream(), duplex: "half" } as RequestInit);
  t.match([health.status, await health.json()], [400, { error: { code: "bad_request", text: /^transfer-encoding: /, retryable: false } }]);
  t.ok(Number(/^flux_http_malformed_total\S* (\d+)$/m.exec(await node.metrics())![1]) > 80);
});

t.test("port for clients: a body in chunks is the last thing that is read of a connection", async (t) => {
  const all = await exchange(node.port, request(`POST ${publications}`, chunked, chunks));
  t.strictSame(answersIn(all), ["HTTP/1.1 201"]);
  t.match(all.toString(), /^connection: close\r$/im);
  // uWebSockets.js takes the extension for digits, and the chunk for a longer one. What follows is not its end, either.
  for (const [title, line, headers, body] of [
    ["an extension", publications, "", chunks.replace("\r\n", ";a=b\r\n")],
    ["no credential", publications, "Authorization: \r\n", chunks],
    ["an answer in pieces", "/api/v1/publications", "", ((items: string) => `${items.length.toString(16)}\r\n${items}\r\n0\r\n\r\n`)(JSON.stringify(Array.from({ length: 1_000 }, () => ({ room: "nowhere:a", data: 1 }))))],
  ] as const) {
    const sent = request(`POST ${line}`, headers + chunked, body).replace(headers === "" ? "" : `Authorization: Bearer ${key}\r\n`, "");
    if (title === "an extension") {
      const socket = connect(node.port, "127.0.0.1", () => socket.write(sent + next)).on("error", () => {});
      let text = "";
      socket.on("data", (chunk) => (text += chunk.toString()));
      await ask(node.port, "/docs", { headers: authorized });
      t.equal(text, "", title);
      socket.destroy();
      continue;
    }
    const answers = answersIn(await exchange(node.port, sent));
    t.equal(answers.length, 1, `${title}: ${answers.join()}`);
    t.ok(answersIn(await exchange(node.port, sent + next)).length <= 1, `${title}, with a request behind it`);
  }
});

t.test("port for clients: what the parser does not read is not answered as a request, either", async (t) => {
  for (const [title, [headers, body]] of Object.entries(unread)) {
    const socket = connect(node.port, "127.0.0.1").on("error", () => {});
    let text = "";
    socket.on("data", (chunk) => (text += chunk.toString()));
    await new Promise<void>((resolve) => socket.write(request(`POST ${publications}`, headers, body + next), () => resolve()));
    await ask(node.port, "/docs", { headers: authorized });
    t.match(text, /^$|^HTTP\/1\.1 4/, title);
    t.ok(answersIn(Buffer.from(text)).length <= 1, title);
    socket.destroy();
  }
});

t.test("ports of node:http: such requests get 400 or their body is read in one way, and the connection ends", async (t) => {
  const ports = { api: node.apiPort, admin: node.adminPort, metrics: node.metricsPort! };
  for (const [name, port] of Object.entries(ports)) {
    for (const [title, [headers, body]] of Object.entries({ ...uncertain, ...unread, "an empty encoding behind chunks": [`${chunked}Transfer-Encoding: \r\n`, chunks] as const, "another encoding in front of chunks": ["Transfer-Encoding: gzip, chunked\r\n", chunks] as const, "two hosts": ["Host: b\r\n", ""] as const })) {
      if (title === "an empty length") continue; // Node reads none, as it does without the header.
      const answers = answersIn(await exchange(port, request(`POST ${publications}`, headers, body + next)));
      t.strictSame(answers, ["HTTP/1.1 400"], `${name}, ${title}`);
    }
  }
});

t.test("certain ends are read as such: a length, none, and chunks on the API's own port", async (t) => {
  for (const [line, headers, body] of [["GET /health", length, "1234567890"], ["GET /health", "", ""], ["POST /nowhere", length, "1234567890"], ["GET /health", "Content-Length: 0\r\n", ""]] as const) {
    const all = await exchange(node.port, request(line, headers, body + next), (bytes) => answersIn(bytes).length === 2);
    t.equal(answersIn(all).length, 2, `${line} ${headers}`);
  }
  t.match(await exchange(node.apiPort, request(`POST ${publications}`, `${chunked}Connection: close\r\n`, chunks)).then(String), /^HTTP\/1\.1 201/);
  t.equal(await published(), 2, "and no request but these has published");
});
