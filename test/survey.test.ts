/** One question to all nodes, answered in one place: gateway.survey(), /survey, the command, and who is disconnected where. */
import { request } from "node:http";
import t from "tap";
import { factsOf } from "../src/contracts/registry.ts";
import type { NodeMessage, Question } from "../src/messages/messages.ts";
import type { RegisteredNode } from "../src/registry/registry.ts";
import { Surveys } from "../src/node/peers/survey.ts";
import { command } from "./support/command.ts";
import { startNode, type NodeOptions } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { none } from "./support/only.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { open } from "./support/session.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";
import type { Gateway } from "../dist/index.js";

const redis = await startRedis(t);
const secret = "s".repeat(32);
/** Longer than a test takes: who waits for it has failed. */
const forever = 3_600_000;

async function twoNodes(t: Parameters<typeof startNode>[0], { url } = redis, more: NodeOptions = {}): Promise<[Gateway, Gateway, string]> {
  const redisPrefix = freshPrefix();
  const common = { reactors: 1, redis: url, redisPrefix, redisAnswerMs: 1_000, nodeHeartbeatMs: 200, nodeDeadMs: 60_000, authSecret: secret, ...more };
  const [a, b] = [await startNode(t, { ...common, nodeId: "a" }), await startNode(t, { ...common, nodeId: "b" })];
  await until(() => a.nodes().nodes.length === 2, "both to be there");
  return [a, b, redisPrefix];
}

const come = async (node: { port: number }, sub: string, tenant?: string) => open(node, { hello: { token: await token({ sub, ...(tenant && { tenant }) }, secret) } });

t.test("all nodes say how many sessions a user and members a room has, and how they are; tenants are apart", async (t) => {
  const [a, b] = await twoNodes(t);
  const anns = [await come(a, "ann"), await come(a, "ann"), await come(b, "ann")];
  await come(b, "ann", "red");
  for (const ann of anns) await ann.join("chat:one");
  const timeoutMs = forever;
  for (const node of [a, b]) {
    const user = await node.survey({ kind: "user", user: "ann" }, { timeoutMs });
    t.strictSame([...user.answers].sort((x, y) => x.node.localeCompare(y.node)), [{ node: "a", sessions: 2 }, { node: "b", sessions: 1 }]);
    t.match(user, { sessions: 3, unanswered: none, answers: [{ node: node.config.nodeId }] });
  }
  t.match(await a.survey({ kind: "user", user: "ann", tenant: "red" }, { timeoutMs }), { sessions: 1, answers: [{ sessions: 0 }, { sessions: 1 }] });
  t.strictSame(await a.survey({ kind: "room", room: "chat:one" }, { timeoutMs }), { members: 3, answers: [{ node: "a", members: 2 }, { node: "b", members: 1 }], unanswered: [] });
  t.match(await a.survey({ kind: "room", room: "chat:one", tenant: "red" }, { timeoutMs }), { members: 0, unanswered: none });
  const well = { ready: true, problem: "", redis: true, nats: null };
  t.strictSame(await a.survey({ kind: "health" }, { timeoutMs }), {
    sessions: 4, unanswered: [], answers: [{ node: "a", ...well, sessions: 2, users: 1, rooms: 1 }, { node: "b", ...well, sessions: 2, users: 2, rooms: 1 }],
  });
});

t.test("a node that does not answer is named, in time, and what the others say is there; so it is when a user is disconnected", async (t) => {
  const [a, b, prefix] = await twoNodes(t);
  const c = await startNodeProcess(["--redis", redis.url, "--redis-prefix", prefix, "--node-id", "c", "--reactors", "1", "--auth-secret", secret, "--node-heartbeat-ms", "200"]);
  t.teardown(() => c.kill());
  await until(() => a.nodes().nodes.length === 3 && b.nodes().nodes.length === 3, "all three");
  const sessions = [await come(a, "ann"), await come(b, "ann"), await come(c, "ann")];
  t.match(await a.survey({ kind: "user", user: "ann" }, { timeoutMs: forever }), { sessions: 3, unanswered: none });
  process.kill(c.pid, "SIGSTOP");
  t.match(await command(["survey", "user", "ann", "--admin-port", String(a.adminPort)]), { code: 0, out: "sessions: 2\n  a: 1\n  b: 1\nno answer from c\n" });
  const gone = await command(["disconnect", "ann", "--admin-port", String(a.adminPort)]);
  t.match(gone, { code: 0, out: /^2 sessions closed\nno answer from c: sessions there are not counted; they end when the node receives the message\n$/ });
  process.kill(c.pid, "SIGCONT");
  for (const session of sessions) t.match(await session.closed(), { code: 3504 });
});

