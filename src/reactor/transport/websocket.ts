/** The WebSocket transport: uWS's callbacks, in the order of a socket's life. */
import uWS, { type HttpRequest, type HttpResponse, type TemplatedApp, type us_socket_context_t, type WebSocket } from "uWebSockets.js";
import { defaultFormat, formatOfSubprotocol, formats } from "../../protocol/formats/formats.ts";
import { retryAfter } from "./admission.ts";
import { isOpen, onMessage } from "../dispatch.ts";
import { respondError, respondUpgrade, webSocketVersion } from "./http.ts";
import { forbidden, isWelcome } from "./origin.ts";
import { closeSession, closeSlow } from "../outgoing.ts";
import { chargeBytes } from "../session/rate.ts";
import type { Reactor } from "../reactor.ts";
import { createSession, type Session } from "../session/session.ts";
import { gone, opened, refusals, turnedAway, type Refusal } from "./sockets.ts";

/** A message may hold several frames, up to this many of the largest. */
const messageFramesMax = 4;
/** What uWS takes for a timeout, besides 0 for none. */
const idleSecondsMin = 16;
const idleSecondsMax = 960;

/** What a control frame of a client has besides its payload: a short length, and a mask. */
const controlHeaderBytes = 6;

/**
 * uWS sets every property of it on the socket's own object. Past about a dozen V8 turns that into a hash table, 830 bytes
 * each, so the session is one property and an object of its own.
 */
interface SocketData {
  readonly session: Session;
}

/** @returns how many of them are open. */
export function serveWebSockets(app: TemplatedApp, reactor: Reactor, door: () => Refusal | null): () => number {
  const { config, counters, rooms, heartbeat, admission } = reactor;

  let sockets = 0;

  /** Pings and pongs are work too, and the smallest of them cost most for their bytes. */
  const onControl = (socket: WebSocket<SocketData>, payload: ArrayBuffer): void => {
    const { session } = socket.getUserData();
    // While a frame is only begun they are no sign of life: it has to become whole.
    if (session.state === "ready" && session.split === null) heartbeat.heard(session);
    if (!isOpen(session)) return;
    // Refused, it is closed: there is nothing more to do with it either way.
    chargeBytes(reactor, session, payload.byteLength + controlHeaderBytes);
  };

  app.ws<SocketData>("/ws", {
    maxPayloadLength: messageFramesMax * config.frameBytesMax,
    maxBackpressure: config.socketQueueBytesMax,
    idleTimeout: idleSeconds(config),
    sendPingsAutomatically: false,
    // Counted after inflation: what is longer then ends the socket, and nothing longer is ever held.
    compression: compressors[config.compression],

    upgrade(res, req, socketContext) {
      const closed = door();
      if (closed !== null) return turnAway(reactor, res, closed);
      // uWS upgrades whatever version is asked for.
      if (req.getHeader("sec-websocket-version") !== webSocketVersion) return respondUpgrade(res, `Sec-WebSocket-Version: must be ${webSocketVersion}`);
      const ticket = req.getQuery("resume") ?? "";
      if (!admission.admit(ticket)) return turnAway(reactor, res, ticket === "" ? refusals.crowd : refusals.returning);
      upgrade(app, reactor, res, req, socketContext);
    },

    open(socket) {
      const { session } = socket.getUserData();
      sockets++;
      opened(reactor, session, socket);
      // Only a WebSocket can be closed with a code that tells the page's script why.
      const { forbiddenOrigin: origin } = session;
      if (origin === "") return;
      const { text, reason } = forbidden(origin);
      closeSession(reactor, session, "forbidden_origin", text, reason);
    },

    message(socket, message, isBinary) {
      const { session } = socket.getUserData();
      counters.add("bytesIn", message.byteLength);
      if (!isOpen(session)) return;
      if (!chargeBytes(reactor, session, message.byteLength)) return;
      if (isBinary !== formats[session.wire]!.isBinary) return closeSession(reactor, session, "bad_frame");
      // A view: uWS takes the bytes away when this returns.
      onMessage(reactor, session, new Uint8Array(message));
    },

    pong: onControl,

    // uWS has answered it.
    ping: onControl,

    drain(socket) {
      const { session } = socket.getUserData();
      if (session.state === "closing") setImmediate(() => closeSlow(reactor, session));
      else rooms.drained(session);
    },

    // Called about once per batch that a full socket missed, not once per message.
    dropped(socket, message, isBinary) {
      rooms.slow.dropped(socket.getUserData().session, new Uint8Array(message), isBinary);
    },

    close(socket, code, reason) {
      const { session } = socket.getUserData();
      sockets--;
      // uWS has dropped it, and there is nobody left to send a code to.
      if (code === noCode && isUnreadable(reason)) counters.add("unreadable", 1);
      gone(reactor, session);
    },
  });
  return () => sockets;
}

/** The socket is closed too: a crowd that keeps its sockets open would be there all the same. */
function turnAway(reactor: Reactor, res: HttpResponse, refusal: Refusal): void {
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
    { session: createSession(app, chosen === "" ? defaultFormat : formatOfSubprotocol(chosen), forbiddenOrigin, tokenOf(req)) },
    req.getHeader("sec-websocket-key"),
    chosen,
    req.getHeader("sec-websocket-extensions"),
    socketContext,
  );
}

/** The first that is known of those that a client offers. Mostly it offers one. */
function chosenOf(offered: string): string {
  if (formatOfSubprotocol(offered) >= 0) return offered;
  return offered.split(",").map((name) => name.trim()).find((name) => formatOfSubprotocol(name) >= 0) ?? "";
}

/** As the libraries of clients write it: any case, and spaces as they like. uWS has trimmed it. */
const bearer = /^bearer[ \t]+(.+)$/i;

/** A token that does not wait for hello: the header is for programs, the query for what can set no header. */
function tokenOf(req: HttpRequest): string {
  const token = bearer.exec(req.getHeader("authorization"))?.[1];
  return token ?? req.getQuery("token") ?? "";
}

/** Windows of its own would cost a socket 90 kB, and uWS keeps them where a client has asked it not to. */
const compressors = {
  off: uWS.DISABLED,
  shared: uWS.SHARED_COMPRESSOR | uWS.SHARED_DECOMPRESSOR,
} as const;

const noCode = 1006;

/** What uWS says of sockets that it drops for a message. Of those that end or break the rules of frames it says nothing. */
function isUnreadable(reason: ArrayBuffer): boolean {
  return reason.byteLength > 0 && /^Received (?:too big|invalid)/.test(Buffer.from(reason).toString("latin1"));
}

/** uWS's own timeout only ends sockets that our heartbeat has given up, so it is longer than ours, or off. */
function idleSeconds({ heartbeatMs, heartbeatGraceMs, handshakeTimeoutMs }: Reactor["config"]): number {
  const seconds = Math.ceil((2 * Math.max(heartbeatMs + heartbeatGraceMs, handshakeTimeoutMs)) / 1000);
  return seconds > idleSecondsMax ? 0 : Math.max(idleSecondsMin, seconds);
}
