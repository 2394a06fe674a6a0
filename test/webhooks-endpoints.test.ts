/** Endpoints that are slow, dead, lying or private, and what becomes of their events. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import t, { type Test } from "tap";
import { factKinds, factsMax, type Facts, type Subject } from "../src/facts/facts.ts";
import { createMemoryFacts, type OwnedFacts } from "../src/facts/memory.ts";
import { resolveConfig, showValue } from "../src/config/config.ts";
import { keysOf } from "../src/presence/redis/keys.ts";
import { Written } from "../src/presence/redis/written.ts";
import { Backend, type BackendHead } from "../src/hooks/backend.ts";
import { Signer } from "../src/hooks/signature.ts";
import { isPublic, publicConnector } from "../src/webhooks/addresses.ts";
import { Backoff, type Timers } from "../src/webhooks/backoff.ts";
import { QueueBound } from "../src/webhooks/bound.ts";
import { Endpoint, msOf } from "../src/webhooks/endpoint.ts";
import { Teller, type TellerOptions } from "../src/webhooks/teller.ts";
import { hookSecret } from "./support/hookbackend.ts";
import { until } from "./support/until.ts";

const log = { info() {}, warn() {}, error() {} } as never;

/** A clock and its timers, in the hands of a test. */
function held() {
  let now = 1_700_000_000_000;
  const timers = new Set<{ at: number; run: () => void }>();
  const all: Timers = {
    set: (run, ms) => {
      const timer = { at: now + ms, run };
      timers.add(timer);
      return timer;
    },
    clear: (timer) => void timers.delete(timer as never),
  };
  const settle = async () => {
    for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  return {
    clock: () => now,
    timers: all,
    settle,
    /** Moves the clock from timer to timer. */
    async pass(ms: number) {
      const end = now + ms;
      await settle();
      for (;;) {
        const next = [...timers].sort((a, b) => a.at - b.at)[0];
        if (next === undefined || next.at > end) break;
        now = Math.max(now, next.at);
        timers.delete(next);
        next.run();
        await settle();
      }
      now = end;
    },
  };
}

type Answer = number | BackendHead | Error;

/** A teller on a held clock; its endpoint answers what the test says, by subject. */
function start(answer: (body: { type: string; data: { room: string; user?: string } }) => Answer | Promise<Answer>, more: Partial<TellerOptions> & { facts?: OwnedFacts } = {}) {
  const time = held();
  const sent: { id: string; room: string; type: string; at: number }[] = [];
  const endpoint = new Endpoint({
    name: "e", url: "http://e/", kinds: new Set(factKinds), namespaces: null, signer: new Signer([hookSecret]), timeoutMs: 1000, clock: time.clock,
    backend: {
      async tell(text, headers) {
        const body = JSON.parse(text) as { type: string; data: { room: string } };
        sent.push({ id: (headers as Record<string, string>)["webhook-id"]!, room: body.data.room, type: body.type, at: time.clock() });
        const said = await answer(body);
        if (said instanceof Error) throw said;
        return typeof said === "number" ? { status: said, retryAfter: "" } : said;
      },
      async close() {},
    },
  });
  const facts = more.facts ?? createMemoryFacts({ endpointsOf: () => ["e"], clock: time.clock });
  const teller = new Teller({ endpoint, facts, connectionsMax: 4, giveUpMs: 3_600_000, log, onTold() {}, clock: time.clock, timers: time.timers, ...more });
  const add = (room: string, member = "\u001fann") => {
    facts.add(`r${room}`, { kind: "member.joined", users: 1, member });
    teller.look(`r${room}`);
  };
  return { ...time, sent, facts, teller, endpoint, add };
}

t.test("a room whose events are not taken is parked: it comes again with growing pauses and the same id, its order is kept, the others go on", async (t) => {
  let isBad = true;
  const { sent, teller, add, pass, settle } = start(({ data }) => (data.room === "bad" && isBad ? 500 : 204));
  add("bad", "\u001fann");
  add("bad", "\u001fbob");
  for (let i = 0; i < 40; i++) {
    add("good");
    await pass(1000);
  }
  t.equal(sent.filter(({ room }) => room === "good").length, 40);
  const tries = sent.filter(({ room }) => room === "bad");
  t.equal(new Set(tries.map(({ id }) => id)).size, 1, "one event again and again, the other waits behind it");
  t.ok(tries.length >= 5 && tries.length <= 8, `${tries.length} tries in 40 s: 0.5 to 1 s, 1 to 2, 2 to 4, 4 to 8, 8 to 16`);
  t.match(teller.usage(), { parked: 1, subjects: 1, waiting: 2, breaker: "closed", failures: { status: tries.length } });
  t.ok(teller.usage().ageMs >= 40_000);
  isBad = false;
  await pass(60_000);
  await settle();
  t.equal(new Set(sent.filter(({ room }) => room === "bad").map(({ id }) => id)).size, 2);
  t.match(teller.usage(), { parked: 0, subjects: 0, waiting: 0, ageMs: 0 });
});

t.test("a dead endpoint is tried with one event now and then, whatever waits; when it is back, everything is told, each room in order", async (t) => {
  let isDead = true;
  const { sent, teller, add, pass } = start(() => (isDead ? Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" }) : 204));
  for (let i = 0; i < 200; i++) add(`r${i % 20}`, `\u001fu${i}`);
  await pass(60_000);
  t.ok(sent.length < 30, `${sent.length} tries in a minute`);
  t.match(teller.usage(), { breaker: /open|trial/, told: 0, subjects: 20 });
  isDead = false;
  await pass(700_000);
  t.match(teller.usage(), { told: 200, subjects: 0, breaker: "closed" });
  const last = new Map<string, number>();
  for (const { id, room } of sent.slice(-200)) {
    const n = Number(id.split("-").at(-2));
    t.ok(n > (last.get(room) ?? 0));
    last.set(room, n);
  }
});

t.test("429 and 503 with Retry-After: the endpoint is left alone for so long, and no room is blamed", async (t) => {
  let says: Answer = { status: 429, retryAfter: "30" };
  const { sent, teller, add, pass } = start(() => says);
  add("a");
  await pass(29_000);
  t.equal(sent.length, 1);
  add("b");
  await pass(500);
  t.equal(sent.length, 1, "other rooms wait as well");
  says = 204;
  await pass(1000);
  t.equal(sent.length, 3);
  t.match(teller.usage(), { told: 2, parked: 0, subjects: 0 });
  t.equal(msOf("120", 0), 120_000);
  t.equal(msOf("Thu, 01 Jan 1970 00:01:00 GMT", 0), 60_000);
  for (const bad of ["", "soon", "-5", "Thu, 01 Jan 1970 00:00:00 GMT"]) t.equal(msOf(bad, 1000), 0, bad);
  t.equal(msOf("999999999", 0), 3_600_000, "an hour at most");
});

t.test("4xx is a dead letter at once, and so is what failed for too long; 408, 409, 425 and 429 are not; letters are bounded and can be taken out", async (t) => {
  for (const status of [400, 401, 403, 404, 422]) {
    const { facts, teller, add, pass } = start(() => status);
    add("a");
    await pass(1);
    t.match(teller.usage(), { deadLetters: 1, subjects: 0, breaker: "closed" }, `${status}`);
    t.match(await facts.buried("e", 10), { count: 1, letters: [{ id: /-1-/, reason: new RegExp(`${status}`), body: /member.joined/ }] });
    await facts.unbury("e", [(await facts.buried("e", 1)).letters[0]!.id]);
    t.equal((await facts.buried("e", 1)).count, 0);
  }
  for (const status of [301, 302, 307, 308, 408, 409, 425, 429, 500, 502, 100]) {
    const { teller, add, pass } = start(() => status);
    add("a");
    await pass(1);
    t.match(teller.usage(), { deadLetters: 0, subjects: 1, failures: { status: 1 } }, `${status}`);
  }
  const { facts, teller, add, pass } = start(() => 500, { giveUpMs: 60_000 });
  for (let i = 0; i < 30; i++) add(`r${i}`);
  await pass(700_000);
  t.match(teller.usage(), { deadLetters: 30, subjects: 0 });
  t.equal((await facts.buried("e", 100)).letters.length, 30);
});

t.test("while the endpoint fails, events that are too old become dead letters in time, in every room, without an attempt for each", async (t) => {
  let isBack = false;
  const { sent, teller, add, facts, pass } = start(() => (isBack ? 204 : 500), { giveUpMs: 60_000 });
  for (let i = 0; i < 300; i++) add(`room${i}`);
  await pass(30_000);
  for (let i = 0; i < 10; i++) add(`late${i}`);
  t.equal(teller.usage().breaker, "open");
  const before = sent.length;
  await pass(31_000);
  t.match(teller.usage(), { deadLetters: 300, subjects: 10, waiting: 10 });
  t.ok(sent.length - before < 20, "few attempts");
  t.equal((await facts.buried("e", 0)).count, 300);
  isBack = true;
  await pass(20_000);
  t.match(teller.usage(), { told: 10, deadLetters: 300, subjects: 0, waiting: 0, parked: 0, ageMs: 0 });
});

t.test("while the endpoint fails, a new room does not cost a look through all that wait", async (t) => {
  let reads = 0;
  const { teller, add, pass, clock } = start(() => 500, { clock: () => (reads++, clock()) });
  for (let i = 0; i < 50; i++) add(`room${i}`);
  await pass(30_000);
  t.equal(teller.usage().breaker, "open");
  reads = 0;
  for (let i = 0; i < 100; i++) teller.look(`rnew${i}`);
  // Three for a room: when it was heard of, whether the endpoint may be tried, and its timer. A look through all reads it once more.
  t.ok(reads <= 301, `${reads} readings of the clock for 100 rooms`);
});

t.test("while too many events wait, Redis is told to add none, and no subject is kept for them", async (t) => {
  let isFull = true;
  const asked: unknown[][] = [];
  const facts: string[] = [];
  let refused = 0;
  const redis = {
    up: true, onUp() {}, contain: (run: () => void) => run(),
    run: async (...command: unknown[]) => (asked.push(command), null),
    runEach: async (commands: unknown[][]) => (asked.push(...commands), commands.map(() => [null])),
    runAll: async (commands: unknown[][]) => (asked.push(...commands), commands.map(() => 0)),
  };
  const written = new Written({
    redis: redis as never, keys: keysOf("flux:"), node: "n", graceMs: 1, namedUsersMax: 1, namedChangesMax: 1, lastSeenTtlMs: 1, waitingMax: 100, clock: Date.now, log,
    wanted: { ofRoom: () => "jl", ofUsers: "nf", sessionTtlMs: 1, isFull: () => isFull, refused: () => void refused++ },
    onFacts: (subject) => void facts.push(subject), left() {}, wentOffline() {}, dropped() {},
  });
  const change = async (name: string) => {
    written.enter(name, "ann", "s");
    written.online(name, "s");
    written.offline(`${name}-off`, "s");
    written.endLost(`${name}-lost`);
    await written.settled();
    await written.endGraces(`${name}-grace`);
    await written.endUserGrace(`${name}-user`);
    await written.endSessions(`${name}-sessions`);
    await written.readRoom(`${name}-read`, "", 1);
    await written.readUsers([`${name}-reads`]);
  };
  await change("full");
  t.strictSame(facts, []);
  t.equal(refused, 7, "changes, not reads");
  t.notOk(asked.flat().some((one) => /^(jl|nf):/.test(String(one))));
  // What was asked for before it was full was added.
  isFull = false;
  written.enter("early", "ann", "s");
  isFull = true;
  await written.settled();
  t.strictSame(facts, ["rearly"]);
  isFull = false;
  await change("free");
  t.strictSame(facts.slice(1).sort(), ["rfree", "rfree-grace", "rfree-read", "ufree", "ufree-lost", "ufree-off", "ufree-reads", "ufree-sessions", "ufree-user"]);
  t.equal(refused, 7);
});

t.test("what another node has claimed meanwhile is left to it, after the events under way", async (t) => {
  const inner = createMemoryFacts({ endpointsOf: () => ["e"] });
  let isTaken = false;
  const told: Facts["told"] = async (...call) => {
    const left = await inner.told(...call);
    return isTaken ? -1 : left;
  };
  const { sent, teller, add, pass } = start(() => 204, { facts: { ...inner, add: inner.add.bind(inner), told } as OwnedFacts });
  for (let i = 0; i < 40; i++) inner.add("ra", { kind: "member.joined", users: 1, member: "\u001fann" });
  isTaken = true;
  add("a");
  await pass(1);
  t.equal(sent.length, 16, "as many as it tells before it says so");
  isTaken = false;
  await pass(2_500);
  t.equal(sent.length, 41, "it looks again later");
  t.match(teller.usage(), { subjects: 0 });
});

t.test("what waits is counted again where it was heard of, whether anything came of it or not", async (t) => {
  const { teller, add, facts, pass } = start(() => 500, {});
  for (let i = 0; i < 8; i++) add(`room${i}`);
  await pass(5_000);
  t.equal(teller.usage().breaker, "open");
  for (let i = 0; i < 50; i++) for (let n = 0; n < 8; n++) teller.look(`rroom${n}`);
  add("room3");
  t.match(teller.usage(), { waiting: 8 }, "as often as it may be heard of");
  await teller.recount(5);
  await teller.recount(5);
  t.match(teller.usage(), { waiting: 9 });
  t.equal(teller.waiting.events, facts.usage().events);
  t.ok(Math.abs(teller.waiting.bytes - facts.usage().bytes) < 500);
});

t.test("410 disables the endpoint: what follows are dead letters, unsent, until it is enabled again", async (t) => {
  let status = 410;
  const { sent, facts, teller, add, pass } = start(() => status);
  for (let i = 0; i < 10; i++) add("a");
  await pass(10_000);
  t.equal(sent.length, 1);
  t.match(teller.usage(), { isDisabled: true, deadLetters: 10, subjects: 0 });
  t.equal(await facts.disabled("e"), "http://e/");
  status = 204;
  await facts.disable("e", ""); // as another node does it
  await pass(5000);
  add("a");
  await pass(1);
  t.match(teller.usage(), { told: 1, isDisabled: false });
});

t.test("too many events of one room: the oldest are lost, counted, and memory is bounded", async (t) => {
  const facts = createMemoryFacts({ endpointsOf: () => ["e"] });
  for (let i = 0; i < factsMax + 40; i++) facts.add("rone", { kind: "member.joined" });
  t.match(facts.usage(), { events: factsMax });
  t.match(await facts.claim("e", "rone", { max: 1 }), { waiting: factsMax, lost: 40, facts: [{ n: 41 }] });
});

t.test("too many events of all rooms, or bytes of them: new ones are refused, counted, and one line a minute says so with a code", async (t) => {
  for (const [bound, limits] of [["events", { eventsMax: 100, bytesMax: 1e9 }], ["bytes", { eventsMax: 1e9, bytesMax: 12_000 }]] as const) {
    const facts = createMemoryFacts({ endpointsOf: () => ["e"] });
    const said: object[] = [];
    const queue = new QueueBound({ ...limits, waiting: () => facts.usage(), log: { error: (fields: object) => said.push(fields) } as never });
    for (let i = 0; i < 500; i++) if (queue.admits()) facts.add(`r${i}`, { kind: "member.joined", member: "twenty bytes of name" });
    t.match(queue.usage(), { events: 100, bytes: 12_000, refused: { [bound]: 400 } });
    t.match(said, [{ code: "overloaded", bound }]);
    t.equal(said.length, 1);
    await facts.told("e", "r0", { epoch: "", n: 1, isOver: true });
    t.ok(queue.admits(), "there is room again");
  }
});

t.test("the store fails in the middle: what was told since it was last asked is told again, with the same ids", async (t) => {
  const inner = createMemoryFacts({ endpointsOf: () => ["e"] });
  let isAway = false;
  const facts = { ...inner, add: inner.add.bind(inner), told: (...call: Parameters<Facts["told"]>) => (isAway ? Promise.reject(new Error("Redis is unavailable")) : inner.told(...call)) } as OwnedFacts;
  const { sent, teller, add, pass } = start(() => 204, { facts });
  isAway = true;
  add("a");
  await pass(1);
  t.equal(sent.length, 1);
  isAway = false;
  await pass(2000);
  t.equal(sent.length, 2);
  t.equal(sent[0]!.id, sent[1]!.id);
  t.match(teller.usage(), { subjects: 0 });
});

t.test("claims of a dead node are free once: it may come back, and claim again", async (t) => {
  const inner = createMemoryFacts({ endpointsOf: () => ["e"] });
  const gone: (string | undefined)[] = [];
  const claim: Facts["claim"] = (endpoint, subject, claimed) => {
    gone.push(claimed.gone?.node);
    return inner.claim(endpoint, subject, claimed);
  };
  const { teller, add, pass } = start(() => 500, { facts: { ...inner, add: inner.add.bind(inner), claim } as OwnedFacts });
  add("a");
  teller.look("ra", "one");
  await pass(3_000);
  teller.look("ra", "two");
  await pass(20_000);
  t.strictSame(gone.filter((node) => node !== undefined), ["one", "two"]);
  t.ok(gone.length > 3);
});

t.test("two endpoints of one list: each is told everything, and it is deleted when both know it", async (t) => {
  const facts = createMemoryFacts({ endpointsOf: () => ["a", "b"] });
  const subject: Subject = "rx";
  for (let i = 0; i < 3; i++) facts.add(subject, { kind: "room.occupied" });
  const page = await facts.claim("a", subject, { max: 10 });
  t.equal(await facts.told("a", subject, { epoch: page.epoch, n: page.facts[1]!.n, isOver: true }), 1);
  t.equal(facts.usage().events, 3);
  t.equal(await facts.told("b", subject, { epoch: page.epoch, n: page.facts[2]!.n, isOver: true }), 0);
  t.equal(facts.usage().events, 1, "what both know");
  t.equal((await facts.claim("b", subject, { max: 10 })).waiting, 0);
});

t.test("too many events: what is deleted is lost to those endpoints alone that were not told it", async (t) => {
  const facts = createMemoryFacts({ endpointsOf: () => ["quick", "slow"] });
  for (let i = 0; i < factsMax; i++) facts.add("rx", { kind: "room.occupied" });
  const page = await facts.claim("quick", "rx", { max: factsMax });
  await facts.told("quick", "rx", { epoch: page.epoch, n: page.through, isOver: true });
  for (let i = 0; i < 5; i++) facts.add("rx", { kind: "room.occupied" });
  t.match(await facts.claim("quick", "rx", { max: 10 }), { waiting: 5, lost: 0 });
  t.match(await facts.claim("slow", "rx", { max: 10 }), { waiting: factsMax, lost: 5 });
  t.match(await facts.claim("slow", "rx", { max: 10 }), { lost: 0 });
});

t.test("pauses grow to ten minutes, less a random part", async (t) => {
  const backoff = new Backoff<string>({ clock: () => 0, onDue() {} });
  for (const [attempts, most] of [[1, 1000], [2, 2000], [5, 16_000], [30, 600_000], [5000, 600_000]] as const) {
    const ms = backoff.delayOf(attempts);
    t.ok(ms <= most && ms >= most / 2, `${attempts}: ${ms}`);
  }
});

t.test("what is wrong with the option webhooks is said, and no secret is shown", async (t) => {
  const problemOf = (webhooks: unknown, more: object = { hookSecret }) => {
    try {
      resolveConfig({ options: { webhooks, ...more } as never });
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  const url = "https://backend.example/x";
  t.equal(problemOf({ a: { url, events: ["room.*", "user.online"], namespaces: ["chat"] } }), "");
  t.equal(problemOf({ a: { url, secret: hookSecret } }, {}), "");
  for (const [given, says] of [
    ["[1]", /must be a JSON object/], [{ "a b": { url } }, /name of an endpoint/], [{ a: url }, /a: must be an object/], [{ a: {} }, /a\.url: is missing/], [{ a: { url: "ftp://x/" } }, /a\.url: must be an address/],
    [{ a: { url, event: [] } }, /a\.event: unknown option; did you mean events/], [{ a: { url, events: ["room.gone"] } }, /no event room\.gone/], [{ a: { url, namespaces: ["nope"] } }, /no namespace nope/],
    [{ a: { url, secret: "hunter2" } }, /a\.secret: must be a key/], [{ a: { url, secretPrevious: hookSecret } }, /no current key/], [Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`e${i}`, { url }])), /more than 16/],
  ] as const) {
    t.match(problemOf(given), says);
    t.notMatch(problemOf(given), /hunter2/);
  }
  t.match(problemOf({ a: { url } }, {}), /a\.secret: what it is told is signed/);
  const { config } = resolveConfig({ options: { webhooks: { a: { url, secret: hookSecret } } } as never });
  t.equal(showValue(config, "webhooks"), `{"a":{"url":"${url}","secret":"[hidden]"}}`);
});

// --------------------------------------------------------------------------- real connections

/** Sends one message to a server that does what the test says. */
async function tellTo(t: Test, answer: (response: ServerResponse) => void, { timeoutMs = 5000 } = {}) {
  let requests = 0;
  const server = createServer((request, response) => {
    requests++;
    response.on("error", () => {});
    request.resume().on("end", () => answer(response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/x`;
  const backend = new Backend({ url, connectionsMax: 1, answerBytesMax: 262_144, connectTimeoutMs: 1000, userAgent: "test" });
  const endpoint = new Endpoint({ name: "e", url, kinds: new Set(factKinds), namespaces: null, signer: new Signer([hookSecret]), timeoutMs, backend });
  t.teardown(async () => {
    await endpoint.close();
    server.close();
    server.closeAllConnections();
  });
  const outcome = await endpoint.send({ id: "i-1", body: "{}" });
  return { outcome, requests: () => requests, again: () => endpoint.send({ id: "i-1", body: "{}" }) };
}

const endless = (response: ServerResponse) => {
  const go = () => {
    while (!response.destroyed && response.write(" ".repeat(16_384))) continue;
  };
  response.on("drain", go).on("error", () => {});
  go();
};

t.test("the status decides, whatever the body: 1 GiB, endless, HTML, nothing; a redirect is not followed; silence is a timeout", async (t) => {
  const told = { kind: "told" };
  t.match((await tellTo(t, (response) => response.writeHead(200).end("<html>"))).outcome, told);
  t.match((await tellTo(t, (response) => response.writeHead(204).end())).outcome, told);
  const before = process.memoryUsage().rss;
  for (const headers of [{}, { "content-length": String(2 ** 30) }]) {
    const { outcome, again } = await tellTo(t, (response) => endless(response.writeHead(200, headers)));
    t.match(outcome, told);
    t.match(await again(), told, "the next goes out on another connection");
  }
  t.ok(process.memoryUsage().rss - before < 200 * 2 ** 20);
  t.match((await tellTo(t, (response) => endless(response.writeHead(500)))).outcome, { kind: "failed", reason: "status", text: /500/ });
  t.match((await tellTo(t, (response) => response.writeHead(200, { "x-much": "x".repeat(100_000) }).end())).outcome, { kind: "failed", reason: "connection", text: /headers/ });
  const redirected = await tellTo(t, (response) => response.writeHead(307, { location: "http://169.254.169.254/latest/meta-data" }).end());
  t.match(redirected.outcome, { kind: "failed", reason: "status", text: /307/ });
  t.equal(redirected.requests(), 1);
  t.match((await tellTo(t, () => {}, { timeoutMs: 50 })).outcome, { kind: "failed", reason: "timeout", text: /50 ms/ });
  t.match((await tellTo(t, (response) => response.destroy())).outcome, { kind: "failed", reason: "connection" });
  t.match((await tellTo(t, (response) => response.writeHead(503, { "retry-after": "7" }).end())).outcome, { kind: "failed", afterMs: 7000 });
});

t.test("private addresses, in every form of IPv4 and IPv6", async (t) => {
  for (const address of [
    "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3", "192.0.0.8", "198.18.0.1", "224.0.0.1", "255.255.255.255",
    "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "100::1", "3fff::1",
    "", "localhost", "example.com", "1.2.3", "0x7f.0.0.1",
  ]) t.notOk(isPublic(address), address);
  for (const address of ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450:4001::1"]) t.ok(isPublic(address), address);
});

/** The connector of production, towards a server on this machine. */
async function connectTo(t: Test, host: string, options: Partial<Parameters<typeof publicConnector>[0]> = {}) {
  let connections = 0;
  const server = createServer((_, response) => response.writeHead(204).end()).on("connection", () => connections++);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://${host}:${(server.address() as AddressInfo).port}/`;
  const backend = new Backend({ url, connectionsMax: 1, answerBytesMax: 1000, connectTimeoutMs: 1000, userAgent: "test", connector: publicConnector({ timeoutMs: 1000, ...options }) });
  const endpoint = new Endpoint({ name: "e", url, kinds: new Set(factKinds), namespaces: null, signer: new Signer([hookSecret]), timeoutMs: 1000, backend });
  t.teardown(async () => {
    await endpoint.close();
    server.close();
    server.closeAllConnections();
  });
  return { send: () => endpoint.send({ id: "i-1", body: "{}" }), connections: () => connections };
}

t.test("nothing connects to a private address: written as numbers, by a name, by a name that changes, or where the socket ends up there", async (t) => {
  const refused = { kind: "failed", reason: "address", text: /private network/ };
  for (const host of ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost"]) {
    const { send, connections } = await connectTo(t, host);
    t.match(await send(), refused, host);
    t.equal(connections(), 0, host);
  }
  for (const host of ["[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]"]) {
    const { send } = await connectTo(t, host);
    t.match(await send(), refused, host);
  }
  const answers = [["93.184.216.34"], ["10.0.0.1"], ["127.0.0.1", "::1"]];
  const asked: string[] = [];
  const rebinding = await connectTo(t, "rebinding.example", {
    lookup: (host, _, done) => {
      asked.push(host);
      done(null, (answers.shift() ?? ["127.0.0.1"]).map((address) => ({ address, family: address.includes(":") ? 6 : 4 })));
    },
    isAllowed: (address) => isPublic(address) && address !== "93.184.216.34",
  });
  for (let i = 0; i < 3; i++) t.match(await rebinding.send(), refused, "looked up at each connect");
  t.equal(asked.length, 3);
  t.equal(rebinding.connections(), 0);
  let isFirst = true;
  const late = await connectTo(t, "late.example", {
    lookup: (_, __, done) => done(null, [{ address: "127.0.0.1", family: 4 }]),
    // The look-up says a good address, the socket is connected to another.
    isAllowed: () => {
      const was = isFirst;
      isFirst = false;
      return was;
    },
  });
  t.match(await late.send(), refused);
  t.ok(late.connections() <= 1);
  const allowed = await connectTo(t, "good.example", { lookup: (_, __, done) => done(null, [{ address: "127.0.0.1", family: 4 }]), isAllowed: () => true });
  t.match(await allowed.send(), { kind: "told" });
  const nowhere = await connectTo(t, "nowhere.example", { lookup: (_, __, done) => done(Object.assign(new Error("getaddrinfo ENOTFOUND"), { code: "ENOTFOUND" }), []) });
  t.match(await nowhere.send(), { kind: "failed", reason: "connection", text: /ENOTFOUND/ });
  await until(() => true, "nothing more");
});
