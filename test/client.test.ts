/** The SDK and a real node, by way of a proxy that plays the network. */
import t from "tap";
import { closes } from "../src/errors.ts";
import { startNode } from "./support/node.ts";
import { startProxy } from "./support/proxy.ts";
import { isReady, listen, numbers, publicationsIn, startClient, type Heard } from "./support/sdk.ts";
import { until } from "./support/until.ts";

/** For the tests that only need a node: each has a room of its own. */
const node = await startNode(t);

t.test("what one publishes all members get, in order, with who and where and when", async (t) => {
  const [alice, bob] = [startClient(t, node.url), startClient(t, node.url)];
  const [from, to] = [alice.join("chat:a"), bob.join("chat:a")];
  const heard = [listen(from), listen(to)];
  await Promise.all([from.joined, to.joined]);
  const before = Date.now();
  const receipt = await from.publish({ text: "hi ü" });
  t.match(receipt, { epoch: String, seq: 1, receivers: 2, duplicate: false });
  const bytes = Uint8Array.of(0, 1, 254, 255);
  await Promise.all([from.publish(bytes), ...numbers(3, 200).map((n) => from.publish(n))]);
  await until(() => heard.every((list) => publicationsIn(list).length === 200), "all publications at both");
  for (const list of heard) t.same(publicationsIn(list), [{ text: "hi ü" }, bytes, ...numbers(3, 200)]);
  t.same(to.position, { epoch: receipt.epoch, seq: 200 });

  const first = (await to.history({ limit: 500 })).publications[0];
  t.match(first, { room: "chat:a", sender: alice.session?.user ?? "", position: { epoch: receipt.epoch, seq: 1 } });
  t.ok(first && first.time.getTime() >= before - 1000 && first.time.getTime() <= Date.now() + 1000, "the time is the node's");
});

t.test("ping measures, echo brings back, session says who we are", async (t) => {
  const client = startClient(t, node.url);
  await isReady(client);
  t.match(client.session, { user: /^anon-/, session: /./, node: node.config.nodeId, frameBytesMax: 65_536, commandsPerSecond: 500 });
  const latencyMs = await client.ping();
  t.ok(latencyMs > 0 && latencyMs < 5000, `${latencyMs} ms`);
  t.same(await client.echo({ a: [1, null] }), { a: [1, null] });
  t.same(await client.echo(Uint8Array.of(7)), Uint8Array.of(7));
});

t.test("a cut socket costs nothing: the client comes back and gets what it missed, once and in order", async (t) => {
  const proxy = await startProxy(t, node.port);
  const publisher = startClient(t, node.url).join("chat:c");
  const client = startClient(t, proxy.url, { random: () => 1 });
  const room = client.join("chat:c");
  const heard = listen(room);
  await Promise.all([publisher.joined, room.joined]);
  const last = 600;
  const published = (async () => {
    for (const n of numbers(1, last)) {
      await publisher.publish(n);
      if (n % 100 === 50) proxy.cut();
    }
  })();
  await published;
  await until(() => publicationsIn(heard).length >= last, "all publications");
  t.same(publicationsIn(heard), numbers(1, last));
  t.ok(proxy.accepted > 2, `over ${proxy.accepted} sockets`);
  const kinds = new Set(heard.map(({ kind }) => kind));
  t.notOk(kinds.has("gap"), "no gap");
  t.ok(kinds.has("recovered"), "and it was told that something had been missed");
});

t.test("a recovery of many pages comes whole, and live publications come behind it", async (t) => {
  const proxy = await startProxy(t, node.port);
  const publisher = startClient(t, node.url, { waitingPublishesMax: 2000 }).join("chat:d");
  const room = startClient(t, proxy.url).join("chat:d");
  const heard = listen(room);
  await Promise.all([publisher.joined, room.joined]);
  await publisher.publish(0);
  await until(() => publicationsIn(heard).length === 1, "the first");
  proxy.refuse(true);
  proxy.cut();
  const text = "x".repeat(1000);
  await Promise.all(numbers(1, 400).map((n) => publisher.publish({ n, text })));
  proxy.refuse(false);
  await until(() => heard.some(({ kind, what }) => kind === "joined" && (what as { rejoined: boolean }).rejoined), "the return");
  for (const n of numbers(401, 420)) await publisher.publish({ n, text });
  await until(() => publicationsIn(heard).length >= 421, "all publications");
  t.same(publicationsIn(heard).slice(1).map((data) => (data as { n: number }).n), numbers(1, 420));
  t.notOk(heard.some(({ kind }) => kind === "gap"));
});

