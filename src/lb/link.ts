/**
 * The two sockets of one client, and the bytes between them: raw, both ways, with backpressure and half-close.
 *
 * All sockets read into one buffer, as `onread` of Node's net allows. It saves a buffer for each read, and each quiet
 * connection costs no buffer at all. What is written is a copy: a write that the kernel does not take whole keeps it.
 */
import { connect, Socket, type NetConnectOpts, type Server } from "node:net";
import { TLSSocket } from "node:tls";
import type { Hint, FirstRequest } from "./firstbytes.ts";
import type { BalancedNode } from "./nodes.ts";

/** waiting: for the first bytes. dialling: for a node that accepts. joined: bytes flow. */
export type LinkState = "waiting" | "dialling" | "joined" | "closed";

export interface LinkEvents {
  /** Bytes of a client that waits. False: read no more of them. */
  firstBytes(link: Link, bytes: Buffer): boolean;
  /** The node has accepted. */
  connected(link: Link): void;
  /** The node has not accepted. */
  dialFailed(link: Link, code: string): void;
  /** Both sockets are closed. */
  closed(link: Link): void;
  readonly bytes: { toNodes: number; toClients: number };
}

export interface Link {
  readonly events: LinkEvents;
  readonly client: Linked;
  node: Linked | null;
  state: LinkState;
  /** When the state began, by the balancer's clock. */
  since: number;
  /** What goes to the node before the next bytes of the client: what has arrived of its first request, or a PROXY header. */
  first: Buffer;
  request: FirstRequest | null;
  hint: Hint | null;
  target: BalancedNode | null;
  tried: readonly BalancedNode[];
  /** Error of the dial. */
  problem: string;
  isHttp: boolean;
}

/** A socket that knows its link. */
interface Linked extends Socket {
  link?: Link;
}

const sharedBytes = 65_536;
const shared = Buffer.allocUnsafeSlow(sharedBytes);
const nothing = Buffer.alloc(0);
/**
 * A half that stays open after the other has ended and carries nothing for so long is closed, and so is a link of which
 * one side takes nothing for so long: nobody reads from the other meanwhile, so its end would not be noticed.
 */
const quietMs = 60_000;
const keepAliveMs = 60_000;

const onread = { buffer: shared, callback: onRead } as unknown as NonNullable<NetConnectOpts["onread"]>;

/** Options of a server whose sockets become links. */
export const acceptOptions = { allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMs };

/** What Node's net gets from libuv: a listening handle, and one for each accepted connection. */
interface ListenHandle {
  onconnection?: (this: ListenHandle, error: number | undefined, accepted: AcceptedHandle | undefined) => void;
}

interface AcceptedHandle {
  setNoDelay?(on: boolean): void;
  setKeepAlive?(on: boolean, seconds: number): void;
}

/**
 * Net offers `onread` for sockets that connect, not for accepted ones. So this takes each accepted connection before net
 * makes a socket of it: a second one would cost a sixth of what a connection costs. To be called once the server listens.
 * Where the handle is not what it is in Node 20 to 24, net's own sockets arrive, and read as they do by default.
 * @param accept gets a socket that reads nothing yet, and whether it reads into the shared buffer
 */
export function acceptFrom(server: Server, accept: (client: Socket, readsShared: boolean) => void): void {
  const handle = (server as unknown as { _handle: ListenHandle | null })._handle;
  const original = handle?.onconnection;
  server.on("connection", (socket) => accept(socket, false));
  if (!handle || typeof original !== "function") return;
  handle.onconnection = function (error, accepted) {
    if (error || typeof accepted?.setNoDelay !== "function" || typeof accepted.setKeepAlive !== "function") return original.call(this, error, accepted);
    accepted.setNoDelay(true);
    accepted.setKeepAlive(true, keepAliveMs / 1000);
    accept(new Socket({ handle: accepted, onread, allowHalfOpen: true, manualStart: true } as object), true);
  };
}

/** @param client reads nothing yet @param readsShared into the shared buffer */
export function createLink(client: Socket, events: LinkEvents, state: LinkState, since: number, readsShared: boolean): Link {
  const link: Link = { events, client, node: null, state, since, first: nothing, request: null, hint: null, target: null, tried: none, problem: "", isHttp: false };
  listen(client, link);
  // Paused first: a listener alone would let it flow.
  if (!readsShared) client.pause().on("data", onData);
  return link;
}

const none: readonly BalancedNode[] = [];

