/** Under `--placement partition`: whom a reactor serves, sends on or tells to wait, and what it holds back. Without NATS. */
import t from "tap";
import { PlaceTickets, placeTag, userTag } from "../src/auth/placetickets.ts";
import { closes, type CloseName } from "../src/errors.ts";
import { Together } from "../src/reactor/together.ts";
import { Counters, createCounters } from "../src/link/counters.ts";
import { Link } from "../src/link/link.ts";
import { nobody, writeDeliver } from "../src/link/publications.ts";
import { createRing } from "../src/link/ring.ts";
import { createGate, GateWriter } from "../src/placement/leases/gate.ts";
import { checkPlacement } from "../src/node/sameplacement.ts";
import { factsOf } from "../src/contracts/registry.ts";
import type { Config } from "../src/config/config.ts";
import { Encoder } from "../src/protocol/formats/encoder.ts";
import type { ServerFrame } from "../src/protocol/messages.ts";
import type { Context } from "../src/reactor/context.ts";
import type { Target } from "../src/reactor/locate/targets.ts";
import type { Reactor } from "../src/reactor/reactor.ts";
import { Deliveries } from "../src/reactor/rooms/deliveries.ts";
import { Fanout } from "../src/reactor/rooms/fanout.ts";
import { EarlyHellos } from "../src/reactor/session/earlyhellos.ts";
import { Holdings, noPartition } from "../src/reactor/session/holdings.ts";
import { place } from "../src/reactor/session/place.ts";
import type { Member, ReactorRoom, Session } from "../src/reactor/session/session.ts";
import { Audiences } from "../src/reactor/transport/socket.ts";
import { encoded } from "./support/publications.ts";
import { until } from "./support/until.ts";

const partitions = 4;
const json = 1;
const ann = { tenant: "", user: "ann" };

/** A reactor of node a; b is another. */
function reactorOf() {
  const gate = createGate(partitions);
  const writer = new GateWriter(gate);
  const holdings = new Holdings(gate, partitions);
  const state = { owner: -1, refusing: false };
  const placeTickets = new PlaceTickets("s".repeat(32));
  const targetOf = (id: string): Target => ({ node: { id, url: `ws://${id}/ws`, tcpUrl: "" }, isSelf: id === "a", tag: placeTag(id), slots: { take: () => 0 } } as unknown as Target);
  const all = [targetOf("a"), targetOf("b")];
  const takes = ({ isSelf }: Target) => isSelf || !state.refusing;
  const context = {
    config: { nodeId: "a" },
    placement: { mode: "partition", self: 0, partitionOf: () => 2, ownerOf: () => state.owner },
    holdings, placeTickets,
    targets: { belonging: () => all[state.owner], takes, owner: () => (state.owner >= 0 && takes(all[state.owner]!) ? all[state.owner]! : null) },
    looks: { look: (_: string, then: () => void) => then() },
    counters: new Counters(createCounters()), encoder: new Encoder(1_024), trace: null, together: new Together(() => {}), refusals: { tell: () => {} },
    sessions: { setState: (session: Session, next: Session["state"]) => void (session.state = next), find: () => null },
    compressFrom: Infinity, queueBudget: { add: () => {} },
  } as unknown as Context;
  const early = new EarlyHellos(context);
  t.teardown(() => early.stop());
  return { state, writer, holdings, placeTickets, context, reactor: { ...context, early, moves: { strand: () => {} } } as unknown as Reactor };
}

/** A client that has said hello. */
function client() {
  const said: ServerFrame[] = [];
  const seen = { served: false, closed: "" as CloseName | "" };
  const session = { state: "handshake", wire: json, life: 1, slot: 0, unanswered: 0, greeting: null, grant: ann } as unknown as Session;
  session.socket = {
    isTcp: false,
    send: (bytes: Uint8Array) => (said.push(JSON.parse(Buffer.from(bytes).toString()) as ServerFrame), 1),
    end: (code: number) => {
      seen.closed = (Object.keys(closes) as CloseName[]).find((name) => closes[name].code === code)!;
      session.socket = null;
    },
    getBufferedAmount: () => 0,
  } as unknown as NonNullable<Session["socket"]>;
  const hello = (reactor: Reactor, ticket = "") => place(reactor, session, { ticket, grant: ann as never, isReturning: false }, () => void (seen.served = true));
  return { session, seen, said, hello };
}

t.test("a user of a partition that this node holds is served, while its lease lasts", async (t) => {
  const { reactor, writer, holdings } = reactorOf();
  writer.serve(performance.now() - 1);
  writer.hold(2, 7);
  holdings.claimed(2, 7);
  const late = client();
  late.hello(reactor);
  t.same(late.seen, { served: false, closed: "overloaded" }, "held, but the lease is over");
  writer.serve(performance.now() + 60_000);
  const one = client();
  one.hello(reactor);
  t.ok(one.seen.served);
  writer.drop(2);
  const other = client();
  other.hello(reactor);
  t.notOk(other.seen.served);
});

t.test("a user of a partition of another node is sent there", async (t) => {
  const { reactor, state } = reactorOf();
  state.owner = 1;
  const { hello, seen, said } = client();
  hello(reactor);
  t.equal(seen.closed, "moved");
  t.match(said[0]?.reconnect, { reason: "moved", url: /^ws:\/\/b\/ws\?node=b&ticket=/ });
});

