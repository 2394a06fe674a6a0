/** Sockets that end, and when and where a client comes back. */
import { Failure } from "../failure.ts";
import type { Situation } from "../situation.ts";
import type { Stage } from "../stage.ts";
import type { Peer } from "../peer.ts";
import { epoch, publication, room } from "../words.ts";

const read = "Reconnecting";
/** A timer may fire a little early by the other side's clock. */
const earlyMs = 20;

/** A session in the room, with publication 11 delivered. */
async function begin(stage: Stage, ready = {}): Promise<Peer> {
  const peer = await stage.enter(ready);
  stage.expect(11);
  peer.send({ publication: publication(11) });
  await stage.delivered(peer);
  return peer;
}

/** The session goes on there: 12 arrives. */
async function goOn(stage: Stage, before: Peer, why: string): Promise<Peer> {
  stage.expect(12);
  const peer = await stage.comeBack(before, why, { room, position: { epoch, seq: 12 }, recovered: true, publications: [publication(12)], more: false });
  await stage.delivered(peer);
  return peer;
}

function checkWait(before: Peer, { connectedAt }: Peer, ms: number, what: string): void {
  const waited = connectedAt - before.endedAt;
  if (waited < ms - earlyMs) throw new Failure(`The client connected again after ${Math.round(waited)} ms. ${what}`);
}

function checkPath({ path }: Peer, expected: string, what: string): void {
  if (path !== expected) throw new Failure(`${what} named another address, which ends with ${expected}. The client connected to ${path}.`);
}

