/**
 * Thousands of users connect while the table changes, and the nodes learn of it one after the other. The code of the
 * reactors that judges a hello, sends on, and moves sessions, over views, tickets and slots as on a node; sockets and
 * clock are the test's. placement-moved.test.ts has whole nodes.
 */
import t from "tap";
import { PlaceTickets, placeTag } from "../src/auth/placetickets.ts";
import { anonymous } from "../src/auth/grants.ts";
import { Counters, createCounters } from "../src/link/counters.ts";
import { xxh32 } from "../src/placement/hash.ts";
import { ownersOf } from "../src/placement/ring.ts";
import { createPlacement, PlacementWriter, SharedPlacement } from "../src/placement/shared.ts";
import { Encoder } from "../src/protocol/formats/encoder.ts";
import { Together } from "../src/reactor/together.ts";
import { Targets } from "../src/reactor/locate/targets.ts";
import type { Reactor } from "../src/reactor/reactor.ts";
import { Moves } from "../src/reactor/session/moves.ts";
import { place } from "../src/reactor/session/place.ts";
import type { Session } from "../src/reactor/session/session.ts";

const partitions = 1024;
const users = 6_000;
const hopsMax = 2;
const secret = "s".repeat(32);

type Sent = { readonly node: string; readonly ticket: string };

/** A node with one reactor. Its sessions are those that it serves. */
function nodeNamed(id: string) {
  const shared = createPlacement(partitions);
  const writer = new PlacementWriter(shared, partitions);
  const placement = new SharedPlacement(shared, "hash", partitions);
  const slots: (Session | null)[] = [];
  const counters = new Counters(createCounters());
  const targets = new Targets({ view: placement, reactors: 1, refuses: () => false, ready: () => true });
  const left: (Sent & { readonly user: string })[] = [];
  const reactor = {
    counters, placement, targets, placeTickets: new PlaceTickets(secret), leaving: new Set(), encoder: new Encoder(65_536), compressFrom: Infinity, trace: null, together: new Together(() => {}),
    config: { nodeId: id, natsTimeoutMs: 1_000, socketQueueBytesMax: 1e6 }, refusals: { tell() {} }, queueBudget: { add() {} }, rooms: { deliveries: { flushFor() {}, handOverAll() {} } },
    looks: { look: (_: string, then: () => void) => then() },
    sessions: { get end() { return slots.length; }, at: (slot: number) => slots[slot] ?? null, setState: (session: Session, next: Session["state"]) => (session.state = next) },
    moves: { strand: (session: Session) => moves.strand(session) },
  } as unknown as Reactor;
  const moves = new Moves(reactor, 1);
  return {
    id, counters, moves,
    /** Sessions that moved away, and where to. */
    left,
    /** It knows this table from now on. */
    learn: (table: number, members: readonly string[], listed: readonly string[]) => {
      const indexes = Array.from(ownersOf(members.map((member) => ({ id: member, weight: 1 })), partitions), (owner) => listed.indexOf(members[owner]!));
      const nodes = listed.map((one) => ({ id: one, url: `ws://${one}/ws`, tcpUrl: "", region: "", load: 0, slotsPerSecond: 0, weight: 1, state: "up" as const }));
      writer.write({ table, nodes, self: listed.indexOf(id), owners: indexes });
      writer.writeMoves(100_000);
    },
    /** A user says hello. Null: served here. */
    hello: (user: string, ticket: string): Sent | null => {
      let sent: Sent | null = null;
      const session = { user, state: "handshake", wire: 1, unanswered: 0, life: 1, greeting: null, grant: null, slot: -1 } as unknown as Session;
      session.socket = {
        isTcp: false,
        send: (bytes: Uint8Array) => {
          const { reconnect } = JSON.parse(Buffer.from(bytes).toString()) as { reconnect: { url: string } };
          const url = new URL(reconnect.url);
          sent = { node: url.searchParams.get("node")!, ticket: url.searchParams.get("ticket")! };
          return 1;
        },
        end: () => {
          if (session.slot >= 0) left.push({ ...sent!, user });
          if (session.slot >= 0) slots[session.slot] = null;
          session.socket = null;
          session.state = "closed";
        },
        getBufferedAmount: () => 0,
      } as unknown as NonNullable<Session["socket"]>;
      const grant = anonymous(user);
      place(reactor, session, { ticket, grant, isReturning: false }, () => {
        Object.assign(session, { grant, state: "ready", slot: slots.length });
        slots.push(session);
        moves.arrived(session, 0);
      });
      return session.state === "ready" ? null : (sent ?? { node: "", ticket: "" });
    },
    here: () => slots.flatMap((session) => (session === null ? [] : [session.grant!.user])),
  };
}

