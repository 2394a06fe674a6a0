/** Direct messages as an application gets them: once, in order, over losses, reloads and other devices. */
import t from "tap";
import type { Client, ClientOptions, Message } from "../src/client/index.ts";
import { startNode } from "./support/node.ts";
import { startProxy } from "./support/proxy.ts";
import { epoch, publication, startScripted } from "./support/scripted.ts";
import { isReady, ManualClock, numbers, startClient } from "./support/sdk.ts";
import { MemoryStorage } from "./support/storage.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const secret = "a secret of at least thirty-two bytes, for tests";
const node = await startNode(t, { authSecret: secret });
let users = 0;

/** A user of one test, with as many clients as it wants. */
async function user(t: Parameters<typeof startClient>[0]) {
  const name = `user-${++users}`;
  const mine = await token({ sub: name }, secret);
  return { name, connect: (options: ClientOptions = {}, url = node.url) => startClient(t, url, { token: mine, ...options }) };
}

/** Data of the messages, as they are handled. */
function collect(client: Client): unknown[] {
  const data: unknown[] = [];
  client.onMessage((message) => void data.push(message.data));
  return data;
}

t.test("a message reaches every client of its user, with who and when, and is answered with its place", async (t) => {
  const [ada, grace] = [await user(t), await user(t)];
  const [sender, one, two] = [ada.connect(), grace.connect(), grace.connect()];
  const messages: Message[] = [];
  one.onMessage((message) => void messages.push(message));
  const atTwo = collect(two);
  const bytes = Uint8Array.of(0, 255);
  t.match(await sender.send(grace.name, { text: "hi" }), { epoch: String, seq: 1, duplicate: false });
  t.match(await sender.send(grace.name, bytes), { seq: 2 });
  await until(() => messages.length === 2 && atTwo.length === 2, "both at both");
  t.match(messages[0], { sender: ada.name, data: { text: "hi" }, time: Date, position: { seq: 1 } });
  t.same(messages[1]?.data, bytes);
  t.same(atTwo, [{ text: "hi" }, bytes]);
});

t.test("what came while nobody was there is delivered on return, and what is dealt with is not again", async (t) => {
  const [ada, grace] = [await user(t), await user(t)];
  const sender = ada.connect();
  for (const n of numbers(1, 5)) await sender.send(grace.name, n);
  const phone = grace.connect({ device: "phone" });
  const first = collect(phone);
  await until(() => first.length === 5, "the five");
  await phone.close();
  for (const n of numbers(6, 8)) await sender.send(grace.name, n);
  const again = collect(grace.connect({ device: "phone" }));
  await until(() => again.length === 3, "the three since then");
  const laptop = collect(grace.connect({ device: "laptop" }));
  await until(() => laptop.length === 8, "all of them, on another device");
  await sender.send(grace.name, "end");
  await until(() => again.includes("end") && laptop.includes("end"), "the end");
  t.same([first, again, laptop], [numbers(1, 5), [...numbers(6, 8), "end"], [...numbers(1, 8), "end"]]);
});

t.test("sockets may be lost as they like: every message once, in order", async (t) => {
  const [ada, grace] = [await user(t), await user(t)];
  const proxy = await startProxy(t, node.port);
  const sender = ada.connect();
  const messages = collect(grace.connect({ device: "phone" }, proxy.url));
  for (const n of numbers(1, 120)) {
    await sender.send(grace.name, n);
    if (n % 30 === 10) proxy.cut();
  }
  await until(() => messages.length >= 120, "all messages");
  await sender.send(grace.name, "end");
  await until(() => messages.includes("end"), "the end");
  t.same(messages, [...numbers(1, 120), "end"]);
});

t.test("a reload in the middle of a handler: what it had not dealt with comes again, the rest does not", async (t) => {
  const [ada, grace] = [await user(t), await user(t)];
  const sender = ada.connect();
  const storage = new MemoryStorage();
  const before = grace.connect({ device: "phone", storage });
  const started: unknown[] = [];
  before.onMessage(({ data }) => {
    started.push(data);
    return data === 3 ? new Promise(() => {}) : undefined;
  });
  for (const n of numbers(1, 5)) await sender.send(grace.name, n);
  await until(() => started.includes(3), "the third");
  await before.suspend();
  await sender.send(grace.name, 6);
  const after = collect(grace.connect({ device: "phone", storage }));
  await until(() => after.length === 4, "the rest");
  t.same([started, after], [numbers(1, 3), numbers(3, 6)]);
});

