/** Messages between nodes over Redis: what is kept while it is away or refuses them, and what is not. */
import t, { type Test } from "tap";
import { messagesContract } from "../src/contracts/messages.ts";
import { LateDisconnects, type Came } from "../src/hub/sessions/disconnects.ts";
import type { NodeMessage } from "../src/messages/messages.ts";
import { createMemoryMessages } from "../src/messages/memory.ts";
import { createRedisMessages } from "../src/messages/redis.ts";
import { openRedis } from "../src/redis/open.ts";
import type { RedisLink } from "../src/redis/redis.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";

async function startMessages(t: Test, url: string, prefix: string, id: string) {
  const warnings: { fields: object; text: string }[] = [];
  const received: NodeMessage[] = [];
  const log = { info() {}, warn: (fields: object, text: string) => void warnings.push({ fields, text }) };
  const link = await openRedis({ target: readRedisTarget(url)!, answerMs: 1_000, log: { info() {}, warn() {} } });
  const messages = await createRedisMessages({ redis: link, prefix, id, log, refusedAgainMs: 50 }, { received: (message) => void received.push(message) });
  t.teardown(async () => {
    await messages.stop();
    await link.close();
  });
  return { link, messages, warnings, received };
}

messagesContract(t, "memory", () => ({ shared: false, join: () => createMemoryMessages() }));

messagesContract(t, "redis", async (t) => {
  const redis = await startRedis(t);
  const prefix = freshPrefix();
  const links: RedisLink[] = [];
  return {
    shared: true,
    async join(id, events) {
      const link = await openRedis({ target: readRedisTarget(redis.url)!, answerMs: 1_000, log: { info() {}, warn() {} } });
      links.push(link);
      t.teardown(() => link.close());
      return createRedisMessages({ redis: link, prefix, id, log: { warn() {} } }, events);
    },
    async away() {
      await redis.stop();
      await until(() => links.every(({ up }) => !up), "it to be noticed");
      return () => redis.start();
    },
  };
});

const disconnect = (user: string): NodeMessage => ({ kind: "disconnect", tenant: "", user });
const question: NodeMessage = { kind: "question", question: { kind: "health" }, replyTo: { node: "a", survey: "s" } };

t.test("while Redis is away only what has to hold is kept, however much else there is; it is said again, and heard once", async (t) => {
  const redis = await startRedis(t);
  const prefix = freshPrefix();
  const a = await startMessages(t, redis.url, prefix, "a");
  const said: string[] = [];
  const ears = redis.client.duplicate();
  t.teardown(() => ears.disconnect());
  ears.on("message", (_: string, text: string) => void said.push((JSON.parse(text) as { message: NodeMessage }).message.kind));
  await ears.subscribe(`${prefix}node:*`, `${prefix}node:b`);
  // Under way when it goes, and when it has gone.
  redis.pause();
  for (let i = 0; i < 10_001; i++) a.messages.sendAll(question);
  await until(() => !a.link.up, "it to be noticed");
  await redis.stop();
  for (let i = 0; i < 10_001; i++) a.messages.send("b", { kind: "answer", survey: "s", node: "a", answer: { kind: "user", sessions: 1 } });
  a.messages.send("b", { kind: "drain", started: 1 });
  a.messages.sendAll(disconnect("ann"));
  a.messages.send("b", { kind: "taken", session: "s", generation: 1 });
  await redis.start();
  await until(() => said.includes("disconnect"), "it to be said for the first time");
  // Who subscribes later hears what is said again.
  const b = await startMessages(t, redis.url, prefix, "b");
  await until(() => said.filter((kind) => kind === "disconnect").length >= 2 && b.received.length === 2, "it to be said and said again");
  t.strictSame([...new Set(said)].sort(), ["disconnect", "taken"]);
  t.strictSame(b.received.map(({ kind }) => kind).sort(), ["disconnect", "taken"]);
  t.match(b.received.find(({ kind }) => kind === "disconnect"), { agoMs: Number }, "and says how long ago it was");
  t.strictSame(a.warnings, []);
});

t.test("a Redis that lets nobody publish is logged once, with its words, and told again by itself what has to hold", async (t) => {
  const redis = await startRedis(t);
  const prefix = freshPrefix();
  await redis.client.acl("SETUSER", "node", "on", ">pw", "~*", "&*", "+@all", "-publish");
  const a = await startMessages(t, redis.url.replace("redis://", "redis://node:pw@"), prefix, "a");
  const b = await startMessages(t, redis.url, prefix, "b");
  a.messages.sendAll(question);
  await until(() => a.warnings.length === 1, "it to be logged");
  t.match(a.warnings[0], { fields: { problem: /NOPERM/ }, text: /^Redis refuses to publish/ });
  for (const user of ["ann", "bob", "eve"]) a.messages.sendAll(disconnect(user));
  const before = a.link.failures;
  await until(() => a.link.failures >= before + 6, "them to be refused again");
  t.equal(a.warnings.length, 1);
  await redis.client.acl("SETUSER", "node", "+publish");
  await until(() => b.received.length === 3, "them to be said");
  t.strictSame(b.received.map((message) => message.kind === "disconnect" && message.user).sort(), ["ann", "bob", "eve"]);
  for (const message of b.received) t.ok(message.kind === "disconnect" && message.agoMs! >= 50, "they were refused before");
  await redis.client.acl("SETUSER", "node", "-publish");
  a.messages.sendAll(question);
  await until(() => a.warnings.length === 2, "another outage to be logged");
});

t.test("a disconnect that is said late ends the sessions that there were then, of that user", async (t) => {
  const here: Came[] = [];
  const ended: string[] = [];
  const late = new LateDisconnects({
    here: () => here,
    end: (sessions) => {
      for (const session of sessions) {
        here.splice(here.indexOf(session), 1);
        ended.push(session.id);
      }
    },
  });
  const begin = (userKey: string, id: string) => {
    here.push({ id, socketId: id, userKey, issuedAt: 0, cameAt: performance.now() });
  };
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  begin("ann", "before");
  begin("bob", "another");
  const disconnectedAt = performance.now();
  await until(() => performance.now() > disconnectedAt + 300, "time to go by");
  begin("ann", "since");
  // Said again and again, and whatever is said of an earlier time with it.
  for (const earlierMs of [0, 0, 60_000]) late.disconnect("ann", performance.now() - disconnectedAt + earlierMs);
  await turn();
  t.strictSame(ended, ["before"]);
  late.disconnect("ann", performance.now() - disconnectedAt);
  late.disconnect("bob", 3_600_000);
  await turn();
  t.strictSame(ended, ["before"], "longer ago than there has been anybody");
  late.disconnect("ann", 0);
  await turn();
  t.strictSame(ended, ["before", "since"]);
});
