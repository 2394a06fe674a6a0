/** Who is pinged and who is closed for silence, by ticks that the test counts. */
import t from "tap";
import { resolveConfig } from "../src/config/config.ts";
import { Counters, createCounters } from "../src/link/counters.ts";
import type { Context } from "../src/reactor/context.ts";
import { Heartbeat } from "../src/reactor/session/heartbeat.ts";
import { createSession, ReactorSessions, type Session } from "../src/reactor/session/session.ts";
import { Audiences } from "../src/reactor/transport/socket.ts";
import { Together } from "../src/reactor/together.ts";

interface Silent {
  readonly session: Session;
  /** What was done to its socket, in order. */
  readonly done: string[];
}

/** A heartbeat that beats when told to, of 100 ms, and sessions in the states that are named. */
function start(options: { heartbeatMs?: number; heartbeatGraceMs?: number; handshakeTimeoutMs?: number }, ...states: Session["state"][]) {
  const config = resolveConfig({ options: { heartbeatMs: 400, heartbeatGraceMs: 800, handshakeTimeoutMs: 400, ...options } }).config;
  const counters = new Counters(createCounters());
  const context = { config, counters, sessions: new ReactorSessions(counters), refusals: { tell() {} }, together: new Together(() => {}) } as unknown as Context;
  let beat = () => {};
  let everyMs = 0;
  const heartbeat = new Heartbeat(context, (ms, run) => {
    [everyMs, beat] = [ms, run];
    return () => {};
  });
  heartbeat.start();
  const all = states.map((state): Silent => {
    const done: string[] = [];
    const session = createSession(new Audiences(), 0, "", "");
    session.socket = { end: (code: number, reason: string) => done.push(`end ${code} ${reason}`), close: () => done.push("close"), ping: () => done.push("ping") } as unknown as Session["socket"];
    context.sessions.add(session, heartbeat.tick);
    context.sessions.setState(session, state);
    return { session, done };
  });
  const ticks = (count: number) => {
    for (let i = 0; i < count; i++) beat();
  };
  return { heartbeat, all, ticks, everyMs: () => everyMs };
}

t.test("a session from which nothing comes is pinged once, and closed 3012 when the grace is over", async (t) => {
  const { all: [deaf], ticks, everyMs } = start({}, "ready");
  t.equal(everyMs(), 100);
  ticks(3);
  t.same(deaf!.done, []);
  ticks(1);
  t.same(deaf!.done, ["ping"]);
  ticks(8);
  t.same(deaf!.done, ["ping"], "400 ms and 800 ms, and one tick, since it may have been heard at the end of one");
  ticks(1);
  t.same(deaf!.done, ["ping", "end 3012 no_heartbeat"]);
});

t.test("one that answers every ping stays, and is pinged after every silence", async (t) => {
  const { heartbeat, all: [answering], ticks } = start({}, "ready");
  for (let pings = 1; pings <= 20; pings++) {
    ticks(4);
    t.equal(answering!.done.length, pings);
    heartbeat.heard(answering!.session);
  }
  t.ok(answering!.done.every((what) => what === "ping"));
});

t.test("one that answers in the last moment of its grace stays", async (t) => {
  const { heartbeat, all: [late], ticks } = start({}, "ready");
  ticks(12);
  heartbeat.heard(late!.session);
  ticks(12);
  t.same(late!.done, ["ping", "ping"]);
});

t.test("one that talks is not pinged", async (t) => {
  const { heartbeat, all: [talking], ticks } = start({}, "ready");
  for (let i = 0; i < 50; i++) {
    ticks(3);
    heartbeat.heard(talking!.session);
  }
  t.same(talking!.done, []);
});

t.test("one that does not say hello is closed 3000 in its time, and not for its silence", async (t) => {
  const { all: [patient], ticks } = start({ handshakeTimeoutMs: 20_000 }, "handshake");
  ticks(200);
  t.same(patient!.done, []);
  ticks(1);
  t.same(patient!.done, ["end 3000 handshake_timeout"]);
});

t.test("one that is closing and takes nothing is dropped when a heartbeat would have ended it", async (t) => {
  const { all: [stuck], ticks } = start({}, "closing");
  ticks(12);
  t.same(stuck!.done, []);
  ticks(1);
  t.same(stuck!.done, ["close"]);
});

t.test("ticks are never longer than a second, nor shorter than 10 ms", async (t) => {
  t.equal(start({ heartbeatMs: 20 * 60_000, heartbeatGraceMs: 60_000, handshakeTimeoutMs: 60_000 }).everyMs(), 1_000);
  t.equal(start({ heartbeatMs: 1, heartbeatGraceMs: 1, handshakeTimeoutMs: 1 }).everyMs(), 10);
});
