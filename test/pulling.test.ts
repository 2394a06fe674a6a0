/** What a holder of a partition tells NATS of the messages that it has pulled. */
import t from "tap";
import type { Msg, NatsConnection } from "nats";
import { placeInStream } from "../src/broker/nats/history/pulls.ts";
import { Pulling } from "../src/broker/nats/queue/pulling.ts";
import { until } from "./support/until.ts";

function start() {
  const told: string[] = [];
  const connection = { isClosed: () => false, publish: (subject: string) => void (subject.startsWith("$JS.ACK.") && told.push(subject)) } as unknown as NatsConnection;
  const pulling = new Pulling({ connection, stream: "S", consumer: "C", reply: "inbox", exists: async () => true, message() {}, lost() {} });
  const replyOf = (seq: number) => `$JS.ACK.S.C.1.${seq}.${seq}.1700000000000000000.0`;
  const pull = (upTo: number) => {
    for (let seq = 1; seq <= upTo; seq++) {
      const message = { subject: "in", reply: replyOf(seq) } as Msg;
      pulling.onMessage(message, placeInStream(message)!);
    }
  };
  return { told, pulling, pull, replyOf };
}

t.test("acknowledgements are told together, only up to the first message that is open, and at once where they are many", async (t) => {
  const { told, pulling, pull, replyOf } = start();
  pull(4000);
  for (let seq = 1500; seq > 1; seq--) pulling.acknowledge(seq);
  t.strictSame(told, [], "the first is open");
  pulling.acknowledge(1);
  t.strictSame(told.splice(0), [replyOf(1500)], "many at once");
  for (let seq = 1501; seq <= 2524; seq++) pulling.acknowledge(seq);
  t.strictSame(told.splice(0), [replyOf(2524)]);
  for (const seq of [2525, 2526, 2528]) pulling.acknowledge(seq);
  t.strictSame(told, [], "a few wait");
  await until(() => told.length > 0, "NATS to be told");
  t.strictSame(told.splice(0), [replyOf(2526)]);
  pulling.acknowledge(2527);
  pulling.close();
  t.strictSame(told, [replyOf(2528)], "what is left, at the end");
});
