/** The calls of the embedding program on the object that createGateway returns: publish, send, history, members, stream. */
import t from "tap";
import { ApiError, type Gateway, type RoomStream, type StreamEvent } from "../dist/index.js";
import { Calls } from "../src/api/calls.ts";
import type { Logger } from "../src/platform/log/log.ts";
import { startNode } from "./support/node.ts";
import { none } from "./support/only.ts";
import { within } from "./support/rawsocket.ts";
import { open, type TestSession } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";

const frameBytesMax = 4096;
const namespaces = {
  chat: { durable: true, historySize: 1_000, presence: "members" },
  live: { durable: false, presence: "anyone" },
  news: { durable: true, publish: "nobody" },
  hidden: { presence: "nobody" },
} as const;
const options = { reactors: 1, authSecret: secret, allowAnonymous: true, frameBytesMax, namespaces, commandsPerSecond: 0 };
const node = await startNode(t, options);

const textsOf = ({ publications }: TestSession) => publications.map(({ payload }) => payload.toString());
const codeOf = async (call: Promise<unknown>): Promise<string> =>
  call.then(() => "ok", (error: unknown) => (error instanceof ApiError ? error.code : `no ApiError: ${String(error)}`));
const codesOf = (calls: Promise<unknown>[]) => Promise.all(calls.map(codeOf));

for (const [where, start] of [
  ["memory", async () => node],
  ["--data-dir", async (t: { testdir(): string; teardown(f: () => void): void }) => startNode(t, { ...options, dataDir: t.testdir() })],
] as const) {
  t.test(`over ${where}: what the program publishes reaches clients of both formats, also where clients may not publish`, async (t) => {
    const gateway: Gateway = await start(t);
    for (const room of ["chat:a", "live:a", "news:a"]) {
      const [binary, json] = [await open(gateway), await open(gateway, { json: true })];
      for (const session of [binary, json]) await session.join(room);
      const first = await gateway.publish(room, { text: "hi" });
      const second = await gateway.publish(room, new Uint8Array([1, 2, 3]));
      t.match(first, { epoch: second.epoch, seq: 1, receivers: 2, duplicate: false });
      t.match(second, { seq: 2, receivers: 2, duplicate: false });
      for (const session of [binary, json]) {
        await session.waitFor(() => session.publications.length === 2, "both publications");
        t.strictSame(session.publications.map(({ seq, prev, sender, format }) => ({ seq, prev, sender, format })), [
          { seq: 1, prev: 0, sender: "", format: 1 }, { seq: 2, prev: 1, sender: "", format: 0 },
        ]);
        t.strictSame(session.publications.map(({ payload }) => payload), [Buffer.from('{"text":"hi"}'), Buffer.from([1, 2, 3])]);
      }
      const answer = await binary.request({ publish: { room, payload: Buffer.from("1"), format: 1 } });
      t.equal(answer.error?.code ?? "ok", room === "news:a" ? "forbidden" : "ok");
    }
  });

  t.test(`over ${where}: a key publishes once, in the room where it was used, also beside clients`, async (t) => {
    const gateway: Gateway = await start(t);
    const first = await gateway.publish("chat:keys", 1, { key: "k" });
    const again = await gateway.publish("chat:keys", 2, { key: "k" });
    t.strictSame([again.epoch, again.seq, again.duplicate], [first.epoch, first.seq, true]);
    t.equal((await gateway.publish("chat:other keys", 3, { key: "k" })).duplicate, false);
    const { publications } = await gateway.history("chat:keys");
    t.strictSame(publications.map(({ data }) => data), [1]);
    // A direct message's key belongs to its sender.
    const ann = await open(gateway, { hello: { token: await token({ sub: "ann" }, secret), device: "d" } });
    await ann.join("@inbox");
    t.equal((await ann.request({ send: { user: "ann", payload: Buffer.from('"own"'), format: 1, key: "k" } })).sent?.duplicate ?? false, false);
    t.equal((await gateway.send("ann", "hi", { key: "k" })).duplicate, false);
    t.equal((await gateway.send("ann", "hi again", { key: "k" })).duplicate, true);
    await ann.waitFor(() => ann.publications.length === 2, "both messages");
    t.strictSame(ann.publications.map(({ room, sender, payload }) => [room, sender, payload.toString()]), [["@inbox", "ann", '"own"'], ["@inbox", "", '"hi"']]);
    await ann.bye();
  });
}

