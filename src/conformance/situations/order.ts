/** Frames, doubles, gaps: what a client does with the events of a room. */
import protobuf from "protobufjs/minimal.js";
import { gap } from "../reports.ts";
import { Failure } from "../failure.ts";
import type { Situation } from "../situation.ts";
import type { Stage } from "../stage.ts";
import { epoch, head, logRoom, publication, room } from "../words.ts";

const positions = "Positions, gaps, recovery";
const live = (seq: number, options: Parameters<typeof publication>[1] = {}) => ({ publication: publication(seq, options) });

export const order: readonly Situation[] = [
  {
    name: "basics",
    title: "Says hello first, joins a room, delivers a publication, and publishes with a key.",
    read: "Life of a connection",
    async play(stage) {
      const ids = new Set<number>();
      stage.onLog(({ id, publish }) => {
        if (!id) throw new Failure(`The client published into ${logRoom} with id 0, and so cannot know whether it took place.`);
        if (ids.has(id)) throw new Failure(`The client used the id ${id} for two commands. Replies could not be told apart.`);
        ids.add(id);
        if (!publish?.key) throw new Failure("The client published without a key. Repeated after a loss of the socket, the publish would take place twice.");
        return undefined;
      });
      const peer = await stage.enter();
      const data = { text: "żółć 🙂 \u2028", list: [1, -0.5, null, true, { deep: [] }] };
      peer.send(live(head + 1, { data }), live(head + 2));
      stage.expect({ kind: "publication", seq: head + 1, data }, head + 2);
      await stage.delivered(peer);
    },
  },
  {
    name: "framing",
    title: "Reads several frames in one message, and in binary a frame that is split over several.",
    read: "Transports",
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, 12, 13);
      peer.sendPacked(live(11), live(12), live(13));
      await stage.delivered(peer);
    },
  },
  {
    name: "unknown",
    title: "Ignores events and fields that it does not know.",
    read: "Transports",
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11);
      // Field 300 of a ServerFrame: an event of a later version.
      const body = protobuf.Writer.create().uint32((300 << 3) | 2).fork().uint32(8).uint32(1).ldelim().finish();
      peer.sendRaw('{"laterEvent":{"some":"1"}}', Buffer.concat([Uint8Array.of(0, 0, 0, body.length), body]));
      peer.send(live(11));
      await stage.delivered(peer);
    },
  },
  {
    name: "duplicate",
    title: "Drops publications that it has already delivered.",
    read: positions,
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, 12, 13);
      peer.send(live(11), live(12), live(12), live(11), live(13));
      await stage.delivered(peer);
    },
  },
  {
    name: "sparse",
    title: "Accepts that seq skips numbers, where prev says that nothing is missing.",
    read: positions,
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, 15, 16);
      peer.send(live(11), live(15, { prev: 11 }), live(16));
      await stage.delivered(peer);
    },
  },
  {
    name: "gap",
    title: "Asks history for what is missing, and delivers it before what came after.",
    read: positions,
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, 12, 13, 14, 15);
      peer.send(live(11), live(14));
      await stage.history(peer, 11, [12, 13, 14], "prev of publication 14 is 13, and the client is at 11. It did not ask history {since: 11}.");
      peer.send(live(15));
      await stage.delivered(peer);
    },
  },
  {
    name: "gap-lost",
    title: "Reports a gap with both ends where history has lost what is missing, and goes on.",
    read: positions,
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, gap(11, 13), 14, 15);
      peer.send(live(11), live(14));
      await stage.history(peer, 11, "unrecoverable_position", "prev of publication 14 is 13, and the client is at 11. It did not ask history {since: 11}.");
      peer.send(live(15));
      await stage.delivered(peer);
    },
  },
  {
    name: "epoch",
    title: "Reports a gap where the room's stream began again, and goes on in the new epoch.",
    read: positions,
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, gap(null, null), 1, 2);
      peer.send(live(11), live(1, { epoch: "e2" }), live(2, { epoch: "e2" }));
      await stage.delivered(peer);
    },
  },
  {
    name: "sync",
    title: "Takes a sync that names a later head as a gap, and fills it from history.",
    read: positions,
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, 12, 13, 14);
      peer.send(live(11), { sync: { room, position: { epoch, seq: 13 } } });
      await stage.history(peer, 11, [12, 13], "sync names the head 13, and the client is at 11. It did not ask history {since: 11}.");
      peer.send(live(14));
      await stage.delivered(peer);
    },
  },
  {
    name: "sync-lost",
    title: "Reports a gap up to the head of a sync, where history has lost it.",
    read: positions,
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, gap(11, 13), 14);
      peer.send(live(11), { sync: { room, position: { epoch, seq: 13 } } });
      await stage.history(peer, 11, "unrecoverable_position", "sync names the head 13, and the client is at 11. It did not ask history {since: 11}.");
      peer.send(live(14));
      await stage.delivered(peer);
    },
  },
  {
    name: "excluded",
    title: "Takes a published with id 0 as the place of a publication that it does not get.",
    read: positions,
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, 13);
      peer.send(live(11), { published: { room, position: { epoch, seq: 12 }, prev: 11, receivers: 1, duplicate: false } }, live(13));
      await stage.delivered(peer);
    },
  },
  {
    name: "catch-up",
    title: "Takes a replay without a join, as it comes after a full socket, like live publications.",
    read: positions,
    async play(stage) {
      const peer = await stage.enter();
      stage.expect(11, 12, 13, 14);
      const pages = [[publication(12)], [publication(12), publication(13)]];
      peer.send(live(11), ...pages.map((publications, i) => ({ replay: { room, publications, more: i === 0 } })), live(14));
      await stage.delivered(peer);
    },
  },
  ...(["removed", "forbidden"] as const).map((reason): Situation => ({
    name: `left-${reason}`,
    title: `Does not join a room again after left {reason: "${reason}"}.`,
    read: "Resume",
    play: (stage) => playLeft(stage, reason),
  })),
];

/** Then a loss of the socket, since clients join their rooms again after one. */
async function playLeft(stage: Stage, reason: "removed" | "forbidden"): Promise<void> {
  const peer = await stage.enter();
  stage.expect(11);
  peer.send({ publication: publication(11) });
  await stage.delivered(peer);
  peer.send({ left: { room, reason } });
  peer.close(3008, "slow_consumer");
  const { peer: next, hello } = await stage.greet("The socket was closed with 3008. The client did not connect again.", { resumed: true, rooms: [], session: "session-1" });
  const named = hello.resume?.positions?.some((one) => one.room === room) ?? false;
  if (named) throw new Failure(`The client was told that it is not in ${room} any more (left {reason: "${reason}"}). Its next hello names a position there.`);
  await stage.staysOut(next, `The client was told that it is not in ${room} any more (left {reason: "${reason}"}). It joined it again.`);
}
