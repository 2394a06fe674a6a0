/**
 * What an application does without a socket: publish, send, read history and members, follow a room. The embedding
 * program has these calls on the object that createGateway returns. They go through the hub like commands of clients,
 * with the same limits, keys and error codes, but without the rights and rates of a user.
 */
import type { Answer, Page, Position, Published, Stored } from "../broker/broker.ts";
import type { Config } from "../config/config.ts";
import type { Hub } from "../hub/hub.ts";
import type { HubRooms } from "../hub/rooms.ts";
import type { Logger } from "../platform/log/log.ts";
import type { Presence } from "../presence/presence.ts";
import { historyLimitDefault } from "../protocol/limits.ts";
import { inboxKey, nameOfUser, roomKey, senderKey } from "../protocol/roomkeys.ts";
import { Calls, closing } from "./calls.ts";
import { checked, checkRoom, checkTenant, checkUser, pageLimit, payloadOf, shapes, type Payload } from "./checks.ts";
import { ApiError } from "./error.ts";
import { toPublication, type Publication } from "./publication.ts";
import { QueueBytes, Stream, type RoomStream } from "./stream.ts";

/** What the application can do on a node without being a client. Every promise rejects with an `ApiError` only. */
export interface Api {
  /**
   * Publishes into a room, also where the namespace has `publish: nobody`. Resolves when the publication has its position;
   * in a durable room it is stored then. The publication's sender is empty.
   */
  publish(room: string, data: unknown, options?: PublishOptions): Promise<PublishResult>;
  /** Sends a direct message into the inbox of a user, online or not. The message's sender is empty. */
  send(user: string, data: unknown, options?: SendOptions): Promise<SendResult>;
  /**
   * Reads a page of a room's publications. A durable room is read from where the broker stores it. Of other rooms a node
   * knows only the newest publications, while it has members in them.
   */
  history(room: string, options?: HistoryOptions): Promise<History>;
  /** Reads a page of the users in a room. Rejects `forbidden` where the namespace has `presence: nobody`. */
  members(room: string, options?: MembersOptions): Promise<Members>;
  /**
   * Follows a room, from the first call of `next()` on. The first event is `open`; then come publications in order, none
   * twice and none left out. The queue is bounded: a reader that is too slow gets `gap` as the last event. What goes wrong
   * rejects `next()` with an `ApiError`: `unavailable` when the node closes.
   */
  stream(room: string, options?: StreamOptions): RoomStream;
}

export interface PublishOptions {
  /** Idempotency key, at most 128 characters. A second publish with it has no effect within `keyWindowMs`. Default: none. */
  readonly key?: string | undefined;
  /** Tenant of the room. Default: none. */
  readonly tenant?: string | undefined;
}

export interface SendOptions {
  /** Idempotency key, at most 128 characters. A second message with it to this user has no effect. Default: none. */
  readonly key?: string | undefined;
  /** Tenant of the user. Default: none. */
  readonly tenant?: string | undefined;
}

/** Position of a publication in its room. */
export interface PublishResult extends Position {
  /** Members of the room on this node when it was published. Members on other nodes are not counted. */
  readonly receivers: number;
  /** The key had been used before: this is the position of the first publication. */
  readonly duplicate: boolean;
}

/** Position of a direct message in the inbox of its recipient. */
export interface SendResult extends Position {
  /** The key had been used before: this is the position of the first message. */
  readonly duplicate: boolean;
}

export interface HistoryOptions {
  /** Tenant of the room. Default: none. */
  readonly tenant?: string | undefined;
  /** Read forward, after this position. */
  readonly since?: Position | undefined;
  /** Read backward, before this position. Without `since` and `before` the newest are read. */
  readonly before?: Position | undefined;
  /** Publications to read at most. Default 100; a page has 256 at most, and fewer if they are large. */
  readonly limit?: number | undefined;
}

export interface History {
  /** The publications, oldest first. */
  readonly publications: readonly Publication[];
  /** Position of the newest publication of the room. */
  readonly position: Position;
  /** There are more in the same direction. */
  readonly more: boolean;
}

export interface MembersOptions {
  /** Tenant of the room. Default: none. */
  readonly tenant?: string | undefined;
  /** `next` of the previous page. */
  readonly after?: string | undefined;
  /** Users in the page; 0: counts only. Default and maximum: `presencePageMax`. */
  readonly limit?: number | undefined;
}

/** A page of the users in a room. */
export interface Members {
  /** Users in the room. */
  readonly users: number;
  /** Sessions in the room. */
  readonly sessions: number;
  /** Users of this page, with the sessions of each in the room; 0: the last one has just left. */
  readonly members: readonly { readonly user: string; readonly sessions: number }[];
  /** Cursor for the next page, to give as `after`; null: this is the last page. */
  readonly next: string | null;
  /** False: members on other nodes may be missing, because the nodes share no Redis, or it is unavailable. */
  readonly complete: boolean;
}

export interface StreamOptions {
  /** Tenant of the room. Default: none. */
  readonly tenant?: string | undefined;
  /** Begin after this position. Default: the newest position of the room. */
  readonly since?: Position | undefined;
  /** Publications that may wait for the reader, 1 to 10,000. Default 1,000. */
  readonly queueMax?: number | undefined;
}

export interface ApiOptions {
  readonly config: Config;
  readonly hub: Hub;
  readonly rooms: HubRooms;
  readonly presence: Presence;
  /** Whether presence knows the members on all nodes. */
  readonly knowsAllMembers: () => boolean;
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
  readonly #streams = new Set<Stream>();
  readonly #streamBytes = new QueueBytes(streamBytesMax);
  #closed = false;

  constructor(options: ApiOptions) {
    this.#options = options;
    this.#calls = new Calls(options.log);
  }

  publish(room: string, data: unknown, options: PublishOptions = {}): Promise<PublishResult> {
    return this.#calls.run("publish", (done) => {
      const { rooms } = this.#options;
      const { key = "", tenant } = checked(shapes.publish, options);
      const name = this.#roomKey(room, tenant);
      this.#publish(name, key, this.#payload(data), (answer) => {
        if ("error" in answer) return done(answer);
        const { epoch, seq, duplicate } = answer.value;
        done({ value: { epoch, seq, receivers: rooms.named(name)?.members ?? 0, duplicate } });
      });
    });
  }

  send(user: string, data: unknown, options: SendOptions = {}): Promise<SendResult> {
    return this.#calls.run("send", (done) => {
      const { key = "", tenant } = checked(shapes.publish, options);
      const inbox = inboxKey(checkTenant(tenant), checkUser(user));
      this.#publish(inbox, key === "" ? "" : senderKey(noUser, key), this.#payload(data), (answer) => {
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

  stream(room: string, options: StreamOptions = {}): RoomStream {
    const { hub } = this.#options;
    let settings = { room, since: null as Position | null, queueMax: 1, bytes: this.#streamBytes };
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

  #publish(room: string, key: string, { payload, format }: Payload, done: (answer: Answer<Published>) => void): void {
    this.#options.hub.publish(room, { sender: noUser, payload, format, key, origin: "" }, done);
  }
}

function historyOf(room: string, { publications, position: { epoch, seq }, more }: Page): History {
  return { publications: publications.map((one: Stored) => toPublication(room, one)), position: { epoch, seq }, more };
}
