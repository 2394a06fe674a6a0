/** Requests and answers on the way between a reactor and the main thread: real rings, and a socket that the test holds. */
import type { HttpRequest, HttpResponse, TemplatedApp } from "uWebSockets.js";
import t from "tap";
import type { Exchange } from "../src/http/exchange/exchange.ts";
import type { HttpApi } from "../src/http/http.ts";
import { PublicPort } from "../src/http/publicport.ts";
import { windowBytes } from "../src/link/api.ts";
import { Counters, createCounters } from "../src/link/counters.ts";
import { Link } from "../src/link/link.ts";
import { createRing } from "../src/link/ring.ts";
import { NodeState } from "../src/link/threads.ts";
import { PublicApi } from "../src/reactor/api/publicapi.ts";
import { until } from "./support/until.ts";

const ringBytes = 65_536;

/** A response of uWS whose socket takes so many bytes. */
class Socket {
  status = "";
  readonly headers: Record<string, string> = {};
  readonly sent: Buffer[] = [];
  room = Infinity;
  offset = 0;
  isOver = false;
  isClosing = false;
  onGone = () => {};
  onRoom: (offset: number) => boolean = () => true;
  body: (chunk: ArrayBuffer, isLast: boolean) => void = () => {};

  get text(): string {
    return Buffer.concat(this.sent).toString();
  }

  /** The client reads so much. */
  reads(bytes: number): void {
    this.room = bytes;
    this.onRoom(this.offset);
  }

  take(chunk: string | Uint8Array, most: number): number {
    const bytes = Buffer.from(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
    const taken = Math.min(bytes.length, most);
    this.sent.push(bytes.subarray(0, taken));
    this.room -= taken;
    return taken;
  }

  readonly res = {
    writeStatus: (status: string) => ((this.status = status), this.res),
    writeHeader: (name: string, value: string) => ((this.headers[name] = value), this.res),
    cork: (write: () => void) => (write(), this.res),
    getRemoteAddressAsText: () => new TextEncoder().encode("10.0.0.1").buffer,
    onAborted: (gone: () => void) => ((this.onGone = gone), this.res),
    // As uWS does: a response that has ended must not be used.
    onData: (body: Socket["body"]) => {
      if (this.isOver) throw new Error("the response has ended");
      this.body = body;
      return this.res;
    },
    onWritable: (room: Socket["onRoom"]) => ((this.onRoom = room), this.res),
    getWriteOffset: () => this.offset,
    // As uWS does: what the socket does not take of a write is kept, of tryEnd it is not.
    write: (chunk: string | Uint8Array) => (this.take(chunk, Infinity), this.room >= 0),
    tryEnd: (chunk: Uint8Array, total: number) => {
      const taken = this.take(chunk, Math.max(0, this.room));
      this.offset += taken;
      if (this.offset === total) this.isOver = true;
      return [taken === chunk.length, this.offset === total];
    },
    end: (body: string | Uint8Array = "", isClosing = false) => {
      this.take(body, Infinity);
      this.isClosing = isClosing;
      this.isOver = true;
    },
    endWithoutBody: () => (this.isOver = true),
    close: () => {
      this.isOver = true;
      this.onGone();
    },
  };
}

function start(query = "a=1") {
  const [toHub, fromHub] = [createRing(ringBytes), createRing(ringBytes)];
  const exchanges: Exchange[] = [];
  const port = new PublicPort({ ringBytes, log: { error: t.fail } as never });
  port.http = { serve: (exchange: Exchange) => void exchanges.push(exchange) } as HttpApi;
  const deepest = { up: 0, down: 0 };
  let isReading = true;
  const wake = (link: () => Link) => () => void setImmediate(() => isReading && link().wake());
  const common = { overflowBytesMax: 100_000, readBudgetBytes: 16_384, onBatchEnd() {} };
  const up: Link = new Link({ ...common, out: toHub, in: fromHub, ringDoorbell: wake(() => down), onRoom: () => api.onRoom(), onRecord: (kind, record) => {
    deepest.down = Math.max(deepest.down, down.depth.overflow);
    api.onRecord(kind, record);
  } });
  const reactor = { link: null as unknown as Link };
  const down: Link = new Link({ ...common, out: fromHub, in: toHub, ringDoorbell: wake(() => up), onRoom: () => port.onRoom(reactor), onRecord: (kind, record) => {
    deepest.up = Math.max(deepest.up, up.depth.overflow);
    port.onRecord(reactor, kind, record);
  } });
  reactor.link = down;
  port.attach(reactor);
  const api = new PublicApi({ link: up, counters: new Counters(createCounters()), state: new NodeState(NodeState.create()), ringBytes });
  t.teardown(() => api.stop());
  let handler = (_res: HttpResponse, _req: HttpRequest) => {};
  api.serve({ any: (_path: string, given: typeof handler) => (handler = given) } as unknown as TemplatedApp);
  const ask = (method: string, headers: Record<string, string> = {}): Socket => {
    const socket = new Socket();
    const all: Record<string, string> = { authorization: "Bearer k", ...headers };
    const req = { forEach: (use: (name: string, value: string) => void) => Object.entries(all).forEach(([name, value]) => use(name, value)), getMethod: () => method.toLowerCase(), getUrl: () => "/api/v1/x", getQuery: (key?: string) => (key === undefined ? query : undefined) };
    handler(socket.res as unknown as HttpResponse, req as unknown as HttpRequest);
    return socket;
  };
  const next = async () => {
    await until(() => exchanges.length > 0, "the request to arrive");
    return exchanges.shift()!;
  };
  /** The main thread reads nothing, and the link takes nothing more. */
  const congest = () => {
    isReading = false;
    while (!up.congested) {
      up.begin(0, 1_000, true);
      up.blob(new Uint8Array(990));
      up.end();
    }
  };
  return { ask, next, exchanges, port, reactor, deepest, congest, stopReading: () => (isReading = false), goOn: () => ((isReading = true), down.wake(), up.wake()) };
}

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text)).buffer;
const overs = (exchange: Exchange) => {
  const count = { of: 0 };
  exchange.onOver(() => count.of++);
  return count;
};

