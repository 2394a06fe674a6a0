/** A program that embeds a node can bring a broker of its own. */
import t from "tap";
import { createMemoryBroker } from "../src/broker/memory.ts";
import { ConfigError, createGateway, type Broker, type Deliver } from "../dist/index.js";
import { open } from "./support/session.ts";

const limits = { roomsMax: 100, historyTotalBytesMax: 1e6, keyWindowMs: 1000, keysPerRoomMax: 10 };
const free = { port: 0, adminPort: 0, logLevel: "silent" } as const;

t.test("rooms live in the broker that the program brings, and it is stopped with the node", async (t) => {
  const asked: string[] = [];
  const own = (deliver: Deliver): Broker => {
    const broker = createMemoryBroker(limits, deliver);
    return {
      ...broker,
      publish: (room, ...rest) => {
        asked.push(`publish ${room}`);
        broker.publish(room, ...rest);
      },
      stop: async () => {
        asked.push("stop");
        await broker.stop();
      },
    };
  };
  for (const dataDir of ["", t.testdir()]) {
    const gateway = await createGateway({ ...free, dataDir }, { broker: own });
    const session = await open(gateway);
    await session.join("chat:a");
    const { seq } = await session.publish("chat:a", Buffer.from("x"));
    await session.waitFor(() => session.publications.some((publication) => publication.seq === seq), "the publication");
    await gateway.close();
    t.equal(asked.length, 2);
    t.match(asked.shift(), /^publish .*chat:a$/);
    t.equal(asked.shift(), "stop");
  }
});

t.test("a broker of one's own beside NATS is a contradiction", async (t) => {
  const broker = (deliver: Deliver) => createMemoryBroker(limits, deliver);
  await t.rejects(createGateway({ ...free, nats: ["nats://127.0.0.1:1"], resumeSecret: "r".repeat(32) }, { broker }), new ConfigError(["nats: createGateway was given a broker as well, and rooms need one; remove nats or the broker"]));
});
