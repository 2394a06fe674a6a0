/** Several nodes on one real nats-server are one gateway. */
import t from "tap";
import { startNats } from "./support/nats.ts";
import { startNode } from "./support/node.ts";
import { open, type TestSession } from "./support/session.ts";

const words = (count: number) => Array.from({ length: count }, (_, i) => `"${i}"`);
const textsOf = ({ publications }: TestSession) => publications.map(({ payload }) => payload.toString());

for (const room of ["live:x", "chat:x"]) {
  t.test(`${room}: what is published on one node is delivered on another, in order, and to the publisher too`, async (t) => {
    const nats = await startNats(t);
    const [a, b] = [await startNode(t, { nats: [nats.url] }), await startNode(t, { nats: [nats.url] })];
    const [ann, bob] = [await open(a), await open(b)];
    await ann.join(room);
    await bob.join(room);
    const said = words(100);
    await Promise.all(said.map((word) => ann.publish(room, word)));
    for (const session of [ann, bob]) {
      await session.waitFor(() => session.publications.length === said.length, "every publication");
      t.same(textsOf(session), said);
      const seqs = session.publications.map(({ seq }) => seq);
      t.same(session.publications.slice(1).map(({ prev }) => prev), seqs.slice(0, -1), "each follows the one before");
    }
  });
}
