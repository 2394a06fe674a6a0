/**
 * Every code that a client can receive, in two tables: a close ends the socket, an error reply does not. The reference
 * pages are made from these tables. The SDK uses them to decide whether to reconnect.
 */

/**
 * Close codes. 3000 to 3499: reconnect; the session and its positions are kept. 3500 to 3999: do not reconnect until
 * something has changed. A close by the client does not end the session, only its `bye` does: proxies and pages also
 * close with 1000 and 1001.
 */
export const closes = {
  bye: { code: 1000, text: "the client said bye" },
  handshake_timeout: { code: 3000, text: "no hello within the handshake timeout" },
  shutdown: { code: 3001, text: "the node drains or stops; reconnect" },
  moved: { code: 3002, text: "the user belongs on another node, which the `reconnect` before names" },
  token_expired: { code: 3005, text: "the token has expired; reconnect with a new one" },
  slow_consumer: { code: 3008, text: "the client read too slowly and its socket queue was full" },
  session_replaced: { code: 3010, text: "the session was resumed on another socket; reconnect as a new session" },
  no_heartbeat: { code: 3012, text: "the socket was silent and did not answer a ping, or a frame was not completed in time" },
  rate_limited: { code: 3013, text: "commands kept coming after rate_limited" },
  overloaded: { code: 3014, text: "the node cannot take the session right now" },
  invalid_token: { code: 3500, text: "the token is missing, or this node cannot verify it" },
  bad_frame: { code: 3501, text: "a frame is malformed" },
  unsupported_version: { code: 3502, text: "the node does not speak this version of the protocol" },
  frame_too_large: { code: 3503, text: "a frame is larger than frameBytesMax" },
  disconnected: { code: 3504, text: "the application disconnected this user" },
  forbidden_origin: { code: 3505, text: "pages of this origin may not connect (allowedOrigins)" },
  not_hello: { code: 3506, text: "the first frame was not hello" },
  too_many_sessions: { code: 3507, text: "the user has sessionsPerUserMax sessions" },
  denied: { code: 4500, text: "the application denied it" },
} as const satisfies Record<string, { code: number; text: string }>;

export type CloseName = keyof typeof closes;

/** Error replies. `retryable`: the same command may succeed later without any change to it. */
export const errors = {
  bad_request: { retryable: false, text: "a field is missing, malformed or out of range" },
  unauthorized: { retryable: false, text: "this node cannot verify the token, or it belongs to another user" },
  forbidden: { retryable: false, text: "the token, the namespace, the node or the application does not allow it" },
  unknown_namespace: { retryable: false, text: "no namespace of the configuration covers this room name" },
  not_joined: { retryable: false, text: "the session is not in this room" },
  already_joined: { retryable: false, text: "the session has joined this room or is joining it" },
  too_many_rooms: { retryable: false, text: "the session has joined roomsPerSessionMax rooms" },
  too_many_watched: { retryable: false, text: "the session watches watchedPerSessionMax users" },
  rate_limited: { retryable: true, text: "too many commands or bytes per second, or too many direct messages" },
  overloaded: { retryable: true, text: "the node cannot take more right now" },
  unavailable: { retryable: true, text: "a server that the node needs does not answer, or the node drains; try again" },
  unrecoverable_position: { retryable: false, text: "the history no longer covers this position" },
  too_large: { retryable: false, text: "the result does not fit into one frame, or the publication is larger than NATS allows" },
  internal: { retryable: true, text: "the node failed; its log says why" },
} as const satisfies Record<string, { retryable: boolean; text: string }>;

export type ErrorCode = keyof typeof errors;

/** Errors that only requests to the HTTP API get. They get those of `errors` as well. */
export const requestErrors = {
  not_found: { retryable: false, text: "the path does not exist" },
  method_not_allowed: { retryable: false, text: "the path has other methods: see the header Allow" },
  unsupported_media_type: { retryable: false, text: "the body is not JSON: Content-Type must be application/json" },
  conflict: { retryable: false, text: "the idempotency key was used before, with another content" },
} as const satisfies Record<string, { retryable: boolean; text: string }>;

export type RequestErrorCode = ErrorCode | keyof typeof requestErrors;

/** Whether a client should reconnect after a close with this code, unless it said bye. */
export function mayReconnect(code: number): boolean {
  return !((code >= 3500 && code < 4000) || (code >= 4500 && code < 5000));
}
