/**
 * The client SDK, for browsers and Node:
 *
 *   const client = connect("ws://127.0.0.1:8080/ws");
 *   const room = client.join("chat:general", { history: 50, onPublication: ({ sender, data }) => show(sender, data) });
 *   await room.publish({ text: "hi" });
 */
import { Client } from "./client.ts";
import type { Locate } from "./connection/locator.ts";
import type { ClientOptions } from "./options.ts";

/** Connects to a node, and reconnects after every loss until `close()`. Throws SyntaxError if `url` is not a WebSocket address, Error if the platform has no WebSocket. */
export function connect(url: string, options?: ClientOptions): Client;
/** Connects to the node that `locate` names, asked before every attempt. */
export function connect(options: ClientOptions & { locate: Locate }): Client;
export function connect(where: string | ClientOptions, options: ClientOptions = {}): Client {
  return typeof where === "string" ? new Client(where, options) : new Client("", where);
}

export { FluxError } from "./flux-error.ts";
export type { Client, ClientEvents } from "./client.ts";
export type { Backoff, Clock } from "./clock.ts";
export type { Closed } from "./connection/closed.ts";
export type { State, StateChange } from "./connection/connection.ts";
export type { Unsubscribe } from "./emitter.ts";
export type { ClientErrorCode } from "./flux-error.ts";
export type { Inbox, InboxEvents, Message, MessageHandler, MessageOptions } from "./rooms/inbox.ts";
export type { JoinedRoom, RoomEvents } from "./rooms/membership.ts";
export type { Locate, Located, LocateQuestion } from "./connection/locator.ts";
export type { ClientOptions, JoinOptions, SendOptions, Sent } from "./options.ts";
export type { Member, Members, MembersChange, MembersEvents, PresenceOptions, PresencePage } from "./rooms/presence.ts";
export type { Position, Publication, Ready } from "./rooms/publication.ts";
export type { History, HistoryOptions, Published, PublishOptions, Room } from "./rooms/room.ts";
export type { StorageLike } from "./saved.ts";
export type { Gap, Recovered } from "./rooms/stream.ts";
export type { TokenProvider, TokenReason } from "./connection/tokens.ts";
export type { UserStatus } from "./watches.ts";
export type { WebSocketConstructor, WebSocketLike } from "./connection/websocket.ts";
