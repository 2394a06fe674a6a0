/** Several joins of one room by one client, typed and checked data, loops, signals, counts: with a node that a test scripts. */
import t, { type Test } from "tap";
import { WebSocket } from "ws";
import { connect, FluxError, type DebugEvent, type Room, type Schema } from "../src/client/index.ts";
import type { ServerFrame } from "../src/protocol/messages.ts";
import { epoch, publication, startScripted, type ScriptedNode } from "./support/scripted.ts";
import { isReady, listen, ManualClock, publicationsIn, startClient } from "./support/sdk.ts";
import { MemoryStorage } from "./support/storage.ts";
import { until } from "./support/until.ts";

const room = "chat:a";
const live = (seq: number): ServerFrame => ({ id: 0, publication: publication(seq) });

/** A room that has publications up to `head`. */
function startRoom(t: Test, head: number, read?: (limit: number, since: number | null) => ServerFrame[]): Promise<ScriptedNode> {
  return startScripted(t, ({ join, history }) => {
    if (join?.recover) return [{ joined: { room, position: { epoch, seq: head }, recovered: true } }];
    if (join) return [{ joined: { room, position: { epoch, seq: head } } }];
    if (!history) return undefined;
    const [limit, since] = [history.limit ?? 0, history.since?.seq ?? null];
    return read?.(limit, since) ?? [{ history: { room, position: { epoch, seq: head }, publications: range(since === null ? head - limit + 1 : since + 1, head).map((seq) => publication(seq)) } }];
  });
}

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

t.test("a second join has its own history, and the first goes on when it leaves", async (t) => {
  const node = await startRoom(t, 10);
  const client = startClient(t, node.url);
  const first = client.join(room, { history: 2 });
  const heard = listen(first);
  await first.joined;
  const second = client.join(room, { history: 3 });
  const late = listen(second);
  const liveAfter: number[] = []; // publications before each
  second.on("live", () => liveAfter.push(publicationsIn(late).length));
  t.not(second, first);
  t.same(await second.joined, await first.joined);
  await until(() => publicationsIn(late).length === 3, "its history");
  node.sessions[0]!.send(live(11));
  await until(() => publicationsIn(heard).includes(11), "a live one");
  t.same(publicationsIn(late), [8, 9, 10, 11]);
  t.same(late[0], { kind: "joined", what: { recovered: false, rejoined: false } });
  t.same(liveAfter, [3], "live once, behind its history");
  t.same(second.position, { epoch, seq: 11 });

  await second.leave();
  t.same(late.at(-1), { kind: "left", what: null });
  await t.rejects(second.publish(1), { code: "left" });
  node.sessions[0]!.send(live(12));
  await until(() => publicationsIn(heard).includes(12), "the first goes on");
  t.notOk(publicationsIn(late).includes(12));
  t.equal(node.commands("join").length, 1, "the node was asked once");
  t.equal(node.commands("leave").length, 0, "and left by nobody");
  await first.publish(1);
  await first.leave();
  t.equal(node.commands("leave").length, 1, "the last one leaves");
  t.equal(client.join(room).isLeft, false, "and it can be joined again");
});

t.test("joins in one turn have a history each, and one that leaves at once rejects alone", async (t) => {
  const node = await startRoom(t, 10);
  const client = startClient(t, node.url);
  const rooms = [client.join(room), client.join(room, { history: 2 }), client.join(room, { recover: { epoch, seq: 6 } })];
  const heard = rooms.map(listen);
  const gone = client.join(room);
  await gone.leave();
  await t.rejects(gone.joined, { code: "left" });
  await until(() => publicationsIn(heard[1]!).length === 2 && publicationsIn(heard[2]!).length === 4, "both histories");
  t.same(heard.map(publicationsIn), [[], [9, 10], [7, 8, 9, 10]]);
});

t.test("what is published while a later join reads its history comes once and in order", async (t) => {
  // The answer knows 11 and 12, which the socket brings before and after it.
  const node = await startRoom(t, 10, (limit) => [live(11), { history: { room, position: { epoch, seq: 12 }, publications: range(13 - limit, 12).map((seq) => publication(seq)) } }, live(12), live(13)]);
  const client = startClient(t, node.url);
  const first = client.join(room);
  await first.joined;
  for (const [history, expected] of [[4, range(9, 13)], [1, [11, 12, 13]]] as const) {
    const other = startClient(t, node.url);
    await other.join(room).joined;
    const late = listen(other.join(room, { history }));
    await until(() => publicationsIn(late).includes(13), "the last");
    t.same(publicationsIn(late), expected, `history of ${history}`);
  }
});