t.test("history reads forward, backward and the newest, in durable rooms without a member and in others with one", async (t) => {
  for (let i = 1; i <= 300; i++) await node.publish("chat:long", i);
  const newest = await node.history("chat:long", { limit: 3 });
  t.strictSame(newest.publications.map(({ data, sender, room }) => [data, sender, room]), [[298, "", "chat:long"], [299, "", "chat:long"], [300, "", "chat:long"]]);
  t.match(newest, { position: { seq: 300 }, more: true });
  t.ok(Math.abs(newest.publications[0]!.time.getTime() - Date.now()) < 600_000);
  const before = await node.history("chat:long", { before: newest.publications[0]!.position, limit: 2 });
  t.strictSame(before.publications.map(({ data }) => data), [296, 297]);
  const read: unknown[] = [];
  for (let position = { ...newest.position, seq: 0 }, more = true; more; ) {
    const page = await node.history("chat:long", { since: position, limit: 1_000_000 });
    t.ok(page.publications.length <= 256, "a page, whatever was asked");
    read.push(...page.publications.map(({ data }) => data));
    ({ more } = page);
    position = page.publications.at(-1)!.position;
  }
  t.strictSame(read, Array.from({ length: 300 }, (_, i) => i + 1));

  const member = await open(node);
  const { position } = await member.join("live:tail");
  for (const data of [1, new Uint8Array([2])]) await node.publish("live:tail", data);
  const tail = await node.history("live:tail", { since: position });
  t.strictSame(tail.publications.map(({ data, sender }) => [data, sender]), [[1, ""], [new Uint8Array([2]), ""]]);
  t.strictSame((await node.history("live:nobody")).publications, []);
});

t.test("positions that are none, or of another epoch, are refused with the code that clients get", async (t) => {
  const { epoch, seq } = await node.publish("chat:positions", 1);
  const asked: [string, object][] = [
    ["unrecoverable_position", { since: { epoch: "another", seq: 0 } }],
    ["unrecoverable_position", { before: { epoch: "another", seq: 1 } }],
    ["unrecoverable_position", { since: { epoch, seq: seq + 1 } }],
    ["ok", { since: { epoch, seq } }],
    ["ok", { limit: 1_000_000 }],
    ...[0, -1, 1.5, NaN, Infinity, "10"].map((limit): [string, object] => ["bad_request", { limit }]),
    ...[1, "abc", {}, { epoch }, { epoch: 1, seq: 1 }, { epoch, seq: "1" }, { epoch, seq: -1 }, { epoch, seq: 2 ** 60 }, { epoch: "e".repeat(129), seq: 0 }].flatMap(
      (position): [string, object][] => [["bad_request", { since: position }], ["bad_request", { before: position }]],
    ),
    ["bad_request", { since: { epoch, seq }, before: { epoch, seq } }],
  ];
  for (const [code, given] of asked) t.equal(await codeOf(node.history("chat:positions", given)), code, JSON.stringify(given));
});

t.test("names that are escaped, empty, too long or no strings are refused by every call, and so are unknown options", async (t) => {
  const separator = "\u001f";
  const names: unknown[] = [
    "", `red${separator}chat:a`, `${separator}@inbox${separator}ann`, "chat:\n", "chat:\u0000", "chat:\ud800", `chat:${"x".repeat(5_000)}`,
    null, undefined, 7, {}, ["chat:a"], { toString: () => "chat:a" },
  ];
  for (const name of names as string[]) {
    for (const code of await codesOf([node.publish(name, 1), node.send(name, 1), node.history(name), node.members(name)])) t.equal(code, "bad_request", JSON.stringify(name));
    if (name === "" || name === undefined) continue; // no tenant
    for (const code of await codesOf([node.publish("chat:a", 1, { tenant: name }), node.send("ann", 1, { tenant: name }), node.history("chat:a", { tenant: name }), node.members("chat:a", { tenant: name })])) t.equal(code, "bad_request", `tenant ${JSON.stringify(name)}`);
  }
  const unknown = { rome: "chat:a" } as object;
  for (const given of [unknown, null, 1, "key", [], { key: 1 }, { key: "k".repeat(129) }, { __proto__: { key: "k" }, polluted: 1 }]) {
    t.equal(await codeOf(node.publish("chat:a", 1, given as object)), "bad_request", JSON.stringify(given));
  }
  for (const code of await codesOf([node.send("ann", 1, unknown), node.history("chat:a", unknown), node.members("live:a", unknown)])) t.equal(code, "bad_request");
  for (const code of await codesOf([node.publish("none:a", 1), node.history("none:a"), node.members("none:a")])) t.equal(code, "unknown_namespace");
  for (const code of await codesOf([node.publish("@inbox", 1), node.history("@inbox"), node.members("@inbox")])) t.equal(code, "forbidden", "an inbox has a user");
});

