/**
 * What the application does with users and rooms on all nodes: join, leave, disconnect, reconnect, and lists. Each node
 * does its part and answers with counts; `complete` says whether all of them have.
 */
import type { Answer } from "../broker/broker.ts";
import type { Config } from "../config/config.ts";
import type { Hub } from "../hub/hub.ts";
import type { NodeAnswer, NodeMessage, ReplyTo, ListQuestion, Question } from "../messages/messages.ts";
import type { Gathered, Survey, SurveyOptions } from "../messages/survey.ts";
import type { Presence } from "../presence/presence.ts";
import { roomKey, userKey } from "../protocol/roomkeys.ts";
import type { Sessions } from "../sessions/sessions.ts";
import { checked, checkPrefix, checkRoom, checkTenant, checkUser, checkUrl, shapes } from "./checks.ts";
import { ApiError } from "./error.ts";
import type {
  DisconnectOptions, JoinResult, LeaveResult, ReconnectOptions, RoomInfo, RoomOptions, RoomPage, RoomsOptions, UserInfo, UserOptions, UserSurvey,
} from "./types.ts";

type OfKind<K extends NodeAnswer["kind"]> = Extract<NodeAnswer, { kind: K }>;
type Done<T> = (answer: Answer<T> | ApiError) => void;

/** The nodes of the gateway. Nothing here rejects. */
export interface AllNodes {
  /** This node's own answer, and those of the nodes that `tell` reaches. */
  gather<K extends NodeAnswer["kind"]>(kind: K, own: OfKind<K> | Promise<OfKind<K> | null>, tell: (replyTo: ReplyTo) => void, options?: SurveyOptions): Promise<Gathered<K>>;
  hear<K extends Question["kind"]>(own: OfKind<K>, tell: (replyTo: ReplyTo) => void, options?: SurveyOptions): Promise<Survey<K>>;
  ask<Q extends Question>(question: Q, options?: SurveyOptions): Promise<Survey<Q["kind"]>>;
  list<Q extends ListQuestion>(question: Q, options?: SurveyOptions): Promise<Gathered<Q["kind"]>>;
  sendAll(message: NodeMessage): void;
}

export interface PeopleOptions {
  readonly config: Config;
  readonly hub: Hub;
  readonly store: Sessions;
  readonly presence: Presence;
  readonly nodes: AllNodes;
  /** Whether this node knows all other nodes now. */
  readonly knowsAllMembers: () => boolean;
}

const roomsDefault = 100;

/** Each call checks what it was given, and throws an ApiError; `done` gets the rest. */
export class People {
  readonly #options: PeopleOptions;

  constructor(options: PeopleOptions) {
    this.#options = options;
  }

  join(user: unknown, room: unknown, options: UserOptions, done: Done<JoinResult>): void {
    const { config, hub, store } = this.#options;
    const { name, tenant, key } = this.#user(user, options);
    const wanted = this.#room(room);
    if (hub.kindOf(roomKey(tenant, wanted)) === null) return done({ error: "unknown_namespace" });
    store.assign(key, wanted, config.roomsPerSessionMax, (answer) => {
      if ("error" in answer) return done(answer.error === "too_many_rooms" ? tooManyRooms(config.roomsPerSessionMax) : answer);
      this.#changed(tenant, name, wanted, done);
    });
  }