t.test("messages are handled one after the other, and acknowledged behind the handler", async (t) => {
  const acks: number[] = [];
  const node = await startScripted(t, ({ join, ack }) => {
    if (ack) acks.push(ack.position?.seq ?? 0);
    if (!join) return undefined;
    const events = numbers(1, 3).map((seq) => ({ id: 0, publication: publication(seq, { room: "@inbox" }) }));
    return [{ joined: { room: "@inbox", position: { epoch, seq: 0 }, recovered: true } }, ...events];
  });
  const client = startClient(t, node.url);
  const events: string[] = [];
  let release = (): void => {};
  client.onMessage(async ({ data }) => {
    events.push(`begin ${String(data)}`);
    if (data === 2) await new Promise<void>((resolve) => (release = resolve));
    events.push(`end ${String(data)}`);
  });
  await until(() => acks.length > 0, "the first acknowledgement");
  t.same([events, acks], [["begin 1", "end 1", "begin 2"], [1]]);
  release();
  await until(() => acks.includes(3), "the last acknowledgement");
  t.same(events.slice(3), ["end 2", "begin 3", "end 3"]);
  node.sessions[0]?.cut();
  await until(() => acks.filter((seq) => seq === 3).length === 2, "the acknowledgement again: the first may have been lost");
  t.throws(() => client.onMessage(() => {}), /already has a handler/);
});

t.test("an application may acknowledge by hand", async (t) => {
  const acks: number[] = [];
  const node = await startScripted(t, ({ join, ack }) => {
    if (ack) acks.push(ack.position?.seq ?? 0);
    const events = numbers(1, 3).map((seq) => ({ id: 0, publication: publication(seq, { room: "@inbox" }) }));
    return join ? [{ joined: { room: "@inbox", position: { epoch, seq: 0 }, recovered: true } }, ...events] : undefined;
  });
  const client = startClient(t, node.url);
  const messages: Message[] = [];
  const stop = client.onMessage((message) => void messages.push(message), { ack: "manual" });
  await until(() => messages.length === 3, "the messages");
  messages[1]?.ack();
  messages[0]?.ack();
  stop();
  await until(() => node.commands("leave").length === 1, "the inbox to be left");
  t.same(acks, [2]);
  t.same(client.inbox.position, { epoch, seq: 2 });
});

/** An inbox with three messages, on a clock that stands. */
async function threeMessages(t: Parameters<typeof startClient>[0]) {
  const acks: number[] = [];
  const node = await startScripted(t, ({ join, ack }) => {
    if (ack) acks.push(ack.position?.seq ?? 0);
    if (!join) return undefined;
    const kept = numbers((join.recover?.seq ?? 0) + 1, 3).map((seq) => publication(seq, { room: "@inbox" }));
    return [{ joined: { room: "@inbox", position: { epoch, seq: 3 }, recovered: true, publications: kept } }];
  });
  const clock = new ManualClock();
  const client = startClient(t, node.url, { clock });
  const errors: string[] = [];
  client.on("error", ({ code, text }) => errors.push(`${code}: ${text}`));
  client.inbox.on("error", ({ code, text }) => errors.push(`${code}: ${text}`));
  /** Lets handlers, and what they cause, have their turn. */
  const pass = async (ms: number) => {
    for (let i = 0; i < 10; i++) (clock.advance(ms / 10), await client.echo("a turn"));
  };
  await isReady(client);
  return { node, client, clock, acks, errors, pass };
}

t.test("a handler that fails gets its message again, and acknowledges it when it succeeds", async (t) => {
  const { client, acks, errors, pass } = await threeMessages(t);
  const seen: unknown[] = [];
  client.onMessage(({ data }) => {
    seen.push(data);
    if (data === 2 && seen.length < 4) throw new Error("of the application");
  });
  await until(() => seen.length === 2, "the first try");
  await pass(400);
  t.same([seen, acks], [[1, 2], [1]], "it is not acknowledged");
  await pass(5000);
  t.same([seen, errors], [[1, 2, 2, 2, 3], []]);
  t.equal(acks.at(-1), 3);
});

t.test("a handler that fails again and again is an error; the next message comes, and nothing is acknowledged from there on", async (t) => {
  const { client, acks, errors, pass, node } = await threeMessages(t);
  const seen: unknown[] = [];
  const handle = ({ data }: Message) => {
    seen.push(data);
    if (data === 2) return Promise.reject(new Error("of the application"));
  };
  const stop = client.onMessage(handle);
  await until(() => seen.length === 2, "the first try");
  await pass(30_000);
  t.same(seen, [1, 2, 2, 2, 2, 2, 3]);
  t.match(errors, [/^handler_failed: .* 2: Error: of the application/]);
  t.same(acks, [1]);
  stop();
  client.onMessage(({ data }) => void seen.push(data));
  await until(() => seen.length === 9, "the same again for another handler");
  t.same(seen.slice(7), [2, 3]);
  await pass(1000);
  t.equal(acks.at(-1), 3);
  t.same(node.commands("join").map(({ join }) => join?.recover?.seq ?? 0), [0, 1]);
});

