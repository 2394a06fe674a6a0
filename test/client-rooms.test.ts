/** The SDK's rooms against a node that does on demand what a real one does only in trouble. */
import { runInNewContext } from "node:vm";
import t from "tap";
import type { ClientFrame, ServerFrame } from "../src/protocol/messages.ts";
import { epoch, publication, startScripted } from "./support/scripted.ts";
import { isReady, listen, ManualClock, numbers, publicationsIn, startClient, type Heard } from "./support/sdk.ts";
import { until } from "./support/until.ts";

const room = "chat:a";

/** Joined at this seq. */
function joined(seq: number, more: Partial<NonNullable<ServerFrame["joined"]>> = {}): ServerFrame {
  return { joined: { room, position: { epoch, seq }, ...more } };
}

function live(seq: number, prev = seq - 1): ServerFrame {
  return { id: 0, publication: publication(seq, { prev }) };
}

function refusal(code: string, retryable = false): ServerFrame {
  return { error: { code, text: `${code} of the script`, retryable } };
}

const kinds = (heard: Heard[]) => heard.map(({ kind, what }) => [kind, what]);

t.test("a hole is closed from history before anything behind it is delivered", async (t) => {
  const asked: ClientFrame["history"][] = [];
  const node = await startScripted(t, ({ join, history }) => {
    if (join) return [joined(1), live(2), live(6), live(7)];
    if (!history) return undefined;
    asked.push(history);
    const since = history.since?.seq ?? 0; // two a page; 5 comes in the same message as the history that leads up to it
    return [{ history: { room, position: { epoch, seq: 7 }, publications: [since + 1, since + 2].map((seq) => publication(seq)), more: true } }];
  });
  const client = startClient(t, node.url);
  const heard = listen(client.join(room));
  await until(() => publicationsIn(heard).includes(7), "the last publication");
  t.same(kinds(heard), [
    ["joined", { recovered: false, rejoined: false }],
    ["publication", 2], ["publication", 3], ["publication", 4], ["publication", 5], ["publication", 6],
    ["recovered", [2, 6, 4]],
    ["publication", 7],
  ]);
  t.match(asked, [{ room, since: { epoch, seq: 2 } }, { since: { seq: 4 } }]);
  t.equal(asked.length, 2);
});

t.test("a hole that history cannot close is told, and the room goes on", async (t) => {
  const node = await startScripted(t, ({ join, history }) => {
    if (join) return [joined(1), live(5), live(6)];
    return history ? [refusal("unrecoverable_position")] : undefined;
  });
  const client = startClient(t, node.url);
  const heard = listen(client.join(room));
  await until(() => publicationsIn(heard).includes(6), "the last publication");
  t.same(kinds(heard).slice(1), [["gap", [1, 4]], ["publication", 5], ["publication", 6]]);
});

t.test("history that is refused for now is asked again", async (t) => {
  let asked = 0;
  const node = await startScripted(t, ({ join, history }) => {
    if (join) return [joined(1), live(3)];
    if (!history) return undefined;
    return ++asked < 3 ? [refusal("unavailable", true)] : [{ history: { room, publications: [publication(2), publication(3)] } }];
  });
  const client = startClient(t, node.url, { random: () => 0 });
  const heard = listen(client.join(room));
  await until(() => publicationsIn(heard).includes(3), "the last publication");
  t.same(publicationsIn(heard), [2, 3]);
  t.equal(asked, 3);
});

t.test("sync shows what was not sent, and history brings it", async (t) => {
  const node = await startScripted(t, ({ join, history }) => {
    if (join) return [joined(1), { id: 0, sync: { room, position: { epoch, seq: 3 } } }, { id: 0, sync: { room, position: { epoch, seq: 3 } } }];
    return history ? [{ history: { room, publications: [publication(2), publication(3)] } }] : undefined;
  });
  const client = startClient(t, node.url);
  const heard = listen(client.join(room));
  await until(() => heard.length >= 4, "the recovery");
  t.same(kinds(heard).slice(1), [["publication", 2], ["publication", 3], ["recovered", [1, 3, 2]]]);
  t.equal(node.commands("history").length, 1);
});