t.test("while Redis is away nobody is waited for, and the others are named as those that have not answered", async (t) => {
  const own = await startRedis(t);
  const [a, b] = await twoNodes(t, own);
  const ann = await come(a, "ann");
  await own.stop();
  await until(() => a.nodes().stale && b.nodes().stale, "it to be noticed");
  const options = { timeoutMs: forever };
  t.strictSame(await a.survey({ kind: "user", user: "ann" }, options), { sessions: 1, answers: [{ node: "a", sessions: 1 }], unanswered: ["b"] });
  t.match(await b.survey({ kind: "health" }, options), { answers: [{ node: "b", ready: true, redis: false }], unanswered: ["a"] });
  t.match(await a.disconnect("ann", options), { sessions: 1, unanswered: ["b"] });
  t.match(await ann.closed(), { code: 3504 });
});

t.test("a node that is alone answers for itself, and one that closes does not wait", async (t) => {
  const alone = await startNode(t, { reactors: 1, nodeId: "alone" });
  await (await open(alone)).join("chat:one");
  t.strictSame(await alone.survey({ kind: "room", room: "chat:one" }), { members: 1, answers: [{ node: "alone", members: 1 }], unanswered: [] });
  t.match(await alone.survey({ kind: "health" }), { sessions: 1, answers: [{ node: "alone", ready: true, redis: null, nats: null, users: 1, rooms: 1 }] });
  t.strictSame(await alone.disconnect("nobody"), { sessions: 0, answers: [{ node: "alone", sessions: 0 }], unanswered: [], complete: true });
  const prefix = freshPrefix();
  const a = await startNode(t, { reactors: 1, redis: redis.url, redisPrefix: prefix, nodeId: "a" });
  const entry = { ...factsOf(1), state: "up", last_heartbeat: 1 };
  await redis.client.publish(`${prefix}gateway:events`, JSON.stringify({ kind: "up", node: "deaf", entry: JSON.stringify(entry) }));
  await until(() => a.nodes().nodes.length === 2, "it to be heard of");
  const asked = a.survey({ kind: "health" }, { timeoutMs: forever });
  await a.close();
  t.match(await asked, { answers: [{ node: "a" }], unanswered: ["deaf"] });
});

t.test("the admin port answers surveys as JSON, and says what is wrong with a question", async (t) => {
  const [a, b] = await twoNodes(t);
  const askOnce = (query: string, headers: Record<string, string> = {}) =>
    new Promise<{ status: number; body: unknown }>((resolve, reject) => {
      const sent = request({ host: "127.0.0.1", port: a.adminPort, path: `/survey${query}`, headers }, (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => (text += chunk.toString()));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }));
      });
      sent.on("error", reject).end();
    });
  /** Until nobody was too late. */
  const ask = async (query: string, headers: Record<string, string> = {}) => {
    for (;;) {
      const answer = await askOnce(query, headers);
      const { unanswered = [] } = answer.body as { unanswered?: string[] };
      if (answer.status !== 200 || unanswered.length === 0) return answer;
    }
  };
  const red = await come(b, "ann & co", "red");
  await red.join("chat:über");
  t.match(await ask("?kind=user&user=ann%20%26%20co&tenant=red"), { status: 200, body: { sessions: 1, answers: [{ node: "a", sessions: 0 }, { node: "b", sessions: 1 }], unanswered: none } });
  t.match(await ask(`?kind=room&room=${encodeURIComponent("chat:über")}&tenant=red`), { status: 200, body: { members: 1 } });
  t.match(await ask("?kind=health"), { status: 200, body: { sessions: 1, answers: [{ node: "a", ready: true }, { node: "b", ready: true }] } });
  const refused: [string, RegExp][] = [
    ["", /kind/], ["?kind=eval", /kind/], ["?kind=user", /user/], ["?kind=user&user=", /user: the name is empty/], ["?kind=user&user=a%1fb", /user: control/],
    [`?kind=user&user=${"x".repeat(129)}`, /at most 128 bytes/], ["?kind=room&user=ann", /room/], ["?kind=room&room=x&tenant=%0a", /tenant/], ["?kind=health&timeoutMs=1", /timeoutMs/],
  ];
  for (const [query, why] of refused) t.match(await ask(query), { status: 400, body: { error: { code: "bad_request", text: why } } }, query);
  t.match(await ask("?kind=health", { Host: "rebound.example" }), { status: 403 });
  t.equal((await fetch(`http://127.0.0.1:${a.adminPort}/survey?kind=health`, { method: "POST" })).status, 405);
  const room = await command(["survey", "room", "chat:über", "--tenant", "red", "--admin-port", String(a.adminPort)]);
  t.match(room, { code: 0, out: "members: 1\n  a: 0\n  b: 1\n" });
  const json = await command(["survey", "room", "chat:über", "--tenant", "red", "--json", "--admin-port", String(a.adminPort)]);
  t.match(JSON.parse(json.out), { members: 1, unanswered: none });
});