  leave(user: unknown, room: unknown, options: UserOptions, done: Done<LeaveResult>): void {
    const { name, tenant, key } = this.#user(user, options);
    const wanted = this.#room(room);
    // Whatever the namespaces are now: a room of one that was removed can still be left.
    this.#options.store.unassign(key, wanted, (answer) => {
      if ("error" in answer) return done(answer);
      this.#changed(tenant, name, wanted, (found) => {
        if (found instanceof ApiError || "error" in found) return done(found);
        const { refused: _, ...left } = found.value;
        done({ value: left });
      });
    });
  }

  /** All nodes read the user's rooms again. */
  #changed(tenant: string, user: string, room: string, done: Done<JoinResult>): void {
    const { hub, nodes } = this.#options;
    const own = new Promise<OfKind<"assigned"> | null>((resolve) => {
      hub.sessions.assigned.changed(userKey(tenant, user), room, (assignment) => resolve(assignment && { kind: "assigned", ...assignment }));
    });
    const tell = (replyTo: ReplyTo) => nodes.sendAll({ kind: "assigned", tenant, user, room, replyTo });
    void nodes.gather("assigned", own, tell).then((found) => {
      const { answers, unanswered } = found;
      const sessions = answers.reduce((sum, answer) => sum + answer.sessions, 0);
      const refused = answers.reduce((sum, answer) => sum + answer.refused, 0);
      done({ value: { sessions, refused, unanswered, complete: this.#isComplete(found) } });
    });
  }

  disconnect(user: unknown, options: DisconnectOptions, done: Done<UserSurvey>): void {
    const { tenant, signOut = false, timeoutMs } = checked(shapes.disconnect, options);
    const name = checkUser(user);
    void this.endSessions(name, { tenant: checkTenant(tenant), signOut, timeoutMs }).then((found) => done({ value: { ...found, complete: this.#isComplete(found) } }));
  }

  /** Names are checked already. Never rejects. */
  endSessions(user: string, { tenant, signOut, timeoutMs }: { readonly tenant: string; readonly signOut: boolean; readonly timeoutMs?: number | undefined }): Promise<Survey<"user">> {
    const { hub: { sessions }, nodes } = this.#options;
    const { time: signedOutAt, closed } = signOut ? sessions.signOut(tenant, user) : { time: undefined, closed: sessions.disconnect(tenant, user) };
    const tell = (replyTo: ReplyTo) => nodes.sendAll({ kind: "disconnect", tenant, user, replyTo, signedOutAt });
    return nodes.hear<"user">({ kind: "user", sessions: closed }, tell, { timeoutMs });
  }

  reconnect(user: unknown, options: ReconnectOptions, done: Done<UserSurvey>): void {
    const { hub, nodes } = this.#options;
    const { tenant: given, url, timeoutMs } = checked(shapes.reconnect, options);
    const [name, tenant, to] = [checkUser(user), checkTenant(given), checkUrl(url)];
    const sessions = hub.reconnect(userKey(tenant, name), to);
    const tell = (replyTo: ReplyTo) => nodes.sendAll({ kind: "reconnect", tenant, user: name, url: to, replyTo });
    void nodes.hear<"user">({ kind: "user", sessions }, tell, { timeoutMs }).then((found) => done({ value: { ...found, complete: this.#isComplete(found) } }));
  }

  user(user: unknown, options: UserOptions, done: Done<UserInfo>): void {
    const { store, nodes } = this.#options;
    const { name, tenant, key } = this.#user(user, options);
    const joined = new Promise<readonly string[] | null>((resolve) => store.assigned(key, (answer) => resolve("value" in answer ? answer.value : null)));
    void Promise.all([nodes.list({ kind: "sessions", user: name, tenant }), joined]).then(([found, rooms]) => {
      const sessions = found.answers.flatMap(({ node, sessions }) => sessions.map((one) => ({ session: one.session, node, device: one.device, rooms: one.rooms })));
      const { unanswered } = found;
      done({ value: { user: name, sessions, joined: rooms && [...rooms].sort(), unanswered, complete: this.#isComplete(found) } });
    });
  }

  /** @param patterns only rooms whose name one of them matches: a cursor would give away other names. */
  rooms(options: RoomsOptions, patterns: readonly string[] | undefined, done: Done<RoomPage>): void {
    const { config, nodes } = this.#options;
    const { tenant: given, prefix = "", cursor = "", limit = roomsDefault } = checked(shapes.rooms, options);
    const tenant = checkTenant(given);
    for (const name of [prefix, cursor]) checkPrefix(name, config.roomNameBytesMax);
    void nodes.list({ kind: "rooms", tenant, prefix, after: cursor, limit, patterns }).then((found) => {
      const { unanswered } = found;
      done({ value: { ...merged(found, limit), unanswered, complete: this.#isComplete(found) } });
    });
  }

  room(room: unknown, options: RoomOptions, done: Done<RoomInfo>): void {
    const { hub, nodes, presence } = this.#options;
    const { tenant: given } = checked(shapes.user, options);
    const [tenant, name] = [checkTenant(given), this.#room(room)];
    const key = roomKey(tenant, name);
    const kind = hub.kindOf(key);
    if (kind === null) return done({ error: "unknown_namespace" });
    const users = new Promise<number | null>((resolve) => {
      if (kind.presence === "nobody") return resolve(null);
      presence.members(key, { after: "", limit: 0, bytesMax: 0, bytesEach: 0 }, (answer) => resolve("value" in answer ? answer.value.users : null));
    });
    void Promise.all([nodes.ask({ kind: "room", room: name, tenant }), users]).then(([found, counted]) => {
      const { members: sessions, answers, unanswered } = found;
      const at = answers.map(({ node, members }) => ({ node, sessions: members }));
      done({ value: { room: name, sessions, nodes: at, users: counted, unanswered, complete: this.#isComplete(found) } });
    });
  }

  #isComplete({ unanswered }: { readonly unanswered: readonly string[] }): boolean {
    return unanswered.length === 0 && this.#options.knowsAllMembers();
  }

  #user(user: unknown, options: UserOptions): { name: string; tenant: string; key: string } {
    const { tenant: given } = checked(shapes.user, options);
    const [name, tenant] = [checkUser(user), checkTenant(given)];
    return { name, tenant, key: userKey(tenant, name) };
  }

  #room(room: unknown): string {
    return checkRoom(room, this.#options.config.roomNameBytesMax);
  }
}

/** One page of the pages of all nodes. A node that has more may know a name only up to its last one. */
function merged({ answers }: Gathered<"rooms">, limit: number): Pick<RoomPage, "rooms" | "next"> {
  const ends = answers.flatMap(({ rooms, more }) => (more ? [rooms.at(-1)?.[0] ?? ""] : []));
  const end = ends.reduce<string | null>((first, one) => (first === null || one < first ? one : first), null);
  const counts = new Map<string, number>();
  for (const { rooms } of answers) {
    for (const [name, sessions] of rooms) if (end === null || name <= end) counts.set(name, (counts.get(name) ?? 0) + sessions);
  }
  const all = [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
  const rooms = all.slice(0, limit).map(([room, sessions]) => ({ room, sessions }));
  const isLast = end === null && all.length <= limit;
  return { rooms, next: isLast ? null : rooms.at(-1)?.room ?? null };
}

function tooManyRooms(max: number): ApiError {
  return new ApiError("too_many_rooms", `the user has been joined into ${max} rooms already (roomsPerSessionMax)`);
}
