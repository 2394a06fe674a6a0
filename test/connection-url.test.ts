/** GET /api/connection-url on real nodes: what it answers, to whom, and what it refuses. */
import t, { type Test } from "tap";
import { PlaceTickets, placeTag, placeTicketMs, userTag } from "../src/auth/placetickets.ts";
import { startNodeOnHeldClock } from "./support/heldclock.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { exchange } from "./support/rawsocket.ts";
import { open } from "./support/session.ts";
import { keyPair, secret, signed, token } from "./support/tokens.ts";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const resumeSecret = "r".repeat(32);
const path = "/api/connection-url";
const node = await startNode(t, { nodeId: "gateway-1", resumeSecret, allowedOrigins: ["https://app.example"] });

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown> & { url: string; ticket: string; expiresAt: number; retryAfterMs: number; error: { code: string; text: string } };
}

async function ask(port: number, query = "", init: RequestInit = {}): Promise<Answer> {
  const response = await fetch(`http://127.0.0.1:${port}${path}${query}`, init);
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text === "" ? {} : JSON.parse(text) } as Answer;
}

const bearer = (jwt: string) => ({ headers: { Authorization: `Bearer ${jwt}` } });

async function refused(t: Test, asked: Promise<Answer>, status: number, code: string, text: RegExp): Promise<Answer> {
  const answer = await asked;
  t.equal(answer.status, status);
  t.equal(answer.body.error.code, code);
  t.match(answer.body.error.text, text);
  return answer;
}

t.test("a node alone names itself, as the caller reached it, and the url works", async (t) => {
  const before = Date.now();
  const { status, headers, body } = await ask(node.port);
  t.equal(status, 200);
  t.equal(headers.get("content-type"), "application/json; charset=utf-8");
  t.equal(headers.get("cache-control"), "no-store");
  const { url, ticket, expiresAt, ...rest } = body;
  t.equal(url, `ws://127.0.0.1:${node.port}/ws?node=gateway-1&ticket=${ticket}`);
  t.strictSame(rest, { node: "gateway-1", placement: "any", retryAfterMs: 0 });
  t.ok(expiresAt >= before + placeTicketMs && expiresAt <= Date.now() + placeTicketMs, "for a minute");
  const session = await open(node, { path: url.slice(url.indexOf("/ws")) });
  t.equal(session.ready?.node, "gateway-1");
});

t.test("the ticket names node, user and session state, and each answer has its own", async (t) => {
  const [first, second] = [await ask(node.port, "?user=ada"), await ask(node.port, "?user=ada")];
  t.not(first.body.ticket, second.body.ticket);
  const tickets = new PlaceTickets(resumeSecret);
  t.match(tickets.read(first.body.ticket), { node: placeTag("gateway-1"), user: userTag("", "ada"), hops: 0, returning: false, due: true });
  const session = await open(node);
  const returning = await ask(node.port, `?resume=${session.ready?.ticket}`);
  t.match(tickets.read(returning.body.ticket), { user: 0, returning: true });
  t.match(tickets.read((await ask(node.port, "?resume=forged")).body.ticket), { returning: false });
});

t.test("any user of 1 to 128 bytes, in any script; no other", async (t) => {
  const tickets = new PlaceTickets(resumeSecret);
  for (const user of ["ada", "a b", "a+b&c=d%", "ädä", "عمر", "👩‍🚀", "x".repeat(128), "ü".repeat(64), '"\\']) {
    const { status, body } = await ask(node.port, `?user=${encodeURIComponent(user)}`);
    t.equal(status, 200, user);
    t.equal(tickets.read(body.ticket)?.user, userTag("", user), user);
  }
  for (const user of ["", "x".repeat(129), encodeURIComponent("ü".repeat(65)), "%00", "a%0Ab", "%ff", "%E0%A4%A"]) await refused(t, ask(node.port, `?user=${user}`), 400, "bad_request", /^user: /);
});

t.test("what cannot be is refused: two users, long queries, many nodes, other methods", async (t) => {
  await refused(t, ask(node.port, "?user=a&user=b"), 400, "bad_request", /twice/);
  await refused(t, ask(node.port, `?x=${"y".repeat(5000)}`), 400, "bad_request", /query/);
  await refused(t, ask(node.port, "?not=a,b,c,d,e"), 400, "bad_request", /not/);
  const post = await ask(node.port, "", { method: "POST", body: "{}" });
  t.equal(post.status, 405);
  t.equal(post.headers.get("allow"), "GET, HEAD, OPTIONS");
  const head = await ask(node.port, "?user=ada", { method: "HEAD" });
  t.equal(head.status, 200);
  t.ok(Number(head.headers.get("content-length")) > 200);
});

