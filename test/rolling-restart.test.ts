/** A node that is restarted under load, twice: its clients come back by themselves, and nothing is missing or there twice. */
import t from "tap";
import type { Client, Room } from "../src/client/index.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { startProxy } from "./support/proxy.ts";
import { isReady, startClient } from "./support/sdk.ts";
import { until } from "./support/until.ts";

const clientsMax = 200;
const publishersMax = 5;
const drainMs = 2000;

interface Reader {
  readonly client: Client;
  readonly room: Room;
  readonly seqs: number[];
  readonly texts: Set<string>;
  /** What the node told it when it was sent away, and what else became of its sockets. */
  readonly causes: string[];
  gaps: number;
}

function reader(t: Parameters<typeof startClient>[0], url: string): Reader {
  const client = startClient(t, url, { commandTimeoutMs: 60_000, waitingPublishesMax: 10_000, backoff: { baseMs: 100, capMs: 1000 } });
  const room = client.join("chat:all");
  const one: Reader = { client, room, seqs: [], texts: new Set(), causes: [], gaps: 0 };
  room.on("publication", ({ position, data }) => {
    one.seqs.push(position.seq);
    one.texts.add(data as string);
  });
  room.on("gap", () => one.gaps++);
  client.on("state", ({ state, cause }) => state === "waiting" && cause && one.causes.push(cause.name));
  return one;
}

t.test(`${clientsMax} clients live through two restarts`, async (t) => {
  const flags = ["--data-dir", t.testdir(), "--drain-ms", `${drainMs}ms`, "--reactors", "2", "--namespaces", '{"chat":{"historySize":100000}}'];
  let node: NodeProcess = await startNodeProcess(flags);
  t.teardown(() => node.kill());
  const port = ["--port", String(node.port)];
  const balancer = await startProxy(t, node.port);
  const readers = Array.from({ length: clientsMax }, () => reader(t, balancer.url));
  await Promise.all(readers.map(({ room }) => room.joined));

  const acknowledged: string[] = [];
  let isOver = false;
  const publishing = readers.slice(0, publishersMax).map(async ({ room }, publisher) => {
    for (let n = 0; !isOver; n++) {
      const text = `${publisher}-${n}`;
      await room.publish(text);
      acknowledged.push(text);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  });

  for (const restart of [1, 2]) {
    const before = acknowledged.length;
    await until(() => acknowledged.length > before + 50, "some load");
    await node.stop();
    t.equal(node.ended, 0, `restart ${restart}: the node ended in order`);
    t.same(node.complaints.filter((line) => !line.includes("--sockets-max")), []);
    node = await startNodeProcess([...flags, ...port]);
    await Promise.all(readers.map(({ client }) => isReady(client)));
    t.ok(readers.every(({ client }) => client.session?.resumed === true), "everybody went on with their session");
  }
  isOver = true;
  await Promise.all(publishing);
  const head = (await readers[0]!.room.publish("last")).seq;
  await until(() => readers.every(({ seqs }) => seqs.at(-1) === head), "everybody to have the last one");

  const whole = Array.from({ length: head }, (_, i) => i + 1);
  t.same(readers.filter(({ seqs }) => seqs.length !== head || seqs.some((seq, i) => seq !== whole[i])).length, 0, "each publication once and in order, for everybody");
  t.equal(readers.reduce((sum, { gaps }) => sum + gaps, 0), 0, "nobody was told of a gap");
  t.equal(new Set(acknowledged).size + 1, head, "no publication took place twice");
  t.same(acknowledged.filter((text) => !readers.every(({ texts }) => texts.has(text))), [], "and what was acknowledged is there");
  t.ok(readers.every(({ causes }) => causes.filter((name) => name === "shutdown").length === 2), "everybody was sent away twice, in their turn");
});