t.test("a later join whose position is gone is told", async (t) => {
  const node = await startRoom(t, 10, () => [{ error: { code: "unrecoverable_position", text: "gone", retryable: false } }, live(11)]);
  const client = startClient(t, node.url);
  await client.join(room).joined;
  const late = listen(client.join(room, { recover: { epoch, seq: 2 } }));
  await until(() => publicationsIn(late).includes(11), "what is live");
  t.same(late.slice(1), [{ kind: "gap", what: [2, 10] }, { kind: "publication", what: 11 }]);
});

t.test("a later join whose position is gone gets what is kept, behind the gap", async (t) => {
  const node = await startRoom(t, 10, () => [{ history: { room, position: { epoch, seq: 10 }, publications: [publication(9), publication(10)] } }]);
  const client = startClient(t, node.url);
  await client.join(room).joined;
  const late = listen(client.join(room, { recover: { epoch, seq: 2 } }));
  await until(() => publicationsIn(late).includes(10), "the last");
  t.same(late.slice(1), [{ kind: "gap", what: [2, 8] }, { kind: "publication", what: 9 }, { kind: "publication", what: 10 }]);
  t.match(node.commands("history"), [{ history: { since: { seq: 2 }, orOldest: true } }]);
});

t.test("a later join whose position is gone with all that followed is told", async (t) => {
  const node = await startRoom(t, 10, () => [{ history: { room, position: { epoch, seq: 10 }, publications: [] } }, live(11)]);
  const client = startClient(t, node.url);
  await client.join(room).joined;
  const late = listen(client.join(room, { recover: { epoch, seq: 2 } }));
  await until(() => publicationsIn(late).includes(11), "what is live");
  t.same(late.slice(1), [{ kind: "gap", what: [2, 10] }, { kind: "publication", what: 11 }]);
});

t.test("a later join whose session is lost while it reads begins again in the next one", async (t) => {
  let reads = 0;
  const node: ScriptedNode = await startRoom(t, 10, (limit) => {
    if (++reads > 1) return [{ history: { room, publications: range(11 - limit, 10).map((seq) => publication(seq)) } }];
    node.sessions[0]!.cut();
    return [];
  });
  const client = startClient(t, node.url);
  await client.join(room).joined;
  const late = listen(client.join(room, { history: 2 }));
  await until(() => publicationsIn(late).length === 2, "the history");
  t.same(publicationsIn(late), [9, 10]);
});

t.test("a later join hears what happens to the room while it reads, and when it is live", async (t) => {
  // While the later join reads, the room misses something that is gone. The test answers both reads.
  const node = await startRoom(t, 10, (_, since) => (since === null ? [{ id: 0, publication: publication(15) }] : []));
  const client = startClient(t, node.url);
  const first = client.join(room);
  let lives = 0;
  first.on("live", () => lives++);
  await first.joined;
  await until(() => lives === 1, "live");
  let later = 0;
  client.join(room).on("live", () => later++);
  await until(() => later === 1, "a later join without history is live");
  const late = client.join(room, { history: 1 });
  const heard = listen(late);
  let lateLives = 0;
  late.on("live", () => lateLives++);
  await until(() => node.commands("history").length === 2, "both reads");
  const [read, repair] = node.commands("history");
  node.sessions[0]!.send({ id: repair!.id!, history: { room, publications: [] } });
  await until(() => first.position?.seq === 15, "the gap of the first");
  node.sessions[0]!.send({ id: read!.id!, history: { room, publications: [publication(10)] } });
  await until(() => publicationsIn(heard).includes(15), "what was held");
  t.same(heard.slice(1), [{ kind: "publication", what: 10 }, { kind: "gap", what: [10, 14] }, { kind: "publication", what: 15 }]);
  t.equal(lateLives, 1);
});

