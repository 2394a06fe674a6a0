/**
 * What an application does without a socket: publish, send, read history and members, follow a room. The embedding
 * program has these calls on the object that createGateway returns. They go through the hub like commands of clients,
 * with the same limits, keys and error codes, but without the rights and rates of a user.
 */
import { originForAll, type Answer, type Draft, type Page, type Position, type Published, type Stored } from "../broker/broker.ts";
import type { HubRooms } from "../hub/rooms.ts";
import type { Survey } from "../messages/survey.ts";
import type { Logger } from "../platform/log/log.ts";
import { historyLimitDefault } from "../protocol/limits.ts";
import { applicationKey, inboxKey, nameOfUser, roomKey } from "../protocol/roomkeys.ts";
import { Calls, closing } from "./calls.ts";
import { checked, checkRoom, checkTenant, checkUser, pageLimit, payloadOf, shapes, type Payload } from "./checks.ts";
import { ApiError } from "./error.ts";
import { People, type PeopleOptions } from "./people.ts";
import { toPublication } from "./publication.ts";
import { QueueBytes, Stream, type RoomStream } from "./stream.ts";
import type {
  Api, DisconnectOptions, History, HistoryOptions, JoinResult, LeaveResult, Members, MembersOptions, PublishOptions, PublishResult, ReconnectOptions, RoomInfo,
  RoomOptions, RoomPage, RoomsOptions, SendOptions, SendResult, StreamOptions, UserInfo, UserOptions, UserSurvey,
} from "./types.ts";

export interface ApiOptions extends PeopleOptions {
  readonly rooms: HubRooms;
  readonly log: Logger;
}

/** Bytes of a member in a page besides the name, and about the bytes of all names in it, as in pages for clients. */
const memberBytes = 48;
const memberPageBytes = 32 * 1024;
const streamsMax = 1_000;
/** Bytes of payloads that may wait in the queues of all streams. */
const streamBytesMax = 64 * 1024 * 1024;
const streamQueueDefault = 1_000;
/** No user has an empty name. */
const noUser = "";

export class ApplicationApi implements Api {
  readonly #options: ApiOptions;
  readonly #calls: Calls;
  readonly #people: People;
  readonly #streams = new Set<Stream>();
  readonly #streamBytes = new QueueBytes(streamBytesMax);
  #closed = false;

  constructor(options: ApiOptions) {
    this.#options = options;
    this.#calls = new Calls(options.log);
    this.#people = new People(options);
  }

