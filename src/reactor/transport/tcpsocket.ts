/**
 * A socket on raw TCP, with the interface that sessions use (socket.ts). TCP has no close codes and no pings. The close
 * code goes in a last frame, and the client's own frames are the sign of life. A client can close one half: see
 * halfClosed.
 */
import type { Socket as Stream } from "node:net";
import { slots } from "../../link/counters.ts";
import { isOpen, onMessage } from "../dispatch.ts";
import { closeSlow } from "../outgoing.ts";
import { chargeBytes } from "../session/rate.ts";
import type { Reactor } from "../reactor.ts";
import type { Session } from "../session/session.ts";
import { dropped, queued, taken, type Socket } from "./socket.ts";
import { gone } from "./sockets.ts";
import type { TcpAudience } from "./tcpaudience.ts";

/** How long a closing socket may take its queued bytes, and close. */
const lingerMs = 10_000;
/** With more than this queued for a client, its commands are not read until it reads answers. */
const unreadQueueBytes = 64 * 1024;

export class TcpSocket implements Socket {
  readonly isTcp = true;
  readonly #reactor: Reactor;
  readonly #session: Session;
  readonly #audience: TcpAudience;
  readonly #stream: Stream;
  #corked = false;
  #ended = false;
  #half = false;
  /** So much is queued that rooms.ts or reading may wait for the queue to drain. */
  #heavy = false;
  readonly #heavyBytes: number;
  #timer: NodeJS.Timeout | undefined;
  /** Nothing is read until it fires. */
  #pause: NodeJS.Timeout | undefined;

  constructor(reactor: Reactor, session: Session, audience: TcpAudience, stream: Stream) {
    this.#reactor = reactor;
    this.#heavyBytes = Math.min(unreadQueueBytes, reactor.config.socketQueueBytesMax / 2);
    this.#session = session;
    this.#audience = audience;
    this.#stream = stream;
    stream.on("data", (chunk: Buffer) => this.#read(chunk));
    stream.on("end", () => this.#halfClosed());
    // A reset is a normal end of a socket. The close event follows and does the work.
    stream.on("error", () => stream.destroy());
    stream.on("close", () => this.#gone());
  }

  // ------------------------------------------------------------------------------------- inward

  #read(chunk: Buffer): void {
    const session = this.#session;
    if (this.#ended) return;
    this.#reactor.counters.addAt(slots.bytesIn, chunk.length);
    if (!isOpen(session)) return;
    if (!chargeBytes(this.#reactor, session, chunk.length)) return;
    onMessage(this.#reactor, session, new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length));
    if (!this.#ended && this.#stream.writableLength > unreadQueueBytes) this.#stream.pause();
  }

  #drained(): void {
    if (this.#ended) return;
    this.#resume();
    if (this.#session.state === "closing") setImmediate(() => closeSlow(this.#reactor, this.#session));
    else this.#reactor.rooms.drained(this.#session);
  }

  pauseFor(ms: number): void {
    this.#stream.pause();
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#resume();
    }, ms);
  }

  #resume(): void {
    if (!this.#ended && this.#pause === undefined && this.#stream.writableLength <= unreadQueueBytes) this.#stream.resume();
  }

  /**
   * The client sends no more, but may still read. Its commands are answered, then the socket is closed. The session may
   * be resumed, as after any disconnect.
   */
  #halfClosed(): void {
    if (this.#ended) return;
    this.#half = true;
    this.#timer = setTimeout(() => this.#finish(), this.#reactor.config.heartbeatGraceMs);
    this.#finishIfAnswered();
  }

  #finishIfAnswered(): void {
    const { state, waiting, unanswered } = this.#session;
    if (this.#ended || waiting !== null) return;
    if (state === "ready" && (unanswered > 0 || this.#reactor.rooms.isArriving(this.#session))) return;
    this.#finish();
  }

  /** Closes without a code: the client itself has ended the socket. */
  #finish(): void {
    if (this.#ended) return;
    this.#leave();
    this.#gone();
  }

  // ------------------------------------------------------------------------------------ outward

  send(bytes: Uint8Array): number {
    if (this.#ended || this.#stream.writableLength > this.#reactor.config.socketQueueBytesMax) return dropped;
    this.#write(Buffer.from(bytes));
    if (this.#half) setImmediate(() => this.#finishIfAnswered());
    return this.#stream.writableLength > 0 ? queued : taken;
  }

  /** Takes bytes that all receivers share. */
  deliver(bytes: Buffer): void {
    if (this.#ended) return;
    if (this.#stream.writableLength <= this.#reactor.config.socketQueueBytesMax) return this.#write(bytes);
    this.#reactor.rooms.slow.droppedNow(this.#session);
  }

  end(code: number, reason: string | Buffer): void {
    if (this.#ended) return;
    this.#write(Buffer.from(this.#reactor.encoder.frame(this.#session.wire, { id: 0, closed: { code, reason: reason.toString() } })));
    this.#leave();
    this.#gone();
  }

  close(): void {
    this.#stream.destroy();
    this.#gone();
  }

  /** A TCP client would not answer a ping by itself. */
  ping(): number {
    return 1;
  }

  getBufferedAmount(): number {
    return this.#stream.writableLength;
  }

  /** Writes of one turn of the loop leave together. */
  #write(bytes: Buffer): void {
    if (!this.#corked) {
      this.#corked = true;
      this.#stream.cork();
      this.#audience.uncorkSoon(this);
    }
    this.#stream.write(bytes, this.#written);
    if (this.#stream.writableLength > this.#heavyBytes) this.#heavy = true;
  }

  /** Node emits drain only above its own mark, which may be higher than ours. */
  #written = (): void => {
    const { writableLength } = this.#stream;
    // A session that closes waits until all has left.
    if (this.#session.state === "closing" ? writableLength > 0 : !this.#heavy || writableLength > this.#heavyBytes / 2) return this.#took();
    this.#heavy = false;
    this.#drained();
  };

  /** While the node does not read, what the client takes is its sign of life. */
  #took(): void {
    if (this.#session.state === "ready" && this.#stream.isPaused()) this.#reactor.heartbeat.heard(this.#session);
  }

  uncork(): void {
    this.#corked = false;
    this.#stream.uncork();
  }

  /**
   * Sends FIN once the queue has left. It reads and discards later bytes, because unread bytes would turn FIN into a
   * reset.
   */
  #leave(): void {
    clearTimeout(this.#timer);
    this.#stream.end();
    this.#stream.resume();
    this.#timer = setTimeout(() => this.#stream.destroy(), lingerMs);
  }

  #gone(): void {
    clearTimeout(this.#pause);
    if (this.#stream.destroyed) clearTimeout(this.#timer);
    if (this.#ended) return;
    this.#ended = true;
    this.#audience.forget(this);
    this.#reactor.counters.add("tcpSockets", -1);
    gone(this.#reactor, this.#session);
  }

  // ------------------------------------------------------------------------------------- topics

  readonly #topics = new Set<string>();

  subscribe(topic: string): boolean {
    this.#topics.add(topic);
    this.#audience.subscribe(this, topic);
    return true;
  }

  unsubscribe(topic: string): boolean {
    this.#audience.unsubscribe(this, topic);
    return this.#topics.delete(topic);
  }

  isSubscribed(topic: string): boolean {
    return this.#topics.has(topic);
  }

  getTopics(): string[] {
    return [...this.#topics];
  }

  publish(topic: string, bytes: Uint8Array): boolean {
    return this.#audience.publishExcept(this, topic, bytes);
  }
}
