/** Bytes per second: what a session may send, and what happens to one that sends more, on each transport. */
import t from "tap";
import { startNodeOnHeldClock } from "./support/heldclock.ts";
import { startNode } from "./support/node.ts";
import { openTcp } from "./support/rawtcp.ts";
import { buildFrame, opcodes } from "./support/rawsocket.ts";
import { open, type TestSession } from "./support/session.ts";

/** A burst of 100,000 bytes. */
const options = { reactors: 1, tcpPort: 0, bytesPerSecond: 50_000, frameBytesMax: 16_384, commandsPerSecond: 0 } as const;
const echo = { echo: { payload: Buffer.alloc(9_900) } };
const refusals = ({ events }: TestSession): number => events.filter(({ error }) => error?.code === "rate_limited").length;

t.test("on a WebSocket what comes over the rate is refused, and works again when it has been paid for", async (t) => {
  const { node, clock } = await startNodeOnHeldClock(t, options);
  const session = await open(node);
  const answers = await Promise.all(Array.from({ length: 15 }, () => session.request(echo)));
  const echoed = answers.filter((answer) => answer.echo).length;
  t.equal(echoed, 10, "the burst passes, the rest does not");
  t.ok(answers.slice(0, echoed).every((answer) => answer.echo), "the first ones");
  t.match(answers.at(-1)?.error, { code: "rate_limited", retryable: true, text: "more than 50000 bytes per second" });
  t.equal((await session.request({ ping: {} })).error?.code, "rate_limited");
  clock.pass(1_500);
  t.ok((await session.request({ ping: {} })).pong, "50,000 bytes and a little are paid for");
});

t.test("on a WebSocket that does not stop it is closed 3013", async (t) => {
  const session = await open((await startNodeOnHeldClock(t, options)).node);
  for (let i = 0; i < 40; i++) void session.send(echo, 100 + i);
  t.same(await session.closed(), { code: 3013, reason: "rate_limited" });
  t.ok(refusals(session) > 0, "it was told before");
});

for (const kind of ["ping", "pong"] as const) {
  t.test(`on a WebSocket a client that does not stop to send ${kind}s is told, then closed 3013`, async (t) => {
    const session = await open((await startNodeOnHeldClock(t, options)).node);
    const frame = buildFrame({ opcode: opcodes[kind], payload: Buffer.alloc(100) });
    // Twice a burst and more, in bytes that do not count as a command's.
    for (let i = 0; i < 30; i++) void session.raw.write(Buffer.concat(Array.from({ length: 100 }, () => frame)));
    t.same(await session.closed(), { code: 3013, reason: "rate_limited" });
    t.ok(refusals(session) > 0, "it was told before");
  });
}

t.test("empty pings cost what their header has", async (t) => {
  const session = await open((await startNodeOnHeldClock(t, options)).node);
  const frame = buildFrame({ opcode: opcodes.ping });
  for (let i = 0; i < 50; i++) void session.raw.write(Buffer.concat(Array.from({ length: 1_000 }, () => frame)));
  t.same(await session.closed(), { code: 3013, reason: "rate_limited" });
});

t.test("on TCP what comes over the rate is told once and waits: everything is answered, in its time", async (t) => {
  const node = await startNode(t, options);
  const session = await openTcp(node);
  const started = performance.now();
  const answers = await Promise.all(Array.from({ length: 25 }, () => session.request(echo)));
  t.ok(answers.every((answer) => answer.echo), "nothing is refused");
  // 250,000 bytes less a burst, of which a chunk of 64 KiB is read before it is paid for.
  t.ok(performance.now() - started > 1_500, "but it takes its time");
  t.ok(refusals(session) > 0);
  session.raw.destroy();
});

t.test("on TCP it is told once while it owes", async (t) => {
  const { node } = await startNodeOnHeldClock(t, options);
  const session = await openTcp(node);
  const answers = await Promise.all(Array.from({ length: 15 }, () => session.request(echo)));
  t.ok(answers.every((answer) => answer.echo), "nothing is refused");
  t.equal(refusals(session), 1);
  t.equal(session.events.find(({ error }) => error)?.id ?? 0, 0, "unasked");
  session.raw.destroy();
});

t.test("0 is no limit", async (t) => {
  const session = await open(await startNode(t, { ...options, bytesPerSecond: 0 }));
  const answers = await Promise.all(Array.from({ length: 100 }, () => session.request(echo)));
  t.ok(answers.every((answer) => answer.echo));
});
