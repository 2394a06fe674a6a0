/** More clients than a node lets in: who is refused how, and who comes first. */
import t from "tap";
import { Admission } from "../src/reactor/transport/admission.ts";
import { PlaceTickets, placeTag } from "../src/auth/placetickets.ts";
import { Tickets } from "../src/auth/tickets.ts";
import { startNode } from "./support/node.ts";
import { sumOf } from "./support/nodeprocess.ts";
import { exchange } from "./support/rawsocket.ts";
import { open, type TestSession } from "./support/session.ts";

const secret = "s".repeat(32);
const placeTickets = new PlaceTickets(secret);
const here = placeTag("gateway-1");

/** The head and the body of what a node answers to an upgrade; it closes the socket where it refuses. */
async function knock(port: number): Promise<{ head: string; body: string }> {
  const request = [
    "GET /ws HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket",
    "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", "",
  ];
  const answer = await exchange(port, request.join("\r\n"), (received) => received.includes("101 Switching"));
  const [head = "", body = ""] = answer.toString().split("\r\n\r\n");
  return { head, body };
}

/** What a node answers that lets nobody in; on a slow machine its bucket may have filled again since it last did. */
async function refusal(port: number): Promise<{ head: string; body: string }> {
  const answer = await knock(port);
  return answer.head.startsWith("HTTP/1.1 101") ? refusal(port) : answer;
}

/** As many sessions as a bucket lets in, opened one after the other until the node refuses. */
async function fill(node: { port: number }, path = "/ws"): Promise<TestSession[]> {
  const sessions: TestSession[] = [];
  for (;;) {
    const session = await open(node, { path }).catch((error: Error) => error);
    if (session instanceof Error) {
      if (!/answered 503/.test(session.message)) throw session;
      return sessions;
    }
    sessions.push(session);
  }
}

t.test("upgrades over the rate are answered 503 with Retry-After, counted, and the socket is closed", async (t) => {
  const node = await startNode(t, { reactors: 1, handshakesPerSecond: 2 });
  const [session] = await fill(node);
  t.ok(session, "somebody was let in");
  const { head, body } = await refusal(node.port);
  t.match(head, /^HTTP\/1\.1 503 Service Unavailable\r\n/);
  t.match(head, /\r\nRetry-After: [1-5](\r\n|$)/i);
  t.match(head, /\r\nConnection: close(\r\n|$)/i);
  t.match(JSON.parse(body), { error: { code: "overloaded", retryable: true } });
  t.ok(sumOf(await node.metrics(), "flux_handshakes_refused_total") >= 2);
  t.equal(sumOf(await node.metrics(), "flux_resumes_refused_total"), 0);
  t.ok((await session!.request({ ping: {} })).pong, "who is in does not notice");
});

t.test("a client that shows the ticket of ready is let in where strangers are refused, and resumes", async (t) => {
  const node = await startNode(t, { reactors: 1, handshakesPerSecond: 6 });
  const sessions = await fill(node);
  const { ticket = "", session, resumeToken } = sessions[0]!.ready ?? {};
  t.match(ticket, /^[A-Za-z0-9_-]{27}$/);
  const forged = Buffer.from(ticket!, "base64url");
  forged[19]! ^= 1;
  await fill(node, `/ws?resume=${forged.toString("base64url")}`);
  await fill(node);
  const back = await open(node, { path: `/ws?resume=${ticket}`, hello: { resume: { session: session!, token: resumeToken!, positions: [] } } });
  t.equal(back.ready?.resumed, true);
  t.not(back.ready?.ticket, ticket, "and gets a new one");
});

t.test("without a limit nobody is refused", async (t) => {
  const node = await startNode(t, { reactors: 1, handshakesPerSecond: 0 });
  await Promise.all(Array.from({ length: 200 }, () => open(node)));
  t.equal(sumOf(await node.metrics(), "flux_handshakes_refused_total"), 0);
});

t.test("half of the bucket is for tickets, each of which counts once", async (t) => {
  const tickets = new Tickets(secret);
  let time = 0;
  const admission = new Admission(100, { tickets, placeTickets, node: here }, () => time);
  const admitted = (show: () => string): number => {
    let count = 0;
    while (admission.admit(show())) count++;
    return count;
  };
  t.equal(admitted(() => ""), 50, "strangers");
  const one = tickets.make();
  t.equal(admission.admit(one), true);
  t.equal(admission.admit(one), false, "the same ticket again");
  t.equal(admitted(() => tickets.make()), 49, "more with tickets");
  t.equal(admission.admit(""), false);
  time += 10;
  t.equal(admission.admit(""), false, "what comes first is for tickets");
  t.equal(admission.admit(one), false, "which are known for a second");
  t.equal(admission.admit(tickets.make()), true);
  time += 2000;
  t.equal(admitted(() => ""), 50, "no more than a bucket, however long nobody came");
  t.equal(admission.admit(one), true, "it was shown long ago");
});

t.test("tickets of the placement come after those of sessions, and before nobody's: in their slot, at their node, once a second", async (t) => {
  let time = 0;
  const admission = new Admission(100, { tickets: new Tickets(secret), placeTickets, node: here }, () => time);
  const admitted = (show: () => string): number => {
    let count = 0;
    while (admission.admit("", show())) count++;
    return count;
  };
  t.equal(admitted(() => ""), 50, "strangers");
  const make = (node: number, slotMs: number, returning: boolean) => placeTickets.make(node, 0, slotMs, 0, returning);
  t.equal(admitted(() => make(here, 6_000, false)), 0, "before their slot, by more than clocks may differ");
  t.equal(admitted(() => make(placeTag("gateway-2"), 0, false)), 0, "of another node");
  t.equal(admitted(() => new PlaceTickets("t".repeat(32)).make(here, 0, 0, 0, false)), 0, "forged");
  const one = make(here, 0, false);
  t.equal(admission.admit("", one), true);
  t.equal(admission.admit("", one), false, "the same ticket again");
  t.equal(admitted(() => make(here, 0, false)), 24, "those that come for the first time leave a quarter");
  t.equal(admitted(() => make(here, 0, true)), 25, "to those that come back");
  time += 2000;
  t.equal(admitted(() => ""), 50);
  t.equal(admission.admit("", one), true, "it was shown long ago");
});

t.test("a reactor with a share of less than one a second lets somebody in", async (t) => {
  const admission = new Admission(0.1, { tickets: new Tickets(secret), placeTickets, node: here });
  t.equal(admission.admit(""), true);
  t.equal(admission.admit(""), false);
});

t.test("only what was made with the secret, whole, and not long ago is a good ticket", async (t) => {
  const tickets = new Tickets(secret);
  const good = tickets.make();
  t.ok(tickets.isGood(good));
  t.ok(new Tickets(secret).isGood(good), "on every node with the secret");
  t.notOk(new Tickets("t".repeat(32)).isGood(good));
  t.equal(new Set(Array.from({ length: 2000 }, () => tickets.make())).size, 2000, "each is another");
  const bytes = Buffer.from(good, "base64url");
  for (let i = 0; i < bytes.length; i++) {
    const changed = Buffer.from(bytes);
    changed[i]! ^= 0x10;
    t.notOk(tickets.isGood(changed.toString("base64url")), `byte ${i} changed`);
  }
  for (const wrong of ["", "x", good.slice(1), `${good}A`, "💥".repeat(13), "!".repeat(27)]) t.notOk(tickets.isGood(wrong), wrong);
  const later = Date.now() + 8 * 24 * 3600 * 1000;
  t.intercept(Date, "now", { value: () => later });
  t.notOk(tickets.isGood(good), "a week later");
});
