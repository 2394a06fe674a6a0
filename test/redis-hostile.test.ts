/** Whoever else can write to the same Redis: nodes go on, and say once what they could not read. */
import { createServer, type AddressInfo, type Socket } from "node:net";
import t from "tap";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { startNode } from "./support/node.ts";
import { startProxy } from "./support/proxy.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { open } from "./support/session.ts";
import { token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const redis = await startRedis(t);
const authSecret = "0123456789abcdef0123456789abcdef";

/** What is no message of any channel, and what nearly is. */
const strange = [
  "", "junk", "null", "7", "[]", "{}", '"text"', "\u0000\u0001", "{\"gone\":7}", "{\"gone\":{}}", "{\"dirty\":null}",
  '{"room":"r"}', '{"room":"r","version":"x","users":1,"sessions":1,"joined":[],"left":[],"countsOnly":false}',
  '{"room":"r","version":1,"users":1,"sessions":1,"joined":{"length":1e9},"left":[7],"countsOnly":false}',
  '{"user":"u","online":"yes","lastSeen":{},"version":1}', '{"user":[],"online":true,"lastSeen":0,"version":-1}',
  '{"kind":"up","node":"x","entry":"{}"}', '{"kind":"up","node":"x"}', '{"kind":"left","node":["a"]}', '{"kind":7}',
  '{"from":"x","message":{"kind":"taken","session":[],"generation":"1"}}', '{"from":"x","message":{"kind":"disconnect"}}',
  '{"from":"x","message":{"kind":"drain","windowMs":-1}}', '{"from":"x","message":{"kind":"drain","windowMs":1e300}}',
  '{"from":"x","message":{"kind":"drain","url":"http://elsewhere"}}', '{"from":"x","message":{"kind":"question","question":{"kind":"room"}}}',
  '{"from":"x","message":{"kind":"question","question":{"kind":"eval","code":"1"},"replyTo":{"node":"b","survey":"s"}}}',
  '{"from":"x","message":{"kind":"question","question":{"kind":"health"},"replyTo":{"node":"*","survey":"s"}}}',
  '{"from":"x","message":{"kind":"question","question":{"kind":"user","user":"__proto__"},"replyTo":{"node":"b","survey":"__proto__"}}}',
  '{"from":"x","message":{"kind":"answer","survey":"__proto__","node":"c","answer":{"kind":"user","sessions":1}}}',
  '{"from":"x","message":{"kind":"disconnect","tenant":"","user":"nobody","replyTo":{"node":7}}}', '{"from":"x","message":null}', `"${"x".repeat(1_000_000)}"`,
];

t.test("what is published on the channels by somebody else ends no node and drains none", async (t) => {
  const redisPrefix = freshPrefix();
  const shared = { redis: redis.url, redisPrefix, reactors: 1, authSecret, namespaces: { chat: { presenceEvents: true } }, presenceIntervalMs: 20, nodeHeartbeatMs: 100, nodeDeadMs: 60_000 };
  const [a, b] = [await startNode(t, { ...shared, nodeId: "a" }), await startNode(t, { ...shared, nodeId: "b" })];
  const ann = await open(a, { hello: { token: await token({ sub: "ann" }, authSecret) } });
  const bob = await open(b, { hello: { token: await token({ sub: "bob" }, authSecret) } });
  await ann.join("chat:r");
  const channels = (await redis.client.pubsub("CHANNELS", `${redisPrefix}*`)) as string[];
  t.ok(channels.length >= 4, `presence, events and messages: ${channels.join(" ")}`);
  for (const channel of channels) for (const text of strange) await redis.client.publish(channel, text);
  // They are read in order: what comes last has been read behind them.
  await bob.join("chat:r");
  await ann.waitFor(() => ann.events.some(({ presenceChanged }) => presenceChanged?.joined?.includes("bob")), "bob to be seen");
  t.strictSame(a.nodes().nodes.map(({ id, state }) => `${id} ${state}`).slice(0, 2), ["a up", "b up"]);
  for (const { port } of [a, b]) t.equal((await fetch(`http://127.0.0.1:${port}/ready`)).status, 200);
});

t.test("a right to subscribe that is taken while the node runs is logged, and tried until it is there: it was silent, and the node stayed deaf", async (t) => {
  const lines: string[] = [];
  const log = { info() {}, warn: (_: object, text: string) => void lines.push(text) };
  await redis.client.call("ACL", "SETUSER", "node", "on", ">word", "~*", "&*", "+@all");
  const link = await openRedis({ target: readRedisTarget(`redis://node:word@127.0.0.1:${redis.port}`)!, answerMs: 60_000, log });
  t.teardown(() => link.close());
  const heard: string[] = [];
  await link.subscribe("news", (text) => void heard.push(text));
  await redis.client.call("ACL", "SETUSER", "node", "-subscribe");
  await redis.client.call("CLIENT", "KILL", "USER", "node");
  await until(() => lines.some((line) => /refuses to subscribe/.test(line)), "a line in the log");
  t.notOk(link.hears);
  await redis.client.call("ACL", "SETUSER", "node", "+subscribe");
  await until(() => link.hears, "to be heard again");
  await redis.client.publish("news", "late");
  await until(() => heard.includes("late"), "the news");
  t.equal(lines.filter((line) => /refuses to subscribe/.test(line)).length, 1, "said once");
});

t.test("connections that are lost again before channels are subscribed to end no node: the client's own subscriptions had nobody to catch them", async (t) => {
  let [lets, lost] = [true, 0];
  const sockets = new Set<Socket>();
  const reply = (name: string, channel: string): string => {
    if (name === "info") return "$25\r\nrun_id:0123456789abcdef01\r\n";
    return name === "subscribe" ? `*3\r\n$9\r\nsubscribe\r\n$${channel.length}\r\n${channel}\r\n:1\r\n` : "+OK\r\n";
  };
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("data", (data) => {
      for (const [, name = "", channel = ""] of data.toString().matchAll(/\*\d+\r\n\$\d+\r\n(\w+)\r\n(?:\$\d+\r\n([^\r]*)\r\n)?/g)) {
        if (name.toLowerCase() === "subscribe" && !lets) {
          lost++;
          return void socket.destroy();
        }
        socket.write(reply(name.toLowerCase(), channel));
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const link = await openRedis({ target: readRedisTarget(`redis://127.0.0.1:${port}`)!, answerMs: 60_000, log: { info() {}, warn() {} } });
  t.teardown(() => link.close());
  await link.subscribe("news", () => undefined);
  await until(() => link.hears, "to be heard");
  lets = false;
  for (const socket of sockets) socket.destroy();
  await until(() => lost >= 3, "three connections to be lost at their subscription");
  t.notOk(link.hears);
  lets = true;
  await until(() => link.hears, "to be heard again");
});

t.test("a server that does not answer is not listened to any more either", async (t) => {
  const redis = await startRedis(t);
  const proxy = await startProxy(t, redis.port);
  const link = await openRedis({ target: readRedisTarget(`redis://127.0.0.1:${proxy.port}`)!, answerMs: 200, log: { info() {}, warn() {} } });
  t.teardown(() => link.close());
  let heard = 0;
  await link.subscribe("news", () => heard++);
  const listening = async () => /\bid=(\d+)/.exec(String(await redis.client.client("LIST", "TYPE", "PUBSUB")))?.[1];
  await until(async () => (await listening()) !== undefined, "it to listen");
  const before = await listening();
  proxy.pause("toClient");
  await link.run("get", "x").catch(() => undefined);
  await until(() => !link.up, "it to be noticed");
  proxy.resume("toClient");
  await until(async () => ![before, undefined].includes(await listening()), "another connection that listens");
  await until(async () => (await redis.client.publish("news", "x"), heard > 0), "the news");
  t.pass();
});
