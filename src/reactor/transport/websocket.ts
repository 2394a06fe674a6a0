/** The WebSocket transport: uWS's callbacks, in the order of a socket's lifetime. */
import uWS, { type HttpRequest, type HttpResponse, type TemplatedApp, type us_socket_context_t, type WebSocket } from "uWebSockets.js";
import { defaultFormat, formatOfSubprotocol, formats } from "../../protocol/formats/formats.ts";
import { retryAfter } from "./admission.ts";
import { slots } from "../../link/counters.ts";
import { isOpen, onMessage } from "../dispatch.ts";
import { RequestHeaders } from "./framing.ts";
import { respondError, respondUpgrade, webSocketVersion } from "./http.ts";
import { forbidden, isWelcome } from "./origin.ts";
import { closeSession, closeSlow } from "../outgoing.ts";
import { chargeBytes } from "../session/rate.ts";
import type { Reactor } from "../reactor.ts";
import { createSession, type Session } from "../session/session.ts";
import { isCertain } from "./routes.ts";
import { tokenInHeader } from "./token.ts";
import { gone, opened, refusals, turnedAway, type TurnAway } from "./sockets.ts";

/** A message may hold several frames, up to this many of the largest. */
const messageFramesMax = 4;
/** The range that uWS accepts for a timeout, besides 0 for none. */
const idleSecondsMin = 16;
const idleSecondsMax = 960;

/** A client's control frame has a short length and a mask besides its payload. */
const controlHeaderBytes = 6;

/**
 * uWS copies every property onto the socket's own object. Past about a dozen, V8 turns that object into a hash table of
 * 830 bytes. So the session is one property and a separate object.
 */
interface SocketData {
  readonly session: Session;
}

/** @returns a function that counts the open sockets. */
export function serveWebSockets(app: TemplatedApp, reactor: Reactor, door: () => TurnAway | null): () => number {
  const { config, counters, rooms, heartbeat, admission } = reactor;

  const headers = new RequestHeaders();
  let sockets = 0;

  /** Charges pings and pongs too. The smallest of them cost most for their bytes. */
  const onControl = (socket: WebSocket<SocketData>, payload: ArrayBuffer): void => {
    const { session } = socket.getUserData();
    // While a split frame is incomplete they are no sign of life: the frame has to be completed.
    if (session.state === "ready" && session.split === null) heartbeat.heard(session);
    if (!isOpen(session)) return;
    // A session over its limit is closed by this call, and needs no more here.
    chargeBytes(reactor, session, payload.byteLength + controlHeaderBytes);
  };

  app.ws<SocketData>("/ws", {
    maxPayloadLength: messageFramesMax * config.frameBytesMax,
    maxBackpressure: config.socketQueueBytesMax,
    idleTimeout: idleSeconds(config),
    sendPingsAutomatically: false,
    // uWS measures messages after inflation: a longer one ends the socket, and is never held in memory.
    compression: compressors[config.compression],

    upgrade(res, req, socketContext) {
      if (!isCertain(res, req, headers, counters)) return;
      const closed = door();
      if (closed !== null) return turnAway(reactor, res, closed);
      // uWS upgrades any version.
      if (req.getHeader("sec-websocket-version") !== webSocketVersion) return respondUpgrade(res, `Sec-WebSocket-Version: must be ${webSocketVersion}`);
      const ticket = req.getQuery("resume") ?? "";
      if (!admission.admit(ticket, req.getQuery("ticket"))) return turnAway(reactor, res, ticket === "" ? refusals.crowd : refusals.returning);
      upgrade(app, reactor, res, req, socketContext);
    },

    open(socket) {
      const { session } = socket.getUserData();
      sockets++;
      opened(reactor, session, socket);
      // A WebSocket can be closed with a code that the page's script sees. A refused upgrade shows it nothing.
      const { forbiddenOrigin: origin } = session;
      if (origin === "") return;
      const { text, reason } = forbidden(origin);
      closeSession(reactor, session, "forbidden_origin", text, reason);
    },

    message(socket, message, isBinary) {
      const { session } = socket.getUserData();
      counters.addAt(slots.bytesIn, message.byteLength);
      if (!isOpen(session)) return;
      if (!chargeBytes(reactor, session, message.byteLength)) return;
      if (isBinary !== formats[session.wire]!.isBinary) return closeSession(reactor, session, "bad_frame");
      // A view: uWS takes the bytes away when this returns.
      onMessage(reactor, session, new Uint8Array(message));
    },

    pong: onControl,

    // uWS has already answered it.
    ping(socket, message) {
      counters.add("pongs", 1);
      onControl(socket, message);
    },

    drain(socket) {
      const { session } = socket.getUserData();
      if (session.state === "closing") setImmediate(() => closeSlow(reactor, session));
      else rooms.drained(session);
    },

    // uWS calls it about once per batch that a full socket missed, not once per message.
    dropped(socket, message, isBinary) {
      rooms.slow.dropped(socket.getUserData().session, new Uint8Array(message), isBinary);
    },

    close(socket, code, reason) {
      const { session } = socket.getUserData();
      sockets--;
      // uWS has dropped the socket: no client is left to send a code to.
      if (code === noCode && isUnreadable(reason)) counters.add("unreadable", 1);
      gone(reactor, session);
    },
  });
  return () => sockets;
}

