/** What leases stand on, in a real NATS: the contract of records and queues, and what only NATS can do to them. */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "nats";
import t, { type Test } from "tap";
import { openBucket, type BucketOptions } from "../src/broker/nats/records/bucket.ts";
import { partitionQueueContract, recordStoreContract, type RecordPlace } from "../src/contracts/leases.ts";
import { brokerOptions, durable, startBroker, type TestBroker } from "./support/natsbroker.ts";
import { startNats } from "./support/nats.ts";
import { until } from "./support/until.ts";

const server = await startNats(t);
const connection = await connect({ servers: server.url });
t.teardown(() => connection.close());
const quiet = { info() {}, warn() {}, error() {} };
const freshPrefix = () => `t${randomBytes(6).toString("hex")}`;

async function recordPlace(_: Test, maxAgeMs: number): Promise<RecordPlace> {
  const options: BucketOptions = { connection, prefix: freshPrefix(), name: "RECORDS", maxAgeMs, replicas: 1, timeoutMs: 2_000, log: quiet };
  const open = () => openBucket(options);
  return {
    open,
    wipe: async () => {
      await connection.request(`$JS.API.STREAM.DELETE.KV_${options.prefix.toUpperCase()}_RECORDS`);
      await open();
    },
    pass: (ms) => sleep(ms),
  };
}

recordStoreContract(t, "NATS", recordPlace);

const queue = { namespace: "_inbox", partitions: 8, streams: 2, partitionOf: (room: string) => Number(room.split("-")[1]) };
const inbox = (partition: number) => `inbox-${partition}`;

async function queuePlace(t: Test) {
  const options = { ...brokerOptions(server), namespaceOf: () => "_inbox", namespaces: new Map([["_inbox", durable]]), queue };
  const first = await startBroker(t, options);
  const open = async (): Promise<TestBroker> => startBroker(t, options);
  return { options, first, open };
}

partitionQueueContract(t, "NATS", async (t) => {
  const { first, open } = await queuePlace(t);
  return {
    open: async () => (await open()).broker.queues!.queue,
    publish: async (partition) => {
      const answer = await first.publish(inbox(partition), "hello");
      if ("error" in answer) throw new Error(answer.error);
      return answer.value.seq;
    },
  };
});

t.test("a room with a queue is delivered by the node that holds its partition, from the queue alone", async (t) => {
  const { first, open } = await queuePlace(t);
  const holder = await open();
  const room = inbox(3);
  t.same(await first.open(room), { error: "unavailable" }, "not here");
  const { queue: consumers, setHolds, deliver, began, ended } = holder.broker.queues!;
  let holds = true;
  setHolds((partition) => holds && partition === 3);
  await consumers.createConsumer(3, 1, 0);
  await first.publish(room, "before");
  const pull = consumers.pull(3, 1, { message: (message) => (deliver(message), pull.acknowledge(message.seq)), lost: t.fail });
  t.teardown(() => pull.close());
  const opened = await holder.open(room);
  t.ok("value" in opened && opened.value.seq > 0, "it begins at what is there");
  for (const text of ["one", "two", "three"]) await first.publish(room, text);
  await first.publish(inbox(5), "another partition of the same stream");
  await until(() => holder.texts(room).length === 3, "all are delivered");
  t.same(holder.texts(room), ["one", "two", "three"]);
  const given = holder.delivered.map(({ publication }) => publication);
  t.ok(given.every(({ prev }, i) => prev === (i === 0 ? ("value" in opened ? opened.value.seq : -1) : given[i - 1]!.seq)), "each names the one before it");
  const own = await holder.publish(room, "its own");
  t.ok("value" in own && own.value.prev === given[2]!.seq);

  holds = false;
  ended(3);
  t.ok("value" in (await holder.publish(room, "while nobody holds it")), "stored all the same");
  t.equal(holder.texts(room).length, 4);
  holds = true;
  began(3);
  await until(() => holder.texts(room).length === 5, "read when it is held again");
  t.same(holder.texts(room).at(-1), "while nobody holds it");
});

t.test("what a queue dropped before it was delivered is a gap", async (t) => {
  const options = { ...brokerOptions(server), namespaceOf: () => "_inbox", namespaces: new Map([["_inbox", { ...durable, historySize: 3 }]]), queue };
  const retention = { ...durable, historySize: 3 };
  const node = await startBroker(t, options);
  const sender = await startBroker(t, options);
  const { queue: consumers, setHolds, deliver } = node.broker.queues!;
  setHolds(() => true);
  const room = inbox(1);
  await consumers.createConsumer(1, 1, 0);
  const opened = await node.open(room, retention);
  const from = "value" in opened ? opened.value.seq : -1;
  for (let i = 0; i < 9; i++) await sender.publish(room, String(i), { retention });
  const pull = consumers.pull(1, 1, { message: (message) => (deliver(message), pull.acknowledge(message.seq)), lost: t.fail });
  t.teardown(() => pull.close());
  await until(() => node.texts(room).at(-1) === "8", "the newest is delivered");
  const [first] = node.delivered;
  t.ok(first!.publication.prev > from, "the first does not pretend to follow what was before");
});

t.test("a bucket that somebody changed is refused with what is wrong", async (t) => {
  const prefix = freshPrefix();
  const options: BucketOptions = { connection, prefix, name: "LEASES", maxAgeMs: 15_000, replicas: 1, timeoutMs: 2_000, log: quiet };
  await openBucket(options);
  await t.rejects(openBucket({ ...options, maxAgeMs: 30_000 }), { name: "NatsProblem", message: /max_age is 15000 ms, and has to be 30000 ms/ });
  await t.rejects(openBucket({ ...options, replicas: 3 }), { message: /--nats-replicas is 3/ });
});

t.test("writes that get no answer are unknown, never a conflict", async (t) => {
  const own = await startNats(t);
  const away = await connect({ servers: own.url, maxReconnectAttempts: -1, reconnectTimeWait: 50 });
  t.teardown(() => away.close());
  const bucket = await openBucket({ connection: away, prefix: freshPrefix(), name: "RECORDS", maxAgeMs: 0, replicas: 1, timeoutMs: 300, log: quiet });
  await own.pause();
  await t.rejects(bucket.create("p.1", "1"));
  await t.rejects(bucket.read("p.1"));
  await t.rejects(bucket.info());
  own.resume();
  await until(async () => (await bucket.read("p.1").catch(() => null)) !== null, "the write was stored all the same");
  t.same(await bucket.create("p.1", "2"), { kind: "conflict" });
});