t.test("nodes that nobody knows may be named in not=; a node alone names itself whatever not= says", async (t) => {
  for (const query of ["?not=gateway-1", "?not=gateway-9", "?not=,", "?region=mars", "?not=%22%0A"]) t.equal((await ask(node.port, query)).body.node, "gateway-1", query);
});

t.test("pages of allowed origins may read the answer, others may not ask", async (t) => {
  const origin = "https://app.example";
  const { status, headers } = await ask(node.port, "?user=ada", { headers: { Origin: origin } });
  t.equal(status, 200);
  t.equal(headers.get("access-control-allow-origin"), origin);
  t.equal(headers.get("vary"), "Origin");
  const problem = await refused(t, ask(node.port, "?user=", { headers: { Origin: origin } }), 400, "bad_request", /user/);
  t.equal(problem.headers.get("access-control-allow-origin"), origin, "errors, too");
  const preflight = await ask(node.port, "", { method: "OPTIONS", headers: { Origin: origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization" } });
  t.equal(preflight.status, 204);
  t.equal(preflight.headers.get("access-control-allow-origin"), origin);
  t.equal(preflight.headers.get("access-control-allow-methods"), "GET");
  t.equal(preflight.headers.get("access-control-allow-headers"), "authorization");
  for (const method of ["GET", "OPTIONS"]) {
    const evil = await refused(t, ask(node.port, "", { method, headers: { Origin: "https://evil.example" } }), 403, "forbidden", /allowed-origins/);
    t.equal(evil.headers.get("access-control-allow-origin"), null);
  }
});

/** The answer to a request with these headers, which fetch would not send. */
async function raw(port: number, ...headers: string[]): Promise<string> {
  const lines = [`GET ${path} HTTP/1.1`, ...headers, "Connection: close", "", ""];
  return (await exchange(port, lines.join("\r\n"), (bytes) => bytes.includes("}"))).toString();
}

t.test("a Host header that is no host, or names another machine, is not repeated", async (t) => {
  const fallback = `"url":"ws://127.0.0.1:${node.port}/ws?`;
  t.match(await raw(node.port, "Host: localhost:1234"), '"url":"ws://localhost:1234/ws?');
  t.match(await raw(node.port, "Host: localhost", "X-Forwarded-Proto: https"), '"url":"wss://localhost/ws?');
  for (const host of ["evil.example", 'a"b', "a/b", "a@b", "localhost:99999"]) t.ok((await raw(node.port, `Host: ${host}`)).includes(fallback), host);
});

t.test("a node with a configured url answers that, whatever the Host header", async (t) => {
  const named = await startNode(t, { reactors: 1, nodeId: "gateway-2", nodeUrl: "wss://gw.example/ws?x=1" });
  t.match((await ask(named.port)).body.url, /^wss:\/\/gw\.example\/ws\?x=1&node=gateway-2&ticket=/);
  t.match(await raw(named.port, "Host: localhost:1"), '"url":"wss://gw.example/ws?x=1&node=gateway-2&ticket=');
});

t.test("with keys, the token says who asks, and nobody asks for another", async (t) => {
  const pair = keyPair("P-256");
  const file = join(mkdtempSync(join(tmpdir(), "flux-")), "key.pem");
  writeFileSync(file, pair.pem);
  const { node: guarded } = await startNodeOnHeldClock(t, { reactors: 1, authSecret: secret, authKeys: [file], resumeSecret, handshakesPerSecond: 40 });
  const tickets = new PlaceTickets(resumeSecret);
  const ada = await token({ sub: "ada", tenant: "acme" }, secret);
  for (const query of ["", "?user=ada"]) {
    const { status, body } = await ask(guarded.port, query, bearer(ada));
    t.equal(status, 200);
    t.equal(tickets.read(body.ticket)?.user, userTag("acme", "ada"));
  }
  const late = await ask(guarded.port, "?user=eve", bearer(await signed({ sub: "eve" }, pair.private, { alg: "ES256" })));
  t.equal(tickets.read(late.body.ticket)?.user, userTag("", "eve"), "also where the signature is checked elsewhere");
  await refused(t, ask(guarded.port, "?user=eve", bearer(ada)), 403, "forbidden", /another user/);
  const missing = await refused(t, ask(guarded.port, "?user=ada"), 401, "unauthorized", /Authorization/);
  t.equal(missing.headers.get("www-authenticate"), "Bearer");
  await refused(t, ask(guarded.port, "", bearer("no.token.x")), 401, "unauthorized", /token/);
  await refused(t, ask(guarded.port, "", bearer(await token({ sub: "ada", exp: 1 }, secret))), 401, "unauthorized", /expired/);
  await refused(t, ask(guarded.port, "", bearer(await token({ sub: "ada" }, "x".repeat(32)))), 401, "unauthorized", /no key/);
  const answers = await Promise.all(Array.from({ length: 100 }, () => ask(guarded.port, "", bearer(ada))));
  const busy = answers.find(({ status }) => status === 503);
  t.match(busy?.body.error, { code: "overloaded", retryable: true }, "tokens are checked at the rate of handshakes");
  t.match(busy?.headers.get("retry-after"), /^[1-5]$/);
  const both = await startNode(t, { reactors: 1, authSecret: secret, allowAnonymous: true });
  t.equal((await ask(both.port)).status, 200, "nobody in particular");
  await refused(t, ask(both.port, "?user=ada"), 401, "unauthorized", /user's token/);
});

t.test("slots: at the rate of handshakes, those that come back first, and none beyond half a minute", async (t) => {
  const { node: small, clock } = await startNodeOnHeldClock(t, { reactors: 1, handshakesPerSecond: 4, resumeSecret });
  const session = await open(small);
  const delays: number[] = [];
  let over = await ask(small.port);
  for (; over.status === 200; over = await ask(small.port)) delays.push(over.body.retryAfterMs);
  await refused(t, Promise.resolve(over), 503, "overloaded", /retry later/);
  t.match(over.headers.get("retry-after"), /^[1-5]$/);
  t.ok(delays.length > 100 && delays.at(-1)! > 25_000, `${delays.length} slots`);
  const back = await ask(small.port, `?resume=${session.ready?.ticket}`);
  t.equal(back.body.retryAfterMs, 0);
  t.equal((await ask(small.port, `?resume=${session.ready?.ticket}`)).status, 503, "a ticket counts once a second");
  clock.pass(1_000);
  t.equal((await ask(small.port, `?resume=${session.ready?.ticket}`)).status, 200, "and again in the next one");
  const metrics = await small.metrics();
  t.ok(sumOf(metrics, "flux_connection_urls_total") > 100);
  t.ok(sumOf(metrics, "flux_connection_urls_refused_total") >= 2);
});

t.test("without a limit of handshakes nobody needs a ticket", async (t) => {
  const free = await startNode(t, { reactors: 1, nodeId: "free", handshakesPerSecond: 0 });
  t.strictSame((await ask(free.port, "?user=ada")).body, { url: `ws://127.0.0.1:${free.port}/ws?node=free`, node: "free", placement: "any", retryAfterMs: 0 });
});

t.test("a ticket that is forged, of another node, or shown again opens nothing, and harms nobody", async (t) => {
  for (const ticket of ["forged", "x".repeat(44), new PlaceTickets(resumeSecret).make(placeTag("gateway-9"), 0, 0, 0, false), new PlaceTickets("t".repeat(32)).make(placeTag("gateway-1"), 0, 0, 0, true)]) {
    t.ok((await open(node, { path: `/ws?node=gateway-9&ticket=${ticket}` })).ready, "it is a client without a ticket");
  }
  const { ticket: again } = (await ask(node.port)).body;
  for (let i = 0; i < 3; i++) t.ok((await open(node, { path: `/ws?ticket=${again}` })).ready, "shown again it is as good as none");
  const guarded = await startNode(t, { reactors: 1, authSecret: secret, resumeSecret, nodeId: "guarded" });
  const ticket = new PlaceTickets(resumeSecret).make(placeTag("guarded"), userTag("", "ada"), 0, 0, true);
  await t.rejects(open(guarded, { path: `/ws?ticket=${ticket}` }), /3500|invalid_token/, "it is no token");
});

t.test("a node that drains sends nobody to itself", async (t) => {
  const leaving = await startNode(t, { reactors: 1, drainMs: 3_600_000 });
  await open(leaving);
  void leaving.drain();
  await refused(t, ask(leaving.port), 503, "unavailable", /draining/);
});