/** Closes the socket too: sockets that stay open would still burden the node. */
function turnAway(reactor: Reactor, res: HttpResponse, refusal: TurnAway): void {
  const { error, text } = refusal;
  turnedAway(reactor, refusal);
  respondError(res, "503 Service Unavailable", error, text, { headers: { "Retry-After": retryAfter() }, isLast: true });
}

function upgrade(
  app: TemplatedApp,
  { config }: Reactor,
  res: HttpResponse,
  req: HttpRequest,
  socketContext: us_socket_context_t,
): void {
  const chosen = chosenOf(req.getHeader("sec-websocket-protocol"));
  const origin = req.getHeader("origin");
  const forbiddenOrigin = isWelcome(config, origin, req.getHeader("host")) ? "" : origin;
  res.upgrade<SocketData>(
    { session: createSession(app, chosen === "" ? defaultFormat : formatOfSubprotocol(chosen), forbiddenOrigin, tokenOf(req), req.getQuery("ticket") ?? "") },
    req.getHeader("sec-websocket-key"),
    chosen,
    req.getHeader("sec-websocket-extensions"),
    socketContext,
  );
}

/** The first supported format of those that the client offers. Most clients offer one. */
function chosenOf(offered: string): string {
  if (formatOfSubprotocol(offered) >= 0) return offered;
  return offered.split(",").map((name) => name.trim()).find((name) => formatOfSubprotocol(name) >= 0) ?? "";
}

/**
 * A token that comes with the upgrade: in the header from programs, in the query from clients that can set no header.
 */
function tokenOf(req: HttpRequest): string {
  return tokenInHeader(req) || (req.getQuery("token") ?? "");
}

/**
 * uWS's dedicated compression windows would cost 90 kB per socket. uWS keeps them even where a client asked it not to.
 */
const compressors = {
  off: uWS.DISABLED,
  shared: uWS.SHARED_COMPRESSOR | uWS.SHARED_DECOMPRESSOR,
} as const;

const noCode = 1006;

/** The reason that uWS gives for a socket it drops because of a message. For other protocol errors it gives none. */
function isUnreadable(reason: ArrayBuffer): boolean {
  return reason.byteLength > 0 && /^Received (?:too big|invalid)/.test(Buffer.from(reason).toString("latin1"));
}

/** uWS's own timeout ends only sockets that our heartbeat has given up. So it is longer than ours, or off. */
function idleSeconds({ heartbeatMs, heartbeatGraceMs, handshakeTimeoutMs }: Reactor["config"]): number {
  const seconds = Math.ceil((2 * Math.max(heartbeatMs + heartbeatGraceMs, handshakeTimeoutMs)) / 1000);
  return seconds > idleSecondsMax ? 0 : Math.max(idleSecondsMin, seconds);
}
