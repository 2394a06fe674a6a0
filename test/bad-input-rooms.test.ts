/** Commands that are well formed and out of place: rooms, positions, limits, states, rates. Each beside others. */
import t, { type Test } from "tap";
import { closes, type ErrorCode } from "../src/errors.ts";
import { Format } from "../src/protocol/messages.ts";
import { beside } from "./support/beside.ts";
import { startNodeOnHeldClock } from "./support/heldclock.ts";
import { startNode } from "./support/node.ts";
import { buildFrame, opcodes } from "./support/rawsocket.ts";
import { open, type Reply, type TestSession } from "./support/session.ts";
import { encodeBinary, encodeText } from "./support/wire.ts";

const payload = Buffer.from("1");

function refused(t: Test, reply: Reply, code: ErrorCode): void {
  t.equal(reply.error?.code, code, `${code}, and not ${JSON.stringify(reply)}`);
}

/** What a session may do to itself; `json` says which subprotocol it speaks. */
const cases: [title: string, (t: Test, session: TestSession) => Promise<void>][] = [
  ["a room without a name", async (t, session) => {
    refused(t, await session.request({ join: { room: "" } }), "bad_request");
    refused(t, await session.request({ join: {} }), "bad_request");
    refused(t, await session.request({ leave: { room: "" } }), "not_joined");
    refused(t, await session.request({ publish: { room: "", payload, format: Format.JSON } }), "not_joined");
    refused(t, await session.request({ history: { room: "" } }), "not_joined");
  }],
  ["a room name of 255 bytes is the longest", async (t, session) => {
    t.ok((await session.request({ join: { room: "r".repeat(255) } })).joined);
    t.ok((await session.request({ join: { room: "ä".repeat(127) } })).joined);
    refused(t, await session.request({ join: { room: "r".repeat(256) } }), "bad_request");
    refused(t, await session.request({ join: { room: "ä".repeat(128) } }), "bad_request");
    refused(t, await session.request({ join: { room: "r".repeat(60_000) } }), "bad_request");
  }],
  ["a room of a namespace that is not configured", async (t, session) => {
    for (const room of ["nope:a", ":a", "::", "constructor:a", "__proto__:a", "CHAT:a"]) {
      refused(t, await session.request({ join: { room } }), "unknown_namespace");
      refused(t, await session.request({ publish: { room, payload, format: Format.JSON } }), "unknown_namespace");
    }
  }],
  ["room names in any script are names", async (t, session) => {
    for (const room of ["комната", "部屋", "غرفة", "👩‍👩‍👧", "e\u0301", "é", "\u202eabc", "a b", "../../etc", "%2e", "<b>", "'; --", "\ufffd", "\u{10ffff}", "chat:", "chat::"]) {
      t.equal((await session.request({ join: { room } })).joined?.room, room, JSON.stringify(room));
      t.equal((await session.leave(room)).left?.room, room);
    }
    t.ok((await session.request({ join: { room: "e\u0301" } })).joined);
    refused(t, await session.request({ publish: { room: "é", payload, format: Format.JSON } }), "not_joined");
  }],
  ["control characters in room names", async (t, session) => {
    for (const room of ["\0", "a\nb", "a\u007f", "\u001b[31m", "chat:\r"]) refused(t, await session.request({ join: { room } }), "bad_request");
  }],
  ["joining a room twice", async (t, session) => {
    t.ok((await session.request({ join: { room: "twice" } })).joined);
    refused(t, await session.request({ join: { room: "twice" } }), "already_joined");
  }],
  ["joining a room twice without waiting", async (t, session) => {
    const [first, second] = await Promise.all([session.request({ join: { room: "twice at once" } }), session.request({ join: { room: "twice at once" } })]);
    t.ok(first.joined);
    refused(t, second, "already_joined");
  }],
  ["joining, leaving and joining a room without waiting", async (t, session) => {
    const room = "in and out";
    const replies = await Promise.all([session.request({ join: { room } }), session.leave(room), session.request({ join: { room } }), session.leave(room), session.request({ join: { room } })]);
    t.ok(replies[1]?.left && replies[3]?.left, "both leaves are answered");
    t.ok(replies[0] && replies[2], "so are the joins that they overtook");
    t.ok(replies[4]?.joined, "the last join counts");
    await session.publish(room, "1");
    t.equal(session.publications.filter((publication) => publication.room === room).length, 1, "and is joined once");
  }],
  ["leaving, publishing to and reading a room without having joined it", async (t, session) => {
    refused(t, await session.leave("elsewhere"), "not_joined");
    refused(t, await session.request({ publish: { room: "elsewhere", payload, format: Format.JSON } }), "not_joined");
    refused(t, await session.request({ history: { room: "chat:elsewhere" } }), "not_joined");
    await session.join("elsewhere");
    await session.leave("elsewhere");
    refused(t, await session.leave("elsewhere"), "not_joined");
    refused(t, await session.request({ publish: { room: "elsewhere", payload, format: Format.JSON } }), "not_joined");
  }],
  ["errors of commands without an id come with id 0", async (t, session) => {
    await session.send({ leave: { room: "elsewhere" } });
    await session.waitFor(() => session.events.some((event) => event.error), "the error");
    const reply = session.events.find((event) => event.error);
    t.equal(reply?.id ?? 0, 0);
    refused(t, reply ?? {}, "not_joined");
  }],
  ["more rooms than a session may be in", async (t, session) => {
    for (let i = 0; i < 100; i++) t.ok((await session.request({ join: { room: `many${i}` } })).joined, `room ${i}`);
    refused(t, await session.request({ join: { room: "one more" } }), "too_many_rooms");
    await session.leave("many7");
    t.ok((await session.request({ join: { room: "one more" } })).joined, "there is room again");
  }],
  ["history limits of 0 and of 4294967295 are the default and the most", async (t, session) => {
    const room = session.json ? "chat:limits in json" : "chat:limits";
    await session.join(room);
    for (let i = 0; i < 120; i++) await session.publish(room, `${i}`);
    t.equal((await session.request({ history: { room, limit: 0 } })).history?.publications?.length, 100);
    t.equal((await session.request({ history: { room, limit: 0xffff_ffff } })).history?.publications?.length, 120);
    const other = await session.request({ join: { room: `${room} of nobody`, history: 0xffff_ffff } });
    t.equal(other.joined?.publications?.length ?? 0, 0);
  }],
  ["positions of another epoch, or beyond the head, are not recovered", async (t, session) => {
    const room = session.json ? "chat:positions in json" : "chat:positions";
    const { position } = await session.join(room);
    const head = await session.publish(room, "1");
    for (const recover of [{ epoch: "another", seq: 0 }, { epoch: "", seq: 0 }, { epoch: position.epoch, seq: head.seq + 1 }, { epoch: position.epoch, seq: Number.MAX_SAFE_INTEGER }]) {
      await session.leave(room);
      const joining = await session.join(room, { recover });
      t.match(joining, { recovered: false, position: head }, JSON.stringify(recover));
      t.equal(joining.missed.length, recover.epoch === position.epoch ? 0 : 1, "what is kept of the room's own epoch");
      refused(t, await session.request({ history: { room, since: recover } }), "unrecoverable_position");
    }
    refused(t, await session.request({ history: { room, before: { epoch: "another", seq: 1 } } }), "unrecoverable_position");
    refused(t, await session.request({ history: { room, since: position, before: head } }), "bad_request");
    refused(t, await session.request({ history: { room, since: { epoch: "e".repeat(1_000), seq: 1 } } }), "bad_request");
    await session.leave(room);
    refused(t, await session.request({ join: { room, recover: { epoch: "e".repeat(1_000), seq: 1 } } }), "bad_request");
  }],
  ["an idempotency key that is too long", async (t, session) => {
    await session.join("keys");
    refused(t, await session.request({ publish: { room: "keys", payload, format: Format.JSON, key: "k".repeat(129) } }), "bad_request");
  }],
];

