/** Sockets that do not behave and HTTP that is none, each beside members who exchange publications. */
import { once } from "node:events";
import t, { type Test } from "tap";
import { closes } from "../src/errors.ts";
import { Format } from "../src/protocol/messages.ts";
import { beside } from "./support/beside.ts";
import { folder, makePair } from "./support/certificates.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { connectTcp, exchange, openRawSocket, opcodes, within, type RawOptions } from "./support/rawsocket.ts";
import { open } from "./support/session.ts";

interface Answer {
  status: number;
  headers: Map<string, string>;
  body: string;
}

/** The answer to an HTTP request given as lines; status 0 where the node closes without one. */
async function ask(port: number, ...lines: string[]): Promise<Answer> {
  const whole = (received: Buffer): boolean => {
    const { headers, body } = parse(received);
    return headers.has("content-length") && Buffer.byteLength(body) >= Number(headers.get("content-length"));
  };
  return parse(await exchange(port, [...lines, "", ""].join("\r\n"), whole));
}

function parse(received: Buffer): Answer {
  const text = received.toString("utf8");
  const [head = "", body = ""] = text.split(/\r\n\r\n([^]*)/);
  const [first = "", ...rest] = head.split("\r\n");
  const headers = new Map(rest.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]));
  return { status: Number(first.split(" ")[1] ?? 0), headers: text.includes("\r\n\r\n") ? headers : new Map(), body };
}

const host = "Host: localhost";

function isError(t: Test, { status, headers, body }: Answer, wanted: number): void {
  t.equal(status, wanted);
  t.match(headers.get("content-type"), /^application\/json/);
  t.match(JSON.parse(body), { error: { code: String, text: String, retryable: Boolean } });
}

/** Requests that get an answer of ours. */
const requests: [title: string, status: number, ...lines: string[]][] = [
  ["an unknown path", 404, "GET /nothing HTTP/1.1", host],
  ["a path of many parts", 404, "GET /ws/../ws/x HTTP/1.1", host],
  ["a path with escapes that are none", 404, "GET /%zz%00 HTTP/1.1", host],
  ["a long path", 404, `GET /${"a".repeat(2_000)} HTTP/1.1`, host],
  ["POST where only GET goes", 405, "POST /health HTTP/1.1", host, "Content-Length: 0"],
  ["DELETE of the WebSocket", 405, "DELETE /ws HTTP/1.1", host],
  ["a method that nobody knows", 405, "BREW /ready HTTP/1.1", host],
  ["the WebSocket without an upgrade", 426, "GET /ws HTTP/1.1", host],
];