t.test("when more than may wait waits behind a hole, the hole is told as a gap, and what waits is delivered", async (t) => {
  const node = await startScripted(t, ({ join, history }) => {
    if (join) return [joined(1), ...Array.from({ length: 12 }, (_, i) => live(3 + i))];
    return history ? [] : undefined; // never answered
  });
  const client = startClient(t, node.url, { heldPublicationsMax: 10 });
  const heard = listen(client.join(room));
  await until(() => publicationsIn(heard).includes(14), "the last publication");
  t.same(kinds(heard).slice(1), [["gap", [1, 2]], ...numbers(3, 14).map((n) => ["publication", n])]);
});

t.test("after a reconnect the room is joined at its position; replay pages come before live ones", async (t) => {
  const node = await startScripted(t, ({ join }, session) => {
    if (!join) return undefined;
    if (session.number === 1) return [joined(1), live(2), live(2), live(3)];
    return [
      joined(6, { recovered: true, publications: [publication(3), publication(4)], more: true }),
      { id: 0, replay: { room, publications: [publication(5)], more: true } },
      { id: 0, replay: { room, publications: [publication(6)] } },
      live(7),
    ];
  });
  const client = startClient(t, node.url);
  const heard = listen(client.join(room));
  await until(() => publicationsIn(heard).includes(3), "the first stay");
  node.sessions[0]?.cut();
  await until(() => publicationsIn(heard).includes(7), "the second stay");
  t.match(node.commands("join")[1]?.join, { room, recover: { epoch, seq: 3 } });
  t.same(kinds(heard), [
    ["joined", { recovered: false, rejoined: false }],
    ["publication", 2], ["publication", 3],
    ["joined", { recovered: true, rejoined: true }],
    ["publication", 4], ["publication", 5], ["publication", 6],
    ["recovered", [3, 6, 3]],
    ["publication", 7],
  ]);
});

t.test("where nothing is kept, the gap ends at the room's head", async (t) => {
  const node = await startScripted(t, ({ join }) => {
    if (!join) return undefined;
    return join.recover ? [{ joined: { room, position: { epoch: "e2", seq: 4 }, recovered: false } }] : [joined(1)];
  });
  const client = startClient(t, node.url);
  const chat = client.join(room);
  const gaps: unknown[] = [];
  chat.on("gap", (gap) => gaps.push(gap));
  await chat.joined;
  node.sessions[0]?.cut();
  await until(() => gaps.length > 0, "the gap");
  t.match(gaps, [{ from: { epoch, seq: 1 }, to: { epoch: "e2", seq: 4 }, text: /new epoch/ }]);
  t.same(chat.position, { epoch: "e2", seq: 4 });
});

t.test("a room may be joined at a position of an earlier day, or with some history", async (t) => {
  const node = await startScripted(t, ({ join }) => {
    if (!join) return undefined;
    if (join.recover) return [joined(5, { recovered: true, publications: [publication(5)] })];
    return [joined(9, { publications: [publication(7), publication(8)], more: true }), { id: 0, replay: { room, publications: [publication(9)] } }];
  });
  const client = startClient(t, node.url);
  const seen: unknown[] = [];
  const first = client.join(room, { recover: { epoch, seq: 4 } });
  first.on("publication", ({ data, replayed, position, time, sender }) => seen.push({ data, replayed, position, time, sender }));
  await first.joined;
  t.same(seen, [{ data: 5, replayed: true, position: { epoch, seq: 5 }, time: new Date(1_700_000_000_000), sender: "u" }]);
  await first.leave();

  const some: unknown[] = [];
  const second = client.join(room, { history: 3, onPublication: ({ data }) => some.push(data) });
  t.not(second, first);
  await second.joined;
  await until(() => some.length === 3, "history");
  t.same(some, [7, 8, 9]);
  t.same(second.position, { epoch, seq: 9 });
  t.match(node.commands("join").map(({ join }) => join?.history), [0, 3]);
});

t.test("a refused join ends the room and is not repeated; one refused for now is", async (t) => {
  let tries = 0;
  const node = await startScripted(t, ({ join }) => {
    if (join?.room === "no:x") return [refusal("unknown_namespace")];
    return join?.room === "chat:busy" && ++tries < 3 ? [refusal("overloaded", true)] : undefined;
  });
  const client = startClient(t, node.url, { random: () => 0 });
  const refused = client.join("no:x");
  const heard = listen(refused);
  const published = refused.publish(1);
  await t.rejects(refused.joined, { code: "unknown_namespace", retryable: false, name: "FluxError" });
  await t.rejects(published, { code: "unknown_namespace" });
  t.same(kinds(heard), [["error", "unknown_namespace"], ["left", "unknown_namespace"]]);
  await client.join("chat:busy").joined;
  t.equal(tries, 3);

  node.sessions[0]?.cut();
  await until(() => node.sessions.length === 2 && client.state === "ready", "another session");
  await client.ping();
  t.same(node.commands("join").map(({ join }) => join?.room), ["no:x", ...Array(4).fill("chat:busy")]);
});