t.test("answers that come late, twice, to another question or without end change nothing", async (t) => {
  const node = (id: string, state: RegisteredNode["state"]): RegisteredNode => ({ id, ...factsOf(1), state, last_heartbeat: 1, silentMs: 0 });
  const all = [node("a", "up"), node("b", "up"), node("c", "draining"), node("d", "down")];
  const sent: NodeMessage[] = [];
  const surveys = new Surveys({
    node: "a", nodes: () => all, reachable: () => true, send() {}, sendAll: (message) => void sent.push(message),
    answer: () => ({ kind: "user", sessions: 1 }),
  });
  const question: Question = { kind: "user", user: "ann" };
  const asked = surveys.ask(question, { timeoutMs: forever });
  const { replyTo: { survey } } = sent[0] as Extract<NodeMessage, { kind: "question" }>;
  const say = (from: string, sessions: number) => surveys.answered({ kind: "answer", survey, node: from, answer: { kind: "user", sessions } });
  say("b", 10);
  say("b", 1_000);
  say("a", 1_000);
  surveys.answered({ kind: "answer", survey, node: "c", answer: { kind: "room", members: 1_000 } });
  surveys.answered({ kind: "answer", survey: "another", node: "c", answer: { kind: "user", sessions: 1_000 } });
  say("new here", 100);
  say("c", 20);
  t.strictSame(await asked, {
    sessions: 131, unanswered: ["d"],
    answers: [{ node: "a", sessions: 1 }, { node: "b", sessions: 10 }, { node: "new here", sessions: 100 }, { node: "c", sessions: 20 }],
  });
  say("d", 1_000);
  t.match(await surveys.ask(question, { timeoutMs: 1 }), { sessions: 1, unanswered: ["b", "c", "d"] });
  const many = Array.from({ length: 1_000 }, () => surveys.ask(question, { timeoutMs: forever }));
  const before = sent.length;
  t.match(await surveys.ask(question, { timeoutMs: forever }), { unanswered: ["b", "c", "d"] }, "more are not waited for");
  t.equal(sent.length, before, "nor asked");
  surveys.stop();
  for (const each of await Promise.all(many)) t.strictSame(each.unanswered, ["b", "c", "d"]);
});

t.test("a question that is none is an error of who asks it, and a time that is none ends no survey too early", async (t) => {
  const sent: NodeMessage[] = [];
  const surveys = new Surveys({
    node: "a", nodes: () => ["a", "b"].map((id) => ({ id, ...factsOf(1), state: "up", last_heartbeat: 1, silentMs: 0 })),
    reachable: () => true, send() {}, sendAll: (message) => void sent.push(message), answer: () => ({ kind: "user", sessions: 1 }),
  });
  for (const wrong of [null, {}, { kind: "nonsense" }, { kind: "user" }, { kind: "user", user: 7 }, { kind: "user", user: "x".repeat(257) }, { kind: "room", room: "" }]) {
    t.throws(() => surveys.ask(wrong as Question), { name: "TypeError", message: /^survey: / }, JSON.stringify(wrong));
  }
  t.same(sent, [], "nobody is asked");
  for (const timeoutMs of [Infinity, 2 ** 31, Number.MAX_VALUE]) {
    const asked = surveys.ask({ kind: "user", user: "ann" }, { timeoutMs });
    await new Promise((resolve) => setTimeout(resolve, 20));
    const { replyTo: { survey } } = sent.at(-1) as Extract<NodeMessage, { kind: "question" }>;
    surveys.answered({ kind: "answer", survey, node: "b", answer: { kind: "user", sessions: 2 } });
    t.match(await asked, { sessions: 3, unanswered: none }, String(timeoutMs));
  }
});