t.test("what the node no longer has is a gap, which ends where what it has begins: after a loss of the socket, and after suspend()", async (t) => {
  const chat = { durable: true, historySize: 5, historyTtlMs: 60_000, historyBytesMax: 1_000_000, publish: "members" as const };
  const node = await startNode(t, { namespaces: { chat }, tailPublicationsMax: 5 });
  const proxy = await startProxy(t, node.port);
  const publisher = startClient(t, node.url).join("chat:a");
  const room = startClient(t, proxy.url).join("chat:a");
  const sleeper = startClient(t, node.url);
  const slept = sleeper.join("chat:a", { history: 5 });
  const [heard, heardAwake] = [listen(room), listen(slept)];
  await Promise.all([publisher.joined, room.joined, slept.joined]);
  await publisher.publish(1);
  await until(() => publicationsIn(heard).length === 1 && publicationsIn(heardAwake).length === 1, "the first");
  await sleeper.suspend();
  proxy.refuse(true);
  proxy.cut();
  for (const n of numbers(2, 30)) await publisher.publish(n);
  proxy.refuse(false);
  await until(() => heard.some(({ kind }) => kind === "gap"), "the gap");
  await publisher.publish(31);
  await until(() => publicationsIn(heard).includes(31), "what came later");
  sleeper.wake();
  await until(() => publicationsIn(heardAwake).includes(31), "what is kept for the sleeper");
  const story = (told: Heard[], first: number, last: number) => t.same(told.slice(3), [
    { kind: "gap", what: [1, first - 1] },
    ...numbers(first, last).map((n) => ({ kind: "publication", what: n })),
    { kind: "recovered", what: [first - 1, last, 5] },
  ]);
  t.same(heard.pop(), { kind: "publication", what: 31 });
  story(heard, 26, 30);
  story(heardAwake, 27, 31);
});

t.test("a publish whose answer was lost is sent again and is in the room once", async (t) => {
  const proxy = await startProxy(t, node.port);
  const witness = startClient(t, node.url).join("chat:e");
  const heard = listen(witness);
  const client = startClient(t, proxy.url);
  const room = client.join("chat:e");
  await Promise.all([witness.joined, room.joined]);
  proxy.pause("toClient");
  const published = [1, 2, 3].map((n) => room.publish(n));
  await until(() => publicationsIn(heard).length === 3, "the publishes at the witness");
  proxy.cut();
  proxy.resume("toClient");
  const receipts = await Promise.all(published);
  t.same(receipts.map(({ seq, duplicate }) => [seq, duplicate]), [[1, true], [2, true], [3, true]]);
  await room.publish(4);
  await until(() => publicationsIn(heard).includes(4), "the next one");
  t.same(publicationsIn(heard), [1, 2, 3, 4]);
});

t.test("publishes made while the node is out of reach arrive when it is back, in order", async (t) => {
  const proxy = await startProxy(t, node.port);
  const witness = startClient(t, node.url).join("chat:f");
  const heard = listen(witness);
  const room = startClient(t, proxy.url).join("chat:f");
  await Promise.all([witness.joined, room.joined]);
  proxy.refuse(true);
  proxy.cut();
  const published = numbers(1, 50).map((n) => room.publish(n));
  proxy.refuse(false);
  await Promise.all(published);
  await until(() => publicationsIn(heard).length === 50, "all of them");
  t.same(publicationsIn(heard), numbers(1, 50));
});

