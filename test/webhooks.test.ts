/** Webhooks of a node alone: what is told, in which order, under which id. */
import t from "tap";
import { hookSecret } from "./support/hookbackend.ts";
import { startNode } from "./support/node.ts";
import { startReceiver } from "./support/receiver.ts";
import { lose, resumeOf } from "./support/resume.ts";
import { open } from "./support/session.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const receiver = await startReceiver(t);
const node = await startNode(t, {
  reactors: 1, authSecret: secret, presenceGraceMs: 300, sessionTtlMs: 400, hookSecret, webhooksAllowPrivate: true,
  webhooks: {
    all: { url: `${receiver.url}/all` },
    quiet: { url: `${receiver.url}/quiet`, events: ["room.*", "user.offline"], namespaces: ["quiet"] },
  },
  namespaces: { chat: { durable: false }, quiet: { presence: "nobody" } },
});

const come = async (sub: string, tenant = "") => open(node, { hello: { token: await token({ sub, ...(tenant !== "" && { tenant }) }, secret) } });
const saidOf = (part: string, path = "/all") => receiver.said(path).filter((text) => text.includes(part));

t.test("a room, its members, their sessions: told once each, in order for each room and user, signed", async (t) => {
  const ann = await come("ann");
  const bob = await come("bob");
  await ann.join("chat:a");
  await until(() => saidOf("chat:a").length === 2, "ann");
  await bob.join("chat:a");
  await until(() => saidOf("chat:a").length === 3, "bob");
  await bob.request({ leave: { room: "chat:a" } });
  await until(() => saidOf("chat:a").length === 4, "bob to have left, after the grace");
  await ann.bye();
  await until(() => saidOf("chat:a").length === 6 && saidOf(" ann").length === 6, "ann");
  t.strictSame(saidOf("chat:a"), ["room.occupied chat:a", "member.joined chat:a ann", "member.joined chat:a bob", "member.left chat:a bob", "member.left chat:a ann", "room.vacated chat:a"]);
  t.strictSame(saidOf(" ann").filter((text) => !text.includes("chat")), ["user.online ann", "session.connected ann", "session.ended ann", "user.offline ann"]);
  const ids = receiver.taken.filter(({ path }) => path === "/all").map(({ id }) => id);
  t.equal(new Set(ids).size, ids.length, "an id each");
  t.match(receiver.taken.find(({ type }) => type === "member.left"), { id: /^[\w-]{12}-\d+-\d{13}$/, timestamp: /^20..-.*Z$/, data: { room: "chat:a", user: "bob", users: 1, epoch: /^[\w-]{12}$/ } });
  await bob.bye();
});

t.test("a room that somebody left and came back to within the grace, and a session that was resumed: no event", async (t) => {
  const eve = await come("eve");
  await eve.join("chat:b");
  await until(() => saidOf("chat:b").length === 2, "eve");
  await eve.request({ leave: { room: "chat:b" } });
  await eve.join("chat:b");
  const resume = resumeOf(eve);
  await lose(eve);
  const again = await open(node, { hello: { ...resume, token: await token({ sub: "eve" }, secret) } });
  t.equal(again.ready?.resumed, true);
  // A later fact of the room shows that nothing came before it.
  const dan = await come("dan");
  await dan.join("chat:b");
  await until(() => saidOf("chat:b dan").length === 1, "dan");
  t.strictSame(saidOf("chat:b"), ["room.occupied chat:b", "member.joined chat:b eve", "member.joined chat:b dan"]);
  t.strictSame(saidOf("session.connected eve").length, 1);
  await again.bye();
  await dan.bye();
  await until(() => saidOf("session.ended eve").length === 1, "the session to have ended");
});

t.test("a session that is lost and not resumed ends after its time; one that was disconnected, at once", async () => {
  const lost = await come("kim");
  await lose(lost);
  await until(() => saidOf("session.ended kim").length === 1, "it to expire");
  const gone = await come("pat");
  await lose(gone);
  const shut = await come("pat");
  await node.disconnect("pat");
  await shut.closed();
  await until(() => saidOf("session.ended pat").length === 2, "both to have ended");
});

t.test("an endpoint gets its events and namespaces only, also of rooms without presence, and with their tenant", async (t) => {
  const ann = await come("ann", "acme");
  await ann.join("quiet:a");
  await ann.join("chat:z");
  await until(() => saidOf("quiet:a", "/quiet").length === 1, "the room");
  await ann.bye();
  await until(() => saidOf("quiet:a", "/quiet").length === 2, "the end");
  t.strictSame(saidOf("quiet:a", "/quiet"), ["room.occupied quiet:a", "room.vacated quiet:a"]);
  t.ok(receiver.said("/quiet").every((text) => /^room\.(occupied|vacated) quiet:a$|^user\.offline /.test(text)));
  t.equal(receiver.taken.find(({ path, type }) => path === "/quiet" && type === "room.occupied")?.data.tenant, "acme");
  const told = async (endpoint: string, metric: string) => Number(new RegExp(`flux_webhook_${metric}\\{endpoint="${endpoint}"\\} (\\d+)`).exec(await node.metrics())?.[1]);
  t.ok((await told("all", "told_total")) > 0);
  await until(async () => (await told("quiet", "queues")) === 0, "nothing to wait");
});