t.test("leaving ends the room here and there", async (t) => {
  const node = await startScripted(t, ({ join, publish }) => {
    if (publish) return [];
    return join ? [joined(1)] : undefined;
  });
  const client = startClient(t, node.url);
  const chat = client.join(room);
  const heard = listen(chat);
  await chat.joined;
  const unanswered = chat.publish(1);
  await chat.leave();
  await chat.leave();
  node.sessions[0]?.send(live(2));
  t.same(kinds(heard).slice(1), [["left", null]]);
  t.equal(node.commands("leave").length, 1);
  await t.rejects(chat.publish(2), { code: "left" });
  node.sessions[0]?.cut();
  await t.rejects(unanswered, { code: "disconnected" });
  await isReady(client);
  t.equal(publicationsIn(heard).length, 0);

  const never = client.join("chat:b");
  const waiting = never.publish(1);
  await Promise.all([never.leave(), t.rejects(never.joined, { code: "left" }), t.rejects(waiting, { code: "left" })]);
});

t.test("payloads: bytes are binary, everything else is JSON, what JSON cannot say is refused", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url);
  const chat = client.join(room);
  for (const data of [{ text: "ü" }, null, 0, "", Uint8Array.of(0, 255)]) await chat.publish(data);
  const sent = node.commands("publish").map(({ publish }) => [publish?.format, Buffer.from(publish?.payload ?? []).toString("latin1")]);
  t.same(sent, [[1, '{"text":"Ã¼"}'], [1, "null"], [1, "0"], [1, '""'], [0, "\0ÿ"]]);
  const floats = Float32Array.of(1.5);
  for (const bytes of [floats, floats.buffer, new DataView(floats.buffer), runInNewContext("new Uint8Array([0, 0, 192, 63])")]) {
    await chat.publish(bytes);
    t.same(node.commands("publish").at(-1)?.publish, { room, payload: Buffer.from(floats.buffer), key: node.commands("publish").at(-1)?.publish?.key }, "bytes of any view");
  }
  await chat.publish(new Uint8Array(floats.buffer, 2, 2));
  t.same([...node.commands("publish").at(-1)?.publish?.payload ?? []], [192, 63], "only those of the view");
  const cycle: { self?: unknown } = {};
  cycle.self = cycle;
  const refused = [undefined, () => 1, 1n, Symbol("s"), cycle, new Map([[1, 2]]), new Set([1]), new Blob(["x"]), Promise.resolve(1), { deep: [new Map()] }, { bytes: Uint8Array.of(1) }];
  for (const data of refused) await t.rejects(chat.publish(data), { code: "bad_request" });
  await t.rejects(client.send("u", new Map()), { code: "bad_request" });
  await t.rejects(client.echo(new Set()), { code: "bad_request" });
});

t.test("publishes wait for the room and keep their order", async (t) => {
  let seq = 0;
  const node = await startScripted(t, ({ publish }) => (publish ? [{ published: { position: { epoch, seq: ++seq }, receivers: 7 } }] : undefined));
  const client = startClient(t, node.url);
  const chat = client.join(room);
  const published = await Promise.all([1, 2, 3].map((data) => chat.publish(data)));
  t.same(published[0], { epoch, seq: 1, receivers: 7, duplicate: false });
  t.same(node.commands("publish").map(({ publish }) => String(publish?.payload)), ["1", "2", "3"]);
  const keys = node.commands("publish").map(({ publish }) => publish?.key ?? "");
  t.equal(new Set(keys).size, 3);
  t.ok(keys.every((key) => /^[0-9a-f]{32}$/.test(key)), "each with a random key of 128 bits");
  await chat.publish(4, { key: "mine", excludeSelf: true });
  t.match(node.commands("publish").at(-1)?.publish, { key: "mine", excludeSelf: true });
});

