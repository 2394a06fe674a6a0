/**
 * What the load client can say to a server and hear from it, whatever the server's wire format. One conversation
 * per socket; implementations by wire format: flux.ts, fluxjson.ts, plain.ts, socketio.ts.
 */
import type { ClientSocket } from "./socket.ts";

export type Dialect = "flux" | "plain" | "socketio";

/** What payloads are carried in: bytes, or texts in JSON. */
export type Format = "binary" | "json";

/**
 * member: joins the one room and may publish to it. echo: every message it sends comes back. resumer: a member whose room
 * is durable, who resumes its session when it begins again. publisher: is in no room, publishes to a durable one, and hears
 * what it published once that is acknowledged. reader: a member of a durable room with large payloads.
 */
export type Role = "member" | "echo" | "resumer" | "publisher" | "reader";

/** Told what is heard, for all sockets of a thread. Called once per delivery: must not allocate. */
export interface Ear {
  ready(socket: number): void;
  /** A payload of ours has come. `chained` is false where the server's own numbers show a gap before it. */
  delivered(socket: number, counter: number, sentAt: number, chained: boolean): void;
  refused(socket: number, text: string): void;
}

export interface Conversation {
  /** Path of the URL and subprotocol to offer. */
  readonly path: string;
  readonly subprotocol: string | null;
  /** The upgrade is done: says what comes first, on the socket that all later calls use. */
  begin(socket: ClientSocket): void;
  /** Times its session was resumed; undefined where there are no sessions. */
  readonly resumed?: number;
  /** Publications that are still to be acknowledged; undefined where nothing waits for that. */
  readonly unacknowledged?: number;
  /** MUST answer every ping of the wire format itself (WebSocket pings are answered below it). */
  hear(opcode: number, bytes: Buffer, start: number, end: number): void;
  publish(counter: number, sentAt: number): void;
  echo(counter: number, sentAt: number): void;
}
