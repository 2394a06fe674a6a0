/**
 * The client SDK, for browsers and Node:
 *
 *   const client = connect("ws://127.0.0.1:8080/ws");
 *   const room = client.join("chat:general", { history: 50, onPublication: ({ sender, data }) => show(sender, data) });
 *   await room.publish({ text: "hi" });
 */
import { oneOf } from "./addresses.ts";
import type { FindAddress } from "./addresses.ts";
import { Client } from "./client.ts";
import type { Locate } from "./connection/locator.ts";
import type { ClientOptions } from "./options.ts";

/**
 * Connects to a node, and reconnects after every loss until `close()`. With several addresses it begins with any of them,
 * and takes the next one when one cannot be reached. A function is asked before every attempt, like the option `locate`.
 * Throws SyntaxError if an address is not a WebSocket address, Error if the platform has no WebSocket.
 */
export function connect(where: string | readonly string[] | FindAddress, options?: ClientOptions): Client;
/** Connects to the node that `locate` names, asked before every attempt. */
export function connect(options: ClientOptions & { locate: Locate }): Client;
export function connect(where: string | readonly string[] | FindAddress | ClientOptions, options: ClientOptions = {}): Client {
  if (typeof where === "string") return new Client(where, options);
  if (typeof where === "function") return new Client("", { ...options, locate: where });
  if (!isList(where)) return new Client("", where);
  // The saved session belongs to these addresses.
  return new Client("", { ...options, locate: oneOf(where, options.random ?? Math.random) }, where.join(" "));
}

function isList(where: unknown): where is readonly string[] {
  return Array.isArray(where);
}

export { FluxError } from "./flux-error.ts";
export type { FindAddress } from "./addresses.ts";
export type { Client } from "./client.ts";
export type { ClientEvents, ClientStats } from "./events.ts";
export type { Backoff, Clock } from "./clock.ts";
export type { Closed } from "./connection/closed.ts";
export type { State, StateChange } from "./connection/state.ts";
export type { Unsubscribe } from "./emitter.ts";
export type { ClientErrorCode, FluxErrorCode } from "./flux-error.ts";
export type { Inbox, InboxEvents, Message, MessageHandler, MessageOptions } from "./rooms/inbox.ts";
export type { JoinedRoom, RoomEvents } from "./rooms/membership.ts";
export type { Locate, Located, LocateQuestion } from "./connection/locator.ts";
export type { ClientOptions, JoinOptions, SendOptions, Sent, WaitOptions } from "./options.ts";
export type { Member, Members, MembersChange, MembersEvents, PresenceOptions, PresencePage } from "./rooms/presence.ts";
export type { Position, Publication, Ready } from "./rooms/publication.ts";
export type { History, HistoryOptions, Published, PublishOptions, Room } from "./rooms/room.ts";
export type { Schema, SchemaResult } from "./rooms/schema.ts";
export type { StorageLike } from "./saved.ts";
export type { Gap, Recovered } from "./rooms/stream.ts";
export type { TokenProvider, TokenReason } from "./connection/tokens.ts";
export type { Debug, DebugEvent } from "./connection/traffic.ts";
export type { UserStatus } from "./watches.ts";
export type { WebSocketConstructor, WebSocketLike } from "./connection/websocket.ts";