/** Bytes that are no HTTP, or none that anyone should answer: the node closes, with an error of HTTP or none. */
const garbage: [title: string, bytes: string | Buffer][] = [
  ["random bytes", Buffer.from("8f3c00ff17e2a4d9515c000d0a0d0a", "hex")],
  ["zeros", Buffer.concat([Buffer.alloc(1_000), Buffer.from("\r\n\r\n")])],
  ["the beginning of TLS", Buffer.from("16030100c8010000c40303\r\n\r\n", "latin1")],
  ["a request without a version", "GET /health\r\n\r\n"],
  ["a version that there is not", "GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n"],
  ["headers without a colon", "GET /health HTTP/1.1\r\nHost: localhost\r\nnonsense\r\n\r\n"],
  ["a header with NUL", "GET /health HTTP/1.1\r\nHost: localhost\r\nA: \0\r\n\r\n"],
  ["no Host", "GET /health HTTP/1.1\r\nAccept: */*\r\n\r\n"],
  ["both a length and chunks", "POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
  ["a length that is no number", "POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"],
  ["a chunk that is no chunk", "POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"],
  ["200 kB of headers", `GET /health HTTP/1.1\r\nHost: localhost\r\nA: ${"a".repeat(200_000)}\r\n\r\n`],
  ["a thousand headers", `GET /health HTTP/1.1\r\nHost: localhost\r\n${"A: b\r\n".repeat(1_000)}\r\n`],
];

/** Requests, and a TLS handshake, that go on a byte a second and never end. */
const upgrade = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
const endless: [title: string, first: string, then: string][] = [
  ["the headers of an upgrade", upgrade, "A: b\r\n"],
  ["one header", `${upgrade}A: `, "b"],
  ["the body of a request that was answered", "POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", "a"],
  ["chunks", "POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"],
];
const clientHello = Buffer.from(`16030100c8010000c40303${"11".repeat(194)}`, "hex").toString("latin1");

/** Sends the first part at once and of the second a byte a second, over and over; resolves when the node has closed. */
async function drip(port: number, first: string, then: string, limitMs: number): Promise<void> {
  const tcp = await connectTcp(port);
  const closed = once(tcp.resume(), "close");
  tcp.write(first, "latin1");
  let at = 0;
  const timer = setInterval(() => tcp.write(then.charAt(at++ % then.length), "latin1"), 1000);
  await within(closed, "the node to close", limitMs).finally(() => {
    clearInterval(timer);
    tcp.destroy();
  });
}

t.test("sockets and HTTP", async (t) => {
  const node = await startNode(t, { allowedOrigins: ["https://app.example"] });
  const { port } = node;

  for (const [title, status, ...lines] of requests) {
    await t.test(`${title} is answered ${status}`, (t) => beside(t, node, async () => isError(t, await ask(port, ...lines), status)));
  }

  const { cert, key } = makePair(folder(t), "localhost");
  const secure = await startNode(t, { reactors: 1, tcpPort: 0, tlsCert: cert, tlsKey: key, handshakeTimeoutMs: 5_000 });
  await t.test("what is no HTTP, and what sends nothing or a byte a second, is dropped or told so, and the node serves on", (t) => beside(t, node, async () => {
    // All at once: some of it looks like half a request, for which uWebSockets waits ten seconds and looks every four.
    const limitMs = 180_000;
    const slow = [
      ...endless.map(([title, first, then]) => drip(port, first, then, limitMs).then(() => t.pass(`${title}, a byte a second`))),
      ...[secure.port, secure.tcpPort!].map((tls) => drip(tls, "", clientHello, limitMs).then(() => t.pass("a TLS handshake, a byte a second"))),
      ...[secure.port, secure.tcpPort!].map((tls) => drip(tls, clientHello.slice(0, 50), "", limitMs).then(() => t.pass("half a TLS handshake"))),
    ];
    const answers = garbage.map(async ([title, bytes]) => {
      const { status } = parse(await exchange(port, bytes, (received) => received.includes("\r\n\r\n"), limitMs));
      t.ok(status === 0 || status >= 400, `${title}: ${status}`);
    });
    const silent = Array.from({ length: 200 }, (_, i) => exchange(port, i % 2 === 0 ? "" : "GET /ws HTTP/1.1\r\nHost: ", undefined, limitMs));
    t.equal((await ask(port, "GET /health HTTP/1.1", host)).status, 200, "others are served meanwhile");
    await Promise.all(answers);
    t.ok((await Promise.all(silent)).every((received) => received.length === 0), "200 silent connections are dropped");
    await Promise.all(slow);
    t.equal((await ask(port, "GET /health HTTP/1.1", host)).status, 200, "and afterwards");
  }));

  const handshakes: [title: string, options: Omit<RawOptions, "port">][] = [
    ["without a key", { headers: { "Sec-WebSocket-Key": null } }],
    ["to another path", { path: "/elsewhere" }],
  ];
  for (const [title, options] of handshakes) {
    await t.test(`an upgrade ${title} is refused`, (t) => beside(t, node, async () => {
      await t.rejects(openRawSocket({ port, ...options }), /answered 4\d\d|closed/);
    }));
  }

  await t.test("an upgrade that offers only subprotocols nobody knows gets none, and speaks the default", (t) => beside(t, node, async () => {
    const session = await open(node, { subprotocol: "graphql-ws, mqtt" });
    t.notOk(session.raw.headers.get("sec-websocket-protocol"));
    t.match((await session.request({ ping: { time: 5 } })).pong, { time: 5 });
    session.raw.destroy();
  }));

  await t.test("the first subprotocol of the offer that is known counts: so a client offers flux.v1.json behind what older nodes do not know", (t) => beside(t, node, async () => {
    for (const [json, subprotocol, chosen] of [
      [true, "flux.v1.json-of-tomorrow, flux.v1.json", "flux.v1.json"],
      ["arrays", "flux.v1.json-arrays, flux.v1.json", "flux.v1.json-arrays"],
      ["arrays", "flux.v1.json-arrays,flux.v1.json", "flux.v1.json-arrays"],
      [true, "flux.v1.json, flux.v1.json-arrays", "flux.v1.json"],
    ] as const) {
      const session = await open(node, { json, subprotocol });
      t.equal(session.raw.headers.get("sec-websocket-protocol"), chosen, subprotocol);
      session.raw.destroy();
    }
  }));

  const unlisted = ["http://app.example", "https://app.example:8443", "https://app.example.evil.example", "https://sub.app.example"];
  for (const origin of [...unlisted, "http://evil.example", "null", "https://127.0.0.1.evil.example", `http://127.0.0.1:${port + 1}`, "http://", "http://\u00ff.example"]) {
    await t.test(`a page of ${origin} is closed 3505`, (t) => beside(t, node, async () => {
      const raw = await openRawSocket({ port, headers: { Origin: origin } });
      t.match(await raw.closed(), { code: closes.forbidden_origin.code, reason: /^forbidden_origin(: allow it with --allowed-origins [\x21-\x7e]+)?$/ });
    }));
  }

  for (const [whose, origin] of [["the node's own host", `http://127.0.0.1:${port}`], ["an origin that is listed", "https://app.example"]] as const) {
    await t.test(`a page of ${whose} may connect`, async (t) => {
      const session = await open(node, { headers: { Origin: origin } });
      t.match(await session.bye(), { code: 1000 });
    });
  }

  await t.test("a session whose client sends FIN is over, and out of its rooms", (t) => beside(t, node, async () => {
    const session = await open(node);
    const other = await open(node);
    await session.join("halves");
    await other.join("halves");
    session.raw.half();
    await session.closed();
    let receivers = 2;
    while (receivers !== 1) {
      receivers = (await other.request({ publish: { room: "halves", payload: Buffer.from("1"), format: Format.JSON } })).published?.receivers ?? 0;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    t.equal(receivers, 1);
    other.raw.destroy();
  }));

  await t.test("a session that goes away within a frame takes nobody with it", (t) => beside(t, node, async () => {
    for (let i = 0; i < 20; i++) {
      const session = await open(node, { json: i % 2 === 0 });
      await session.join(`leaving${i % 3}`);
      await session.raw.send({ opcode: opcodes.binary, payload: Buffer.of(0, 0, 1), announced: 5_000n });
      session.raw.destroy();
    }
  }));
});

t.test("a socket that does not read while 10 MB pass its room is closed 3008, and the others get everything", async (t) => {
  const node = await startNode(t, { bytesPerSecond: 0, allowedOrigins: ["*"] });
  const anywhere = await open(node, { headers: { Origin: "http://evil.example" } });
  t.match(await anywhere.bye(), { code: 1000 }, "and pages from anywhere may connect where that is configured");
  await beside(t, node, async () => {
    const [slow, slowInJson, publisher, reader] = await Promise.all([open(node), open(node, { json: true }), open(node), open(node, { json: true, keep: false })]);
    for (const session of [slow, slowInJson, publisher, reader]) await session.join("heavy");
    slow.raw.pause();
    slowInJson.raw.pause();
    let seqs = 0;
    let inOrder = true;
    reader.onPublication((publication) => {
      seqs++;
      inOrder &&= publication.prev === publication.seq - 1 && publication.seq === seqs;
    });
    // 32 kB each; one at a time is well within the rate.
    const block = Buffer.alloc(32_768, 0x61);
    for (let i = 0; i < 330; i++) await publisher.publish("heavy", block);
    const last = await publisher.publish("heavy", '"last"');
    await reader.waitFor(() => seqs === last.seq, "the last publication");
    t.ok(inOrder, "the reader has all, in order");

    slow.raw.resume();
    slowInJson.raw.resume();
    for (const session of [slow, slowInJson]) {
      const ending = await session.closed();
      t.strictSame(ending, { code: closes.slow_consumer.code, reason: "slow_consumer" });
      const got = session.publications.map(({ seq }) => seq);
      t.ok(got.length < last.seq, `it missed some: has ${got.length} of ${last.seq}`);
      t.strictSame(got, got.map((_, i) => i + 1), "what it has is a beginning, without holes");
    }
    publisher.raw.destroy();
    reader.raw.destroy();
  });
  t.equal(sumOf(await node.metrics(), "flux_slow_consumers_total"), 2);
});
