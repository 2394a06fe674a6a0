/** Reads of streams: how many there are at once. */
import type { NatsConnection } from "nats";
import t from "tap";
import { Reader } from "../src/broker/natsreading.ts";
import type { Stream, Streams } from "../src/broker/natsstreams.ts";

t.test("no more reads run than may, whoever asks between the end of one and the turn of the next", async (t) => {
  let running = 0;
  let most = 0;
  const answers: (() => void)[] = [];
  /** Streams with nothing in them, each of which answers when it is let. */
  const connection = {
    subscribe() {
      most = Math.max(most, ++running);
      return { unsubscribe: () => void running-- };
    },
    isClosed: () => true,
  } as unknown as NatsConnection;
  const empty = { name: "consumer", num_pending: 0, delivered: { consumer_seq: 0 } };
  const request = () => new Promise((resolve) => answers.push(() => resolve(empty)));
  const reader = new Reader(connection, { request, isReplicated: false } as unknown as Streams);
  const reads: Promise<unknown>[] = [];
  const read = () => void reads.push(reader.read({ name: "s" } as Stream, "a", { from: 1, limit: 1 }));
  for (let i = 0; i < 100; i++) read();
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