t.test("a small request and its answer are a record each", async (t) => {
  const { ask, next } = start();
  const socket = ask("POST", { "content-type": "application/json", "content-length": "8", "idempotency-key": "k1" });
  socket.body(bytesOf('{"a":1}\n'), true);
  const exchange = await next();
  t.match(exchange, { method: "POST", url: "/api/v1/x?a=1", from: "10.0.0.1", headers: { authorization: "Bearer k", "content-type": "application/json", "idempotency-key": "k1", origin: undefined } });
  const over = overs(exchange);
  const pieces: (string | null)[] = [];
  exchange.receive((piece) => pieces.push(piece && piece.toString()));
  t.strictSame(pieces, ['{"a":1}\n', null]);
  exchange.answer(201, ["Content-Type", "application/json"], '{"ü":1}');
  t.equal(over.of, 1);
  await until(() => socket.isOver, "the answer");
  t.match([socket.status, socket.headers, socket.text, socket.isClosing], ["201 Created", { "Content-Type": "application/json" }, '{"ü":1}', false]);
});

t.test("requests that are alike but for headers of their own keep them apart", async (t) => {
  const { ask, next, exchanges } = start("");
  const asked: Record<string, string>[] = [{}, { "idempotency-key": "k1" }, {}, { "x-request-id": "r1", "last-event-id": "e:1" }, { "content-length": "12345" }, { host: "b" }, {}, { authorization: "Bearer other" }];
  for (const own of asked) {
    ask("POST", { host: "a", "content-length": "1", ...own }).body(bytesOf("1"), true);
    const { headers } = await next();
    const { "content-length": length, ...rest } = { authorization: "Bearer k", host: "a", ...own } as Record<string, string | undefined>;
    t.strictSame(Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined)), { ...rest, ...(length !== undefined && { "content-length": length }), ...((own["idempotency-key"] ?? own["x-request-id"]) && { "content-length": "1" }) });
  }
  for (let i = 0; i < 500; i++) ask("GET", { host: `h${i}` });
  await until(() => exchanges.length === 500, "more heads than are remembered");
  t.ok(exchanges.every(({ headers }, i) => headers.host === `h${i}`));
});

