/** What a holder of a partition tells NATS of the messages that it has pulled. */
import t from "tap";
import type { Msg, NatsConnection } from "nats";
import { placeInStream } from "../src/broker/nats/history/pulls.ts";
import { Pulling } from "../src/broker/nats/queue/pulling.ts";
import { until } from "./support/until.ts";

function start() {
  const told: string[] = [];
  const [got, lost]: [number[], string[]] = [[], []];
  const connection = { isClosed: () => false, publish: (subject: string) => void (subject.startsWith("$JS.ACK.") && told.push(subject)) } as unknown as NatsConnection;
  const pulling = new Pulling({ connection, stream: "S", consumer: "C", reply: "inbox", exists: async () => true, message: ({ seq }) => got.push(seq), lost: (reason) => lost.push(reason) });
  const replyOf = (seq: number) => `$JS.ACK.S.C.1.${seq}.${seq}.1700000000000000000.0`;
  const pull = (upTo: number) => {
    for (let seq = 1; seq <= upTo; seq++) {
      const message = { subject: "in", reply: replyOf(seq) } as Msg;
      pulling.onMessage(message, placeInStream(message)!);
    }
  };
  /** @param place its number among the messages of the consumer */
  const send = (seq: number, place: number) => {
    const message = { subject: "in", reply: `$JS.ACK.S.C.1.${seq}.${place}.1700000000000000000.0` } as Msg;
    pulling.onMessage(message, placeInStream(message)!);
  };
  return { told, got, lost, pulling, pull, send, replyOf };
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

t.test("what comes again is not handed over again; a message that is skipped is noticed, also the first one, and so is a consumer that knows less than it has sent", async (t) => {
  const again = start();
  again.pull(10);
  // The server was not told in time: it sends them once more, with numbers of their own.
  for (const [i, seq] of [8, 9, 10, 11].entries()) again.send(seq, 11 + i);
  t.strictSame([again.got.slice(-2), again.lost], [[10, 11], []]);
  again.send(13, 16);
  t.strictSame([again.got.length, again.lost], [11, ["messages were lost on the way from NATS"]], "the fifteenth of the consumer did not come");

  const first = start();
  first.send(257, 257);
  t.strictSame([first.got, first.lost], [[], ["messages were lost on the way from NATS"]], "the first request's messages did not come");

  for (const seq of [1, 5, 10]) {
    const begins = start();
    begins.pull(10);
    begins.send(seq, seq);
    begins.send(11, 11);
    t.strictSame([begins.got.length, begins.lost], [10, ["the consumer knows less than it has sent"]], "what is between may be lost");
  }
});
