/** Ending a user's sessions from outside: the admin port's /disconnect, and the command that uses it. */
import { request } from "node:http";
import t from "tap";
import { command } from "./support/command.ts";
import { startNode } from "./support/node.ts";
import { open } from "./support/session.ts";
import { token } from "./support/tokens.ts";

const secret = "s".repeat(32);
const node = await startNode(t, { authSecret: secret, reactors: 1 });

const come = async (claims: Record<string, unknown>) => open(node, { hello: { token: await token(claims, secret) } });

interface Sent {
  path?: string;
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** By node:http, which sends whatever headers one likes. */
function ask({ path = "/disconnect", method = "POST", headers = {}, body = "" }: Sent): Promise<{ status: number; text: string }> {
  const all = { "Content-Type": "application/json", "Content-Length": String(Buffer.byteLength(body)), ...headers };
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port: node.adminPort, path, method, headers: all }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

t.test("the admin port closes every session of one user of one tenant", async (t) => {
  const anns = [await come({ sub: "ann" }), await come({ sub: "ann" })];
  const others = [await come({ sub: "bob" }), await come({ sub: "ann", tenant: "red" })];
  t.same(await ask({ body: '{"user":"ann"}' }), { status: 200, text: `{"sessions":2,"answers":[{"node":"${node.config.nodeId}","sessions":2}],"unanswered":[]}\n` });
  for (const ann of anns) t.match(await ann.closed(), { code: 3504 });
  for (const other of others) t.ok((await other.request({ ping: {} })).pong);
  t.match(await ask({ body: '{"user":"ann","tenant":"red","signOut":true}' }), { status: 200, text: /^\{"sessions":1,/ });
  t.match(await others[1]!.closed(), { code: 3504 });
});

t.test("what a web page could send ends nothing", async (t) => {
  const cat = await come({ sub: "cat" });
  const body = '{"user":"cat"}';
  const refused: [number, Sent][] = [
    [403, { body, headers: { Origin: "https://evil.example" } }],
    [403, { body, headers: { Origin: `http://127.0.0.1:${node.adminPort}` } }],
    [403, { body, headers: { Origin: "null" } }],
    [403, { body, headers: { "Sec-Fetch-Site": "cross-site" } }],
    [403, { body, headers: { Host: "rebound.example:8081" } }],
    [415, { body, headers: { "Content-Type": "text/plain" } }],
    [415, { body, headers: { "Content-Type": "application/x-www-form-urlencoded" } }],
    [415, { body, headers: { "Content-Type": "" } }],
    [405, { method: "GET" }],
    [405, { method: "OPTIONS" }],
    [405, { method: "PUT", body }],
  ];
  for (const [status, sent] of refused) t.equal((await ask(sent)).status, status, JSON.stringify(sent));
  t.ok((await cat.request({ ping: {} })).pong, "she is still there");
});

t.test("a page whose host was pointed to this machine is not told who is slow", async (t) => {
  const slow = (host: string) => ask({ path: "/slow", method: "GET", headers: { Host: host } });
  t.match(await slow(`rebound.example:${node.adminPort}`), { status: 403, text: /rebound\.example/ });
  t.same(JSON.parse((await slow(`localhost:${node.adminPort}`)).text), { sessions: [] });
});

t.test("a body that is not what it should be is refused, and said why", async (t) => {
  const refused: [number, string, RegExp][] = [
    [400, "", /body/], [400, "{", /body/], [400, "[]", /body/], [400, "{}", /user/], [400, '{"user":""}', /user/], [400, '{"user":1}', /user/],
    [400, `{"user":"${"x".repeat(129)}"}`, /user/], [400, '{"user":"a\\u001fb"}', /user/], [400, '{"user":"a","tenant":"\\n"}', /tenant/],
    [400, '{"user":"a","signOut":"yes"}', /signOut/], [400, '{"user":"a","signout":true}', /signout/], [413, `{"user":"${"x".repeat(5000)}"}`, /4096/],
  ];
  for (const [status, body, why] of refused) {
    const answer = await ask({ body });
    t.equal(answer.status, status, body.slice(0, 40));
    t.match(answer.text, why);
  }
});

const disconnect = (args: readonly string[]) => command(["disconnect", "--admin-port", String(node.adminPort), ...args]);

t.test("the command says how many sessions it closed, and what went wrong", async (t) => {
  const dan = await come({ sub: "dan d'arc", tenant: "red" });
  t.same(await disconnect(["dan d'arc", "--tenant", "red"]), { code: 0, out: "1 session closed\n", err: "" });
  t.match(await dan.closed(), { code: 3504 });
  const out = await disconnect(["eve", "--sign-out"]);
  t.match(out, { code: 0, out: "0 sessions closed; tokens issued until now are rejected\n" });
  const refused = await open(node, { hello: null });
  await refused.send({ hello: { version: 1, token: await token({ sub: "eve", iat: 1_000_000_000 }, secret) } }, 1);
  t.match(await refused.closed(), { code: 3504 });
  t.match(await disconnect(["a\nb"]), { code: 1, err: /^error: .*answered 400: .*user/ });
  t.match(await disconnect(["ann", "--admin-port", "1"]), { code: 1, err: /^error: --admin-port: no node answers at http:\/\/127\.0\.0\.1:1\/disconnect/ });
});
