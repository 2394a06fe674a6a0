/** `exclude` of publish: the session that does not get a publication, and sees no gap for it. */
import t from "tap";
import { ApiError } from "../dist/index.js";
import { startNode } from "./support/node.ts";
import { isReady, listen, startClient } from "./support/sdk.ts";
import { open, type TestSession } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const namespaces = { chat: { durable: true }, live: {}, slow: { flushMs: 50 } } as const;
const node = await startNode(t, { authSecret: secret, allowAnonymous: true, namespaces, reactors: 2, commandsPerSecond: 0 });

/** Seqs of everything the session learnt of a room: publications as they are, positions of those it did not get negative. */
const seqs = ({ events }: TestSession) => events.flatMap(({ id, publication, published }) =>
  publication != null ? [Number(publication.seq)] : published != null && !id ? [-Number(published.position?.seq)] : []);

for (const room of ["chat:a", "live:a", "slow:a"]) {
  for (const json of [false, true]) {
    t.test(`${room}, ${json ? "JSON" : "binary"}: all members but the excluded session get the publication; it gets the position, in order`, async (t) => {
      const [out, ...others] = [await open(node, { json }), await open(node, { json }), await open(node, { json: !json })];
      for (const session of [out, ...others]) await session.join(room);
      const { seq } = await node.publish(room, 1);
      await node.publish(room, 2, { exclude: out.ready!.session! });
      await node.publish(room, 3);
      for (const other of others) await other.waitFor(() => seqs(other).length === 3, "all three");
      await out.waitFor(() => seqs(out).length === 3, "two, and a position");
      t.strictSame(seqs(out), [seq, -(seq + 1), seq + 2]);
      for (const other of others) t.strictSame(seqs(other), [seq, seq + 1, seq + 2]);
      t.match(out.events.find(({ id, published }) => !id && published != null)?.published, { room });
      for (const session of [out, ...others]) await session.bye();
    });
  }
}

t.test("the SDK shows no gap, repairs nothing, and goes on from behind the publication", async (t) => {
  const client = startClient(t, node.url);
  await isReady(client);
  const room = client.join("chat:sdk");
  const heard = listen(room);
  await room.joined;
  await node.publish("chat:sdk", 1);
  const { seq } = await node.publish("chat:sdk", 2, { exclude: client.session!.session });
  await until(() => room.position?.seq === seq, "the position of what it did not get");
  await node.publish("chat:sdk", 3);
  await until(() => room.position?.seq === seq + 1, "the last");
  t.strictSame(heard.slice(1), [{ kind: "publication", what: 1 }, { kind: "publication", what: 3 }]);
});

t.test("history and recovery have the publication, also for the excluded session", async (t) => {
  const out = await open(node);
  const { position } = await out.join("chat:recovery");
  await node.publish("chat:recovery", 1, { exclude: out.ready!.session! });
  t.strictSame((await node.history("chat:recovery")).publications.map(({ data }) => data), [1]);
  const again = await open(node);
  t.strictSame((await again.join("chat:recovery", { recover: position })).missed.map(({ payload }) => payload.toString()), ["1"]);
});

t.test("a session of another room, of another tenant, or none at all: everybody gets the publication, and nobody a position", async (t) => {
  const member = await open(node, { hello: { token: await token({ sub: "ann", tenant: "red" }, secret) } });
  const stranger = await open(node, { hello: { token: await token({ sub: "ann", tenant: "blue" }, secret) } });
  const elsewhere = await open(node);
  for (const session of [member, stranger]) await session.join("chat:t");
  await elsewhere.join("chat:elsewhere");
  for (const one of [stranger.ready!.session!, elsewhere.ready!.session!, "x".repeat(22), "constructor"]) await node.publish("chat:t", 1, { tenant: "red", exclude: one });
  await member.waitFor(() => member.publications.length === 4, "all of them");
  for (const session of [stranger, elsewhere]) {
    await session.request({ ping: {} });
    t.strictSame(seqs(session), []);
  }
});

t.test("what is no identifier of a session is refused, and nothing is published", async (t) => {
  for (const exclude of ["", "=", "a b", "0 1 2", "a\u001fb", "a\n", "ü", "x".repeat(65), 1, null, {}, ["x"]] as string[]) {
    const code = await node.publish("chat:refused", 1, { exclude }).then(() => "ok", (error: unknown) => (error as ApiError).code);
    t.equal(code, "bad_request", JSON.stringify(exclude));
  }
  t.strictSame((await node.history("chat:refused")).publications, []);
  t.equal(await node.send("ann", 1, { exclude: "x" } as object).catch(({ code }: ApiError) => code), "bad_request");
});