t.test("a tenant's rooms and users are its own", async (t) => {
  const [red, blue] = await Promise.all(["red", "blue"].map(async (tenant) => open(node, { hello: { token: await token({ sub: "ann", tenant }, secret), device: "d" } })));
  for (const session of [red!, blue!]) for (const room of ["chat:t", "@inbox"]) await session.join(room);
  t.equal((await node.publish("chat:t", "red", { tenant: "red" })).receivers, 1);
  t.equal((await node.publish("chat:t", "none")).receivers, 0);
  await node.send("ann", "for red", { tenant: "red" });
  await node.publish("chat:t", "blue", { tenant: "blue" });
  await node.send("ann", "for blue", { tenant: "blue" });
  for (const [session, name] of [[red!, "red"], [blue!, "blue"]] as const) {
    await session.waitFor(() => session.publications.length === 2, "its own");
    t.strictSame(textsOf(session), [`"${name}"`, `"for ${name}"`]);
    t.strictSame((await node.history("chat:t", { tenant: name })).publications.map(({ data }) => data), [name]);
    t.strictSame((await node.members("chat:t", { tenant: name })).members, [{ user: "ann", sessions: 1 }]);
    await session.bye();
  }
});

t.test("data: what JSON cannot express, what is too deep or too large is refused, and nothing of it is published", async (t) => {
  const circular: Record<string, unknown> = {};
  circular.self = circular;
  const deep = (levels: number) => JSON.parse("[".repeat(levels) + "]".repeat(levels)) as unknown;
  let deeper: unknown = [];
  for (let i = 0; i < 100_000; i++) deeper = [deeper];
  const refused: unknown[] = [
    undefined, () => 1, Symbol("s"), 1n, circular, deep(101), deeper, new ArrayBuffer(4), new SharedArrayBuffer(4), new Float64Array(2), new DataView(new ArrayBuffer(4)),
    { toJSON() { throw new Error("no"); } }, { get boom() { throw new Error("no"); } },
  ];
  for (const data of refused) {
    t.equal(await codeOf(node.publish("chat:data", data)), "bad_request");
    t.equal(await codeOf(node.send("bob", data)), "bad_request");
  }
  for (const data of ["x".repeat(frameBytesMax), new Uint8Array(frameBytesMax + 1)]) t.equal(await codeOf(node.publish("chat:data", data)), "too_large");
  t.strictSame((await node.history("chat:data")).publications, []);
  const taken = [null, 0, "", false, [], { a: [1, { b: "ü\ud83d\ude00" }] }, deep(100), new Uint8Array(0), new Uint8Array(frameBytesMax), "x".repeat(frameBytesMax - 2)];
  const [binary, json] = [await open(node), await open(node, { json: true })];
  for (const session of [binary, json]) await session.join("chat:data");
  for (const data of taken) await node.publish("chat:data", data);
  for (const session of [binary, json]) await session.waitFor(() => session.publications.length === taken.length, "all of them");
  t.strictSame((await node.history("chat:data", { limit: 256 })).publications.map(({ data }) => data).slice(0, 8), taken.slice(0, 8));
  const bytes = Buffer.from("abc");
  const published = node.publish("chat:data", bytes);
  bytes.fill(0);
  const { seq } = await published;
  const [last] = (await node.history("chat:data", { limit: 1 })).publications;
  t.strictSame([last?.position.seq, last?.data], [seq, new Uint8Array([97, 98, 99])], "the bytes as they were when publish was called");
});

t.test("members: pages and counts, whoever may read them as a client; not where presence is disabled", async (t) => {
  const sessions = await Promise.all(["ann", "bob", "cat"].map(async (sub) => open(node, { hello: { token: await token({ sub }, secret) } })));
  for (const session of sessions) await session.join("chat:members");
  const all = await node.members("chat:members");
  t.match(all, { users: 3, sessions: 3, next: null, complete: true });
  t.strictSame(all.members.map(({ user }) => user).sort(), ["ann", "bob", "cat"]);
  const names: string[] = [];
  for (let after: string | null = ""; after !== null; ) {
    const page: Awaited<ReturnType<typeof node.members>> = await node.members("chat:members", { after, limit: 1 });
    names.push(...page.members.map(({ user }) => user));
    after = page.next;
  }
  t.strictSame(names.sort(), ["ann", "bob", "cat"]);
  t.match(await node.members("chat:members", { limit: 0 }), { users: 3, members: none });
  t.equal((await node.members("chat:members", { limit: 1_000_000 })).members.length, 3);
  t.match(await node.members("chat:nobody"), { users: 0, sessions: 0, members: none, next: null });
  t.equal(await codeOf(node.members("hidden:a")), "forbidden");
  for (const given of [{ limit: -1 }, { limit: 0.5 }, { after: "garbage" }, { after: "x".repeat(5_000) }, { after: 1 }]) {
    t.equal(await codeOf(node.members("chat:members", given as object)), "bad_request", JSON.stringify(given));
  }
});

