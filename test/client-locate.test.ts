/** connect({ locate }): whom the client asks before it connects, what it makes of the answers, and where it never goes. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import t, { type Test } from "tap";
import { WebSocket } from "ws";
import { connect, type Client, type ClientOptions, type LocateQuestion, type StateChange } from "../src/client/index.ts";
import { Locator, type Locate } from "../src/client/connection/locator.ts";
import type { ServerFrame } from "../src/protocol/messages.ts";
import { startNode } from "./support/node.ts";
import { isReady, ManualClock } from "./support/sdk.ts";
import { startScripted, type ScriptedNode } from "./support/scripted.ts";
import { until } from "./support/until.ts";

/** A node that gives everybody a session with a ticket. */
function nodeNamed(t: Test, node: string, more: Partial<NonNullable<ServerFrame["ready"]>> = {}): Promise<ScriptedNode> {
  return startScripted(t, ({ hello }) => (hello ? [{ ready: { session: "s", user: "u", node, version: 1, time: 1, heartbeatMs: 25_000, maxFrameBytes: 1000, ticket: "TICKET", ...more } }] : undefined));
}

interface Followed {
  readonly client: Client;
  readonly clock: ManualClock;
  readonly changes: StateChange[];
  readonly errors: string[];
  /** Loses the socket, and lets the wait pass. */
  waitOut(): Promise<void>;
}

function follow(t: Test, options: ClientOptions & { locate: Locate }, url = ""): Followed {
  const clock = new ManualClock();
  const settings = { WebSocket, clock, random: () => 0.5, backoff: { baseMs: 500, capMs: 20_000 }, ...options };
  const client = url === "" ? connect(settings) : connect(url, settings);
  t.teardown(() => client.close());
  const changes: StateChange[] = [];
  const errors: string[] = [];
  client.on("state", (change) => void changes.push(change));
  client.on("error", ({ code, text }) => void errors.push(`${code}: ${text}`));
  const waitOut = async () => {
    await until(() => client.state === "waiting", "a wait");
    clock.advance(changes.at(-1)!.retryInMs ?? 0);
  };
  return { client, clock, changes, errors, waitOut };
}

const nowhere = "ws://127.0.0.1:1/ws";

t.test("it is asked before every attempt, with the ticket of the session, the token, and the nodes that were not there", async (t) => {
  const [a, b] = [await nodeNamed(t, "a"), await nodeNamed(t, "b")];
  const asked: Omit<LocateQuestion, "signal">[] = [];
  const answers = [{ url: nowhere, node: "dead" }, { url: a.url, node: "a" }, { url: b.url, node: "b" }];
  const { client, waitOut } = follow(t, { token: "T", locate: ({ signal: _, ...question }) => { asked.push(question); return answers[asked.length - 1]!; } });
  await waitOut();
  await isReady(client);
  t.equal(client.session?.node, "a");
  a.sessions[0]!.cut();
  await waitOut();
  await isReady(client);
  t.equal(client.session?.node, "b");
  t.strictSame(asked, [
    { not: [], ticket: "", token: "T" },
    { not: ["dead"], ticket: "", token: "T" },
    { not: ["a"], ticket: "TICKET", token: "T" },
  ]);
});

t.test("a node that closes one session, or says where to go, is not reported as out of reach", async (t) => {
  const [a, b] = [await nodeNamed(t, "a"), await nodeNamed(t, "b")];
  const not: string[] = [];
  const { client, waitOut } = follow(t, { locate: (question) => { not.push(question.not.join()); return a.url; } });
  await isReady(client);
  a.sessions[0]!.close(3008);
  await waitOut();
  await isReady(client);
  a.sessions[1]!.send({ reconnect: { delayMs: 10, url: b.url } });
  a.sessions[1]!.close(3001);
  await waitOut();
  await isReady(client);
  t.equal(client.session?.node, "b");
  b.sessions[0]!.send({ reconnect: { delayMs: 10 } });
  b.sessions[0]!.close(3001);
  await waitOut();
  await isReady(client);
  t.equal(client.session?.node, "a", "where nothing is said, it is asked again");
  t.strictSame(not, ["", "", ""]);
});

t.test("a slot is waited for, and not longer than a minute", async (t) => {
  const node = await nodeNamed(t, "a");
  for (const [retryAfterMs, waits] of [[1_500, 1_500], [1e12, 60_000]] as const) {
    let asked = 0;
    const { client, changes, waitOut } = follow(t, { locate: () => { asked++; return { url: node.url, retryAfterMs }; } });
    await waitOut();
    await isReady(client);
    t.equal(asked, 1);
    t.strictSame(changes.map(({ state, retryInMs }) => [state, retryInMs]), [["waiting", waits], ["connecting", null], ["ready", null]]);
  }
});

