/** HTTP on the port for clients, byte by byte: HEAD, upgrades of another version, and where uWebSockets.js's parser ends. */
import t, { type Test } from "tap";
import { startNode } from "./support/node.ts";
import { connectTcp, exchange, within } from "./support/rawsocket.ts";
import { open } from "./support/session.ts";

const node = await startNode(t, { demo: true, reactors: 1 });

/** Whatever comes back on one connection until the answer to a last request, whose path says so. */
async function talk(...requests: string[]): Promise<string> {
  const last = "GET /the-end HTTP/1.1\r\nHost: a\r\n\r\n";
  const received = await exchange(node.port, requests.join("") + last, (bytes) => bytes.includes("not found") && bytes.toString().endsWith("}}"));
  return received.toString();
}

const request = (method: string, path: string) => `${method} ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
/** Status and headers but Date, in an order of their own. */
const sorted = (head: string) => head.split("\r\n").filter((line) => !line.startsWith("Date: ")).sort().join("\n");

/** Head and body of the only answer to this request. */
async function answer(method: string, path: string): Promise<{ head: string; body: string }> {
  const all = await talk(request(method, path));
  // The answer to the last request begins where its status line does, however long the body before it is.
  const [head = "", body = ""] = all.slice(0, all.lastIndexOf("HTTP/1.1 404")).split(/\r\n\r\n([^]*)/);
  return { head: sorted(head), body };
}

async function isSameWithoutBody(t: Test, path: string, status: number): Promise<void> {
  const [got, asked] = [await answer("GET", path), await answer("HEAD", path)];
  t.match(got.head, new RegExp(`^HTTP/1.1 ${status} `, "m"), `GET ${path}`);
  t.not(got.body, "");
  t.equal(asked.head, got.head, `HEAD ${path} has the same head, its Content-Length too`);
  t.equal(asked.body, "", "and no body");
}

t.test("HEAD is answered as GET is, without the body: paths of the node, files of the demo, and what is not there", async (t) => {
  for (const path of ["/health", "/ready", "/", "/flux-client.js"]) await isSameWithoutBody(t, path, 200);
  await isSameWithoutBody(t, "/ws", 426);
  await isSameWithoutBody(t, "/nothing/here", 404);
});

t.test("what Allow names is what is served", async (t) => {
  for (const path of ["/health", "/ready", "/ws", "/", "/flux-client.js"]) {
    const { head } = await answer("POST", path);
    t.match(head, /^Allow: GET, HEAD\n[^]*^HTTP\/1.1 405 /m, path);
  }
});

t.test("a node that is not ready tells HEAD when to come back, as it tells GET", async (t) => {
  const leaving = await startNode(t, { reactors: 1, drainMs: 3_600_000 });
  await open(leaving);
  void leaving.drain();
  const response = await fetch(`http://127.0.0.1:${leaving.port}/ready`, { method: "HEAD" });
  t.match({ status: response.status, retry: response.headers.get("retry-after"), body: await response.text() }, { status: 503, retry: "1", body: "" });
});

const upgrade = (version: string) =>
  `GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${version}\r\n`;

t.test("an upgrade of another version than 13, or of none, is told which there is, as RFC 6455, 4.4, says", async (t) => {
  for (const version of ["Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: 0\r\n", "Sec-WebSocket-Version: 130\r\n", "Sec-WebSocket-Version: 8, 13\r\n", "Sec-WebSocket-Version: \r\n", ""]) {
    const all = await talk(upgrade(version));
    t.match(all, /^HTTP\/1.1 426 [^]*\r\nSec-WebSocket-Version: 13\r\n[^]*"bad_request"/, JSON.stringify(version));
  }
  const received = await exchange(node.port, upgrade("Sec-WebSocket-Version:  13 \r\n"), (bytes) => bytes.includes("\r\n\r\n"));
  t.match(received.toString(), /^HTTP\/1.1 101 /);
});

// What docs/operations.md says of uWebSockets.js's parser: if one of these changes with a version of it, that page changes too.
t.test("the parser takes 98 headers, HTTP/1.1 and a Host", async (t) => {
  const headers = (count: number) => Array.from({ length: count }, (_, i) => `A${i}: b\r\n`).join("");
  t.match(await talk(`GET /health HTTP/1.1\r\nHost: a\r\n${headers(97)}\r\n`), /^HTTP\/1.1 200 /);
  // The binary for Node 20 waits for more, and drops the connection when it has waited long enough. Those for later versions answer.
  const answer = (await exchange(node.port, `GET /health HTTP/1.1\r\nHost: a\r\n${headers(98)}\r\n`)).toString();
  t.match(answer, Number(process.versions.node.split(".")[0]) < 22 ? /^$/ : /^HTTP\/1.1 431 /);
  t.match((await exchange(node.port, "GET /health HTTP/1.1\r\nA: b\r\n\r\n")).toString(), /^HTTP\/1.1 400 /);
  t.match((await exchange(node.port, "GET /health HTTP/1.0\r\n\r\n")).toString(), /^HTTP\/1.1 505 /);
});

t.test("16 KiB of headers pass however they are cut, as a browser with big cookies sends them", async (t) => {
  const cut = async (bytes: number): Promise<string> => {
    const tcp = await connectTcp(node.port);
    const first = new Promise<string>((resolve) => tcp.once("data", (chunk: Buffer) => resolve(chunk.toString())));
    tcp.write("GET /health HTTP/1.1\r\nHost: a\r\nCookie: ");
    // The node has read the first part before the second is there: it has answered a request of another connection.
    await talk();
    tcp.write("c".repeat(bytes));
    await talk();
    tcp.write("\r\n\r\n");
    return within(first, "an answer").finally(() => tcp.destroy());
  };
  t.match(await cut(16_000), /^HTTP\/1.1 200 /);
  t.match(await cut(17_000), /^HTTP\/1.1 431 /);
});
