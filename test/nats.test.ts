/** Several nodes on one real nats-server are one gateway. */
import t from "tap";
import { startNats } from "./support/nats.ts";
import { startNode } from "./support/node.ts";
import { open } from "./support/session.ts";

t.test("what is published on one node is delivered on another, in order, and to the publisher too", async (t) => {
  const nats = await startNats(t);
  const [a, b] = [await startNode(t, { nats: [nats.url] }), await startNode(t, { nats: [nats.url] })];
  const [ann, bob] = [await open(a), await open(b)];
  await ann.join("live:x");
  await bob.join("live:x");
  const words = Array.from({ length: 100 }, (_, i) => `"${i}"`);
  await Promise.all(words.map((word) => ann.publish("live:x", word)));
  for (const session of [ann, bob]) {
    await session.waitFor(() => session.publications.length === words.length, "every publication");
    t.same(session.publications.map(({ payload }) => payload.toString()), words);
    t.same(session.publications.map(({ seq }) => seq), words.map((_, i) => i + 1));
  }
});
