/** How an operator sees why clients are refused: closes by code, tokens, and a log line for each reason that says what to do. */
import t from "tap";
import { RefusalLog } from "../src/node/refusallog.ts";
import { createLogger } from "../src/platform/log/log.ts";
import { refusals } from "../src/reactor/transport/sockets.ts";
import { Refusals } from "../src/reactor/refusalreports.ts";
import { Trace } from "../src/reactor/trace.ts";
import type { Context } from "../src/reactor/context.ts";
import { tooSlow } from "../src/reactor/outgoing.ts";
import { createSession, type Session } from "../src/reactor/session/session.ts";
import { Together } from "../src/reactor/together.ts";
import type { FromReactor } from "../src/link/threads.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { fate, open } from "./support/session.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const secret = "s".repeat(32);

t.test("a refused client is a close with its code, and one line with a hint for each reason, however many they are", async (t) => {
  const node = await startNodeProcess(["--reactors", "1", "--auth-secret", secret, "--log-level", "debug"]);
  t.teardown(() => node.kill());
  for (let i = 0; i < 5; i++) t.equal(await fate(node, { version: 1, token: "not-a-jwt-of-any-kind", client: "app 1.2" }), 3500);
  const page = await open(node, { hello: null, headers: { Origin: "https://evil.example" } });
  t.match(await page.closed(), { code: 3505, reason: "forbidden_origin: allow it with --allowed-origins https://evil.example" });
  const strange = await open(node, { hello: null, headers: { Origin: "https://\u009b31mevil" } });
  t.match(await strange.closed(), { code: 3505, reason: /^forbidden_origin$/ }, "nothing of what is no origin comes back");
  const good = await token({ sub: "ann" }, secret);
  t.ok((await open(node, { hello: { token: good, client: "app 1.3" } })).ready);
  const closes = await node.metrics();
  t.match(closes, /^flux_closes_total\{reactor="0",code="3500"\} 5$/m);
  t.match(closes, /^flux_closes_total\{reactor="0",code="3505"\} 2$/m);
  t.equal(await node.metric("flux_tokens_refused_total"), 5, "text that is no token is counted, and used not to be");
  const said = (words: string) => node.lastWords.filter((line) => line.includes(words));
  await until(() => said('"msg":"hello"').length === 1 && said("forbidden_origin").length === 1, "the log to say so");
  t.equal(said("refused, invalid_token").length, 1);
  t.match(JSON.parse(said("refused, invalid_token")[0]!), { level: "info", reason: "invalid_token", code: 3500, client: "app 1.2", msg: /token: is not a JWT; run flux-gateway token explain/ });
  t.match(JSON.parse(said('"msg":"hello"')[0]!), { level: "debug", user: "ann", client: "app 1.3", resumed: false });
  t.match(JSON.parse(said("forbidden_origin")[0]!), { code: 3505, msg: /Origin: "https:\/\/evil\.example" may not connect: .*another port is another origin.*; allow it with --allowed-origins https:\/\/evil\.example$/ });
  t.notMatch(node.lastWords.join("\n"), new RegExp(`${good}|not-a-jwt`), "no token is in the log");
});