t.test("what is older than the history of a later join comes before it, whatever else was held", async (t) => {
  // The answer is ahead of the socket: a gap, and publications before and in the page, come while it is read.
  const node = await startRoom(t, 10, (_, since) =>
    since !== null ? [{ history: { room, publications: [] } }] : [live(11), { id: 0, publication: { ...publication(15), prev: 14 } }, live(16)]);
  const client = startClient(t, node.url);
  const first = client.join(room);
  await first.joined;
  const late = listen(client.join(room, { history: 1 }));
  await until(() => first.position?.seq === 16, "what the socket brings");
  const [read] = node.commands("history");
  node.sessions[0]!.send({ id: read!.id!, history: { room, publications: [publication(16)] } }, live(17));
  await until(() => publicationsIn(late).includes(17), "the last");
  t.same(publicationsIn(late), [11, 15, 16, 17]);
  t.same(late.filter(({ kind }) => kind === "gap"), [{ kind: "gap", what: [11, 14] }]);
});

t.test("a later join for which too much arrives while it recovers is told what it does not get", async (t) => {
  const node = await startRoom(t, 10, () => []);
  const client = startClient(t, node.url, { heldPublicationsMax: 3 });
  await client.join(room).joined;
  const late = listen(client.join(room, { recover: { epoch, seq: 2 } }));
  await until(() => node.commands("history").length === 1, "it reads");
  node.sessions[0]!.send(...range(11, 15).map(live));
  await until(() => publicationsIn(late).includes(15), "the last");
  t.same(late.slice(1), [{ kind: "gap", what: [2, 10] }, ...range(11, 15).map((what) => ({ kind: "publication", what }))]);
});

t.test("a later join whose read fails at last is told of no gap where it has everything", async (t) => {
  let reads = 0;
  const node = await startRoom(t, 10, () => {
    if (++reads > 1) return [{ error: { code: "forbidden", text: "no", retryable: false } }];
    return [live(11), { history: { room, publications: range(3, 11).map((seq) => publication(seq)), more: true } }];
  });
  const client = startClient(t, node.url);
  await client.join(room).joined;
  const late = listen(client.join(room, { recover: { epoch, seq: 2 } }));
  await until(() => reads === 2, "both reads");
  node.sessions[0]!.send(live(12));
  await until(() => publicationsIn(late).includes(12), "the last");
  t.same(late.slice(1), range(3, 12).map((what) => ({ kind: "publication", what })));
});

t.test("data that does not match the schema is an error, and what the schema makes of the rest is data", async (t) => {
  const even: Schema<string> = {
    "~standard": { version: 1, vendor: "test", validate: (value) => (Number(value) % 2 === 0 ? { value: `even ${value}` } : { issues: [{ message: "is odd", path: ["a", { key: 0 }] }] }) },
  };
  const node = await startRoom(t, 0);
  const client = startClient(t, node.url);
  const typed: Room<string> = client.join(room, { schema: even });
  const plain = client.join<number>(room);
  const [heard, all] = [listen(typed as Room), listen(plain as Room)];
  const texts: string[] = [];
  typed.on("error", ({ text }) => texts.push(text));
  await typed.joined;
  for (const seq of range(1, 3)) node.sessions[0]!.send(live(seq));
  await until(() => publicationsIn(all).length === 3, "all");
  t.same(heard.slice(1).map(({ what }) => what), ["invalid_data", "even 2", "invalid_data"]);
  t.equal(texts[0], "publication 1 of chat:a does not match the schema: a.0: is odd");
  t.same(publicationsIn(all), [1, 2, 3], "others of the room have none");

  const failing = { "~standard": { ...even["~standard"], validate: async () => ({ value: "" }) } };
  const later = listen(startClient(t, node.url).join(room, { schema: failing }) as Room);
  await until(() => later.length === 1, "joined");
  node.sessions[1]!.send(live(1));
  await until(() => later.length === 2, "the error");
  t.same(later[1], { kind: "error", what: "invalid_data" }, "a schema that answers later");
});

