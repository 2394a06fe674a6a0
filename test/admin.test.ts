/** The admin port: its key, what is served without one, how it refuses, and what the log says of it. */
import { connect } from "node:net";
import http, { request } from "node:http";
import { syncBuiltinESMExports } from "node:module";
import { networkInterfaces } from "node:os";
import t, { type Test } from "tap";
import { startAdmin, type AdminOptions, type Served } from "../src/admin/admin.ts";
import { createLogger } from "../src/platform/log/log.ts";
import { command } from "./support/command.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { none } from "./support/only.ts";
import { until } from "./support/until.ts";

const key = "an-admin-key-of-32-or-more-characters";

interface Asked {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
  from?: string;
}

interface Answer {
  status: number;
  text: string;
  headers: Record<string, unknown>;
}

/** By node:http, which sends whatever headers one likes. */
function ask(port: number, path: string, { method = "GET", headers = {}, body = "", from = "127.0.0.1" }: Asked = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", localAddress: from, port, path, method, headers }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

const json = { "Content-Type": "application/json" };
const withKey = (given: string) => ({ Authorization: `Bearer ${given}` });

/** An admin port in this process, and what is logged. */
async function startPort(t: Test, options: Partial<AdminOptions> = {}, served: Partial<Served> = {}) {
  const lines: Record<string, unknown>[] = [];
  const log = createLogger({ logLevel: "debug", logFormat: "json", nodeId: "n1" }, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  const port = await startAdmin({ host: "127.0.0.1", port: 0, key: "", log, ...options }, {
    metrics: { metrics: async () => "# nothing\n", contentType: "text/plain" }, slow: () => [], nodes: () => ({ nodes: [] }),
    disconnect: async () => ({ sessions: 2, answers: [], unanswered: ["b"] }),
    drains: { of: () => null, begin: async () => {}, progress: () => ({ state: "over", sessions: 0, left: 0, windowMs: 0, elapsedMs: 0 }) },
    settings: { own: { node: "n1", weight: 1 }, change: async (node: string, { weight = 1 }) => (["unknown", "unavailable", "unanswered"] as const).find((what) => what === node) ?? { weight } },
    survey: async () => ({ sessions: 0, answers: [], unanswered: [] }), ...served,
  } as Served);
  t.teardown(() => port.close());
  return { port: port.port, lines };
}

const paths: readonly [string, Asked][] = [
  ["/", {}], ["/metrics", {}], ["/slow", {}], ["/nodes", {}], ["/survey?kind=health", {}], ["/drain", {}], ["/settings", {}], ["/nothing", {}],
  ["/settings", { method: "POST", headers: json, body: '{"weight":2}' }],
  ["/disconnect", { method: "POST", headers: json, body: '{"user":"ann"}' }], ["/drain", { method: "POST", headers: json, body: "{}" }],
];

t.test("with a key, nothing is answered without it", async (t) => {
  const { port } = await startPort(t, { key });
  for (const [path, asked] of paths) {
    for (const wrong of [{}, withKey(""), withKey(`${key}x`), withKey(key.slice(0, -1)), { Authorization: key }, { Authorization: `Basic ${key}` }]) {
      const { status, text, headers } = await ask(port, path, { ...asked, headers: { ...asked.headers, ...wrong } });
      t.equal(status, 401, path);
      t.match(JSON.parse(text), { error: { code: "unauthorized", text: /--admin-key/ } });
      t.equal(headers["www-authenticate"], "Bearer");
    }
    const right = await ask(port, path, { ...asked, headers: { ...asked.headers, ...withKey(key) } });
    t.equal(right.status, path === "/nothing" ? 404 : 200, path);
  }
  t.equal((await ask(port, "/nodes", { headers: { ...withKey(key), Host: "gateway.example" } })).status, 200, "by whatever name the machine is reached");
  t.equal((await ask(port, "/drain", { method: "POST", body: "{}", headers: { ...json, ...withKey(key), Origin: "https://evil.example" } })).status, 403, "but not by a page");
});

t.test("HEAD is answered as GET would be, without the body", async (t) => {
  const { port } = await startPort(t);
  for (const path of ["/", "/metrics", "/slow", "/nodes", "/survey?kind=health", "/drain", "/nothing", "/survey", "/disconnect"]) {
    const [get, head] = [await ask(port, path), await ask(port, path, { method: "HEAD" })];
    t.equal(head.status, get.status, path);
    t.equal(head.text, "");
    // The text of a 405 or 404 is the same whoever asks.
    for (const name of ["content-length", "content-type", "allow", "x-content-type-options", "transfer-encoding"]) t.equal(head.headers[name], get.headers[name], `${path}: ${name}`);
    t.equal(get.headers["content-length"], String(Buffer.byteLength(get.text)), path);
  }
});

t.test("without a key a page reaches nothing: by a name that points here, or from another origin", async (t) => {
  const { port } = await startPort(t);
  for (const [path, asked] of paths) {
    for (const headers of [{ Host: "rebound.example" }, { Host: "127.0.0.1.rebound.example" }, { "Sec-Fetch-Site": "cross-site" }, { "Sec-Fetch-Site": "same-site" }]) {
      t.match(await ask(port, path, { ...asked, headers: { ...asked.headers, ...headers } }), { status: 403, text: /"forbidden"/ }, `${path} ${JSON.stringify(headers)}`);
    }
  }
  for (const headers of [{ "Sec-Fetch-Site": "none" }, { Host: "localhost:1" }, { Host: "[::1]" }]) t.equal((await ask(port, "/metrics", { headers })).status, 200, JSON.stringify(headers));
});

t.test("what strangers write is one line of the log, also for people, and has nothing that a terminal obeys", async (t) => {
  const lines: string[] = [];
  const log = createLogger({ logLevel: "debug", logFormat: "pretty", nodeId: "n1" }, { write: (line) => void lines.push(line) });
  const { port } = await startPort(t, { log });
  const name = "ann\u009b31m\u2028x";
  await ask(port, "/disconnect", { method: "POST", headers: json, body: JSON.stringify({ user: name }) });
  await ask(port, "/disconnect", { method: "POST", headers: json, body: JSON.stringify({ user: "two\nlines" }) });
  await ask(port, "/drain", { method: "POST", headers: json, body: JSON.stringify({ node: `${name}\n\u001b[31m` }) });
  await ask(port, "/drain", { method: "POST", headers: json, body: JSON.stringify({ [`${name}\n\u001b[31m`]: 1 }) });
  t.equal(lines.length, 3, "a reason is told once");
  for (const line of lines) t.match(line, /^[^\u0000-\u001f\u007f-\u009f]*\n$/);
});

t.test("every error is JSON with a code and a text of our own", async (t) => {
  const { port } = await startPort(t, {}, { nodes: () => { throw new Error("a secret inside"); } });
  const refused: [number, string, RegExp, string, Asked?][] = [
    [404, "not_found", /unknown path "\/nothing": this port has \/, \/metrics/, "/nothing"],
    [404, "not_found", /unknown path "\/__proto__"/, "/__proto__"],
    [405, "method_not_allowed", /only POST/, "/disconnect"],
    [405, "method_not_allowed", /only GET, HEAD$/, "/metrics", { method: "POST" }],
    [405, "method_not_allowed", /only GET, HEAD, POST/, "/drain", { method: "DELETE" }],
    [500, "internal", /^the request failed: the log of the node says why$/, "/nodes"],
    [400, "bad_request", /^kind: must be health, user or room$/, "/survey?kind=eval"],
    [400, "bad_request", /^user: is missing; it must be a string$/, "/survey?kind=user"],
    [400, "bad_request", /^query: unknown field "timeoutMs"$/, "/survey?kind=health&timeoutMs=1"],
    [400, "bad_request", /^user: the name is empty$/, "/survey?kind=user&user="],
    [400, "bad_request", /^body: is not valid JSON$/, "/drain", { method: "POST", headers: json, body: "{" }],
    [400, "bad_request", /^body: must be a JSON object$/, "/drain", { method: "POST", headers: json, body: "[]" }],
    [400, "bad_request", /^windowMs: must be a number$/, "/drain", { method: "POST", headers: json, body: '{"windowMs":"30s"}' }],
    [400, "bad_request", /^windowMs: must be a whole number$/, "/drain", { method: "POST", headers: json, body: '{"windowMs":1.5}' }],
    [400, "bad_request", /^windowMs: must be at least 0$/, "/drain", { method: "POST", headers: json, body: '{"windowMs":-1}' }],
    [400, "bad_request", /^node: must be at most 256 characters long$/, "/drain", { method: "POST", headers: json, body: `{"node":"${"n".repeat(257)}"}` }],
    [400, "bad_request", /^signOut: must be a boolean$/, "/disconnect", { method: "POST", headers: json, body: '{"user":"ann","signOut":"yes"}' }],
    ...([
      ["{}", /^body: changes nothing; the settings are: weight, maxPartitions$/], ['{"node":"b"}', /^body: changes nothing/], ['{"weight":17}', /^weight: must be at most 16$/], ['{"weight":1e300}', /^weight: must be at most/],
      ['{"weight":-1}', /^weight: must be at least 0$/], ['{"weight":1.5}', /^weight: must be a whole number$/], ['{"weight":1e999}', /^weight: must be a/], ['{"weight":"2"}', /^weight: must be a number$/],
      ['{"weight":null}', /^weight: must be a number$/], ['{"weight":[2]}', /^weight: must be a number$/], ['{"wait":2}', /^body: unknown field "wait"$/], [`{"weight":2,"node":"${"n".repeat(257)}"}`, /^node: must be at most 256/], ['{"weight":2,"node":7}', /^node: must be a string$/],
    ] as const).map(([body, text]): (typeof refused)[number] => [400, "bad_request", text, "/settings", { method: "POST", headers: json, body }]),
    [404, "not_found", /^unknown node "unknown", or it is down: GET \/nodes/, "/settings", { method: "POST", headers: json, body: '{"node":"unknown","weight":2}' }],
    [503, "unavailable", /^Redis is unavailable, so node "unavailable" cannot be reached/, "/settings", { method: "POST", headers: json, body: '{"node":"unavailable","weight":2}' }],
    [503, "unavailable", /^node "unanswered" did not answer, and may have changed or not/, "/settings", { method: "POST", headers: json, body: '{"node":"unanswered","weight":2}' }],
    [405, "method_not_allowed", /only GET, HEAD, POST/, "/settings", { method: "PUT" }],
    [403, "forbidden", /pages/, "/settings", { method: "POST", headers: { ...json, Origin: "https://evil.example" }, body: '{"weight":2}' }],
    [413, "too_large", /4096/, "/drain", { method: "POST", headers: json, body: " ".repeat(5000) }],
  ];
  for (const [status, code, text, path, asked] of refused) {
    const got = await ask(port, path, asked);
    t.match({ ...got, body: JSON.parse(got.text) as unknown }, { status, headers: { "content-type": "application/json" }, body: { error: { code, text } } }, `${path} ${asked?.body ?? ""}`);
  }
  t.match(JSON.parse((await ask(port, "/")).text), { paths: ["/", "/metrics", "/slow", "/nodes", "/survey", "/placement", "/settings", "/webhooks", "/disconnect", "/drain"] });
});

t.test("each action is one line of the log: who, what and with what outcome, and the key never", async (t) => {
  const { port, lines } = await startPort(t, { key });
  const headers = { ...json, ...withKey(key) };
  await ask(port, "/disconnect", { method: "POST", headers, body: '{"user":"ann","signOut":true}' });
  await ask(port, "/drain", { method: "POST", headers, body: '{"windowMs":5}' });
  t.match(await ask(port, "/settings", { method: "POST", headers, body: '{"node":"b","weight":0}' }), { status: 200, text: '{"node":"b","weight":0}\n' });
  t.match(lines, [
    { level: "info", msg: "admin port: disconnect", audit: { from: "127.0.0.1", key: /^[0-9a-f]{8}$/, asked: { user: "ann", tenant: "", signOut: true }, outcome: { sessions: 2, unanswered: ["b"] } } },
    { level: "info", msg: "admin port: drain", audit: { asked: { windowMs: 5 }, outcome: { begun: true } } },
    { level: "info", msg: "admin port: settings", audit: { asked: { node: "b", weight: 0 }, outcome: { weight: 0 } } },
  ]);
  for (let i = 0; i < 50; i++) await ask(port, "/drain", { method: "POST", headers: { ...json, ...withKey("w".repeat(40)) } });
  await ask(port, "/drain", { method: "POST", headers: { ...headers, Origin: "https://evil.example" }, body: "{}" });
  t.match(lines.slice(3), [
    { level: "warn", audit: { action: "refused", from: "127.0.0.1", method: "POST", path: "/drain", code: "unauthorized" } },
    { level: "warn", audit: { code: "forbidden" } },
  ]);
  t.equal(lines.length, 5, "a reason is told once in a while");
  t.notMatch(JSON.stringify(lines), new RegExp(`${key}|wwww`));
});

t.test("the port holds on to few connections, and to none that does not ask", async (t) => {
  const { port } = await startPort(t);
  const idle = Array.from({ length: 80 }, () => connect(port, "127.0.0.1").on("error", () => {}));
  t.teardown(() => idle.forEach((socket) => socket.destroy()));
  await until(() => idle.filter(({ closed }) => closed).length >= 80 - 32, "what is too many to be dropped");
  t.equal((await ask(port, "/nodes", { from: "127.0.0.2" })).status, 200, "and one address does not keep the others out");
  idle.forEach((socket) => socket.destroy());
  await until(async () => (await ask(port, "/nodes").catch(() => null))?.status === 200, "its places to be free again");
});

t.test("the metrics can be served alone, on a port of their own, and nothing else there", async (t) => {
  const node = await startNode(t, { reactors: 1, adminKey: key, metricsPort: 0, metricsHost: "127.0.0.1" });
  const port = node.metricsPort!;
  t.match(await ask(port, "/metrics"), { status: 200, text: /^# HELP /m });
  t.match(await ask(port, "/metrics", { headers: { Host: "prometheus.example" } }), { status: 200 });
  t.equal((await ask(port, "/metrics", { method: "HEAD" })).text, "");
  for (const path of ["/", "/nodes", "/drain", "/disconnect", "/slow"]) t.match(await ask(port, path), { status: 404, text: /not_found/ }, path);
  t.equal((await ask(port, "/drain", { method: "POST", headers: json, body: "{}" })).status, 404);
  t.equal((await ask(port, "/metrics", { method: "POST" })).status, 405);
  t.equal((await ask(node.adminPort, "/metrics")).status, 401);
  await node.close();
  await t.rejects(ask(port, "/metrics"), { code: "ECONNREFUSED" });
});

t.test("a node on a network address is drained by the command with the key, and by nobody without it", async (t) => {
  t.match(await command(["start", "--port", "0", "--admin-port", "0", "--admin-host", "0.0.0.0"]), { code: 1, err: /^error: --admin-host: other machines can reach 0\.0\.0\.0, .*--admin-key/ });
  const node = await startNodeProcess(["--admin-host", "0.0.0.0", "--admin-key", key, "--metrics-port", "0", "--reactors", "1"]);
  t.teardown(() => node.kill());
  const port = ["--admin-port", node.lastWords.join().match(/"admin":"http:\/\/localhost:(\d+)/)?.[1] ?? ""];
  for (const args of [["drain"], ["nodes"], ["disconnect", "ann"], ["survey", "user", "ann"]]) {
    t.match(await command([...args, ...port]), { code: 1, err: /^error: --admin-key: the admin port at http:\/\/127\.0\.0\.1:\d+ needs a key; set --admin-key or FLUX_ADMIN_KEY\n$/ }, args.join());
  }
  t.match(await command(["nodes", ...port, "--admin-key", "x".repeat(32)]), { code: 1, err: /rejects this key/ });
  // An address of this machine that is not loopback, where it has one.
  const outside = Object.values(networkInterfaces()).flat().find((one) => one?.family === "IPv4" && !one.internal)?.address ?? "0.0.0.0";
  t.match(await command(["nodes", ...port, "--admin-host", outside]), { code: 1, err: /^error: --admin-key: the admin port at http:\/\/[^ ]+ needs a key; set --admin-key/ }, "a node elsewhere, asked by who has no key");
  for (const host of ["a b", "x/y", "http://127.0.0.1", "127.0.0.1?x", "a@b"]) t.match(await command(["nodes", ...port, "--admin-host", host]), { code: 1, err: /^error: --admin-host: must be a host name or an address, not / });
  const closed = await command(["disconnect", "ann", "--json", ...port, "--admin-key", key]);
  t.match(JSON.parse(closed.out), { sessions: 0, answers: [{ sessions: 0 }], unanswered: none });
  t.match(await command(["drain", ...port, "--admin-key", key]), { code: 0 });
  await until(() => node.ended !== undefined, "the node to end");
  t.equal(node.ended, 0);
  t.notMatch(node.lastWords.join("\n"), new RegExp(key));
});

t.test("connections that cannot be accepted end no node: they are logged once in a while, and the next is served", async (t) => {
  const servers: http.Server[] = [];
  const { createServer } = http;
  http.createServer = ((...given: Parameters<typeof createServer>) => {
    const server = createServer(...given);
    servers.push(server);
    return server;
  }) as typeof createServer;
  syncBuiltinESMExports();
  const { port, lines } = await startPort(t);
  http.createServer = createServer;
  syncBuiltinESMExports();
  // As Node does where accept fails for want of files.
  for (let i = 0; i < 3; i++) servers[0]!.emit("error", Object.assign(new Error("accept EMFILE"), { code: "EMFILE" }));
  t.equal(lines.filter(({ msg }) => /accepting a connection failed/.test(String(msg))).length, 1);
  t.equal((await ask(port, "/")).status, 200);
});

t.test("a part of the node that throws is answered 500, also where its answer cannot be written", async (t) => {
  const { port, lines } = await startPort(t, {}, {
    slow: () => {
      throw new Error("a bug");
    },
    // What cannot be made into JSON.
    nodes: () => ({ nodes: 1n as unknown as [] }),
  });
  for (const path of ["/slow", "/nodes"]) t.match(await ask(port, path), { status: 500, text: /"internal"/ });
  t.equal(lines.filter(({ msg }) => /a request failed/.test(String(msg))).length, 2);
});
