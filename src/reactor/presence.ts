/** The presence commands, and the status events that the hub sends unasked. */
import { allows } from "../auth/grants.ts";
import type { RecordReader } from "../link/link.ts";
import { writePresence, writeWatch } from "../link/presence.ts";
import { pageSizeMax } from "../protocol/limits.ts";
import type { ClientFrame } from "../protocol/messages.ts";
import { nameBytesMax, nameProblem, roomNameProblem } from "../config/roomnames.ts";
import { keyOf } from "./names.ts";
import { refuse, sendBytes } from "./outgoing.ts";
import type { Reactor } from "./reactor.ts";
import { memberOf, type Session } from "./session/session.ts";

type Fields<K extends keyof ClientFrame> = NonNullable<ClientFrame[K]>;

/** Characters of `after`, a cursor that the node itself made. */
const afterCharsMax = 64;

export function presence(reactor: Reactor, session: Session, id: number, fields: Fields<"presence">): void {
  const room = fields.room ?? "";
  const after = fields.after ?? "";
  const { config } = reactor;
  const problem = roomNameProblem(room, config.roomNameBytesMax);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  const kind = reactor.kindOf(room);
  if (kind === null) return refuse(reactor, session, id, "unknown_namespace");
  if (kind.presence === "nobody") return refuse(reactor, session, id, "forbidden", "presence is disabled for this room");
  if (!allows(session.grant!, "presence", room)) return refuse(reactor, session, id, "forbidden");
  if (kind.presence === "members" && memberOf(session, room) === null) return refuse(reactor, session, id, "not_joined");
  if (after.length > afterCharsMax) return refuse(reactor, session, id, "bad_request", "after: must be `next` of the previous page");
  const { slot, life, wire } = session;
  const limit = fields.countsOnly === true ? 0 : Math.min(fields.limit || config.presencePageMax, config.presencePageMax);
  if (!writePresence(reactor.link, { slot, life, id, wire, room: keyOf(session, room), after, limit })) {
    refuse(reactor, session, id, "overloaded");
  }
}

export function watch(reactor: Reactor, session: Session, id: number, fields: Fields<"watch">, begin: boolean): void {
  const users = fields.users ?? [];
  if (!reactor.config.userStatus) return refuse(reactor, session, id, "forbidden", "watching users is disabled on this node: set userStatus");
  const problem = usersProblem(users);
  if (problem !== null) return refuse(reactor, session, id, "bad_request", problem);
  const { slot, life, wire } = session;
  if (!writeWatch(reactor.link, { slot, life, id, wire, begin, users })) refuse(reactor, session, id, "overloaded");
}

function usersProblem(users: readonly string[]): string | null {
  if (users.length === 0 || users.length > pageSizeMax) return `users: must name 1 to ${pageSizeMax} users`;
  for (const user of users) {
    const problem = nameProblem("users", user, nameBytesMax);
    if (problem !== null) return problem;
  }
  return null;
}

/** Sends a user's new status to the sessions that watch this user. */
export function onStatus(reactor: Reactor, record: RecordReader): void {
  const frame = record.blob();
  for (let left = record.u32(); left > 0; left--) {
    const session = reactor.sessions.find(record.u32(), record.u32());
    if (session !== null) sendBytes(reactor, session, frame);
  }
}