t.test("without an answer in time the last address that worked is used, then the application's own", async (t) => {
  const [a, own] = [await nodeNamed(t, "a"), await nodeNamed(t, "own")];
  let isSlow = false;
  const { client, clock, errors, waitOut } = follow(t, { locateTimeoutMs: 2_000, locate: () => (isSlow ? new Promise<never>(() => {}) : a.url) }, own.url);
  await isReady(client);
  isSlow = true;
  for (const times of [2, 3]) {
    a.sessions.at(-1)!.cut();
    await waitOut();
    t.equal(client.state, "connecting");
    clock.advance(2_000);
    await isReady(client);
    t.equal(client.session?.node, "a");
    t.equal(a.sessions.length, times, "each session that begins makes its address the first to try");
  }
  t.strictSame(errors, Array(2).fill("not_located: locate failed: Error: no answer within locateTimeoutMs"));
});

t.test("fallbacks take turns, so that one that is dead does not hide one that lives", async (t) => {
  const own = await nodeNamed(t, "own");
  const locator = new Locator({ locate: () => "", timeoutMs: 1, url: own.url, origins: [], clock: new ManualClock() });
  t.strictSame([1, 2].map(() => locator.fallback(Infinity)), [own.url, own.url]);
  locator.reached(nowhere);
  t.strictSame([1, 2, 3].map(() => locator.fallback(Infinity)), [nowhere, own.url, nowhere]);
  const none = new Locator({ locate: () => "", timeoutMs: 1, url: "", origins: [], clock: new ManualClock() });
  t.equal(none.fallback(Infinity), "");
});

t.test("nonsense, errors and silence are attempts that failed: the client says so, and asks again later", async (t) => {
  const node = await nodeNamed(t, "a");
  const nonsense: (() => unknown)[] = [
    () => undefined, () => null, () => 42, () => "", () => "https://example.com", () => "not a url", () => ({}), () => ({ url: 7 }), () => [], () => ({ url: "javascript:alert(1)" }),
    () => { throw new Error("thrown"); }, () => Promise.reject(new Error("rejected")), () => Promise.reject(null), () => ({ url: "wss://" }), () => "blob:ws://x",
  ];
  let asked = 0;
  const { client, errors, waitOut } = follow(t, { locate: (() => nonsense[asked++]?.() ?? (asked > nonsense.length ? node.url : undefined)) as unknown as Locate });
  for (let i = 0; i < nonsense.length; i++) await waitOut();
  await isReady(client);
  t.equal(errors.length, nonsense.length);
  t.ok(errors.every((text) => text.startsWith("not_located: locate failed: ")), errors.join("\n"));
});

t.test("it never goes from wss to ws, nor to an origin that is not allowed", async (t) => {
  const locator = (options: Partial<ConstructorParameters<typeof Locator>[0]>) => new Locator({ locate: null, timeoutMs: 1, url: "", origins: [], clock: new ManualClock(), ...options });
  const secure = locator({ url: "wss://a.example/ws" });
  t.equal(secure.problem("wss://b.example/ws"), null);
  t.match(secure.problem("ws://a.example/ws"), /not wss/);
  t.match(locator({ locate: "https://a.example/api/connection-url" }).problem("ws://a.example/ws"), /not wss/);
  const open = locator({ url: "ws://a.example/ws" });
  t.equal(open.problem("ws://b.example/ws"), null);
  open.reached("WSS://b.example/ws");
  t.match(open.problem("ws://b.example/ws"), /not wss/, "once it was secure, it stays so");
  const bound = locator({ url: "wss://gw.example/ws", origins: ["wss://gw.example", "wss://*.gw.example", "wss://x.example:8443"] });
  for (const url of ["wss://gw.example/ws", "wss://gw.example:443/a?b", "wss://n1.gw.example/ws", "wss://x.example:8443/ws"]) t.equal(bound.problem(url), null, url);
  for (const url of ["wss://evil.example/ws", "wss://evilgw.example/ws", "wss://gw.example.evil/ws", "wss://gw.example@evil.example/ws", "wss://gw.example:444/ws", "ws://gw.example/ws", "http://gw.example", "", "x"]) t.ok(bound.problem(url), url);
});

