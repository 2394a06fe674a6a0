/** Presence lists and inboxes: for clients that have them. */
import type { ServerFrame } from "../../protocol/messages.ts";
import { Failure } from "../failure.ts";
import type { Situation } from "../situation.ts";
import type { Stage } from "../stage.ts";
import { inbox, publication, room } from "../words.ts";

const page = (version: number, users: readonly string[], next = ""): ServerFrame => ({
  presence: { room, version, users: users.length, sessions: users.length, members: users.map((user) => ({ user, sessions: 1 })), next },
});
const changed = (version: number, joined: readonly string[], left: readonly string[]): ServerFrame => ({
  presenceChanged: { room, version, users: 2, sessions: 2, joined: [...joined], left: [...left], countsOnly: false },
});

async function hasMembers(stage: Stage, ...users: readonly string[]): Promise<void> {
  const expected = [...users].sort().join(", ");
  await stage.until(() => stage.reports.members.join(", ") === expected, () => `The members are ${expected}. The client's list is: ${stage.reports.members.join(", ") || "empty"}.`);
}

export const lists: readonly Situation[] = [
  {
    name: "presence",
    title: "Keeps the list of a room's members: all pages, changes as sets, and asks again where a version is missing.",
    read: "Presence and status",
    needs: "presence",
    async play(stage) {
      stage.holds("presence");
      const peer = await stage.enter();
      const first = await stage.take(peer, "presence", `The client did not ask for presence of ${room}.`);
      peer.reply(first, page(5, ["ann"], "ann"));
      const second = await stage.take(peer, "presence", "The page had next: \"ann\". The client did not ask for the page after it.");
      if (second.presence?.after !== "ann") throw new Failure(`The page had next: "ann". The client asked with after: ${JSON.stringify(second.presence?.after ?? "")}.`);
      peer.reply(second, page(5, ["bob"]));
      await hasMembers(stage, "ann", "bob");
      peer.send(changed(6, ["carl"], ["bob"]));
      await hasMembers(stage, "ann", "carl");
      peer.send(changed(8, ["dora"], []));
      const again = await stage.take(peer, "presence", "A change had the version 8 after 6: one was missed. The client did not ask for presence again.");
      peer.reply(again, page(8, ["carl", "dora"]));
      await hasMembers(stage, "carl", "dora");
    },
  },
  {
    name: "inbox",
    title: "Delivers direct messages once, in order, and acknowledges them.",
    read: "Replies and errors",
    needs: "inbox",
    async play(stage) {
      stage.holds("ack", "join");
      const { peer } = await stage.greet("The client did not connect.");
      const join = await stage.take(peer, "join", `The client did not join ${inbox}.`);
      const other = await stage.take(peer, "join", `The client joined only ${join.join?.room ?? ""}, not both ${room} and ${inbox}.`);
      for (const one of [join, other]) {
        const name = one.join?.room ?? "";
        peer.reply(one, { joined: { room: name, position: { epoch: name === inbox ? "i1" : "e1", seq: 10 }, recovered: false } });
      }
      const message = (seq: number): ServerFrame => ({ publication: publication(seq, { epoch: "i1", room: inbox }) });
      stage.expect({ kind: "message", seq: 11 }, { kind: "message", seq: 12 });
      peer.send(message(11), message(11), message(12));
      await stage.delivered(peer);
      for (;;) {
        const { ack } = await stage.take(peer, "ack", "The client delivered message 12 and did not acknowledge it: ack {position}.");
        if (ack?.position?.epoch !== "i1") throw new Failure(`ack names the epoch ${JSON.stringify(ack?.position?.epoch ?? "")}. That of the message is "i1".`);
        const seq = ack.position.seq ?? 0;
        if (seq > 12) throw new Failure(`The client acknowledged ${seq}. The last message is 12.`);
        if (seq === 12) return;
      }
    },
  },
];