t.test("a loop that only publishes lets the node deliver, and what is refused can be tried again", async (t) => {
  const member = await open(node, { keep: false });
  let last = 0;
  member.onPublication(({ seq }) => (last = seq));
  await member.join("live:loop");
  let refused = 0;
  for (let done = 0; done < 20_000; ) {
    const answer = await node.publish("live:loop", done).catch((error: unknown) => error as ApiError);
    if (!(answer instanceof ApiError)) done++;
    else if (answer.code === "overloaded") refused++;
    else throw answer;
  }
  await member.waitFor(() => last === 20_000, `the last publication, after ${refused} refusals`);
  t.equal(last, 20_000);
});

/** Reads events until there are `count`, or the stream ends. */
async function take(stream: RoomStream, count: number): Promise<StreamEvent[]> {
  const events: StreamEvent[] = [];
  while (events.length < count) {
    const { value, done } = await within(stream.next(), `event ${events.length + 1} of ${count}`);
    if (done === true) break;
    events.push(value);
  }
  return events;
}

const shown = (events: readonly StreamEvent[]) => events.map((event) => (event.kind === "publication" ? event.data : [event.kind, event.position.seq]));

for (const room of ["chat:stream", "live:stream"]) {
  t.test(`${room}: a stream yields where it begins, then every publication of clients and of the program, in order and once`, async (t) => {
    const stream = node.stream(room);
    t.strictSame(shown(await take(stream, 1)), [["open", 0]]);
    const client = await open(node, { json: true });
    await client.join(room);
    for (let i = 1; i <= 50; i++) await (i % 2 === 0 ? client.publish(room, String(i)) : node.publish(room, i));
    const events = await take(stream, 50);
    t.strictSame(shown(events), Array.from({ length: 50 }, (_, i) => i + 1));
    t.match(events[0], { kind: "publication", room, sender: "", position: { seq: 1 } });
    t.match((events[1] as { sender: string }).sender, /^anon-/);
    const waiting = stream.next();
    t.strictSame(await stream.return!(), { value: undefined, done: true });
    t.strictSame([await waiting, await stream.next()], Array(2).fill({ value: undefined, done: true }), "return ends what waits");
    await client.bye();
  });
}

t.test("with since a stream reads what is kept, page by page, and goes on live without a gap or a double", async (t) => {
  const { epoch } = await node.publish("chat:since", 1);
  for (let i = 2; i <= 600; i++) await node.publish("chat:since", i);
  let published = 600;
  const seen: unknown[] = [];
  for await (const event of node.stream("chat:since", { since: { epoch, seq: 10 }, queueMax: 1 })) {
    if (event.kind === "open") {
      t.strictSame(event.position, { epoch, seq: 10 });
      continue;
    }
    seen.push(event.kind === "publication" ? event.data : event);
    // Goes on while pages are read; the queue is too short for it, but the history has it.
    if (published < 900 && seen.length % 2 === 0) await node.publish("chat:since", ++published);
    if (seen.length >= 590 && seen.length === published - 10) break;
  }
  t.strictSame(seen, Array.from({ length: published - 10 }, (_, i) => i + 11));
  t.match(await node.metrics(), /^flux_api_streams 0$/m, "break ends it");
  const atHead = node.stream("chat:since", { since: { epoch, seq: published } });
  t.strictSame(shown(await take(atHead, 1)), [["open", published]]);
  t.match(await node.metrics(), /^flux_api_streams 1$/m);
  await atHead.return!();
});

t.test("a reader that is too slow gets a gap as its last event; from its position a durable room goes on", async (t) => {
  const stream = node.stream("chat:slow", { queueMax: 10 });
  await take(stream, 1);
  for (let i = 1; i <= 25; i++) await node.publish("chat:slow", i);
  const events = await take(stream, 100);
  t.strictSame(shown(events), [...Array.from({ length: 10 }, (_, i) => i + 1), ["gap", 10]]);
  const again = node.stream("chat:slow", { since: events.at(-1)!.position });
  t.strictSame(shown(await take(again, 16)), [["open", 10], ...Array.from({ length: 15 }, (_, i) => i + 11)]);
  await again.return!();
});