t.test("a large body waits until it is asked for, and never fills the ring", async (t) => {
  const { ask, next, deepest } = start();
  const whole = Array.from({ length: 131_072 }, (_, i) => String(i).padStart(8)).join("");
  const socket = ask("POST", { "content-length": String(whole.length) });
  const exchange = await next();
  for (let at = 0; at < whole.length; at += 300_000) socket.body(bytesOf(whole.slice(at, at + 300_000)), at + 300_000 >= whole.length);
  let text = "";
  let isWhole = false;
  exchange.receive((piece) => {
    if (piece === null) isWhole = true;
    else text += piece.toString();
  });
  await until(() => isWhole, "all of it");
  t.ok(text === whole, "in order, each piece once");
  t.equal(deepest.up, 0, "nothing waited for room in the ring");
});

t.test("a body larger than any may be comes as one byte too many, whatever its length said", async (t) => {
  const { ask, next } = start();
  const socket = ask("POST", { "transfer-encoding": "chunked" });
  socket.body(bytesOf("x".repeat(700_000)), false);
  const exchange = await next();
  let received = 0;
  let isWhole = false;
  exchange.receive((piece) => (piece === null ? (isWhole = true) : (received += piece.length)));
  socket.body(bytesOf("x".repeat(700_000)), false);
  socket.body(bytesOf("x".repeat(700_000)), false);
  await until(() => isWhole, "the end");
  t.equal(received, 1_048_577);
  exchange.answer(413, [], "{}");
  await until(() => socket.isOver, "the answer");
});

t.test("an answer before the end of the body closes the connection", async (t) => {
  const { ask, next } = start();
  const socket = ask("POST", { "content-length": "100000" });
  (await next()).answer(401, [], "{}");
  await until(() => socket.isOver, "the answer");
  t.match([socket.status, socket.isClosing], ["401 Unauthorized", true]);
  socket.body(bytesOf("x"), false);
});

t.test("a large answer to a body in chunks is sent as a whole, and closes the connection, whatever room the socket gets", async (t) => {
  const { ask, next } = start();
  const socket = ask("POST", { "transfer-encoding": "chunked" });
  socket.body(bytesOf("{}"), true);
  const whole = "x".repeat(100_000);
  (await next()).answer(200, [], whole);
  // The head and a part of the answer are here.
  while (socket.status === "") await new Promise(setImmediate);
  socket.reads(Infinity);
  await until(() => socket.isOver, "the answer");
  t.ok(socket.text === whole);
  t.same([socket.sent.length, socket.isClosing], [1, true]);
});

t.test("a large answer waits for a slow reader in the main thread", async (t) => {
  const { ask, next, deepest } = start();
  const socket = ask("GET");
  socket.room = 10_000;
  const exchange = await next();
  const over = overs(exchange);
  const whole = Array.from({ length: 262_144 }, (_, i) => String(i).padStart(8)).join("");
  exchange.answer(200, ["X", "y"], whole);
  await until(() => socket.offset === 10_000, "what the socket takes");
  t.equal(over.of, 0);
  while (!socket.isOver) {
    socket.reads(50_001);
    await new Promise(setImmediate);
  }
  t.ok(socket.text === whole, "all of it, in order");
  t.equal(over.of, 1);
  t.ok(deepest.down <= 16_400, `at most one record waited: ${deepest.down}`);
});

