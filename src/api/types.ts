/** The calls of the application, what they take and what they give. */
import type { Position } from "../broker/broker.ts";
import type { Survey, SurveyOptions } from "../messages/survey.ts";
import type { Publication } from "./publication.ts";
import type { RoomStream } from "./stream.ts";

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
  /**
   * Joins all sessions of a user into a room, on all nodes, and every later session of the user until `leave`. The user's
   * token needs no right to join. Resolves when this is stored and the sessions of the nodes that answered have joined.
   * Rejects `too_many_rooms` beyond `roomsPerSessionMax` rooms of one user, and `unavailable` while Redis is: then
   * nobody may have joined, and a repeat is harmless.
   */
  join(user: string, room: string, options?: UserOptions): Promise<JoinResult>;
  /**
   * Takes all sessions of a user out of a room, on all nodes, also sessions that joined it by themselves. Later sessions
   * are not joined any more. A client whose token allows the room may join it again. Rejects as `join`.
   */
  leave(user: string, room: string, options?: UserOptions): Promise<LeaveResult>;
  /**
   * Closes and ends every session of a user (3504). With `signOut`, all nodes also reject the user's tokens and resume
   * tokens issued before now. This node is done when the call returns, the others when they receive the message.
   * Resolves with the number of sessions on each node.
   */
  disconnect(user: string, options?: DisconnectOptions): Promise<UserSurvey>;
  /**
   * Closes the sockets of a user with 3001 and asks the clients to reconnect, to `url` if it is given. They resume their
   * sessions. Resolves with the number of sessions on each node.
   */
  reconnect(user: string, options?: ReconnectOptions): Promise<UserSurvey>;
  /** The sessions of a user on all nodes, and the rooms into which the application has joined the user. */
  user(user: string, options?: UserOptions): Promise<UserInfo>;
  /** Reads a page of the rooms that have members, by name, with the members on all nodes. */
  rooms(options?: RoomsOptions): Promise<RoomPage>;
  /** The members of a room, counted on all nodes. */
  room(room: string, options?: RoomOptions): Promise<RoomInfo>;
}

export interface UserOptions {
  /** Tenant of the user and of the room. Default: none. */
  readonly tenant?: string | undefined;
}

export interface RoomOptions {
  /** Tenant of the room. Default: none. */
  readonly tenant?: string | undefined;
}

/** What all nodes together have answered. */
export interface OfAllNodes {
  /** False: other nodes may have more. They did not answer in time, or the nodes share no Redis, or it is unavailable. */
  readonly complete: boolean;
  /** Nodes without an answer. */
  readonly unanswered: readonly string[];
}

/** The number of sessions on each node. */
export type UserSurvey = Survey<"user"> & OfAllNodes;

export interface JoinResult extends OfAllNodes {
  /** Sessions of the user that are in the room now. */
  readonly sessions: number;
  /** Sessions that have not joined: they, or their node, are in too many rooms, or NATS did not answer in time. */
  readonly refused: number;
}

export interface LeaveResult extends OfAllNodes {
  /** Sessions that left the room. */
  readonly sessions: number;
}

export interface DisconnectOptions extends SurveyOptions {
  /** Tenant of the user. Default: none. */
  readonly tenant?: string | undefined;
  /** Also reject the tokens and resume tokens that the user has now. Default: false. */
  readonly signOut?: boolean | undefined;
}

export interface ReconnectOptions extends SurveyOptions {
  /** Tenant of the user. Default: none. */
  readonly tenant?: string | undefined;
  /** The WebSocket URL that the clients connect to. Default: the one they used before. */
  readonly url?: string | undefined;
}

/** A session that has a socket. */
export interface UserSession {
  /** Identifier of the session: `exclude` of publish takes it. */
  readonly session: string;
  /** Node that has its socket. */
  readonly node: string;
  /** Name of the device, as the client gave it; empty where it gave none. */
  readonly device: string;
  /** Rooms that the session is in. */
  readonly rooms: number;
}

export interface UserInfo extends OfAllNodes {
  /** Name of the user. */
  readonly user: string;
  /** Sessions of the user that have a socket. */
  readonly sessions: readonly UserSession[];
  /** Rooms into which `join` has joined the user; null: they cannot be read now. */
  readonly joined: readonly string[] | null;
}

export interface RoomsOptions {
  /** Tenant of the rooms. Default: none. */
  readonly tenant?: string | undefined;
  /** Begin of the names. Default: all rooms of the tenant. */
  readonly prefix?: string | undefined;
  /** `next` of the previous page. */
  readonly cursor?: string | undefined;
  /** Rooms in the page, 1 to 1,000. Default 100. */
  readonly limit?: number | undefined;
}

/** A page of the rooms that have members, sorted by name. */
export interface RoomPage extends OfAllNodes {
  /** Name of each room, and the sessions in it. */
  readonly rooms: readonly { readonly room: string; readonly sessions: number }[];
  /** Cursor for the next page, to give as `cursor`; null: this is the last page. */
  readonly next: string | null;
}

export interface RoomInfo extends OfAllNodes {
  /** Name of the room. */
  readonly room: string;
  /** Sessions in the room. */
  readonly sessions: number;
  /** How many of them each node has. */
  readonly nodes: readonly { readonly node: string; readonly sessions: number }[];
  /** Users in the room; null where the namespace has `presence: nobody`, or they cannot be counted now. */
  readonly users: number | null;
}

export interface PublishOptions {
  /** Idempotency key, at most 128 characters. A second publish with it has no effect within `keyWindowMs`. Default: none. */
  readonly key?: string | undefined;
  /**
   * Identifier of a session that does not get the publication, as a client has it (`client.session.session`): it shows
   * the publication already. History and recovery include the publication. Default: nobody.
   */
  readonly exclude?: string | undefined;
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
  /** Publications between those of this page are missing: their stream deleted them before they were archived. */
  readonly gap?: boolean;
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
