/** Users whose sessions the application ends: disconnected, or signed out everywhere. */
import t from "tap";
import { startNode } from "./support/node.ts";
import { lose, resumeOf } from "./support/resume.ts";
import { fate, open } from "./support/session.ts";
import { token } from "./support/tokens.ts";

const secret = "s".repeat(32);
const now = () => Math.floor(Date.now() / 1000);

const node = await startNode(t, { authSecret: secret });

t.test("who is disconnected cannot resume, with a socket or without, and may begin anew", async (t) => {
  const hello = { token: await token({ sub: "ann" }, secret) };
  const here = await open(node, { hello });
  const away = await open(node, { hello });
  const bob = await open(node, { hello: { token: await token({ sub: "bob" }, secret) } });
  const red = await open(node, { hello: { token: await token({ sub: "ann", tenant: "red" }, secret) } });
  await lose(away);
  await lose(bob);
  t.ok((await node.disconnect("ann")).sessions >= 1);
  t.match(await here.closed(), { code: 3504 });
  for (const session of [here, away]) {
    const back = await open(node, { hello: { ...hello, ...resumeOf(session) } });
    t.equal(back.ready?.resumed, false);
    await back.bye();
    t.equal(await fate(node, resumeOf(session)), 3005, "the resume token alone brings nothing back");
  }
  t.ok((await red.request({ ping: {} })).pong, "another tenant's ann is another");
  t.equal((await open(node, { hello: resumeOf(bob) })).ready?.resumed, true, "and so is bob");
  t.equal((await node.disconnect("ann", { tenant: "red" })).sessions, 1);
  t.match(await red.closed(), { code: 3504 });
  t.equal((await node.disconnect("ann", { tenant: "blue" })).sessions, 0);
});

t.test("who is signed out needs a token that was issued later, to begin and to resume", async (t) => {
  const old = await token({ sub: "amy", iat: now() - 100 }, secret);
  const away = await open(node, { hello: { token: old } });
  await lose(away);
  const sameSecond = await token({ sub: "amy" }, secret);
  await node.disconnect("amy", { signOut: true });
  const timeless = await token({ sub: "amy", iat: undefined }, secret);
  t.equal(await fate(node, { token: old }), 3504);
  t.equal(await fate(node, { token: sameSecond }), 3504, "issued in the second of the sign-out: before it, for all one knows");
  t.equal(await fate(node, { token: timeless }), 3504, "and one that does not say when");
  t.equal(await fate(node, resumeOf(away)), 3504);
  t.equal(await fate(node, { token: old, ...resumeOf(away) }), 3504);
  const precise = await token({ sub: "amy", iat: Date.now() / 1000 }, secret);
  const back = await open(node, { hello: { token: precise, ...resumeOf(away) } });
  t.equal(back.ready?.resumed, false, "what was a session before is none, whoever asks");
  t.equal(await fate(node, { token: await token({ sub: "amy", iat: now() + 2 }, secret) }), "ready");
  t.equal(await fate(node, { token: await token({ sub: "ben", iat: now() - 100 }, secret) }), "ready", "others may");
  t.equal(await fate(node, { token: await token({ sub: "amy", tenant: "red", iat: now() - 100 }, secret) }), "ready");
  await lose(back);
  t.equal((await open(node, { hello: resumeOf(back) })).ready?.resumed, true, "and what began after it can be resumed");
});

t.test("a token that does not say when it was issued is good for users who were never signed out", async (t) => {
  t.equal(await fate(node, { token: await token({ sub: "ada", iat: undefined }, secret) }), "ready");
});
