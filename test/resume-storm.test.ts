/** Many sessions come back at once to a node that cannot keep up: none may lose its room, or a message. */
import t from "tap";
import { startNode } from "./support/node.ts";
import { lose, resumeOf } from "./support/resume.ts";
import { open } from "./support/session.ts";

t.test("sessions that come back faster than they can be served wait for their rooms and lose nothing", async (t) => {
  // Any record that finds the ring full counts as too far behind, and what everybody missed is many rings.
  const node = await startNode(t, { reactors: 1, frameBytesMax: 16_384, ringBytes: 262_144, overflowBytesMax: 1, commandsPerSecond: 0 });
  const beside = await open(node, { keep: false });
  await beside.join("chat:a");
  const away = await Promise.all(Array.from({ length: 60 }, () => open(node)));
  const at = await Promise.all(away.map((session) => session.join("chat:a")));
  for (const session of away) await lose(session);
  const missed = 150;
  for (let i = 0; i < missed; i++) {
    // The losses may still be on their way to a hub that is behind.
    while (!(await beside.request({ publish: { room: "chat:a", payload: Buffer.alloc(1_000), format: 0 } })).published);
  }
  let wrong = 0;
  const back = await Promise.all(away.map((session, i) => open(node, { hello: resumeOf(session, [{ room: "chat:a", position: at[i]!.position }]) })));
  for (const session of back) {
    await session.waitFor(() => session.publications.length >= missed || session.events.some(({ left }) => left), "what it missed");
    if (session.publications.some(({ seq, prev }) => seq !== prev + 1) || session.publications.length !== missed) wrong++;
  }
  t.equal(wrong, 0, "everybody got everything once");
  t.equal(back.filter(({ events }) => events.some(({ left, error }) => left ?? error)).length, 0, "and nobody lost the room");
});