t.test("the same key is one publication, whoever repeats it", async (t) => {
  const [a, b] = [startClient(t, node.url).join("chat:g"), startClient(t, node.url).join("chat:g")];
  const heard = listen(b);
  await Promise.all([a.joined, b.joined]);
  const first = await a.publish("once", { key: "order-17" });
  const second = await a.publish("once", { key: "order-17" });
  t.same([second.seq, second.epoch, second.duplicate], [first.seq, first.epoch, true]);
  await a.publish("end");
  await until(() => publicationsIn(heard).includes("end"), "the end");
  t.same(publicationsIn(heard), ["once", "end"]);
});

t.test("who asks to be left out is, and sees no gap", async (t) => {
  const [a, b] = [startClient(t, node.url).join("chat:h"), startClient(t, node.url).join("chat:h")];
  const [heardByA, heardByB] = [listen(a), listen(b)];
  await Promise.all([a.joined, b.joined]);
  for (const n of numbers(1, 20)) await (n % 3 === 0 ? b : a).publish(n, { excludeSelf: n % 2 === 0 });
  await Promise.all([a.publish("end"), until(() => publicationsIn(heardByA).includes("end"), "the end at a")]);
  await until(() => publicationsIn(heardByB).includes("end"), "the end at b");
  t.same(publicationsIn(heardByA), [...numbers(1, 20).filter((n) => n % 3 === 0 || n % 2 !== 0), "end"]);
  t.same(publicationsIn(heardByB), [...numbers(1, 20).filter((n) => n % 3 !== 0 || n % 2 !== 0), "end"]);
  t.same(a.position, b.position);
  t.same([...heardByA, ...heardByB].filter(({ kind }) => kind === "gap" || kind === "recovered"), []);
});

t.test("a node that went silent is left for another socket", async (t) => {
  const node = await startNode(t, { heartbeatMs: 1000, heartbeatGraceMs: 1000 });
  const proxy = await startProxy(t, node.port);
  const client = startClient(t, proxy.url, { graceMs: 200 });
  const room = client.join("chat:a");
  const heard = listen(room);
  await room.joined;
  const causes: string[] = [];
  client.on("state", ({ cause }) => cause && causes.push(cause.text));
  proxy.pause("toClient");
  proxy.pause("toNode");
  await until(() => client.state !== "ready", "the silence to be noticed");
  proxy.cut();
  proxy.resume("toClient");
  proxy.resume("toNode");
  await isReady(client);
  await room.publish("back");
  await until(() => publicationsIn(heard).includes("back"), "a publication in the new session");
  t.match(causes[0], /the node sent nothing/);
});

t.test("a slow way changes nothing but the latency", async (t) => {
  const proxy = await startProxy(t, node.port);
  proxy.delay(30);
  const client = startClient(t, proxy.url);
  const room = client.join("chat:i");
  const heard = listen(room);
  await room.joined;
  await Promise.all(numbers(1, 100).map((n) => room.publish(n)));
  await until(() => publicationsIn(heard).length === 100, "all publications");
  t.same(publicationsIn(heard), numbers(1, 100));
  t.ok((await client.ping()) >= 60);
});

t.test("more publishes than the node takes in a second are spread out, and none is lost", async (t) => {
  const node = await startNode(t, { commandsPerSecond: 100 });
  const client = startClient(t, node.url);
  const errors: string[] = [];
  client.on("error", ({ code }) => errors.push(code));
  const room = client.join("chat:a");
  const heard = listen(room);
  await Promise.all(numbers(1, 300).map((n) => room.publish(n)));
  await until(() => publicationsIn(heard).length === 300, "all publications");
  t.same(publicationsIn(heard), numbers(1, 300), "in order");
  t.same(errors, []);
});