export function dial(link: Link, target: BalancedNode, since: number): void {
  const { host, port } = target.listed;
  link.target = target;
  link.state = "dialling";
  link.since = since;
  link.problem = "";
  let socket: Linked;
  try {
    socket = connect({ host, port, allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: keepAliveMs, onread } as NetConnectOpts);
  } catch (error) {
    // An address that is none: nodes in Redis give theirs.
    setImmediate(() => link.state === "dialling" && link.events.dialFailed(link, (error as NodeJS.ErrnoException).code ?? String(error)));
    return;
  }
  link.node = socket;
  listen(socket, link);
  socket.on("connect", onConnect);
}

/**
 * Sends the node what has arrived, and lets bytes flow. uWS understands a PROXY header only where the request comes with
 * it in one read: so a header is never sent alone.
 */
export function join(link: Link, header: Buffer | null): void {
  link.state = "joined";
  if (link.first.length > 0) {
    link.node!.write(header === null ? link.first : Buffer.concat([header, link.first]));
    link.first = nothing;
  } else if (header !== null) link.first = header;
  link.request = null;
  link.tried = none;
  link.client.resume();
}

export function closeLink(link: Link): void {
  link.client.destroy();
  link.node?.destroy();
}

function listen(socket: Linked, link: Link): void {
  socket.link = link;
  socket.on("end", onEnd).on("drain", onDrain).on("error", onError).on("close", onClose).on("timeout", onTimeout);
}

function onRead(this: Linked, count: number): boolean {
  const bytes = Buffer.allocUnsafe(count);
  shared.copy(bytes, 0, 0, count);
  return received(this, bytes);
}

function onData(this: Linked, bytes: Buffer): void {
  if (!received(this, bytes)) this.pause();
}

/** False: the socket is not to read until it is resumed. */
function received(socket: Linked, bytes: Buffer): boolean {
  const link = socket.link!;
  if (link.state !== "joined") return link.state === "waiting" && link.events.firstBytes(link, bytes);
  const { client, node, events } = link;
  if (socket === client) {
    events.bytes.toNodes += bytes.length;
    return sent(node!, link.first.length === 0 ? bytes : withFirst(link, bytes));
  }
  events.bytes.toClients += bytes.length;
  return sent(client, bytes);
}

function sent(to: Linked, bytes: Buffer): boolean {
  const goesOn = to.write(bytes);
  if (!goesOn) to.setTimeout(quietMs);
  return goesOn;
}

function withFirst(link: Link, bytes: Buffer): Buffer {
  const all = Buffer.concat([link.first, bytes]);
  link.first = nothing;
  return all;
}

/** The other socket may read again. */
function onDrain(this: Linked): void {
  const other = otherOf(this);
  // Half closed it keeps its time.
  if (other?.readableEnded !== true) this.setTimeout(0);
  if (this.link!.state === "joined") other?.resume();
}

function onTimeout(this: Linked): void {
  closeLink(this.link!);
}

/** The peer sends no more, and may still receive. */
function onEnd(this: Linked): void {
  const link = this.link!;
  if (link.state === "waiting") return void this.destroy();
  const other = otherOf(this);
  if (other === null || other.destroyed) return;
  other.end();
  other.setTimeout(quietMs);
}

function onError(this: Linked, error: NodeJS.ErrnoException): void {
  const link = this.link!;
  if (link.node === this) link.problem ||= error.code ?? error.message;
}

function onConnect(this: Linked): void {
  this.link!.events.connected(this.link!);
}

/** After both ends the sockets close by themselves, and what waits in the other is still sent. Else nobody is left to send it to. */
function onClose(this: Linked, hadError: boolean): void {
  const link = this.link!;
  if (link.state === "dialling" && link.node === this) return link.events.dialFailed(link, link.problem || "closed");
  const other = otherOf(this);
  if (other === null || other.destroyed) {
    if (link.state === "closed") return;
    link.state = "closed";
    return link.events.closed(link);
  }
  const isOver = !hadError && this.readableEnded && this.writableFinished;
  if (!isOver || link.state !== "joined") other.destroy();
}

function otherOf(socket: Linked): Linked | null {
  const { client, node } = socket.link!;
  return socket === client ? node : client;
}

/** Closes at once: with a reset, but for TLS, where `resetAndDestroy()` throws. */
export function reset(socket: Socket): void {
  if (socket instanceof TLSSocket) socket.destroy();
  else socket.resetAndDestroy();
}