t.test("for await has what comes, ends with the room, and throws what the node refused", async (t) => {
  const node = await startRoom(t, 0);
  const client = startClient(t, node.url, { heldPublicationsMax: 3 });
  const chat = client.join<number>(room);
  await chat.joined;
  const seen: number[] = [];
  const send = (...seqs: number[]) => node.sessions[0]!.send(...seqs.map(live));
  setImmediate(() => send(1, 2, 3));
  for await (const { data } of chat) {
    seen.push(data);
    if (data === 2) break;
  }
  t.same(seen, [1, 2]);
  t.notOk(chat.isLeft, "break leaves the loop alone");

  const loop = (signal?: AbortSignal) => (async () => {
    for await (const { data } of chat.publications(signal ? { signal } : {})) seen.push(data);
    return "ended";
  })();
  const abort = new AbortController();
  const aborted = loop(abort.signal);
  abort.abort(new Error("enough"));
  await t.rejects(aborted, { message: "enough" });

  const slow = chat.publications();
  const next = slow.next();
  send(4);
  t.equal((await next).value?.data, 4);
  send(5, 6, 7, 8);
  await until(() => chat.position?.seq === 8, "the last");
  t.same([(await slow.next()).value?.data, (await slow.next()).value?.data], [5, 6]);
  await t.rejects((async () => { for (;;) await slow.next(); })(), { code: "overloaded" });
  const ending = loop();
  node.sessions[0]!.send({ id: 0, left: { room, reason: "removed" } });
  await t.rejects(ending, { code: "removed" });

  const again = client.join(room);
  await again.joined;
  const rest = (async () => { for await (const _ of again) t.fail("nothing comes"); return "ended"; })();
  await again.leave();
  t.equal(await rest, "ended");
  await t.rejects(chat.publications().next(), { code: "removed" }, "a loop that begins after the end");
});

t.test("whatever waits can be given up", async (t) => {
  const node = await startScripted(t, ({ publish, history, presence, ping, echo, watch, refresh }) => (publish || history || presence || ping || echo || watch || refresh ? [] : undefined));
  const client = startClient(t, node.url);
  const chat = client.join(room);
  await chat.joined;
  const enough = new Error("enough");
  const abort = new AbortController();
  const { signal } = abort;
  const waiting = [
    chat.publish(1, { signal }), chat.history({ limit: 1, signal }), chat.presence({ signal }), client.publish("chat:b", 1, { signal }),
    client.send("ann", 1, { signal }), client.ping({ signal }), client.echo(1, { signal }), client.watch(["ann"], { signal }), client.refresh("token", { signal }),
  ];
  t.equal(client.stats().waiting, 3);
  abort.abort(enough);
  for (const promise of waiting) await t.rejects(promise, enough);
  await t.rejects(chat.publish(2, { signal }), enough, "before it began");
  t.equal(node.commands("publish").some(({ publish }) => publish?.key === ""), false);

  const other = new AbortController();
  const leaving = client.join("chat:b", { signal: other.signal });
  await leaving.joined;
  other.abort();
  t.ok(leaving.isLeft, "a join");
  t.throws(() => client.join("chat:b", { signal }), enough);

  await client.close();
  await t.rejects(client.watch(["ann"]), { code: "closed" }, "what begins after the end");
  const kept = new AbortController();
  let listeners = 0;
  kept.signal.addEventListener = () => listeners++;
  client.join("chat:b", { signal: kept.signal });
  t.equal(listeners, 0, "nobody listens to a signal that has nothing to leave");
});

t.test("a publish that is given up before there is a session is never sent", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url);
  const abort = new AbortController();
  const given = client.publish(room, "no", { signal: abort.signal });
  const kept = client.publish(room, "yes");
  abort.abort();
  await t.rejects(given, { name: "AbortError" });
  await kept;
  t.equal(node.commands("publish").length, 1);
  t.equal(client.stats().waiting, 0);
});

t.test("the client counts, and shows debug what passes without secrets", async (t) => {
  const node = await startScripted(t);
  const shown: DebugEvent[] = [];
  const client = startClient(t, `${node.url}?token=secret`, {
    token: "secret",
    debug: (event) => {
      shown.push(event);
      throw new Error("ignored");
    },
  });
  await client.join(room).joined;
  await client.publish("chat:b", "secret");
  t.match(client.stats(), { state: "ready", node: "scripted", sockets: 1, sessions: 1, resumed: 0, framesSent: 3, framesReceived: 3, rooms: 1, waiting: 0, waitingBytes: 0 });
  t.ok(client.stats().bytesSent > 30 && client.stats().bytesReceived > 30);
  await client.close();
  t.same(shown.map((event) => (event.what === "in" || event.what === "out" ? `${event.what} ${event.kind} ${event.room}` : event.what)), [
    "open", "out hello ", "in ready ", "out join chat:a", "in joined chat:a", "out publish chat:b", "in published ", "out bye ", "close",
  ]);
  t.notMatch(JSON.stringify(shown), /secret/);
});

