/** Sessions that outlive their sockets: resumed with rooms and positions, replaced, ended, limited, signed out. */
import { passHub } from "./support/hubclock.ts";
import t from "tap";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { closeWith, lose, resumeOf, words } from "./support/resume.ts";
import { open, seen, type TestSession } from "./support/session.ts";
import { until } from "./support/until.ts";

/** Of all tests that need nothing else. Each says its rooms by its own prefix. */
const node = await startNode(t);

for (const json of [false, true]) {
  const form = json ? "JSON" : "binary";

  t.test(`${form}: a session that lost its socket is resumed with its rooms, and what it missed comes before what is live`, async (t) => {
      const away = await open(node, { json });
    const beside = await open(node);
    const { position } = await away.join("chat:a");
    await away.join("live:b");
    await beside.join("chat:a");
    await beside.publish("chat:a", '"seen"');
    await away.waitFor(() => away.publications.length === 1, "the first publication");
    await lose(away);
    for (let i = 0; i < 40; i++) await beside.publish("chat:a", JSON.stringify(`missed ${i}`));
    const at = { room: "chat:a", position: { epoch: position.epoch, seq: position.seq + 1 } };
    const back = await open(node, { json, hello: resumeOf(away, [at]) });
    t.equal(back.ready?.resumed, true);
    t.equal(back.ready?.session, away.ready?.session);
    t.equal(back.ready?.user, away.ready?.user);
    t.same([...(back.ready?.rooms ?? [])].sort(), ["chat:a", "live:b"]);
    await beside.publish("chat:a", '"live"');
    await back.waitFor(() => back.publications.length === 41, "everything that was missed and what is live");
    t.same(words(back.publications), [...Array.from({ length: 40 }, (_, i) => `missed ${i}`), "live"]);
    t.equal(back.events.find(({ joined }) => joined?.room === "chat:a")?.joined?.recovered, true);
    t.match(await back.request({ join: { room: "live:b" } }), { error: { code: "already_joined" } });
  });
}

t.test("a client that does not say where it was goes on from where it joined", async (t) => {
  const away = await open(node);
  const beside = await open(node);
  await beside.join("chat:a");
  await beside.publish("chat:a", '"before"');
  await away.join("chat:a");
  await beside.publish("chat:a", '"since"');
  await lose(away);
  const back = await open(node, { hello: resumeOf(away) });
  await back.waitFor(() => back.publications.length === 1, "what came since it joined");
  t.same(words(back.publications), ["since"]);
});

t.test("bye ends the session: it cannot be resumed", async (t) => {
  const first = await open(node);
  await first.join("chat:a");
  await first.bye();
  const second = await open(node, { hello: resumeOf(first) });
  t.equal(second.ready?.resumed, false);
  t.not(second.ready?.session, first.ready?.session);
  t.same(second.ready?.rooms ?? [], []);
});

for (const code of [1000, 1001, 4000]) {
  t.test(`a close with ${code} without bye keeps the session: a proxy may have closed it, or a page that comes back`, async (t) => {
    const first = await open(node);
    await first.join("chat:a");
    await closeWith(first, code);
    const second = await open(node, { hello: resumeOf(first) });
    t.equal(second.ready?.resumed, true);
    t.same(second.ready?.rooms, ["chat:a"]);
  });
}

t.test("a bye right behind hello ends the session that hello goes on with, though the socket is closed before the answer", async (t) => {
  const first = await open(node);
  await lose(first);
  const second = await open(node, { hello: null });
  void second.send({ hello: { version: 1, ...resumeOf(first) } }, 1);
  void second.send({ bye: {} });
  await closeWith(second, 1000);
  const third = await open(node, { hello: resumeOf(first) });
  t.equal(third.ready?.resumed, false);
});

t.test("a session is gone after its time", async (t) => {
  const node = await startNode(t, { reactors: 1, sessionTtlMs: 60_000 });
  const [first, second] = [await open(node), await open(node)];
  await Promise.all([lose(first), lose(second)]);
  await until(async () => sumOf(await node.metrics(), "flux_sockets") === 0, "the loss to be noticed");
  t.equal((await open(node, { hello: resumeOf(second) })).ready?.resumed, true, "not before");
  passHub(t, 61_000);
  t.equal((await open(node, { hello: resumeOf(first) })).ready?.resumed, false);
});

t.test("a resume closes the older socket with 3010, and it is the older one that goes", async (t) => {
  const older = await open(node);
  await older.join("chat:a");
  const newer = await open(node, { hello: resumeOf(older) });
  t.match(await older.closed(), { code: 3010 });
  t.equal(newer.ready?.resumed, true);
  await newer.publish("chat:a", '"here"');
  await newer.waitFor(() => newer.publications.length === 1, "its own publication");
});

t.test("ten sockets that resume one session at once leave one of them", async (t) => {
  const first = await open(node);
  await first.join("chat:a");
  await lose(first);
  const all = await Promise.all(Array.from({ length: 10 }, () => open(node, { hello: resumeOf(first) })));
  t.ok(all.every(({ ready }) => ready?.resumed === true));
  const gone = new Set<TestSession>();
  for (const session of all) void session.closed().then(() => gone.add(session), () => {});
  await until(() => gone.size === 9, "nine of them to be closed");
  const [left] = all.filter((session) => !gone.has(session));
  await left!.publish("chat:a", '"here"');
});

