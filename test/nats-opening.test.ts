/** A durable room that is opened while NATS is slow to say where the room is, and publications go on. */
import { createInbox } from "nats";
import t, { type Test } from "tap";
import type { Answer, Position, Published } from "../src/broker/broker.ts";
import { Arriving } from "../src/broker/nats/wire/arriving.ts";
import { connectNats } from "../src/broker/nats/connection/connection.ts";
import { DurableRooms } from "../src/broker/nats/durable/durable.ts";
import { Listening } from "../src/broker/nats/listening.ts";
import { Outbox } from "../src/broker/nats/outbox.ts";
import { Pulls } from "../src/broker/nats/history/pulls.ts";
import { Reader } from "../src/broker/nats/history/reading.ts";
import { Refusals } from "../src/broker/nats/refusals.ts";
import { Streams } from "../src/broker/nats/streams/streams.ts";
import { startNats } from "./support/nats.ts";
import { brokerOptions, durable as retention, startBroker, textOf, value } from "./support/natsbroker.ts";
import { until } from "./support/until.ts";

const nats = await startNats(t);
/** So that nothing goes while it is looked for. */
const durable = { ...retention, historySize: 5_000 };
const names = (from: number, count: number) => Array.from({ length: count }, (_, i) => String(from + i));

/** When the stream looks: before what is published meanwhile, and the answer takes its time; or after it. */
type Looks = "before" | "after";

/** Its question for a room's newest sequence is answered when it is let go. */
class SlowReader extends Reader {
  looks: Looks = "before";
  asked = false;
  letGo!: () => void;
  readonly #released = new Promise<void>((resolve) => (this.letGo = resolve));

  override async last(...of: Parameters<Reader["last"]>): Promise<number> {
    if (this.looks === "after") {
      this.asked = true;
      await this.#released;
      return super.last(...of);
    }
    const last = await super.last(...of);
    this.asked = true;
    await this.#released;
    return last;
  }
}

async function startSlow(t: Test, options: ReturnType<typeof brokerOptions>, looks: Looks) {
  const connection = await connectNats(options, "slow");
  const refusals = new Refusals(options.log);
  const listening = new Listening({ connection, refusals, log: options.log });
  const streams = new Streams(connection, options, listening, options.log, () => rooms.resync());
  const limits = { timeoutMs: options.timeoutMs, publicationsMax: 65_536, bytesMax: 64 * 1024 * 1024, refusals, listening };
  const outbox: Outbox = new Outbox(connection, createInbox(), limits, (waiting, ack) => rooms.acknowledged(waiting, ack));
  const reader = new SlowReader(connection, streams, new Pulls(listening));
  const arriving = new Arriving(outbox.node, options.arrivingBytesMax, options.log);
  reader.looks = looks;
  const delivered: { text: string; seq: number; prev: number }[] = [];
  const rooms: DurableRooms = new DurableRooms(
    { ...options, listening, outbox, arriving, streams, reader },
    (_, publication) => void delivered.push({ text: textOf(publication), seq: publication.seq, prev: publication.prev }),
    () => t.fail("the stream is the same"),
  );
  t.teardown(async () => {
    rooms.stop();
    outbox.stop();
    await connection.close();
  });
  return { connection, reader, rooms, delivered };
}

for (const looks of ["before", "after"] as const) {
  // One of its own that does not come back would have the room read: in one case there is none.
  for (const [many, owns, title] of [[20, 1, "some publications, one of them its own,"], [1_500, 0, "more publications than are held"]] as const) {
    t.test(`${title} while the stream's answer is late, which looked ${looks} them: each comes once, in order, from the position on`, async (t) => {
      const options = { ...brokerOptions(nats), partitions: 1 };
      const other = await startBroker(t, options);
      for (const name of names(0, 3)) value(await other.publish("x", name, { retention: durable }));
      const slow = await startSlow(t, options, looks);
      const opening = new Promise<Answer<Position>>((resolve) => slow.rooms.open("x", durable, resolve));
      await until(() => slow.reader.asked, "the stream to be asked");
      let own: Answer<Published> | undefined;
      const draft = { sender: "slow", payload: Buffer.from("own"), format: 0, key: "", origin: "" };
      for (const answer of await Promise.all(names(3, many).map((name) => other.publish("x", name, { retention: durable })))) value(answer);
      if (owns === 1) slow.rooms.publish("x", durable, draft, (answer) => (own = answer));
      const total = 3 + many + owns;
      await until(async () => value(await other.history("x", { direction: "newest", limit: 1 }, durable)).publications[0]?.seq === total, "all to be in the stream");
      // Behind every copy that was on its way.
      await slow.connection.flush();
      t.strictSame(slow.delivered, [], "nothing comes before it is known from where on");
      t.equal(own, undefined);
      slow.reader.letGo();
      const { seq } = value(await opening);
      const meanwhile = [...names(0, 3 + many), ...(owns === 1 ? ["own"] : [])].slice(seq);
      await until(() => slow.delivered.length >= meanwhile.length, "what came meanwhile, without anything that follows");
      for (const name of ["last", "very last"]) value(await other.publish("x", name, { retention: durable }));
      await until(() => slow.delivered.at(-1)?.text === "very last", "what came last");
      t.equal(seq, looks === "before" ? 3 : total);
      t.strictSame(slow.delivered.map(({ text }) => text), [...meanwhile, "last", "very last"]);
      t.strictSame(slow.delivered.map(({ prev }) => prev), [seq, ...slow.delivered.slice(0, -1).map((one) => one.seq)], "without a hole");
      if (owns === 0) return;
      await until(() => own !== undefined, "its own publication to be answered");
      t.equal(value(own!).seq, total);
    });
  }
}

t.test("a room that is closed while the answer is late delivers nothing, and can be opened again", async (t) => {
  const options = { ...brokerOptions(nats), partitions: 1 };
  const other = await startBroker(t, options);
  value(await other.publish("x", "0", { retention: durable }));
  const slow = await startSlow(t, options, "before");
  const opening = new Promise<Answer<Position>>((resolve) => slow.rooms.open("x", durable, resolve));
  await until(() => slow.reader.asked, "the stream to be asked");
  slow.rooms.close("x");
  const again = new Promise<Answer<Position>>((resolve) => slow.rooms.open("x", durable, resolve));
  slow.reader.letGo();
  t.strictSame(await opening, { error: "unavailable" });
  t.equal(value(await again).seq, 1);
  value(await other.publish("x", "1", { retention: durable }));
  await until(() => slow.delivered.length > 0, "what comes then");
  await slow.connection.flush();
  t.strictSame(slow.delivered, [{ text: "1", seq: 2, prev: 1 }]);
});