t.test("a handler that takes the place of one at work does not get its message, unless that fails", async (t) => {
  for (const fails of [false, true]) {
    const { client, acks, errors, pass } = await threeMessages(t);
    const seen: string[] = [];
    let finish = (): void => {};
    const stop = client.onMessage(async ({ data }) => {
      seen.push(`first ${String(data)}`);
      if (data === 2) await new Promise<void>((resolve, reject) => (finish = () => (fails ? reject(new Error("late")) : resolve())));
    });
    await until(() => seen.length === 2, "it to be at work");
    stop();
    client.onMessage(({ data }) => void seen.push(`second ${String(data)}`));
    await pass(10);
    t.same(seen, ["first 1", "first 2"], "one at a time");
    finish();
    await pass(3000);
    t.same(seen.slice(2), fails ? ["second 2", "second 3"] : ["second 3"]);
    t.same([acks.at(-1), errors], [3, []]);
  }
});

t.test("an acknowledgement behind the end of its handler waits until the inbox is joined again", async (t) => {
  const { client, acks, errors, pass } = await threeMessages(t);
  let finish = (): void => {};
  const stop = client.onMessage(() => new Promise<void>((resolve) => (finish = resolve)));
  await pass(10);
  stop();
  finish();
  await pass(1000);
  t.same([acks, errors], [[], []], "the node would refuse it");
  client.onMessage(() => {});
  await pass(1000);
  t.equal(acks.at(-1), 3);
});

t.test("a slow handler holds no more than it may: the rest stays at the node until it is wanted", async (t) => {
  const [ada, grace] = [await user(t), await user(t)];
  const sender = ada.connect();
  const client = grace.connect({ heldPublicationsMax: 10 });
  const seen: unknown[] = [];
  let release = (): void => {};
  const blocked = new Promise<void>((resolve) => (release = resolve));
  client.onMessage(async ({ data }) => {
    await blocked;
    seen.push(data);
  });
  for (const n of numbers(1, 60)) await sender.send(grace.name, n);
  release();
  await until(() => seen.length >= 60, "all of them");
  t.same(seen, numbers(1, 60));
});

t.test("messages the inbox no longer has are a gap", async (t) => {
  const small = await startNode(t, { authSecret: secret, inboxSize: 3, tailPublicationsMax: 3 });
  const [ada, grace] = [await user(t), await user(t)];
  const sender = ada.connect({}, small.url);
  for (const n of numbers(1, 9)) await sender.send(grace.name, n);
  const client = grace.connect({}, small.url);
  const gaps: unknown[] = [];
  client.inbox.on("gap", (gap) => gaps.push(gap));
  const messages = collect(client);
  await until(() => messages.length === 3, "the newest");
  t.same(messages, numbers(7, 9));
  t.equal(gaps.length, 1);
});

t.test("sends made while the node is out of reach arrive when it is back, once and in order, or are refused", async (t) => {
  const [ada, grace] = [await user(t), await user(t)];
  const proxy = await startProxy(t, node.port);
  const sender = ada.connect({ waitingBytesMax: 200 }, proxy.url);
  const messages = collect(grace.connect());
  await isReady(sender);
  proxy.pause("toClient");
  const lost = sender.send(grace.name, 0); // answered, but the answer is lost
  await until(() => messages.length === 1, "the first");
  proxy.refuse(true);
  proxy.cut();
  proxy.resume("toClient");
  await until(() => sender.state === "waiting", "the loss to be noticed");
  const waiting = numbers(1, 20).map((n) => sender.send(grace.name, n));
  await t.rejects(sender.send(grace.name, "x".repeat(300)), { code: "overloaded", retryable: true });
  proxy.refuse(false);
  t.match(await lost, { seq: 1, duplicate: true });
  await Promise.all(waiting);
  await until(() => messages.length === 21, "all of them");
  t.same(messages, numbers(0, 20));
});

t.test("the inbox of another user is another inbox", async (t) => {
  const [ada, grace] = [await user(t), await user(t)];
  const storage = new MemoryStorage();
  const sender = (await user(t)).connect();
  const first = ada.connect({ storage, device: "shared" });
  const toAda = collect(first);
  for (const n of numbers(1, 3)) await sender.send(ada.name, n);
  await until(() => toAda.length === 3, "Ada's");
  await first.suspend();
  await sender.send(grace.name, "for Grace");
  const toGrace = collect(grace.connect({ storage, device: "shared" }));
  await until(() => toGrace.length === 1, "Grace's");
  t.same(toGrace, ["for Grace"]);
});
