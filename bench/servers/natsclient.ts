/**
 * Control for a durable room over two nodes: NATS's own client, without a gateway. As `publisher` it publishes by the
 * clock into the stream, and counts acknowledgements. As `receiver` it gets the stream's copies, and takes their latency.
 *
 * `node natsclient.js <url> <publisher | receiver> <rate> <count> <counted>`. It prints "ready", begins when a line
 * comes on stdin, and prints one line of JSON at the end. Latencies are those of the last `counted`.
 */
import { once } from "node:events";
import { createHistogram } from "node:perf_hooks";
import { connect } from "nats";
import { micros, since, stamp } from "../load/clock.ts";
import { pace } from "../load/pace.ts";
import { binaryPayload, readUint32, writePayload } from "../load/payload.ts";

/** A publisher that sleeps longer reads acknowledgements later. As of the load threads. */
const napMicros = 1000;

const [url = "", role = "", ...numbers] = process.argv.slice(2);
const [rate = 0, count = 0, counted = 0] = numbers.map(Number);
const client = await connect({ servers: url });
const answer = role === "publisher" ? await publishing() : await receiving();
process.stdout.write(`${JSON.stringify(answer)}\n`);
await client.close();
process.exit(0);

async function publishing(): Promise<object> {
  const jetStream = client.jetstream();
  process.stdout.write("ready\n");
  await once(process.stdin, "data");
  const payload = binaryPayload();
  const acks: Promise<unknown>[] = [];
  await pace({ rate, count, startAt: micros() }, napMicros, (n, intendedAt) => {
    writePayload(payload, 0, n + 1, stamp(intendedAt));
    acks.push(jetStream.publish("bench.in.room", payload));
  });
  const answers = await Promise.allSettled(acks);
  return { acknowledged: answers.filter(({ status }) => status === "fulfilled").length };
}

async function receiving(): Promise<object> {
  const latency = createHistogram();
  const all = new Promise<void>((resolve) => {
    let received = 0;
    client.subscribe("bench.out.room", {
      callback(_, { data }) {
        if (++received > count - counted) latency.record(since(readUint32(data, 4), stamp(micros())) || 1);
        if (received === count) resolve();
      },
    });
  });
  await client.flush();
  process.stdout.write("ready\n");
  await all;
  return { p50: latency.percentile(50) / 1000, p99: latency.percentile(99) / 1000 };
}