t.test("rooms: history on joining, leaving, refusals", async (t) => {
  const writer = startClient(t, node.url).join("chat:j");
  for (const n of numbers(1, 80)) await writer.publish(n);
  const client = startClient(t, node.url);
  const seen: unknown[] = [];
  const room = client.join("chat:j", { history: 50, onPublication: ({ data }) => seen.push(data) });
  await room.joined;
  await until(() => seen.length === 50, "the history");
  t.same(seen, numbers(31, 80));
  const pages = [await room.history({ limit: 10 })];
  const before = pages[0]?.publications[0]?.position;
  if (before) pages.push(await room.history({ before, limit: 10 }));
  t.same(pages.map(({ publications, more }) => [publications.map(({ data }) => data), more]), [[numbers(71, 80), true], [numbers(61, 70), true]]);

  await room.leave();
  await writer.publish(81);
  await t.rejects(client.join("nowhere:a").joined, { code: "unknown_namespace", retryable: false });
  const live = client.join("live:a");
  await live.joined;
  t.equal((await live.publish(1)).receivers, 1);
  t.notOk(seen.includes(81), "nothing after leaving");
});

t.test("a stored position lets a new client go on where another stopped", async (t) => {
  const writer = startClient(t, node.url).join("chat:k");
  const { epoch, seq } = await writer.publish(1);
  for (const n of numbers(2, 9)) await writer.publish(n);
  const room = startClient(t, node.url).join("chat:k", { recover: { epoch, seq } });
  const heard = listen(room);
  t.match(await room.joined, { recovered: true, rejoined: false });
  await until(() => publicationsIn(heard).length === 8, "the rest");
  t.same(publicationsIn(heard), numbers(2, 9));
});

t.test("a close that says not to come back is obeyed", async (t) => {
  const node = await startNode(t, { frameBytesMax: 1024 });
  const client = startClient(t, node.url);
  await isReady(client);
  const closed = new Promise((resolve) => client.on("closed", resolve));
  await t.rejects(client.echo(new Uint8Array(1500)), { code: "disconnected" });
  t.match(await closed, { code: closes.frame_too_large.code, name: "frame_too_large", text: closes.frame_too_large.text });
  t.equal(client.state, "closed");
});

t.test("a room of publish: anyone takes what a client publishes that has not joined it, one of publish: members does not", async (t) => {
  const node = await startNode(t, { reactors: 1, namespaces: { open: { durable: true, publish: "anyone" } } });
  const [member, outsider] = [startClient(t, node.url), startClient(t, node.url)];
  const joined = member.join("open:a");
  const heard = listen(joined);
  await joined.joined;
  const options = { key: "once" };
  t.match(await outsider.publish("open:a", { n: 1 }, options), { seq: 1, receivers: 1, duplicate: false });
  t.match(await outsider.publish("open:a", { n: 1 }, options), { seq: 1, duplicate: true });
  await until(() => publicationsIn(heard).length === 1, "the publication");
  t.same(publicationsIn(heard), [{ n: 1 }]);
  await t.rejects(outsider.publish("chat:a", 1), { code: "not_joined", retryable: false });
});

for (const where of ["ready", "state", "joined"] as const) {
  t.test(`suspend() called by a listener of ${where}: wake() brings everything back`, async (t) => {
    const client = startClient(t, node.url);
    const room = client.join(`chat:suspended-${where}`);
    const heard = listen(room);
    let suspended: Promise<void> | null = null;
    const suspend = () => {
      if (client.state === "ready") suspended ??= client.suspend();
    };
    if (where === "joined") room.on("joined", suspend);
    else client.on(where, suspend);
    const published = room.publish(1);
    await until(() => suspended !== null, "the listener");
    await suspended;
    client.wake();
    t.equal((await published).seq, 1);
    await until(() => publicationsIn(heard).length === 1, "the publication");
    await room.publish(2);
    await until(() => publicationsIn(heard).length === 2, "the next");
    t.same(publicationsIn(heard), [1, 2]);
  });
}

t.test("suspend() settles though the client is woken, suspended and closed before its socket has gone", async (t) => {
  const client = startClient(t, node.url);
  await isReady(client);
  const first = client.suspend();
  client.wake();
  const second = client.suspend();
  client.wake();
  await Promise.all([first, second, client.close()]);
  t.equal(client.state, "closed");
});