const ownerIn = (members: readonly string[]) => {
  const owners = ownersOf(members.map((id) => ({ id, weight: 1 })), partitions);
  return (user: string) => members[owners[xxh32(user) % partitions]!]!;
};

t.test("every user is served after two hops at most, and ends up at its owner when the tables agree", async (t) => {
  const listed = ["a", "b", "c", "d"];
  const tables = [["a", "b", "c"], ["a", "b", "c", "d"], ["a", "c", "d"], ["c", "d"]];
  const nodes = listed.map(nodeNamed);
  const named = (id: string) => nodes.find((node) => node.id === id)!;
  for (const node of nodes) node.learn(1, tables[0]!, listed);
  /** After so many users a node learns of the next table: one after the other, in another order each time. */
  const lessons = [1, 2, 3].flatMap((table) => listed.map((_, i) => ({ at: table * 1_500 + i * 250, id: listed[(i * 3 + table) % 4]!, table })));
  let [hops, sentOn, homeless] = [0, 0, 0];
  const perHop = [0, 0, 0];
  for (let i = 0; i < users; i++) {
    for (const { at, id, table } of lessons) if (at === i) named(id).learn(table + 1, tables[table]!, listed);
    const user = `user-${i}`;
    let [at, ticket] = [nodes[xxh32(`start ${i}`) % nodes.length]!, ""];
    for (hops = 0; ; hops++) {
      const sent = at.hello(user, ticket);
      if (sent === null) break;
      if (sent.node === "" || hops === hopsMax) {
        homeless++;
        break;
      }
      sentOn++;
      [at, ticket] = [named(sent.node), sent.ticket];
    }
    perHop[hops]!++;
  }
  t.equal(homeless, 0, "nobody is sent on a third time, or nowhere");
  t.equal(perHop[0]! + perHop[1]! + perHop[2]!, users);
  t.ok(perHop[0]! > users / 10 && perHop[1]! > users / 2, `${perHop.join(", ")} users by hops`);
  t.equal(nodes.reduce((sum, { counters }) => sum + counters.get("sentOn"), 0), sentOn);

  const owner = ownerIn(tables.at(-1)!);
  const before = new Map(nodes.flatMap((node) => node.here().map((user) => [user, node.id] as const)));
  t.equal(before.size, users);
  const misplaced = [...before].filter(([user, id]) => owner(user) !== id);
  t.ok(misplaced.length > 500, `${misplaced.length} users came before the last table`);
  let moved = 0;
  for (let now = 0; now < 20_000; now += 100) {
    for (const node of nodes) {
      node.moves.step(now);
      // A session that has moved says hello where it was sent, with the ticket that it was given.
      for (const { user, node: to, ticket } of node.left.splice(0)) {
        moved++;
        if (to !== owner(user) || named(to).hello(user, ticket) !== null) t.fail(`${user} was sent to ${to}`);
      }
    }
  }
  t.equal(moved, misplaced.length, "those who were elsewhere move once, and nobody else");
  for (const node of nodes) t.ok(node.here().every((user) => owner(user) === node.id), `${node.id} has its users alone`);
  t.equal(nodes.reduce((sum, node) => sum + node.here().length, 0), users, "nobody was lost on the way");
  t.same(nodes.map((node) => node.here().length > 0), [false, false, true, true]);
});

t.test("two nodes that each take the other for the owner do not bounce a client: it is served after two hops", async (t) => {
  const [a, b] = ["a", "b"].map(nodeNamed);
  a!.learn(7, ["b"], ["a", "b"]);
  b!.learn(8, ["a"], ["a", "b"]);
  let hops = 0;
  for (let i = 0; i < 1_000; i++) {
    const first = a!.hello(`user-${i}`, "");
    t.equal(first?.node, "b");
    // The ticket names b, which serves whom it names, whatever its table says.
    if (b!.hello(`user-${i}`, first!.ticket) !== null) hops++;
    // Without a ticket of this user it is sent on, twice and no more.
    const other = new PlaceTickets(secret).make(placeTag("a"), 0, 0, 2, false);
    if (b!.hello(`other-${i}`, other) !== null) hops++;
  }
  t.equal(hops, 0);
  t.equal(b!.counters.get("servedByTicket"), 1_000);
  t.equal(b!.counters.get("servedAfterHops"), 1_000);
});
