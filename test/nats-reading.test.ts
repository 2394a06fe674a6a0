/** Reads of streams: how many there are at once, and how much of them. */
import type { Msg, NatsConnection } from "nats";
import t from "tap";
import type { Query } from "../src/broker/broker.ts";
import { Arriving } from "../src/broker/nats/wire/arriving.ts";
import { connectNats } from "../src/broker/nats/connection/connection.ts";
import { History } from "../src/broker/nats/history/history.ts";
import { Listening } from "../src/broker/nats/listening.ts";
import { placeInStream, Pulls } from "../src/broker/nats/history/pulls.ts";
import { Refusals } from "../src/broker/nats/refusals.ts";
import { Reader } from "../src/broker/nats/history/reading.ts";
import { Streams, type Stream } from "../src/broker/nats/streams/streams.ts";
import { until } from "./support/until.ts";
import { startNats } from "./support/nats.ts";
import { brokerOptions, durable, startBroker, value } from "./support/natsbroker.ts";

t.test("a message says where it is stored, also where a server split its subject at the wrong @", async (t) => {
  const ack = "$JS.ACK.S.C.1.7.3.1795968200321732416.2";
  const place = { source: "S.C", seq: 7, place: 3, pending: 2, time: 1795968200321732, reply: ack };
  const read = (subject: string, reply: string) => placeInStream({ subject, reply } as Msg);
  t.same(read("flux.in.1.a", ack), { ...place, subject: "flux.in.1.a" });
  t.same(read("a@b", ack), { ...place, subject: "a@b" }, "from the server that the node is connected to");
  t.same(read("b@c", `${ack}@in.a`), { ...place, subject: "in.a@b@c" }, "from another server, split too late");
  t.same(read("in.a@b", "$JS.ACK._.hash.S.C.1.7.3.1795968200321732416.2"), { ...place, subject: "in.a@b", reply: "$JS.ACK._.hash.S.C.1.7.3.1795968200321732416.2" }, "with domain and account");
  t.equal(read("_INBOX.1", ""), null, "a status");
});

t.test("no more reads run than may, whoever asks between the end of one and the turn of the next", async (t) => {
  let running = 0;
  let most = 0;
  const answers: (() => void)[] = [];
  /** Streams with nothing in them, each of which answers when it is let. */
  const connection = {
    // Asked when a read has ended, before its consumer is deleted.
    isClosed: () => (running--, true),
  } as unknown as NatsConnection;
  const empty = { name: "consumer", num_pending: 0, delivered: { consumer_seq: 0 } };
  const request = () => {
    most = Math.max(most, ++running);
    return new Promise((resolve) => answers.push(() => resolve(empty)));
  };
  const reader = new Reader(connection, { request, isReplicated: false } as unknown as Streams, {} as Pulls);
  const reads: Promise<unknown>[] = [];
  const read = () => void reads.push(reader.read({ name: "s" } as Stream, "a", { from: 1, limit: 1 }));
  for (let i = 0; i < 100; i++) read();
  await new Promise(setImmediate);
  for (let i = 0; i < 20; i++) {
    answers.shift()!();
    // In each step between the answer and the next read that waited.
    for (let step = 0; step < 10; step++) {
      await null;
      read();
    }
  }
  for (let last = -1; last !== reads.length || answers.length > 0; last = reads.length) {
    for (const answer of answers.splice(0)) answer();
    await new Promise(setImmediate);
  }
  await Promise.all(reads);
  t.equal(most, 32);
  t.equal(reader.reads, 300);
  t.equal(running, 0);
});

t.test("a replica that is behind ends early: it is asked again until it has what the leader has, and what has gone is not waited for", async (t) => {
  const options = { ...brokerOptions(await startNats(t)), partitions: 1 };
  const a = await startBroker(t, options);
  for (const text of ["1", "2", "3"]) value(await a.publish("x", text));
  const connection = await connectNats(options, "reader");
  t.teardown(() => connection.close());
  const listening = new Listening({ connection, refusals: new Refusals(options.log), log: options.log });
  const streams = new Streams(connection, options, listening, options.log, () => undefined);
  const [stream] = await streams.prepare("test", durable);
  const subject = `${options.prefix}.in.0.test.x`;
  let [newest, asked] = [5, 0];
  // Its only server stands for one with a replica: what the others have it is given after a while.
  const leader = { isReplicated: true, request: streams.request.bind(streams), last: async () => (asked++, newest) } as unknown as Streams;
  const reader = new Reader(connection, leader, new Pulls(listening));
  const reading = reader.read(stream!, subject, { from: 1, limit: 10, upTo: 5 });
  await until(() => asked >= 2, "the leader to be asked again");
  for (const text of ["4", "5"]) value(await a.publish("x", text));
  t.same((await reading).kept.map(({ seq }) => seq), [1, 2, 3, 4, 5]);
  newest = asked = 0;
  t.equal((await reader.read(stream!, subject, { from: 6, limit: 10, upTo: 9 })).kept.length, 0, "what was there has gone");
  t.equal(asked, 1);
  t.equal((await reader.read(stream!, subject, { from: 1, limit: 10, upTo: 5 })).kept.length, 5);
  t.equal(asked, 1, "nobody is asked where nothing is missing");
});

t.test("a page costs about its own bytes to read, however large and many the publications are, and pages lead through all of them", async (t) => {
  const options = { ...brokerOptions(await startNats(t)), partitions: 1 };
  const a = await startBroker(t, options);
  const first = value(await a.publish("x", "first"));
  const large = "x".repeat(60_000);
  for (let i = 0; i < 60; i++) value(await a.publish("x", `${i} ${large}`));
  const connection = await connectNats(options, "reader");
  t.teardown(() => connection.close());
  const listening = new Listening({ connection, refusals: new Refusals(options.log), log: options.log });
  const streams = new Streams(connection, options, listening, options.log, () => undefined);
  const [stream] = await streams.prepare("test", durable);
  const history = new History(new Reader(connection, streams, new Pulls(listening)), streams, new Arriving(Buffer.alloc(8), 100_000, options.log));
  const read = async (query: Pick<Query, "direction" | "position">) => {
    const before = connection.stats().inBytes;
    const page = value(await history.page(stream!, `${options.prefix}.in.0.test.x`, durable, { limit: 256, bytesMax: 32_768, ...query }, null));
    return { ...page, numbers: page.publications.map(({ payload }) => Number(Buffer.from(payload).toString().split(" ")[0])), bytes: connection.stats().inBytes - before };
  };
  for (let position = first, number = 0; number < 60; number++) {
    const page = await read({ direction: "since", position });
    if (number < 3) t.ok(page.bytes < 500_000, `${page.bytes} bytes for a page of one`);
    t.same([page.numbers, page.more], [[number], number < 59]);
    position = { ...first, seq: page.publications[0]!.seq };
  }
  for (const direction of ["newest", "before"] as const) {
    const page = await read({ direction, position: { ...first, seq: first.seq + 60 } });
    t.ok(page.bytes < 500_000, `${page.bytes} bytes for the ${direction}`);
    t.same([page.numbers, page.more], [[direction === "newest" ? 59 : 58], true]);
  }
});