t.test("bad commands", async (t) => {
  const node = await startNode(t);
  for (const [title, misbehave] of cases) {
    for (const json of [false, true]) {
      await t.test(`${title}, ${json ? "in JSON" : "in binary"}`, (t) => beside(t, node, async () => {
        const session = await open(node, { json });
        await misbehave(t, session);
        session.raw.destroy();
      }));
    }
  }
});

t.test("publishes over the rate are refused, and the session goes on when it slows down", async (t) => {
  const { node, clock } = await startNodeOnHeldClock(t, { reactors: 1 });
  for (const json of [false, true]) {
    const session = await open(node, { json });
    await session.join("fast");
    const replies = await Promise.all(Array.from({ length: 1_300 }, () => session.request({ publish: { room: "fast", payload, format: Format.JSON } })));
    const limited = replies.filter((reply) => reply.error?.code === "rate_limited");
    const published = replies.filter((reply) => reply.published);
    t.equal(published.length, 999, "the burst is let through, of which one command was the join");
    t.equal(limited.length, 301);
    t.ok(limited.every((reply) => reply.error?.retryable), "the rest may be tried again");
    clock.pass(2);
    t.ok((await session.request({ ping: { time: 1 } })).pong, "when the rate lets one through");
    t.equal(new Set(session.publications.map(({ seq }) => seq)).size, published.length, "what was refused was not published");
    session.raw.destroy();
  }
});

t.test("commands that keep coming after they were refused close the session", async (t) => {
  const { node } = await startNodeOnHeldClock(t, { reactors: 1 });
  for (const json of [false, true]) {
    const [session, other] = [await open(node, { json }), await open(node)];
    // In one write: the burst, as many again that are refused, and then some.
    const pings = Array.from({ length: 5_000 }, () => ({ ping: { time: 1 } }));
    const frames = pings.map((ping) => json
      ? buildFrame({ opcode: opcodes.text, payload: encodeText(ping) })
      : buildFrame({ opcode: opcodes.binary, payload: encodeBinary(ping) }));
    await session.raw.write(Buffer.concat(frames));
    t.strictSame(await session.closed(), { code: closes.rate_limited.code, reason: "rate_limited" });
    const limited = session.events.filter((event) => event.error?.code === "rate_limited");
    t.equal(limited.length, 1_000, "not before it was told so as often as its burst has commands");
    t.ok((await other.request({ ping: { time: 1 } })).pong, "the others go on");
    other.raw.destroy();
  }
});