t.test("a stream that cannot begin rejects with a code, once, and is over then", async (t) => {
  const { epoch, seq } = await node.publish("chat:refused", 1);
  const asked: [string, string, object][] = [
    ["bad_request", "", {}],
    ["bad_request", "red\u001fchat:a", {}],
    ["bad_request", "chat:refused", { tenant: "\u001f" }],
    ["bad_request", "chat:refused", { since: "garbage" }],
    ...[0, -1, 1.5, 1_000_000, "1"].map((queueMax): [string, string, object] => ["bad_request", "chat:refused", { queueMax }]),
    ["bad_request", "chat:refused", { from: 1 }],
    ["forbidden", "@inbox", {}],
    ["unknown_namespace", "none:a", {}],
    ["unrecoverable_position", "chat:refused", { since: { epoch: "another", seq: 0 } }],
    ["unrecoverable_position", "chat:refused", { since: { epoch, seq: seq + 1 } }],
    ["unrecoverable_position", "live:refused", { since: { epoch, seq: 0 } }],
  ];
  for (const [code, room, given] of asked) {
    const stream = node.stream(room, given);
    t.equal(await codeOf(stream.next()), code, `${JSON.stringify(room)} ${JSON.stringify(given)}`);
    t.strictSame(await stream.next(), { value: undefined, done: true });
  }
  const stream = node.stream("chat:refused");
  await take(stream, 1);
  const waiting = Array.from({ length: 17 }, () => codeOf(stream.next()));
  t.equal(await waiting.at(-1), "overloaded", "no more than 16 calls of next() wait");
  await stream.return!();
  t.strictSame(await Promise.all(waiting.slice(0, 16)), Array(16).fill("ok"));
});

t.test("metrics count the calls by outcome", async (t) => {
  const metrics = await node.metrics();
  for (const line of [/^flux_api_calls_total\{call="publish",outcome="ok"\} \d+$/m, /^flux_api_calls_total\{call="history",outcome="unrecoverable_position"\} 3$/m, /^flux_api_waiting 0$/m, /^flux_api_streams 0$/m, /^flux_api_stream_bytes 0$/m]) t.match(metrics, line);
});

t.test("a node that is closing refuses every call with unavailable", async (t) => {
  const node = await startNode(t, options);
  await node.publish("chat:a", 1);
  const streams = [node.stream("chat:a"), node.stream("live:a")];
  for (const stream of streams) await take(stream, 1);
  await node.publish("live:a", "dropped");
  const waiting = codeOf(streams[0]!.next());
  const close = node.close();
  t.strictSame([await waiting, await codeOf(streams[1]!.next())], ["unavailable", "unavailable"], "what follows a room learns of it");
  const calls = () => [node.publish("chat:a", 1), node.send("ann", 1), node.history("chat:a"), node.members("chat:a"), node.publish("", 1), node.stream("chat:a").next()];
  for (const code of await codesOf(calls())) t.equal(code, "unavailable");
  await close;
  for (const code of await codesOf(calls())) t.equal(code, "unavailable");
});

t.test("calls that wait are bounded, each is answered once, also at a close; what throws is internal and logged once", async (t) => {
  const logged: unknown[] = [];
  const calls = new Calls({ error: (fields: unknown) => void logged.push(fields) } as unknown as Logger);
  const codes = async (all: Promise<unknown>[]) => Promise.all(all.map((call) => call.then(() => "ok", ({ code }: ApiError) => code)));
  const answers: ((answer: { value: number }) => void)[] = [];
  const waiting = Array.from({ length: 1_000 }, () => calls.run<number>("history", (done) => void answers.push(done)));
  t.strictSame(await codes([calls.run("history", () => t.fail("not begun"))]), ["overloaded"]);
  t.equal(calls.usage().waiting, 1_000);
  for (const answer of answers.slice(0, 500)) (answer({ value: 1 }), answer({ value: 2 }));
  t.strictSame(new Set(await Promise.all(waiting.slice(0, 500))), new Set([1]));
  const bug = () => calls.run("members", () => { throw new TypeError("a bug"); });
  t.strictSame([await codes([bug(), bug()]), logged.length], [["internal", "internal"], 1]);
  calls.close();
  for (const answer of answers) answer({ value: 3 });
  t.strictSame(new Set(await codes(waiting.slice(500))), new Set(["unavailable"]));
  t.strictSame(await codes([calls.run("send", () => t.fail("not begun"))]), ["unavailable"]);
  const counted = calls.usage().answered.filter(({ call }) => call === "history").map(({ outcome, count }) => [outcome, count]);
  t.strictSame([counted, calls.usage().waiting], [[["overloaded", 1], ["ok", 500], ["unavailable", 500]], 0]);
});