t.test("a stream is told when its reader is slow, and when it has caught up", async (t) => {
  const { ask, next } = start();
  const socket = ask("GET");
  socket.room = 100;
  const exchange = await next();
  exchange.begin(["Content-Type", "text/event-stream"]);
  let written = "";
  for (let i = 0; !exchange.isFull; i++) {
    const text = `data: ${i}\n\n`;
    written += text;
    exchange.write(text);
  }
  t.ok(written.length >= windowBytes(ringBytes) && written.length < 2 * windowBytes(ringBytes));
  let isDrained = false;
  const drained = exchange.drained().then(() => (isDrained = true));
  await until(() => socket.sent.length > 0, "the first event");
  t.equal(isDrained, false);
  socket.reads(10_000_000);
  await drained;
  exchange.write("data: last\n\n");
  exchange.end();
  await until(() => socket.isOver, "the end");
  t.equal(socket.text.replaceAll(":\n\n", ""), `${written}data: last\n\n`.replaceAll(":\n\n", ""));
  t.match(socket.text, /\n\n:\n\n/, "a comment made uWS send what it kept");
});

t.test("a client that is gone costs nothing more, and its slot's next request gets no old answer", async (t) => {
  const { ask, next } = start();
  const first = ask("POST", { "content-length": "100000" });
  const one = await next();
  const over = overs(one);
  one.receive(() => t.fail("no piece came"));
  first.onGone();
  await until(() => over.of === 1, "the main thread to know");
  const second = ask("GET");
  const two = await next();
  one.answer(200, [], "old");
  one.write("old");
  one.drop();
  two.answer(200, [], "new");
  await until(() => second.isOver, "its answer");
  t.equal(second.text, "new");
  t.equal(first.text, "");
  // In the middle of an answer.
  const third = ask("GET");
  third.room = 0;
  const three = await next();
  const last = overs(three);
  three.answer(200, [], "x".repeat(500_000));
  await until(() => third.status !== "", "the head");
  third.onGone();
  await until(() => last.of === 1, "the main thread to know");
  const fourth = ask("GET");
  (await next()).drop();
  await until(() => fourth.isOver, "the connection to be dropped");
});

t.test("a main thread that lags gets no more requests, and goes on with those it has", async (t) => {
  const { ask, exchanges, next, stopReading, goOn } = start();
  stopReading();
  const sockets: Socket[] = [];
  const body = "x".repeat(8_000);
  while (sockets.at(-1)?.status !== "503 Service Unavailable" && sockets.length < 100) {
    const socket = ask("POST", { "content-length": String(body.length) });
    socket.body(bytesOf(body), true);
    sockets.push(socket);
  }
  t.ok(sockets.length > 10 && sockets.length < 30, String(sockets.length));
  t.match(JSON.parse(sockets.at(-1)!.text), { code: "overloaded", status: 503, retryable: true });
  t.match(sockets.at(-1)!.headers, { "Retry-After": "1", "Content-Type": "application/problem+json" });
  goOn();
  for (let i = 0; i < sockets.length - 1; i++) (await next()).answer(200, [], "{}");
  await until(() => sockets.every(({ isOver }) => isOver), "the answers");
  t.equal(exchanges.length, 0);
});

t.test("when a reactor is gone, its requests are over", async (t) => {
  const { ask, next, port, reactor } = start();
  ask("GET");
  const exchange = await next();
  const over = overs(exchange);
  exchange.begin([]);
  port.detach(reactor);
  t.equal(over.of, 1);
  exchange.write("x");
  t.equal(exchange.isFull, false);
});

t.test("a header with a line break in it ends the connection, and a head that fits no record is refused", async (t) => {
  const { ask, exchanges } = start();
  const torn = ask("GET", { "x-request-id": "a\nb" });
  await until(() => torn.isOver, "the connection to be dropped");
  t.equal(torn.text, "");
  t.match(ask("GET", { "idempotency-key": "x".repeat(15_000) }), { status: "400 Bad Request", text: /headers are too large/ });
  t.match(ask("GET", { authorization: "" }), { status: "401 Unauthorized" });
  t.equal(exchanges.length, 0);
});

t.test("a large request that the full link refuses is answered, and its body is not asked for", async (t) => {
  const { ask, congest } = start();
  congest();
  const { status, isOver, text } = ask("POST", { "content-length": "40000" });
  t.match({ status, isOver, text }, { status: /^503 /, isOver: true, text: /too much to do/ });
});