t.test("a forged, foreign or garbled resume token begins a new session", async (t) => {
  const other = await startNode(t);
  const victim = await open(node);
  const stranger = await open(node);
  const elsewhere = await open(other);
  const good = victim.ready!.resumeToken!;
  const [body, signature] = good.split(".");
  const forged = Buffer.from(JSON.stringify([victim.ready!.session, "admin", "", Date.now(), 0])).toString("base64url");
  const tokens = [
    `${forged}.${signature}`, `${body}.`, `${body}.${"A".repeat(43)}`, body!, ".", "", "x".repeat(5000), "💥",
    stranger.ready!.resumeToken!, elsewhere.ready!.resumeToken!,
  ];
  for (const token of tokens) {
    const tried = await open(node, { hello: { resume: { session: victim.ready!.session!, token, positions: [] } } });
    t.equal(tried.ready?.resumed, false, token.slice(0, 40));
    t.not(tried.ready?.user, victim.ready!.user);
    await tried.bye();
  }
  t.equal(await victim.request({ ping: {} }).then(({ pong }) => pong != null), true, "and the victim is where it was");
});

t.test("a user may have so many sessions and no more", async (t) => {
  const node = await startNode(t, { sessionsPerUserMax: 2, authSecret: "s".repeat(32) });
  const { token } = await import("./support/tokens.ts");
  const hello = { token: await token({ sub: "ann" }, "s".repeat(32)) };
  const first = await open(node, { hello });
  await open(node, { hello });
  const third = await open(node, { hello: null });
  await third.send({ hello: { version: 1, ...hello } }, 1);
  t.match(await third.closed(), { code: 3507 });
  await first.bye();
  t.ok((await open(node, { hello })).ready);
});

t.test("a user who is disconnected loses every session; one who is signed out cannot use old tokens either", async (t) => {
  const secret = "s".repeat(32);
  const node = await startNode(t, { authSecret: secret });
  const { token } = await import("./support/tokens.ts");
  const old = await token({ sub: "ann", iat: Math.floor(Date.now() / 1000) - 10 }, secret);
  const sessions = [await open(node, { hello: { token: old } }), await open(node, { hello: { token: old } })];
  const bob = await open(node, { hello: { token: await token({ sub: "bob" }, secret) } });
  t.equal((await node.disconnect("ann")).sessions, 2);
  for (const session of sessions) t.match(await session.closed(), { code: 3504 });
  const again = await open(node, { hello: { token: old, ...resumeOf(sessions[0]!) } });
  t.equal(again.ready?.resumed, false, "ended, but her token is still good");

  t.equal((await node.disconnect("ann", { signOut: true })).sessions, 1);
  t.match(await again.closed(), { code: 3504 });
  const refused = await open(node, { hello: null });
  await refused.send({ hello: { version: 1, token: old } }, 1);
  t.match(await refused.closed(), { code: 3504 });
  const resumed = await open(node, { hello: null });
  await resumed.send({ hello: { version: 1, ...resumeOf(again) } }, 1);
  t.match(await resumed.closed(), { code: 3504 });
  const later = await token({ sub: "ann", iat: Math.floor(Date.now() / 1000) + 2 }, secret);
  t.ok((await open(node, { hello: { token: later } })).ready, "a new token lets her in");
  t.ok((await bob.request({ ping: {} })).pong, "and nobody else has noticed");
});

t.test("what is sent behind hello is done in order once the session is there", async (t) => {
  for (const json of [false, true]) {
    const session = await open(node, { json, hello: null });
    await session.send({ hello: { version: 1 } }, 1);
    await session.send({ join: { room: "chat:a" } }, 2);
    await session.send({ publish: { room: "chat:a", payload: Buffer.from("1"), format: 1 } }, 3);
    await session.waitFor(() => session.events.some(({ id, published }) => id === 3 && published != null), "the publication");
    t.same(session.events.filter(({ id }) => id).map(({ id }) => id), [1, 2, 3]);
  }
});

t.test("more than may wait behind hello closes the socket", async (t) => {
  const session = await open(node, { hello: null });
  const { encodeBinary } = await import("./support/wire.ts");
  const frames = [{ hello: { version: 1 } }, ...Array.from({ length: 100 }, () => ({ ping: {} }))];
  await session.sendMessage(Buffer.concat(frames.map((frame, id) => encodeBinary({ id, ...frame }))));
  t.match(await session.closed(), { code: 3013 });
});

t.test("positions of rooms the session was not in are not taken", async (t) => {
  const first = await open(node);
  const { position } = await first.join("chat:a");
  await lose(first);
  const back = await open(node, { hello: resumeOf(first, [{ room: "chat:secret", position: seen(position) }]) });
  t.same(back.ready?.rooms, ["chat:a"]);
});