t.test("publishes without an answer are sent again in the next session, in order, with the same keys", async (t) => {
  let seq = 0;
  const node = await startScripted(t, ({ publish }, session) => {
    if (!publish) return undefined;
    return session.number === 1 ? [] : [{ published: { position: { epoch, seq: ++seq }, duplicate: true } }];
  });
  const client = startClient(t, node.url);
  const chat = client.join(room);
  const published = [1, 2].map((data) => chat.publish(data));
  await until(() => node.commands("publish").length === 2, "both publishes");
  const lost = new Promise((resolve) => client.on("state", resolve));
  node.sessions[0]?.cut();
  await lost;
  published.push(chat.publish(3));
  t.match(await Promise.all(published), [{ seq: 1, duplicate: true }, { seq: 2 }, { seq: 3 }]);
  const sent = node.commands("publish").map(({ publish }) => ({ key: publish?.key, payload: String(publish?.payload) }));
  t.same(sent.map(({ payload }) => payload), ["1", "2", "1", "2", "3"]);
  t.same([sent[2]?.key, sent[3]?.key], [sent[0]?.key, sent[1]?.key]);
});

t.test("a publish is not repeated when the node may have forgotten its key", async (t) => {
  const node = await startScripted(t, ({ publish }) => (publish ? [] : undefined));
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock, keyWindowMs: 1000, random: () => 1, backoff: { baseMs: 2000, capMs: 2000 } });
  const chat = client.join(room);
  const published = chat.publish(1);
  await until(() => node.commands("publish").length === 1, "the publish");
  const lost = new Promise((resolve) => client.on("state", resolve));
  node.sessions[0]?.cut();
  await lost;
  clock.advance(2000);
  await t.rejects(published, { code: "disconnected", text: /it is unknown whether/ });
  t.equal(node.commands("publish").length, 1);
});

t.test("a publish refused for now is tried again, and those behind it stay behind", async (t) => {
  const refused = new Set<string>();
  let seq = 0;
  const node = await startScripted(t, ({ publish }) => {
    const data = String.fromCharCode(...(publish?.payload ?? []));
    if (!publish) return undefined;
    if (data !== "1" || refused.has(publish.key ?? "")) return [{ published: { position: { epoch, seq: ++seq } } }];
    refused.add(publish.key ?? "");
    return [refusal("overloaded", true)];
  });
  const client = startClient(t, node.url, { random: () => 0.5 });
  const chat = client.join(room);
  await chat.joined;
  const first = chat.publish(1);
  await until(() => refused.size === 1, "the refusal");
  await client.ping(); // its answer is behind the refusal
  const [one, two] = await Promise.all([first, chat.publish(2)]);
  t.same([one.seq, two.seq], [1, 2]);
  t.equal(node.commands("publish").length, 3);
});

t.test("a publish that stays refused is given up at its timeout, with what the node said last", async (t) => {
  const node = await startScripted(t, ({ publish }) => (publish ? [refusal("unavailable", true)] : undefined));
  const client = startClient(t, node.url, { commandTimeoutMs: 300 });
  const chat = client.join(room);
  await t.rejects(chat.publish(1), { code: "unavailable", retryable: true });
  t.ok(node.commands("publish").length >= 2, "after more than one try");
});

t.test("a publish is given up at once if trying again is useless, and at its timeout without an answer", async (t) => {
  const node = await startScripted(t, ({ publish }) => {
    if (!publish) return undefined;
    return publish.payload?.[0] === 0x31 ? [refusal("forbidden")] : [];
  });
  const client = startClient(t, node.url, { commandTimeoutMs: 50 });
  const chat = client.join(room);
  await Promise.all([t.rejects(chat.publish(1), { code: "forbidden" }), t.rejects(chat.publish(2), { code: "timeout" })]);
  t.equal(node.commands("publish").length, 2);
});

t.test("more publishes than may wait are refused, and there is room again when some are answered", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url, { waitingPublishesMax: 3 });
  const [a, b] = [client.join("chat:a"), client.join("chat:b")];
  const waiting = [a.publish(1), a.publish(2), b.publish(3)];
  await t.rejects(b.publish(4), { code: "overloaded", retryable: true });
  await Promise.all(waiting);
  await b.publish(5);
  t.equal(node.commands("publish").length, 4);
});

t.test("a publish over the node's limit is refused here: there it would cost the socket", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url);
  const chat = client.join(room);
  await t.rejects(chat.publish(new Uint8Array(65_536)), { code: "too_large" });
  await chat.publish(new Uint8Array(65_400));
  t.equal(node.commands("publish").length, 1);
});

