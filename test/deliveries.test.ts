/** Deliveries of one batch that exclude their publisher: packed like others, and in order with what goes to one session. */
import t, { type Test } from "tap";
import { Counters, createCounters } from "../src/link/counters.ts";
import { Link } from "../src/link/link.ts";
import { nobody, writeDeliver } from "../src/link/publications.ts";
import { createRing } from "../src/link/ring.ts";
import { decodeServerFrame } from "../src/protocol/codec.ts";
import { readLength } from "../src/protocol/framing.ts";
import type { Context } from "../src/reactor/context.ts";
import { Deliveries } from "../src/reactor/rooms/deliveries.ts";
import { Fanout } from "../src/reactor/rooms/fanout.ts";
import { addMember, createSession, enlist, type ReactorRoom, type Session } from "../src/reactor/session/session.ts";
import { Audiences, type Socket } from "../src/reactor/transport/socket.ts";
import { encoded } from "./support/publications.ts";

const [binary, handle] = [0, 1];

/** A reactor's room with sessions in it. Each publish is noted: whom it excludes, and its seqs. */
function start(t: Test, count: number, flushMs = 0) {
  const said: string[] = [];
  const all: Session[] = [];
  const audience = { publish: (_: string, bytes: Uint8Array) => (said.push(`all: ${seqsOf(bytes)}`), true) };
  const audiences = new Audiences();
  audiences.add(audience);
  const room: ReactorRoom = {
    name: "live:a", handle, partition: -1, joined: [0, 0], live: [0, 0], firsts: [null, null], eras: [1, 1], topics: ["topic", "json"], presence: [0, 0], presenceTopics: ["", ""], flushMs, windows: [null, null],
  };
  for (let slot = 0; slot < count; slot++) {
    const session = createSession(audience, binary, "", "");
    Object.assign(session, { slot, life: 1, state: "ready" });
    session.socket = { isSubscribed: () => true, publish: (_: string, bytes: Uint8Array) => said.push(`but ${slot}: ${seqsOf(bytes)}`) } as unknown as Socket;
    const member = { name: room.name, session, state: "live", room, mayPublish: true, seesPresence: false, liveAt: 0, arrival: null, next: null, before: null, after: null } as const;
    addMember(session, { ...member });
    enlist({ ...member });
    all.push(session);
  }
  const counters = new Counters(createCounters());
  const context = { counters, compressFrom: Infinity, sessions: { find: (slot: number) => all[slot] ?? null } } as unknown as Context;
  const deliveries = new Deliveries(context, new Fanout(audiences, Infinity, () => {}), new Map([[handle, room]]));
  t.teardown(() => deliveries.flushAll());
  const [out, back] = [createRing(1 << 16), createRing(1 << 16)];
  const common = { overflowBytesMax: 1e6, readBudgetBytes: 1e6, ringDoorbell: () => {}, onBatchEnd: () => {} };
  const hub = new Link({ ...common, out, in: back, onRecord: () => {} });
  const reactor = new Link({ ...common, out: back, in: out, onRecord: (_, record) => deliveries.onRecord(record), onBatchEnd: () => deliveries.flush() });
  let seq = 0;
  const deliver = (slot: number) => {
    seq++;
    writeDeliver(hub, handle, binary, slot, 1, 0, seq, seq - 1, encoded({ room: room.name, seq, prev: seq - 1 }));
  };
  return { all, said, counters, deliveries, deliver, read: () => reactor.wake() };
}

function seqsOf(message: Uint8Array): string {
  const seqs: (number | null | undefined)[] = [];
  for (let at = 0; at < message.length; at += 4 + readLength(message, at)) {
    seqs.push(decodeServerFrame(message, at + 4, at + 4 + readLength(message, at)).publication?.seq);
  }
  return seqs.join(" ");
}

t.test("publications that exclude the same publisher leave in one publish, which each used to need", async (t) => {
  const { said, counters, deliver, read } = start(t, 3);
  for (const slot of [0, 0, 0, nobody, nobody, 1, 0]) deliver(slot);
  read();
  t.strictSame(said, ["but 0: 1 2 3", "all: 4 5", "but 1: 6", "but 0: 7"], "in order, and never for another one's publisher");
  t.equal(counters.get("deliveries"), 5 * 2 + 2 * 3);
});

t.test("an answer to the publisher does not part them; a frame to a member that gets them waits for them", async (t) => {
  const { all, said, deliveries, deliver, read } = start(t, 2);
  const [publisher, member] = all;
  deliver(0);
  deliver(0);
  read();
  t.strictSame(said.splice(0), ["but 0: 1 2"]);
  // Within a batch, as records that lie between the deliveries.
  const { flush } = deliveries;
  deliveries.flush = () => {};
  deliver(0);
  read();
  deliveries.flush = flush;
  deliveries.flushBefore(publisher!);
  t.strictSame(said, [], "the publisher gets none of it");
  deliveries.flushBefore(createSession(publisher!.audience, 1, "", ""));
  t.strictSame(said, [], "nor does a session that is no member");
  deliveries.flushBefore(member!);
  t.strictSame(said, ["but 0: 3"]);
});

t.test("a publisher that is not in the room, or has no socket any more, is nobody to exclude", async (t) => {
  const { all, said, deliver, read } = start(t, 2);
  all[1]!.members = null;
  deliver(1);
  read();
  all[0]!.socket = null;
  deliver(0);
  read();
  t.strictSame(said, ["all: 1", "all: 2"]);
});

t.test("in a room with flush windows none of them overtakes what waits", async (t) => {
  const { said, deliver, deliveries, read } = start(t, 2, 20);
  for (const slot of [nobody, 0, nobody, 0, nobody]) deliver(slot);
  read();
  deliveries.flushAll();
  t.strictSame(said, ["all: 1", "but 0: 2", "all: 3", "but 0: 4", "all: 5"]);
});