t.test("a node that sends the client to such an address is not obeyed; the client asks again", async (t) => {
  const node = await nodeNamed(t, "a");
  let asked = 0;
  const origin = new URL(node.url).origin;
  const { client, errors, waitOut } = follow(t, { origins: [origin], locate: () => { asked++; return node.url; } });
  await isReady(client);
  node.sessions[0]!.send({ reconnect: { delayMs: 1_000, url: "ws://evil.example/ws" } });
  node.sessions[0]!.close(3001);
  await waitOut();
  await isReady(client);
  t.equal(asked, 2);
  t.match(errors, [/^bad_url: the node's url ws:\/\/evil.example\/ws is not used: its origin is not allowed/]);
});

t.test("nodes that send a client back and forth get two hops, then it waits as after a failure, and asks again", async (t) => {
  const ring: ScriptedNode[] = [];
  const moving = (next: number) => startScripted(t, ({ hello }, session) => {
    if (!hello) return undefined;
    session.send({ reconnect: { delayMs: 0, url: ring[next]!.url } });
    session.close(3002);
    return [];
  });
  ring.push(await moving(1), await moving(0));
  let asked = 0;
  const { client, clock, changes } = follow(t, { locate: () => { asked++; return ring[0]!.url; } });
  const waits = () => changes.filter(({ state }) => state === "waiting").map(({ retryInMs }) => retryInMs);
  for (const expected of [[0], [0, 0], [0, 0, 250], [0, 0, 250, 500]]) {
    await until(() => waits().length === expected.length, "the next wait");
    t.strictSame(waits(), expected);
    clock.advance(expected.at(-1)!);
  }
  t.equal(asked, 2 + 1);
  await client.close();
});

t.test("a node that a client is sent to and cannot reach is not taken for the one that sent it", async (t) => {
  const a = await startScripted(t, ({ hello }, session) => {
    if (!hello) return undefined;
    session.send({ reconnect: { delayMs: 0, url: nowhere } });
    session.close(3002);
    return [];
  });
  const asked: (readonly string[])[] = [];
  const { waitOut } = follow(t, { locate: ({ not }) => { asked.push(not); return { url: a.url, node: "a" }; } });
  await waitOut(); // the hop
  await waitOut(); // nobody is there
  await until(() => asked.length === 2, "the next question");
  t.strictSame(asked, [[], []]);
});

t.test("a URL is asked with not=, resume= and the token; answers that refuse are obeyed", async (t) => {
  const node = await nodeNamed(t, "a");
  const requests: { url: string; authorization: string | undefined }[] = [];
  const answers: [status: number, body: string, headers?: Record<string, string>][] = [
    [503, '{"error":{"code":"overloaded"}}', { "Retry-After": "7" }],
    [500, "no json"],
    [200, "<html>"],
    [200, JSON.stringify({ url: nowhere, node: "dead" })],
    [200, JSON.stringify({ url: node.url, node: "a", ticket: "x" })],
    [200, JSON.stringify({ url: node.url, node: "a" })],
  ];
  const server = createServer((req, res) => {
    const [status, body, headers] = answers[requests.length] ?? [404, ""];
    requests.push({ url: req.url!, authorization: req.headers.authorization });
    res.writeHead(status, headers).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  const locate = `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/connection-url?user=ada`;
  const { client, changes, waitOut } = follow(t, { locate, token: "T" });
  await waitOut();
  t.equal(changes[0]?.retryInMs, 7_000, "not before Retry-After");
  for (let i = 0; i < 3; i++) await waitOut();
  await isReady(client);
  node.sessions[0]!.cut();
  await waitOut();
  await isReady(client);
  const query = "/api/connection-url?user=ada";
  t.strictSame(requests.map(({ url }) => url), [query, query, query, query, `${query}&not=dead`, `${query}&not=a&resume=TICKET`]);
  t.ok(requests.every(({ authorization }) => authorization === "Bearer T"));
});

t.test("close() and suspend() while it is asked: a late answer is not used", async (t) => {
  const node = await nodeNamed(t, "a");
  const answers: ((url: string) => void)[] = [];
  const ask = () => new Promise<string>((resolve) => answers.push(resolve));
  const closed = follow(t, { locate: ask });
  await until(() => answers.length === 1, "the question");
  await closed.client.close();
  const suspended = follow(t, { locate: ask });
  await until(() => answers.length === 2, "the question");
  await suspended.client.suspend();
  for (const answer of answers) answer(node.url);
  suspended.client.wake();
  await until(() => answers.length === 3, "the next question");
  answers[2]!(node.url);
  await isReady(suspended.client);
  t.equal(node.sessions.length, 1);
  t.equal(closed.client.state, "closed");
});

t.test("with a real node: the client finds it, and after a reload with its session again", async (t) => {
  const node = await startNode(t, { reactors: 1, nodeId: "real" });
  const locate = `http://127.0.0.1:${node.port}/api/connection-url`;
  const items = new Map<string, string>();
  const storage = { getItem: (key: string) => items.get(key) ?? null, setItem: (key: string, value: string) => void items.set(key, value), removeItem: (key: string) => void items.delete(key) };
  const first = connect({ WebSocket, locate, storage });
  await isReady(first);
  const { session } = first.session!;
  t.equal(first.session?.node, "real");
  await first.suspend();
  const second = connect({ WebSocket, locate, storage });
  t.teardown(() => second.close());
  await isReady(second);
  t.match(second.session, { session, resumed: true });
});
