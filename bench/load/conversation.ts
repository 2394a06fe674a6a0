/**
 * Actions and events of a load client, for any wire format. One conversation per socket. Implementations: flux.ts,
 * fluxjson.ts, plain.ts, socketio.ts, nats.ts, centrifugo.ts.
 */
import type { ClientSocket } from "./socket.ts";

export type Dialect = "flux" | "plain" | "socketio" | "nats" | "centrifugo";

/** Encoding of payloads: bytes, or texts in JSON. With "json-arrays", flux-gateway's messages are arrays of frames. */
export type Format = "binary" | "json" | "json-arrays";

/**
 * member: joins the room and may publish. excluder: the same, but what it publishes does not come back to it, where a
 * server can do so. echo: every message it sends returns. resumer: a member of a durable room
 * that resumes its session. publisher: joins no room, publishes to a durable one, and counts a publication once it is
 * acknowledged. listener: a member of that room. reader: a member of a durable room with large payloads. mailer: sends
 * direct messages to itself, as a user that its node names, and counts them likewise.
 */
export type Role = "member" | "excluder" | "echo" | "resumer" | "publisher" | "listener" | "reader" | "mailer";

/** Receives the events of all sockets of a thread. Called for every delivery: must not allocate. */
export interface Ear {
  ready(socket: number): void;
  /** A payload of the bench arrived. `chained` is false if the server's own numbers show a gap before it. */
  delivered(socket: number, counter: number, sentAt: number, chained: boolean): void;
  refused(socket: number, text: string): void;
}

export interface Conversation {
  /** Path of the URL and subprotocol to offer. */
  readonly path: string;
  readonly subprotocol: string | null;
  /** The upgrade is complete: sends the first messages on the socket that all later calls use. */
  begin(socket: ClientSocket): void;
  /** Times the session was resumed; undefined without sessions. */
  readonly resumed?: number;
  /** Publications not acknowledged yet; undefined where none are awaited. */
  readonly unacknowledged?: number;
  /** MUST answer every ping of the wire format itself (WebSocket pings are answered below it). */
  hear(opcode: number, bytes: Buffer, start: number, end: number): void;
  publish(counter: number, sentAt: number): void;
  echo(counter: number, sentAt: number): void;
}