t.test("an error code that this SDK does not know is named in the text", async (t) => {
  const node = await startScripted(t, ({ ping }) => (ping ? [{ error: { code: "too_blue", text: "it is blue", retryable: true } }] : undefined));
  const client = startClient(t, node.url);
  await isReady(client);
  const error = await client.ping().catch((error: unknown) => error);
  t.ok(error instanceof FluxError);
  t.match(error, { code: "unknown", text: "too_blue: it is blue", retryable: true });
});

t.test("with several addresses a client takes the next one when one cannot be reached", async (t) => {
  const [a, b] = [await startScripted(t), await startScripted(t)];
  const refused = "ws://127.0.0.1:1/ws";
  const clock = new ManualClock();
  const client = startClient2(t, [a.url, refused, b.url], { clock, random: () => 0 });
  await isReady(client);
  t.equal(a.sessions.length, 1, "random() is 0: the first");
  a.sessions[0]!.cut();
  await until(() => client.state === "waiting", "the loss");
  clock.advance(0);
  await until(() => a.sessions.length === 2 && client.state === "ready", "the same again");
  await client.close();

  const next = startClient2(t, [refused, b.url], { random: () => 0 });
  await isReady(next);
  t.equal(b.sessions.length, 1);
  const last = startClient2(t, [a.url, b.url], { random: () => 0.99 });
  await isReady(last);
  t.equal(b.sessions.length, 2, "any of them is the first");
  const found = connect(() => b.url, { WebSocket });
  t.teardown(() => found.close());
  await isReady(found);
  for (const urls of [[], ["http://a/ws"], [a.url, ""]]) t.throws(() => connect(urls, { WebSocket }), { name: "SyntaxError" });
});

function startClient2(t: Test, urls: string[], options: object) {
  const client = connect(urls, { WebSocket, backoff: { baseMs: 20, capMs: 200 }, ...options });
  t.teardown(() => client.close());
  return client;
}

t.test("an address at which no socket opens is told once, with what to look at", async (t) => {
  const clock = new ManualClock();
  const client = startClient(t, "ws://127.0.0.1:1/", { clock, random: () => 0 });
  const told: string[] = [];
  let attempts = 0;
  client.on("error", ({ code, text }) => told.push(`${code} after ${attempts}: ${text}`));
  client.on("state", ({ state }) => {
    if (state !== "waiting") return;
    attempts++;
    setImmediate(() => clock.advance(0));
  });
  await until(() => attempts >= 7, "attempts");
  t.equal(told.length, 1);
  t.match(told[0], /^unreachable after 2: 3 attempts in a row .* ws:\/\/127\.0\.0\.1:1\/\. Check .*127\.0\.0\.1:1, that \/ is its path \(a node has \/ws\).*allowedOrigins/);
});

t.test("two clients of one address in one tab have a saved session each", async (t) => {
  let sessions = 0;
  const node = await startScripted(t, ({ hello }) => (hello ? [{ ready: { session: hello.resume?.session ?? `s${++sessions}`, user: "u", node: "n", resumed: hello.resume != null, maxFrameBytes: 1000 } }] : undefined));
  const storage = new MemoryStorage();
  const load = async () => {
    const clients = [startClient(t, node.url, { storage }), startClient(t, node.url, { storage })];
    await isReady(clients[0]!);
    await isReady(clients[1]!);
    return clients;
  };
  const before = await load();
  const ids = before.map(({ session }) => session?.session);
  t.not(ids[0], ids[1]);
  await Promise.all(before.map((client) => client.suspend()));
  const after = await load();
  t.same(after.map(({ session }) => [session?.session, session?.resumed]), ids.map((id) => [id, true]), "the page is loaded again");
});
