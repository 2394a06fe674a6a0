/** The SDK in rooms into which the application joins its user: they appear, rejoin, and end with a reason. */
import t from "tap";
import { startNode } from "./support/node.ts";
import { startProxy } from "./support/proxy.ts";
import { isReady, listen, startClient, type Heard } from "./support/sdk.ts";
import { MemoryStorage } from "./support/storage.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";
import type { Client, ClientOptions, Room } from "../src/client/index.ts";

const namespaces = { chat: { durable: true }, live: {} } as const;
const options = { reactors: 1, authSecret: secret, namespaces, commandsPerSecond: 0 };
const node = await startNode(t, options);

/** A client of a user whose token allows no room, and what it is told of the rooms that appear. */
async function come(t: Parameters<typeof startClient>[0], sub: string, url = node.url, more: ClientOptions = {}) {
  const client = startClient(t, url, { token: await token({ sub, rooms: {} }, secret), ...more });
  const rooms: Room[] = [];
  const heard = new Map<string, Heard[]>();
  client.on("joined", (room) => {
    rooms.push(room);
    heard.set(room.name, listen(room));
  });
  await isReady(client);
  return { client, rooms, heard };
}

const joined = (recovered: boolean, rejoined: boolean): Heard => ({ kind: "joined", what: { recovered, rejoined } });
const said = (what: unknown): Heard => ({ kind: "publication", what });

t.test("a room appears, has what is published, and ends when the application removes the user", async (t) => {
  const { client, rooms, heard } = await come(t, "ann");
  t.match(await node.join("ann", "chat:a"), { sessions: 1 });
  await node.publish("chat:a", 1);
  await until(() => heard.get("chat:a")?.length === 2, "the room and the publication");
  t.strictSame(heard.get("chat:a"), [joined(false, false), said(1)]);
  await node.leave("ann", "chat:a");
  await until(() => heard.get("chat:a")?.length === 4, "the end");
  t.strictSame(heard.get("chat:a")?.slice(2), [{ kind: "error", what: "removed" }, { kind: "left", what: "removed" }]);
  const refused = await client.join("chat:a").joined.catch(({ code }: { code: string }) => code);
  t.equal(refused, "forbidden", "what the client may do by itself is its token's matter");
  await node.join("ann", "chat:a");
  await until(() => rooms.length === 2, "it to appear again");
});

t.test("after a lost socket the rooms go on where they were, in the session resumed and in a new one", async (t) => {
  const proxy = await startProxy(t, node.port);
  for (const how of ["reconnect", "cut", "a new session"]) {
    const sub = `bob ${how}`;
    await node.join(sub, "chat:b");
    const { client, rooms, heard } = await come(t, sub, proxy.url);
    const seen = () => heard.get("chat:b") ?? [];
    await until(() => seen().length === 1, "the room");
    await node.publish("chat:b", 1);
    await until(() => seen().length === 2, "the first");
    const { session } = client.session!;
    if (how === "reconnect") await node.reconnect(sub);
    else proxy.cut();
    // The node has forgotten the session.
    if (how === "a new session") await node.disconnect(sub);
    await until(() => client.state !== "ready", "the loss");
    await node.publish("chat:b", 2);
    await until(() => seen().some(({ what }) => what === 2), "what was missed");
    await node.publish("chat:b", 3);
    await until(() => seen().some(({ what }) => what === 3), "what is live");
    t.equal(client.session?.session === session, how !== "a new session", how);
    t.strictSame(seen().filter(({ kind }) => kind === "publication" || kind === "gap"), [said(1), said(2), said(3)]);
    t.equal(rooms.length, 1, "it is the same room");
    await client.close();
  }
});

t.test("a page that is loaded again has its rooms, with what was published meanwhile, and not those it was removed from", async (t) => {
  const storage = new MemoryStorage();
  await node.join("cat", "chat:c");
  await node.join("cat", "chat:over");
  const first = await come(t, "cat", node.url, { storage });
  await until(() => first.heard.get("chat:c")?.length === 1 && first.heard.get("chat:over")?.length === 1, "both");
  await node.publish("chat:c", 1);
  await until(() => first.heard.get("chat:c")?.length === 2, "the first");
  await first.client.suspend();
  await node.publish("chat:c", 2);
  await node.leave("cat", "chat:over");
  const second = await come(t, "cat", node.url, { storage });
  t.equal(second.client.session?.resumed, true);
  await until(() => second.heard.get("chat:c")?.some(({ kind }) => kind === "recovered") === true, "what was missed");
  t.strictSame(second.heard.get("chat:c")?.slice(0, 2), [joined(true, true), said(2)]);
  t.strictSame(second.rooms.map(({ name }) => name), ["chat:c"]);
});

t.test("a room from which the user was removed while the client was away ends when it is back", async (t) => {
  const { client, heard } = await come(t, "dan");
  await node.join("dan", "chat:d");
  await until(() => heard.get("chat:d")?.length === 1, "the room");
  await client.suspend();
  await node.leave("dan", "chat:d");
  client.wake();
  await until(() => heard.get("chat:d")?.length === 3, "the end");
  t.strictSame(heard.get("chat:d")?.at(-1), { kind: "left", what: "removed" });
});

t.test("the client joins a room, and so does the application, at the same moment: once, whichever comes first", async (t) => {
  const clients: Client[] = [];
  for (let i = 0; i < 20; i++) {
    const client = startClient(t, node.url, { token: await token({ sub: "eve" }, secret) });
    clients.push(client);
    const room = client.join("live:e");
    const heard = listen(room);
    if (i % 2 === 0) await isReady(client);
    await Promise.all([node.join("eve", "live:e"), room.joined]);
    await until(async () => (await node.room("live:e")).sessions === 1, "one member");
    await node.publish("live:e", i);
    await until(() => heard.some(({ what }) => what === i), "what is published");
    t.strictSame(heard.filter(({ kind }) => kind !== "joined"), [said(i)]);
    await node.leave("eve", "live:e");
    await client.close();
  }
});
