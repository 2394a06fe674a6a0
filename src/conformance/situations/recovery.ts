/** Joins with recover, and the replays that follow. */
import { gap } from "../reports.ts";
import { Failure } from "../failure.ts";
import type { Situation } from "../situation.ts";
import type { Stage } from "../stage.ts";
import { epoch, head, publication, room } from "../words.ts";
import type { Peer } from "../peer.ts";
import type { ClientFrame } from "../../protocol/messages.ts";

const read = "Positions, gaps, recovery";
const page = (...seqs: number[]) => seqs.map((seq) => publication(seq));

/** Delivers 11 and loses the socket; the session cannot be resumed. Returns the join with recover. */
async function begin(stage: Stage): Promise<{ peer: Peer; join: ClientFrame }> {
  const first = await stage.enter();
  stage.expect(11);
  first.send({ publication: publication(11) });
  await stage.delivered(first);
  first.cut();
  const { peer, hello } = await stage.greet("The socket was lost. The client did not connect again.");
  stage.checkResume(hello.resume, first);
  const join = await stage.take(peer, "join", `ready said resumed: false. The client did not join ${room} again.`);
  if (join.join?.recover == null) throw new Failure(`The client joined ${room} again without recover, and so cannot learn what it missed. Its position is 11.`);
  stage.checkPosition(join.join.recover, 11, "join {recover}");
  return { peer, join };
}

export const recovery: readonly Situation[] = [
  {
    name: "resume-refused",
    title: "Joins its rooms again with recover when the session could not be resumed, and delivers all pages in order.",
    read: "Resume",
    async play(stage) {
      const { peer, join } = await begin(stage);
      stage.expect(12, 13, 14, 15, 16);
      peer.reply(join, { joined: { room, position: { epoch, seq: 15 }, recovered: true, publications: page(12, 13), more: true } });
      peer.send({ replay: { room, publications: page(14), more: true } }, { replay: { room, publications: page(15), more: false } }, { publication: publication(16) });
      await stage.delivered(peer);
    },
  },
  {
    name: "not-recovered",
    title: "Reports a gap where a join says recovered: false and nothing is kept, and goes on from its position.",
    read,
    async play(stage) {
      const { peer, join } = await begin(stage);
      stage.expect(gap(11, 20), 21);
      peer.reply(join, { joined: { room, position: { epoch, seq: 20 }, recovered: false, publications: [], more: false } });
      peer.send({ publication: publication(21) });
      await stage.delivered(peer);
    },
  },
  {
    name: "kept",
    title: "Delivers what is kept behind a lost position, and reports a gap that ends where that begins.",
    read,
    async play(stage) {
      const { peer, join } = await begin(stage);
      stage.expect(gap(11, 17), 18, 19, 20, 21);
      peer.reply(join, { joined: { room, position: { epoch, seq: 20 }, recovered: false, publications: page(18, 19), more: true } });
      peer.send({ replay: { room, publications: page(20), more: false } }, { publication: publication(21) });
      await stage.delivered(peer);
    },
  },
  {
    name: "replay-cut",
    title: "Asks history for the rest where a sync ends a replay early, and reports a gap where that is lost.",
    read,
    async play(stage) {
      const { peer, join } = await begin(stage);
      stage.expect(12, gap(12, 20), 21);
      peer.reply(join, { joined: { room, position: { epoch, seq: 15 }, recovered: true, publications: page(12), more: true } });
      peer.send({ sync: { room, position: { epoch, seq: 20 } } }, { publication: publication(21) });
      await stage.history(peer, 12, "unrecoverable_position", "sync ended the replay at 12, and names the head 20. The client did not ask history {since: 12}.");
      await stage.delivered(peer);
    },
  },
  {
    name: "newest-session",
    title: "Resumes the newest session, not the first one.",
    read: "Resume",
    async play(stage) {
      const { peer: second, join } = await begin(stage);
      stage.expect(12);
      second.reply(join, { joined: { room, position: { epoch, seq: 12 }, recovered: true, publications: page(12), more: false } });
      await stage.delivered(second);
      second.cut();
      const third = await stage.comeBack(second, "The socket was lost a second time. The client did not connect again.", { room, position: { epoch, seq: 13 }, recovered: true, publications: page(13), more: false });
      stage.expect(13);
      await stage.delivered(third);
    },
  },
  {
    name: "resume",
    title: "Resumes its session after a loss of the socket, names its positions, and does not join again.",
    read: "Resume",
    async play(stage) {
      const first = await stage.enter();
      stage.expect(11);
      first.send({ publication: publication(11) });
      await stage.delivered(first);
      first.cut();
      const { peer, command, hello } = await stage.hello("The socket was lost. The client did not connect again.");
      stage.checkResume(hello.resume, first);
      stage.checkPosition(hello.resume?.positions?.find((one) => one.room === room)?.position, 11, "hello {resume: {positions}}");
      if (peer.ticket !== "ticket-1") stage.advice.push("The client came back without its ticket (/ws?resume=TICKET). A node with a crowd at its door admits it later.");
      stage.welcome(peer, command, { session: "session-1", resumed: true, rooms: [room], resumeToken: "resume-b" });
      stage.expect(12, 13, 14);
      peer.send(
        { joined: { room, position: { epoch, seq: 13 }, recovered: true, publications: page(12), more: true } },
        { replay: { room, publications: page(13), more: false } },
        { publication: publication(14) },
      );
      await stage.delivered(peer);
      // The session has a new token since.
      peer.cut();
      const next = await stage.hello("The socket was lost again. The client did not connect again.");
      stage.checkResume(next.hello.resume, first, "resume-b");
      stage.checkPosition(next.hello.resume?.positions?.find((one) => one.room === room)?.position, 14, "hello {resume: {positions}}");
    },
  },
  {
    name: "resume-head",
    title: "Names the position of its join where nothing came since.",
    read: "Resume",
    async play(stage) {
      const first = await stage.enter();
      // Proof that the client has read joined.
      stage.expect(11);
      first.send({ publication: publication(11) });
      await stage.delivered(first);
      first.close(3001, "shutdown");
      const second = await stage.comeBack(first, "The socket was closed with 3001. The client did not connect again.", { room, position: { epoch, seq: 11 }, recovered: true, publications: [], more: false });
      stage.expect(12);
      second.send({ publication: publication(12) });
      await stage.delivered(second);
      if (head > 11) throw new Error("the script counts from another head");
    },
  },
];
