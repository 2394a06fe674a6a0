/** The HTTP API about users and rooms: who is there, joining and removing, disconnecting; and the audit line of each. */
import t from "tap";
import { ask } from "./support/api.ts";
import { startNode } from "./support/node.ts";
import { none, only } from "./support/only.ts";
import { open } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";

const node = await startNode(t, { reactors: 1, authSecret: secret, presenceGraceMs: 0, namespaces: { chat: { durable: true, presence: "members" }, hidden: { presence: "nobody" } } });
const port = node.apiPort;
const come = async (user: string, device = "") => open(node, { hello: { token: await token({ sub: user }, secret), device } });

t.test("rooms and members are listed in pages, counted on all nodes", async (t) => {
  const sessions = [await come("ann"), await come("ann"), await come("bob")];
  for (const session of sessions) await session.join("chat:a");
  await sessions[2]!.join("chat:b");
  await sessions[2]!.join("hidden:c");
  t.match(await ask(port, "/rooms?prefix=chat:"), { status: 200, json: { rooms: only({ room: "chat:a", sessions: 3 }, { room: "chat:b", sessions: 1 }), next: null, complete: true, unanswered: none } });
  const first = await ask(port, "/rooms?prefix=chat:&limit=1");
  t.match(first.json, { rooms: only({ room: "chat:a" }), next: String });
  t.match((await ask(port, `/rooms?prefix=chat:&limit=1000000&cursor=${encodeURIComponent(first.json!.next as string)}`)).json, { rooms: only({ room: "chat:b" }), next: null });
  t.match((await ask(port, "/rooms/chat:a")).json, { room: "chat:a", sessions: 3, users: 2, complete: true });
  t.match((await ask(port, "/rooms/hidden:c")).json, { sessions: 1, users: null });
  t.match((await ask(port, "/rooms/chat:a/members")).json, { users: 2, sessions: 3, members: only({ user: "ann", sessions: 2 }, { user: "bob", sessions: 1 }), next: null });
  t.match((await ask(port, "/rooms/chat:a/members?limit=0")).json, { users: 2, members: none });
  const page = await ask(port, "/rooms/chat:a/members?limit=1");
  t.match((await ask(port, `/rooms/chat:a/members?after=${encodeURIComponent(page.json!.next as string)}`)).json, { members: only({ user: "bob" }), next: null });
  for (const [path, status, code] of [
    ["/rooms?limit=0", 400, "bad_request"], ["/rooms?cursor=%00", 400, "bad_request"], ["/rooms/nowhere:a", 404, "unknown_namespace"], ["/rooms/hidden:c/members", 403, "forbidden"],
    ["/rooms/chat:a/members?limit=-1", 400, "bad_request"], ["/users/a%00b", 400, "bad_request"], ["/users/", 400, "bad_request"],
  ] as const) t.match(await ask(port, path), { status, json: { code } }, path);
  for (const session of sessions) await session.bye();
});

t.test("the application joins a user into a room and removes the user again", async (t) => {
  const phone = await come("eve", "phone");
  t.match(await ask(port, "/users/eve/rooms/chat:j", { method: "PUT" }), { status: 200, json: { sessions: 1, refused: 0, complete: true } });
  t.match((await ask(port, "/users/eve")).json, { user: "eve", sessions: only({ device: "phone", node: node.config.nodeId, session: String, rooms: 1 }), joined: only("chat:j"), complete: true });
  t.match((await ask(port, "/rooms/chat:j/publications", { body: { data: "hi" } })).json, { receivers: 1 });
  await phone.waitFor(() => phone.publications.length === 1, "the publication");
  t.match(await ask(port, "/users/eve/rooms/chat:j", { method: "DELETE" }), { status: 200, json: { sessions: 1, complete: true } });
  t.match((await ask(port, "/users/eve")).json, { joined: none });
  t.match(await ask(port, "/users/eve/rooms/nowhere:j", { method: "PUT" }), { status: 404, json: { code: "unknown_namespace" } });
  await phone.bye();
});

t.test("a session that shows the publication already is left out", async (t) => {
  const [phone, laptop] = [await come("kim", "phone"), await come("kim", "laptop")];
  for (const session of [phone, laptop]) await session.join("chat:x");
  const { sessions } = (await ask(port, "/users/kim")).json as { sessions: { session: string; device: string }[] };
  const exclude = sessions.find(({ device }) => device === "phone")!.session;
  t.equal((await ask(port, "/rooms/chat:x/publications", { body: { data: 1, exclude } })).status, 201);
  await ask(port, "/rooms/chat:x/publications", { body: { data: 2 } });
  await phone.waitFor(() => phone.publications.length === 1, "the second publication");
  await laptop.waitFor(() => laptop.publications.length === 2, "both publications");
  t.equal(phone.publications[0]!.payload.toString(), "2");
  t.match(await ask(port, "/rooms/chat:x/publications", { body: { data: 1, exclude: "a b" } }), { status: 400, json: { detail: /^exclude: / } });
  for (const session of [phone, laptop]) await session.bye();
});

t.test("a client cannot use up a key of the application", async (t) => {
  const mallory = await come("mallory");
  await mallory.join("chat:k");
  const publish = (data: unknown, key: string) => ask(port, "/rooms/chat:k/publications", { body: { data, key } });
  await mallory.publish("chat:k", '"mine"', { key: "order-17" });
  t.match(await publish("paid", "order-17"), { status: 201, json: { duplicate: false } });
  t.match(await publish("paid", "order-17"), { status: 201, json: { duplicate: true } });
  t.match(await node.publish("chat:k", "paid", { key: "order-17" }), { duplicate: true }, "the application is one, over HTTP and embedded");
  t.match(await mallory.request({ publish: { room: "chat:k", payload: Buffer.from("1"), format: 1, key: "\u001forder-18" } }), { error: { code: "bad_request", text: /^key: may not begin with a control character/ } });
  t.match(await publish("paid", "order-18"), { status: 201, json: { duplicate: false } });
  await mallory.bye();
});

t.test("a user is disconnected, or made to connect again", async (t) => {
  const ann = await come("ann");
  t.match(await ask(port, "/users/ann/reconnect", { body: { url: "http://evil.example" } }), { status: 400 });
  t.match(await ask(port, "/users/ann/reconnect", { body: {} }), { status: 200, json: { sessions: 1, complete: true } });
  t.match(await ann.closed(), { code: 3001 });
  const again = await come("ann");
  t.match(await ask(port, "/users/ann/sessions?signOut=true", { method: "DELETE" }), { status: 200, json: { complete: true, unanswered: none } });
  t.match(await again.closed(), { code: 3504 });
  t.match(await ask(port, "/users/ann/sessions?signOut=maybe", { method: "DELETE" }), { status: 400, json: { detail: /^signOut: / } });
});