  publish(room: string, data: unknown, options: PublishOptions = {}): Promise<PublishResult> {
    return this.#calls.run("publish", (done) => {
      const { rooms } = this.#options;
      const { key = "", exclude, tenant } = checked(shapes.publish, options);
      const name = this.#roomKey(room, tenant);
      const origin = exclude === undefined ? "" : originForAll + exclude;
      this.#publish(name, { key, origin, ...this.#payload(data) }, (answer) => {
        if ("error" in answer) return done(answer);
        const { epoch, seq, duplicate } = answer.value;
        done({ value: { epoch, seq, receivers: rooms.named(name)?.members ?? 0, duplicate } });
      });
    });
  }

  send(user: string, data: unknown, options: SendOptions = {}): Promise<SendResult> {
    return this.#calls.run("send", (done) => {
      const { key = "", tenant } = checked(shapes.send, options);
      const inbox = inboxKey(checkTenant(tenant), checkUser(user));
      this.#publish(inbox, { key, origin: "", ...this.#payload(data) }, (answer) => {
        if ("error" in answer) return done(answer);
        const { epoch, seq, duplicate } = answer.value;
        done({ value: { epoch, seq, duplicate } });
      });
    });
  }

  history(room: string, options: HistoryOptions = {}): Promise<History> {
    return this.#calls.run("history", (done) => {
      const { since, before, limit, tenant } = checked(shapes.history, options);
      const direction = since !== undefined ? "since" : before !== undefined ? "before" : "newest";
      const { epoch, seq } = since ?? before ?? { epoch: "", seq: 0 };
      const query = { direction, epoch, seq, limit: pageLimit(limit, historyLimitDefault) } as const;
      const key = this.#roomKey(room, tenant);
      this.#options.hub.history(key, query, (answer) => done("error" in answer ? answer : { value: historyOf(room, answer.value) }));
    });
  }

  members(room: string, options: MembersOptions = {}): Promise<Members> {
    return this.#calls.run("members", (done) => {
      const { config, hub, presence, knowsAllMembers } = this.#options;
      const { after = "", limit, tenant } = checked(shapes.members, options);
      const key = this.#roomKey(room, tenant);
      const kind = hub.kindOf(key);
      if (kind === null) return done({ error: "unknown_namespace" });
      if (kind.presence === "nobody") return done(new ApiError("forbidden", "presence is disabled for this room"));
      const query = { after, limit: pageLimit(limit, config.presencePageMax, config.presencePageMax), bytesMax: memberPageBytes, bytesEach: memberBytes };
      presence.members(key, query, (answer) => {
        if ("error" in answer) return done(answer);
        const { users, sessions, members, next } = answer.value;
        const named = members.map((one) => ({ user: nameOfUser(one.user), sessions: one.sessions }));
        done({ value: { users, sessions, members: named, next: next === "" ? null : next, complete: knowsAllMembers() } });
      });
    });
  }

  /** @param show makes what the reader gets of a publication. */
  stream(room: string, options: StreamOptions = {}, show = toPublication): RoomStream {
    const { hub } = this.#options;
    let settings = { room, since: null as Position | null, queueMax: 1, bytes: this.#streamBytes, show };
    let key = "";
    let problem: ApiError | null = null;
    try {
      const { tenant, since = null, queueMax = streamQueueDefault } = checked(shapes.stream, options);
      key = this.#roomKey(room, tenant);
      settings = { ...settings, since, queueMax };
    } catch (error) {
      problem = error instanceof ApiError ? error : this.#calls.failed("stream", error);
    }
    return new Stream({
      begin: (stream) => {
        const refused = problem ?? this.#mayStream();
        if (refused === null) this.#streams.add(stream);
        else this.#calls.count("stream", refused.code);
        return refused;
      },
      ended: (stream, code) => {
        this.#streams.delete(stream);
        this.#calls.count("stream", code);
      },
      listen: (listener) => hub.joins.listen(key, listener),
      unlisten: (listener) => hub.joins.unlisten(key, listener),
      history: (query, done) => hub.history(key, query, done),
      failed: (error) => this.#calls.failed("stream", error),
    }, settings);
  }

  join(user: string, room: string, options: UserOptions = {}): Promise<JoinResult> {
    return this.#calls.run("join", (done) => this.#people.join(user, room, options, done));
  }

  leave(user: string, room: string, options: UserOptions = {}): Promise<LeaveResult> {
    return this.#calls.run("leave", (done) => this.#people.leave(user, room, options, done));
  }

  disconnect(user: string, options: DisconnectOptions = {}): Promise<UserSurvey> {
    return this.#calls.run("disconnect", (done) => this.#people.disconnect(user, options, done));
  }

  /** For the admin port, which has checked the names. It works until the node is closed, and never rejects. */
  endSessions(...call: Parameters<People["endSessions"]>): Promise<Survey<"user">> {
    return this.#people.endSessions(...call);
  }

  reconnect(user: string, options: ReconnectOptions = {}): Promise<UserSurvey> {
    return this.#calls.run("reconnect", (done) => this.#people.reconnect(user, options, done));
  }

  user(user: string, options: UserOptions = {}): Promise<UserInfo> {
    return this.#calls.run("user", (done) => this.#people.user(user, options, done));
  }

  /** @param patterns only rooms whose name one of them matches. */
  rooms(options: RoomsOptions = {}, patterns?: readonly string[]): Promise<RoomPage> {
    return this.#calls.run("rooms", (done) => this.#people.rooms(options, patterns, done));
  }

  room(room: string, options: RoomOptions = {}): Promise<RoomInfo> {
    return this.#calls.run("room", (done) => this.#people.room(room, options, done));
  }

  #mayStream(): ApiError | null {
    if (this.#closed) return closing();
    return this.#streams.size < streamsMax ? null : new ApiError("overloaded", `${streamsMax} streams are open already`);
  }

  usage(): ReturnType<Calls["usage"]> & { readonly streams: number; readonly streamBytes: number } {
    return { ...this.#calls.usage(), streams: this.#streams.size, streamBytes: this.#streamBytes.used };
  }

  /** Before the hub and the stores close. */
  close(): void {
    this.#closed = true;
    this.#calls.close();
    for (const stream of [...this.#streams]) stream.fail(closing());
  }

  #roomKey(room: unknown, tenant: string | undefined): string {
    return roomKey(checkTenant(tenant), checkRoom(room, this.#options.config.roomNameBytesMax));
  }

  #payload(data: unknown): Payload {
    return payloadOf(data, this.#options.config.frameBytesMax);
  }

  #publish(room: string, draft: Omit<Draft, "sender">, done: (answer: Answer<Published>) => void): void {
    this.#options.hub.publish(room, { ...draft, sender: noUser, key: applicationKey(draft.key) }, done);
  }
}

function historyOf(room: string, { publications, position: { epoch, seq }, more, gap }: Page): History {
  return { publications: publications.map((one: Stored) => toPublication(room, one)), position: { epoch, seq }, more, ...(gap === true && { gap }) };
}
