/** Tickets of the placement: what a node accepts, and for how long. */
import t from "tap";
import { placeTag, placeTicketMs, PlaceTickets, slotMsMax, userTag } from "../src/auth/placetickets.ts";
import { Tickets } from "../src/auth/tickets.ts";

const secret = "s".repeat(32);
const tickets = new PlaceTickets(secret);

t.test("what was written is read, on every node with the secret", async (t) => {
  const [node, user] = [placeTag("gateway-1"), userTag("acme", "ada")];
  const ticket = tickets.make(node, user, 1_230, 2, true);
  t.match(ticket, /^[A-Za-z0-9_-]{44}$/);
  t.strictSame(new PlaceTickets(secret).read(ticket), { node, user, hops: 2, returning: true, due: true });
  t.equal(tickets.read(tickets.make(node, 0, 0, 1_000, false))?.hops, 255, "hops are bounded");
  t.equal(tickets.read(tickets.make(node, 0, slotMsMax, 0, false))?.due, false, "the longest slot");
});

t.test("each ticket is another one", async (t) => {
  const other = new PlaceTickets(secret);
  const all = Array.from({ length: 1000 }, () => [tickets, other].map((one) => one.make(1, 1, 0, 0, false))).flat();
  t.equal(new Set(all).size, all.length);
});

t.test("a ticket that was changed, cut, spelled otherwise, or made for something else is none", async (t) => {
  const good = tickets.make(placeTag("a"), userTag("", "ada"), 0, 0, false);
  const bytes = Buffer.from(good, "base64url");
  for (let i = 0; i < bytes.length; i++) {
    const changed = Buffer.from(bytes);
    changed[i]! ^= 0x10;
    t.equal(tickets.read(changed.toString("base64url")), null, `byte ${i} changed`);
  }
  t.equal(new PlaceTickets("t".repeat(32)).read(good), null, "another secret");
  for (const wrong of ["", "x", good.slice(1), `${good}A`, `${good.slice(0, -1)} `, good.replaceAll("A", "="), "💥".repeat(22), "!".repeat(44), new Tickets(secret).make()]) t.equal(tickets.read(wrong), null, wrong);
  t.notOk(new Tickets(secret).isGood(good), "nor is it the ticket of a session");
});

t.test("it can be used from its slot on, and for a minute; clocks may differ by 5 s", async (t) => {
  const start = Date.now();
  let now = start;
  t.intercept(Date, "now", { value: () => now });
  const ticket = tickets.make(1, 0, 20_000, 0, false);
  const dueAfter = (ms: number) => ((now = start + ms), tickets.read(ticket)?.due);
  t.equal(dueAfter(0), false);
  t.equal(dueAfter(14_000), false);
  t.equal(dueAfter(15_000), true);
  t.equal(dueAfter(20_000 + placeTicketMs), true);
  t.equal(dueAfter(20_000 + placeTicketMs + 7_000), undefined, "expired");
  t.equal(dueAfter(-4_000), false, "a clock that is behind");
  t.equal(dueAfter(-7_000), false, "made by a node whose clock is far ahead: it lets nobody in");
  t.equal(tickets.read(tickets.make(1, 0, 0, 2, false))?.hops, 2);
  const far = tickets.make(1, 0, 0, 2, false);
  now -= 3_600_000;
  t.match(tickets.read(far), { hops: 2, due: false }, "and its hops count, or two nodes that disagree would send its bearer to and fro");
});

t.test("users of two tenants are two users, and no user is nobody", async (t) => {
  t.not(userTag("a", "ada"), userTag("b", "ada"));
  for (const user of ["", "x", "ädä", "👩‍🚀", "x".repeat(128)]) t.not(userTag("", user), 0);
});
