/**
 * Well-behaved members of a room that exchange publications and write down what happens to them: what other tests
 * run beside whatever they do to the node, to show that nobody else suffers.
 */
import { Format } from "../../src/protocol/messages.ts";
import { createHistory, type History } from "./history.ts";
import { open, seen, type OpenOptions, type SeenPublication, type TestSession } from "./session.ts";
import type { Verdict } from "./verdict.ts";

export interface LoadOptions {
  room: string;
  /** Members, every second one in JSON. Default: 2. */
  members?: number;
  /** Time between two publishes of one member. Default: 3 ms. */
  everyMs?: number;
  /** Publications that must have been exchanged before stop() returns. Default: 20. */
  atLeast?: number;
  seed?: number | string;
  /** Strangers may publish to the room too. Theirs are checked for order and doubles like the members' own. */
  strangers?: boolean;
}

export interface Load {
  readonly history: History;
  /** Publications acknowledged so far. */
  readonly acknowledged: number;
  /** Stops publishing, waits until everyone has everything, and judges. Fails if a member was closed. */
  stop(): Promise<Verdict>;
}

export async function startLoad(node: { port: number }, options: LoadOptions): Promise<Load> {
  const { room, members = 2, everyMs = 3, atLeast = 20, seed = "none", strangers = false } = options;
  const history = createHistory(seed);
  const sessions = await Promise.all(
    Array.from({ length: members }, (_, i) => joinRecorded(node, history, room, `member${i}`, { json: i % 2 === 1, strangers })),
  );
  let acknowledged = 0;
  let stopping = false;
  const publishing = sessions.map(async (session, i) => {
    for (let n = 0; !stopping || acknowledged < atLeast; n++) {
      if (await publishRecorded(session, history, room, `${i}-${n}`)) acknowledged++;
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  });
  // A member that is closed is reported by stop(); until then its rejection must not end the process.
  const over = Promise.allSettled(publishing);

  return {
    history,
    get acknowledged() { return acknowledged; },
    stop: async () => {
      stopping = true;
      await over;
      await Promise.all(publishing);
      const last = `last of ${seed}`;
      await Promise.all(sessions.map(async (session, i) => {
        const seenLast = new Promise<void>((resolve) => {
          session.onPublication((publication) => {
            if (publication.room === room && idOf(publication) === last) resolve();
          });
        });
        if (i === 0) await publishRecorded(session, history, room, last);
        await session.whileOpen(seenLast, "the last publication");
      }));
      await Promise.all(sessions.map((session) => session.bye()));
      return history.judge();
    },
  };
}

/** Opens a session and joins; from then on everything the session gets of the room is written down. */
export async function joinRecorded(
  node: { port: number }, history: History, room: string, member: string, { strangers = false, ...options }: OpenOptions & Pick<LoadOptions, "strangers"> = {},
): Promise<TestSession> {
  const session = await open(node, { keep: false, ...options });
  session.onEvent(({ joined, sync }) => {
    if (joined?.room === room) history.joined(room, member, seen(joined.position));
    if (sync?.room === room) throw new Error(`${member} was told of a gap in ${room}`);
  });
  session.onPublication((publication) => {
    if (publication.room !== room) return;
    const id = idOf(publication);
    const position = { epoch: publication.epoch, seq: publication.seq };
    if (id !== undefined) return history.delivered(room, member, id, position, publication.prev);
    if (!strangers) throw new Error(`${member} got a publication of a stranger in ${room}`);
    history.attempted(room, `stranger's at ${position.seq}`);
    history.delivered(room, member, `stranger's at ${position.seq}`, position, publication.prev);
  });
  await session.join(room);
  return session;
}

/** Publishes a payload that carries the id; every second one in JSON, so that both formats cross. */
export async function publishRecorded(session: TestSession, history: History, room: string, id: string): Promise<boolean> {
  const asJson = /[02468]$/.test(id);
  const payload = Buffer.from(asJson ? JSON.stringify({ id: `${mark}${id}` }) : `${mark}${id}`);
  history.attempted(room, id);
  const { published, error } = await session.request({ publish: { room, payload, format: asJson ? Format.JSON : Format.BINARY } });
  if (published) history.acknowledged(room, id, seen(published.position));
  else history.refused(room, id, error?.code ?? "nothing");
  return Boolean(published);
}

/** Stands before an id, so that no stranger's payload is taken for one of ours. */
const mark = "load:";

/** The id that publishRecorded put into the payload; undefined if it did not. */
function idOf({ payload, format }: SeenPublication): string | undefined {
  const text = payload.toString("utf8");
  const whole = format === Format.JSON && text.startsWith('{"id":') ? String((JSON.parse(text) as { id: unknown }).id) : text;
  return whole.startsWith(mark) ? whole.slice(mark.length) : undefined;
}
