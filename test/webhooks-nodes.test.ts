/** Two nodes on one Redis, with hooks and webhooks, of which one is killed: nobody is asked again, and everybody is told. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import t from "tap";
import { hookSecret, startHookBackend } from "./support/hookbackend.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { startReceiver } from "./support/receiver.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { resumeOf } from "./support/resume.ts";
import { root } from "./support/root.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";

t.test("a node is killed: a session resumes elsewhere with its verdict, unasked; the other is told of, once, by the node that is left", async (t) => {
  const redis = await startRedis(t);
  const receiver = await startReceiver(t);
  const backend = await startHookBackend(t);
  backend.answer("/connect", ({ token }: Record<string, unknown>) => ({ allow: true, user: String(token), rooms: ["chat:general"] }));
  const webhooks = { main: { url: receiver.url, events: ["room.*", "member.*", "session.ended"] } };
  const shared = { reactors: 1, redis: redis.url, redisPrefix: freshPrefix(), allowAnonymous: true, hookSecret, hookConnect: `${backend.url}/connect`, webhooks, webhooksAllowPrivate: true, presenceGraceMs: 1500, sessionTtlMs: 20_000, nodeHeartbeatMs: 500, nodeDeadMs: 5_000, redisAnswerMs: 30_000, hookTimeoutMs: 60_000 } as const;
  const flags = Object.entries(shared).flatMap(([key, value]) => {
    const flag = `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    return value === true ? [flag] : [flag, typeof value === "object" ? JSON.stringify(value) : String(value)];
  });
  const [one, dead] = await Promise.all([startNode(t, { ...shared, nodeId: "one" }), startNodeProcess([...flags, "--node-id", "dead"])]);
  t.teardown(() => dead.kill());

  const ann = await open(dead, { hello: { token: "ann" } });
  const bob = await open(dead, { hello: { token: "bob" } });
  const eve = await open(one, { hello: { token: "eve" } });
  await until(() => receiver.said().filter((text) => text.startsWith("member.joined")).length === 3, "all to have come");
  t.strictSame([ann.ready?.user, eve.ready?.user], ["ann", "eve"]);
  const resume = resumeOf(ann);
  const asked = backend.asked.length;
  await dead.kill();
  await bob.raw.ended;
  const again = await open(one, { hello: resume });
  t.match(again.ready, { resumed: true, user: "ann" }, "the backend's name for her");
  t.equal(backend.asked.length, asked, "nobody was asked");
  await until(() => receiver.said().includes("session.ended bob"), "bob's session to have ended");
  const told = receiver.said().slice(4);
  t.strictSame(told.filter((text) => text.startsWith("member")), ["member.left chat:general bob"]);
  t.strictSame(told.filter((text) => text.startsWith("session")), ["session.ended bob"]);
  t.notOk(receiver.said().some((text) => text.startsWith("room.vacated")));
  const ids = receiver.taken.map(({ id }) => id);
  t.equal(new Set(ids).size, ids.length, "each once");

  // What the endpoint refuses is a dead letter, listed and sent again.
  receiver.answer = 400;
  await eve.bye();
  await until(async () => /flux_webhook_dead_letters_total\{[^}]*\} 2/.test(await one.metrics()), "the end of the session and the member that left to be refused");
  const command = [`${root}/dist/cli/main.js`, "hooks", "failed", "--admin-port", String(one.adminPort)];
  const { stdout } = await promisify(execFile)(process.execPath, command, { env: { ...process.env, NODE_OPTIONS: "" } });
  t.match(stdout, /^main: 2 dead letters\n[^]*member\.left +chat:general eve +it answered with status 400/);
  receiver.answer = 204;
  const admin = (path: string, body?: object) => fetch(`http://127.0.0.1:${one.adminPort}${path}`, body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  t.equal((await admin("/webhooks", { endpoint: "other" })).status, 404);
  t.match(await (await admin("/webhooks", { endpoint: "main" })).json(), { endpoint: "main", told: 2, left: 0, problem: "" });
  t.match(await (await admin("/webhooks?max=1")).json(), { endpoints: [{ endpoint: "main", isDisabled: false, count: 0, letters: [] }] });
  t.ok(receiver.said().includes("member.left chat:general eve"));
  await again.bye();
});
