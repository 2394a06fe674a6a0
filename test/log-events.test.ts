/** Every line of the log has a stable name of its event. */
import t from "tap";
import { createLogger } from "../src/platform/log/log.ts";
import { eventOf, events, ownEvents } from "../src/platform/log/events.ts";
import { secretsIn } from "./support/secrets.ts";
import { logCalls } from "../tools/docs/logcalls.ts";

t.test("each call of the log in src has a name: add one to src/platform/log/events.ts", (t) => {
  const unnamed = logCalls().filter(({ text }) => text !== null && !/^[*, :]+$/.test(text) && !/^\*: refused/.test(text) && eventOf(text.replaceAll("*", "x")) === "");
  t.same(unnamed, []);
  t.end();
});

t.test("each name has a call, and is in plain letters", (t) => {
  const texts = logCalls().flatMap(({ text }) => (text === null ? [] : [text.replaceAll("*", "x")]));
  const used = new Set(texts.map(eventOf));
  // Their texts are made elsewhere than in the call.
  for (const name of ["certificate_expires", "nats_publish_refused", "nats_stream_recovered", "nats_api_refused"]) used.add(name);
  t.same(Object.keys(events).filter((name) => !used.has(name)), []);
  for (const name of [...Object.keys(events), ...Object.keys(ownEvents)]) t.match(name, /^[a-z][a-z_]*$/);
  t.end();
});

t.test("the log has the field in front, once, and an explicit one wins", (t) => {
  const lines: Record<string, unknown>[] = [];
  const log = createLogger({ logLevel: "debug", logFormat: "json", nodeId: "n" }, { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
  log.info("drained");
  log.warn({ problem: "x" }, "Redis is unavailable: connected sessions go on");
  log.info({ event: "audit", audit: {} }, "admin port: drain");
  log.info({ left: 1 }, "something new");
  log.error({ err: new Error("no") }, "reactor 3 failed: a text");
  t.match(lines, [{ event: "drain_ended", msg: "drained" }, { event: "redis_unavailable", problem: "x" }, { event: "audit" }, { event: "other", left: 1 }, { event: "reactor_failed", err: { message: "no" } }]);
  t.end();
});

t.test("the secrets that a node is given are known to the helper that starts it, which reads its output", (t) => {
  const flags = ["--admin-key", "an-admin-key-of-32", "--auth-secret=another secret", "--tls-key", "/etc/key.pem", "--redis", "redis://:pass%2Dword@host:1/0", "--webhooks", '{"a":{"secret":"whsec_abcdefgh"}}', "--port", "8080"];
  t.same(secretsIn(flags, { FLUX_NATS_PASSWORD: "hunter2hunter2", PATH: "/usr/bin" }), ["an-admin-key-of-32", "another secret", "pass-word", "whsec_abcdefgh", "hunter2hunter2"]);
  t.end();
});