t.test("an excluded publication moves the position without an event", async (t) => {
  const node = await startScripted(t, ({ join, publish }) => {
    if (join) return [joined(1)];
    return publish ? [{ published: { position: { epoch, seq: 2 } } }, live(3)] : undefined;
  });
  const client = startClient(t, node.url);
  const chat = client.join(room);
  const heard = listen(chat);
  await chat.publish(1, { excludeSelf: true });
  await until(() => publicationsIn(heard).length > 0, "the one behind it");
  t.same(publicationsIn(heard), [3]);
  node.sessions[0]?.send({ id: 0, published: { room, position: { epoch, seq: 4 } } });
  await until(() => chat.position?.seq === 4, "the unasked word of another");
  t.equal(node.commands("history").length, 0, "no gap was seen");
});

t.test("a publication that is not the JSON it claims to be is an error, and the room goes on", async (t) => {
  const bad = { ...publication(2), payload: Buffer.from("{") };
  const node = await startScripted(t, ({ join }) => (join ? [joined(1), { id: 0, publication: bad }, live(3)] : undefined));
  const client = startClient(t, node.url);
  const heard = listen(client.join(room));
  await until(() => heard.length === 3, "all three");
  t.same(kinds(heard).slice(1), [["error", "bad_payload"], ["publication", 3]]);
});

t.test("a membership that the node ends is over", async (t) => {
  const node = await startScripted(t);
  const client = startClient(t, node.url);
  const chat = client.join(room);
  const heard = listen(chat);
  await chat.joined;
  node.sessions[0]?.send({ id: 0, left: { room } });
  await until(() => heard.length === 3, "the end");
  t.same(kinds(heard).slice(1), [["error", "not_joined"], ["left", "not_joined"]]);
});

t.test("history is read in pages, both ways", async (t) => {
  const node = await startScripted(t, ({ history }) => {
    if (!history) return undefined;
    return [{ history: { room, position: { epoch, seq: 9 }, publications: [publication(4), publication(5)], more: true } }];
  });
  const client = startClient(t, node.url);
  const chat = client.join(room);
  await chat.joined;
  const page = await chat.history({ since: { epoch, seq: 3 }, limit: 2 });
  t.match(page, { position: { epoch, seq: 9 }, more: true, publications: [{ data: 4, room, replayed: true }, { data: 5 }] });
  await chat.history({ before: { epoch, seq: 3 }, limit: 2 });
  t.match(node.commands("history").map(({ history }) => history), [{ since: { seq: 3 }, limit: 2 }, { before: { seq: 3 } }]);
});

t.test("publish() of the client reaches a room that is not joined, again after a loss of the socket, under the same key", async (t) => {
  const came: ClientFrame["publish"][] = [];
  const node = await startScripted(t, ({ publish }, session) => {
    if (!publish) return undefined;
    came.push(publish);
    if (came.length === 1) session.cut();
    return came.length === 1 ? [] : [{ published: { position: { epoch, seq: 7 }, receivers: 2 } }];
  });
  const client = startClient(t, node.url);
  t.same(await client.publish("open:a", { text: "hi" }, { excludeSelf: true }), { epoch, seq: 7, receivers: 2, duplicate: false });
  t.equal(came.length, 2);
  t.match(came[0], { room: "open:a", excludeSelf: true, key: /./ });
  t.equal(came[1]?.key, came[0]?.key);
});

t.test("publish() of the client rejects with what the node says, and with closed where the client is", async (t) => {
  const node = await startScripted(t, ({ publish }) => (publish ? [refusal("not_joined")] : undefined));
  const client = startClient(t, node.url);
  await t.rejects(client.publish("chat:b", 1), { code: "not_joined" });
  await t.rejects(client.publish("chat:b", 1n), { code: "bad_request" });
  await client.close();
  await t.rejects(client.publish("chat:b", 1), { code: "closed" });
});

t.test("publish() of the client in a room that it is joining waits for it, behind what the room has waiting", async (t) => {
  const seen: string[] = [];
  const node = await startScripted(t, ({ join, publish }) => {
    if (join) return [joined(0)];
    if (!publish) return undefined;
    seen.push(new TextDecoder().decode(publish.payload ?? undefined));
    return [{ published: { position: { epoch, seq: seen.length } } }];
  });
  const client = startClient(t, node.url);
  const first = client.join(room).publish(1);
  const second = client.publish(room, 2);
  t.match(await Promise.all([first, second]), [{ seq: 1 }, { seq: 2 }]);
  t.same(seen, ["1", "2"]);
});