export const sessions: readonly Situation[] = [
  {
    name: "drain",
    title: "Waits delayMs of a reconnect, then goes to its url and resumes there.",
    read,
    async play(stage) {
      const peer = await begin(stage);
      const delayMs = 400 * stage.patience;
      peer.send({ reconnect: { reason: "drain", delayMs, url: `${stage.url}/other/ws` } });
      peer.close(3001, "shutdown");
      const next = await goOn(stage, peer, "The node drained. The client did not connect again.");
      checkWait(peer, next, delayMs, `reconnect said delayMs: ${delayMs}.`);
      checkPath(next, "/other/ws", "reconnect");
    },
  },
  {
    name: "moved",
    title: "Follows a reconnect with the reason moved and a close with 3002 to the user's node.",
    read,
    async play(stage) {
      const peer = await begin(stage);
      peer.send({ reconnect: { reason: "moved", delayMs: 0, url: `${stage.url}/owner/ws` } });
      peer.close(3002, "moved");
      const next = await goOn(stage, peer, "The user moved to another node. The client did not connect again.");
      checkPath(next, "/owner/ws", "reconnect");
    },
  },
  {
    name: "wait",
    title: "Comes back after the delay of a reconnect with the reason wait, and a close with 3014.",
    read,
    async play(stage) {
      const peer = await begin(stage);
      const delayMs = 300 * stage.patience;
      peer.send({ reconnect: { reason: "wait", delayMs, url: "" } });
      peer.close(3014, "overloaded");
      const next = await goOn(stage, peer, "No node served the user for a moment. The client did not connect again.");
      checkWait(peer, next, delayMs, `reconnect said delayMs: ${delayMs}.`);
    },
  },
  {
    name: "slow",
    title: "Resumes after a close with 3008 (it read too slowly), and gets what it missed.",
    read,
    async play(stage) {
      const peer = await begin(stage);
      peer.close(3008, "slow_consumer");
      await goOn(stage, peer, "The node closed with 3008. The client did not connect again.");
    },
  },
  {
    name: "proxy",
    title: "Resumes after a close with 1001 that it did not ask for: proxies close so.",
    read: "Resume",
    async play(stage) {
      const peer = await begin(stage);
      peer.close(1001, "");
      await goOn(stage, peer, "A proxy closed the socket with 1001. The client did not connect again.");
    },
  },
  {
    name: "window",
    title: "Comes back at its place in the return window after the loss of a node.",
    read,
    async play(stage) {
      const peer = await begin(stage, { returnWindowMs: 100, returnPlace: 49_152 });
      const windowMs = 800 * stage.patience;
      peer.send({ returnWindow: { windowMs } });
      // Proof that the client has read it.
      stage.expect(12);
      peer.send({ publication: publication(12) });
      await stage.delivered(peer);
      peer.cut();
      const next = await stage.comeBack(peer, "The socket was lost. The client did not connect again.", { room, position: { epoch, seq: 12 }, recovered: true, publications: [], more: false });
      checkWait(peer, next, (windowMs * 3) / 4, `returnWindow said ${windowMs} ms, and its place is three quarters of that: ${(windowMs * 3) / 4} ms.`);
    },
  },
  {
    name: "silence",
    title: "Notices a dead socket: pings after heartbeatMs of silence, and connects again where no answer comes.",
    read: "Heartbeat",
    async play(stage) {
      stage.holds("ping");
      const peer = await begin(stage, { heartbeatMs: 200 });
      await stage.take(peer, "ping", "heartbeatMs is 200, and the node sends nothing. The client did not send ping.");
      await stage.comeBack(peer, "The node did not answer a ping. The client did not drop the socket and connect again.");
    },
  },
  {
    name: "unavailable",
    title: "Tries again when an upgrade is answered with 503.",
    read,
    async play(stage) {
      const peer = await begin(stage);
      stage.refuseUpgrades(2);
      peer.cut();
      await goOn(stage, peer, "Two attempts were answered with 503. The client did not try again.");
    },
  },
  {
    name: "terminal",
    title: "Does not connect again after a close from 3500 to 3999.",
    read,
    async play(stage) {
      const peer = await begin(stage);
      peer.close(3504, "disconnected");
      await stage.staysAway("The node closed with 3504 (the application disconnected this user). The client connected again.");
    },
  },
  {
    name: "denied",
    title: "Does not connect again after a close from 4500 to 4999.",
    read,
    async play(stage) {
      const peer = await begin(stage);
      peer.close(4512, "denied");
      await stage.staysAway("The application closed with 4512. The client connected again.");
    },
  },
  {
    name: "expiring",
    title: "Answers expiring with refresh and a new token, and resumes with the new resume token.",
    read: "Token expiry",
    needs: "refresh",
    async play(stage) {
      const { peer, hello } = await stage.greet("The client did not connect.", { expires: Date.now() + 60_000 });
      const join = await stage.take(peer, "join", `The client did not join ${room}.`);
      peer.reply(join, { joined: { room, position: { epoch, seq: 10 }, recovered: false } });
      peer.send({ expiring: { expires: Date.now() + 60_000 } });
      const refresh = await stage.take(peer, "refresh", "expiring said that the token expires in a minute. The client did not send refresh.");
      checkToken(refresh.refresh?.token, hello.token, "refresh");
      peer.reply(refresh, { refreshed: { expires: Date.now() + 3_600_000, resumeToken: "resume-new" } });
      // Proof that the client has read it.
      stage.expect(11);
      peer.send({ publication: publication(11) });
      await stage.delivered(peer);
      peer.cut();
      const next = await stage.hello("The socket was lost. The client did not connect again.");
      stage.checkResume(next.hello.resume, peer, "resume-new");
    },
  },
  {
    name: "expired",
    title: "Connects again with a new token after a close with 3005.",
    read: "Token expiry",
    needs: "refresh",
    async play(stage) {
      const { peer, hello } = await stage.greet("The client did not connect.", { expires: Date.now() + 60_000 });
      await stage.take(peer, "join", `The client did not join ${room}.`);
      peer.close(3005, "token_expired");
      const next = await stage.hello("The token expired (3005). The client did not connect again.");
      checkToken(next.hello.token, hello.token, "the next hello");
    },
  },
];

function checkToken(token: string | null | undefined, before: string | null | undefined, where: string): void {
  if (!token) throw new Failure(`${where} has no token.`);
  if (token === before) throw new Failure(`${where} has the old token, ${JSON.stringify(token)}. It has expired: ask the application for a new one.`);
}