t.test("sockets that are refused before the upgrade, refreshes that are refused, and at trace what became of each", async (t) => {
  const node = await startNodeProcess(["--reactors", "1", "--auth-secret", secret, "--log-level", "trace", "--sockets-max", "1", "--tcp-port", "0"]);
  t.teardown(() => node.kill());
  const said = (words: string) => node.lastWords.filter((line) => line.includes(words));
  const ann = await open(node, { hello: { token: await token({ sub: "ann" }, secret) } });
  for (let i = 0; i < 3; i++) await t.rejects(open(node), /503/);
  t.match(await ann.request({ refresh: { token: "not-a-jwt-of-any-kind" } }), { error: { code: "unauthorized" } });
  t.match(await ann.request({ refresh: { token: await token({ sub: "bob" }, secret) } }), { error: { code: "unauthorized" } });
  await ann.bye();
  await until(() => said("socket gone").length === 1, "the log to say that the socket is gone");
  t.equal(said("refused, sockets_max").length, 1);
  t.match(JSON.parse(said("refused, sockets_max")[0]!), { level: "info", reason: "sockets_max", msg: /^a socket was refused, sockets_max: socket limit reached; --sockets-max/ });
  t.equal(said("refused, refresh").length, 1);
  t.match(JSON.parse(said("refused, refresh")[0]!), { level: "info", reason: "refresh", msg: /^a newer token was refused, refresh: token: is not a JWT; the session closes when its present token expires/ });
  t.match(said('"level":"trace"').map((line) => JSON.parse(line) as object), [
    { msg: "command refused", user: "ann", session: ann.ready!.session, code: "unauthorized", text: "token: is not a JWT" },
    { msg: "command refused", text: "token: belongs to another user" },
    { msg: "socket closed", user: "ann", reason: "bye", code: 1000 },
    { msg: "socket gone", user: "ann", over: true },
  ]);
  t.notMatch(node.lastWords.join("\n"), /not-a-jwt/);
});

/** What is posted by a reactor and what is logged of it. */
function heard() {
  const posted: FromReactor[] = [];
  const lines: Record<string, unknown>[] = [];
  const log = createLogger({ logLevel: "debug", logFormat: "json", nodeId: "n1" }, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  return { posted, lines, log: new RefusalLog(log), post: (message: FromReactor) => void posted.push(message) };
}

t.test("each reason for which a socket is not taken has a line with a hint, and what several reactors left out is counted in the next", (t) => {
  const { posted, lines, log, post } = heard();
  const reactors = [new Refusals(post), new Refusals(post)];
  for (const { reason, text } of Object.values(refusals)) for (const one of reactors) for (let i = 0; i < 3; i++) one.tell(reason, text, "");
  reactors[0]!.tell("frame_too_large", "two\nlines\u001b[31m", "a\nb");
  for (const message of posted) if (typeof message === "object" && message.kind === "refused") log.tell(message);
  t.same(lines.map(({ reason }) => reason), ["draining", "sockets_max", "memory", "handshakes", "returns", "frame_too_large"]);
  for (const { msg } of lines.slice(0, 5)) t.match(msg, /^a socket was refused, \w+: .+; .+/);
  t.equal(lines[5]!.msg, "a client was refused, frame_too_large: two\\u000alines\\u001b[31m; --frame-bytes-max sets the limit");
  t.equal(lines[5]!.client, "a\\u000ab");
  t.end();
});

t.test("slow readers have a line, where they are noticed: the close comes later, or never", (t) => {
  const { posted, lines, log, post } = heard();
  const one = new Refusals(post);
  one.tell("slow_consumer", "", "app");
  t.same(posted, []);
  const counters = { add() {} };
  const session = { ...createSession({ publish: () => true }, 1, "", ""), state: "ready", socket: null };
  tooSlow({ counters, together: new Together(() => {}), refusals: one, sessions: { setState() {} } } as unknown as Context, session as unknown as Session);
  for (const message of posted) if (typeof message === "object" && message.kind === "refused") log.tell(message);
  t.match(lines, [{ level: "info", reason: "slow_consumer", code: 3008, msg: /^a client was disconnected, slow_consumer: the client read too slowly and its socket queue was full; GET \/slow/ }]);
  t.end();
});

t.test("trace has a bound, and says how much it left out", (t) => {
  const { posted, post } = heard();
  let now = 0;
  const trace = new Trace(post, true, () => now);
  const session = createSession({ publish: () => true }, 1, "", "");
  for (let i = 0; i < 1000; i++) trace.gone(session);
  t.equal(posted.length, 200);
  now = 1000;
  trace.gone(session);
  t.match(posted.slice(200), [{ kind: "trace", text: "trace lines omitted", fields: { unsaid: 800 } }, { kind: "trace", text: "socket gone" }]);
  t.end();
});