const waits: [why: string, change: (state: { owner: number; refusing: boolean }) => void, hops: number][] = [
  ["nobody is known to hold the partition", () => {}, 0],
  ["its holder takes no clients", (state) => ((state.owner = 1), (state.refusing = true)), 0],
  ["the client was sent on twice and did not arrive", (state) => (state.owner = 1), 2],
];

for (const [why, change, hops] of waits) {
  t.test(`where ${why}, the client is told to wait, and never served`, async (t) => {
    const { reactor, state, placeTickets } = reactorOf();
    change(state);
    const { hello, seen, said } = client();
    hello(reactor, hops === 0 ? "" : placeTickets.make(placeTag("c"), userTag("", "ann"), 0, hops, false));
    t.same(seen, { served: false, closed: "overloaded" });
    t.match(said[0]?.reconnect, { reason: "wait", delayMs: Number });
    t.ok(said[0]!.reconnect!.delayMs! >= 500 && said[0]!.reconnect!.delayMs! < 2_000);
    t.notOk(said[0]!.reconnect!.url);
    t.equal(reactor.counters.get("toldToWait"), 1);
  });
}

t.test("a client that comes before the claim is confirmed waits for it, for two seconds", async (t) => {
  const { reactor, state, writer, holdings, placeTickets } = reactorOf();
  state.owner = 0;
  const [one, gone, sent] = [client(), client(), client()];
  one.hello(reactor);
  gone.hello(reactor);
  state.owner = -1;
  sent.hello(reactor, placeTickets.make(placeTag("a"), userTag("", "ann"), 0, 1, false));
  gone.session.life = 2;
  t.notOk(one.seen.served || one.seen.closed !== "");
  writer.serve(performance.now() + 60_000);
  writer.hold(2, 1);
  holdings.claimed(2, 1);
  await until(() => one.seen.served && sent.seen.served, "both to be served");
  t.notOk(gone.seen.served, "its slot has another session");
  writer.drop(2);
  const never = client();
  never.hello(reactor, placeTickets.make(placeTag("a"), userTag("", "ann"), 0, 1, false));
  await until(() => never.seen.closed === "overloaded", "it to be told to wait");
});

t.test("what was accepted under an earlier claim is held back, and its receivers reconnect", async (t) => {
  const { context, writer, holdings, state } = reactorOf();
  state.owner = 1;
  writer.serve(performance.now() + 60_000);
  writer.hold(2, 5);
  holdings.claimed(2, 5);
  let published = 0;
  const audiences = new Audiences();
  audiences.add({ publish: () => (published++, true) });
  const { session, seen, said } = client();
  const room: ReactorRoom = {
    name: "@inbox", handle: 1, partition: 2, joined: [0, 1], live: [0, 1], firsts: [null, { session, after: null } as unknown as Member], eras: [1, 1], topics: ["", ""], presence: [0, 0], presenceTopics: ["", ""], flushMs: 0, windows: [null, null],
  };
  const deliveries = new Deliveries(context, new Fanout(audiences, Infinity, () => {}), new Map([[1, room], [2, { ...room, handle: 2, partition: noPartition }]]));
  const [out, back] = [createRing(1 << 16), createRing(1 << 16)];
  const common = { overflowBytesMax: 1e6, readBudgetBytes: 1e6, ringDoorbell: () => {}, onBatchEnd: () => {} };
  const hub = new Link({ ...common, out, in: back, onRecord: () => {} });
  const reactor = new Link({ ...common, out: back, in: out, onRecord: (_, record) => deliveries.onRecord(record) });
  const deliver = (handle: number) => {
    writeDeliver(hub, handle, json, nobody, 0, 0, 1, 0, encoded({ room: "@inbox", seq: 1 }));
    reactor.wake();
  };
  deliver(1);
  t.equal(published, 1, "the node holds the partition");
  writer.hold(2, 6);
  deliver(2);
  t.equal(published, 2, "a room of no partition is delivered anyway");
  deliver(1);
  t.equal(published, 2, "the claim is another, and the reactor has not come to it in the ring");
  t.equal(seen.closed, "moved");
  t.match(said[0]?.reconnect, { reason: "moved", url: /node=b/ });
  t.equal(context.counters.get("heldBack"), 1);
});

t.test("a node does not start beside nodes that place users otherwise, once it has heard them", async (t) => {
  let beat = 1;
  const check = (own: object, other: object) => checkPlacement({ nodeId: "a", placementPartitions: 64, ...own } as Config, () => [{ id: "b", ...factsOf(1), state: "up", silentMs: 0, last_heartbeat: beat++, ...other }]);
  const partition = { placement: "partition", partitions: 64 };
  await t.rejects(check({ placement: "any" }, partition), { message: /^--placement any: node b uses partition.*use partition, or stop all nodes to change it/ });
  await t.rejects(check({ placement: "partition" }, { placement: "hash", partitions: 64 }), { message: /^--placement partition: node b uses hash/ });
  await t.rejects(check({ placement: "partition" }, {}), { message: /node b uses any/ }, "a node of an older release says nothing");
  await t.rejects(check({ placement: "partition" }, { ...partition, partitions: 128 }), { message: /^--placement-partitions 64: node b uses 128/ });
  await check({ placement: "partition" }, partition);
  await check({ placement: "hash" }, { placement: "any" });
  await check({ placement: "any" }, { ...partition, state: "down" });
});
