/**
 * The interface that a session uses of its socket, for all transports. uWS's WebSocket already has this interface: nothing lies
 * between it and the session. A delivery to a room stays one call for all its WebSockets. tcpsocket.ts implements it
 * for TCP.
 */
export interface Socket {
  /**
   * Sends bytes that are valid only until return. Returns `queued` when they wait, `dropped` when the queue was full.
   */
  send(bytes: Uint8Array, isBinary: boolean, compress?: boolean): number;
  /** Send a message in parts, where the transport can (fragments.ts). */
  sendFirstFragment?(bytes: Uint8Array, isBinary: boolean): number;
  sendFragment?(bytes: Uint8Array): number;
  sendLastFragment?(bytes: Uint8Array): number;
  /**
   * Sends the client the code, lets queued bytes leave, and closes. The session's close handler runs before this
   * returns.
   */
  end(code: number, reason: string | Buffer): void;
  /** Closes at once. The close handler runs before this returns. */
  close(): void;
  /** Asks the client for a sign of life, where the transport can. */
  ping(): number;
  /** What `work` sends leaves in one write, where the transport needs to be asked for that. */
  cork?(work: () => void): unknown;
  /** Stops reading for this long, where the transport can. uWS's WebSocket cannot. */
  pauseFor?(ms: number): void;
  /** Raw TCP. */
  readonly isTcp?: true;
  /** Bytes that wait to be sent. */
  getBufferedAmount(): number;
  subscribe(topic: string): boolean;
  unsubscribe(topic: string): boolean;
  isSubscribed(topic: string): boolean;
  getTopics(): string[];
  /** Publishes to the other subscribers of the socket's own audience. */
  publish(topic: string, bytes: Uint8Array, isBinary: boolean, compress?: boolean): boolean;
}

/** Results of send: the bytes are on their way, or they wait. */
export const taken = 1;
export const queued = 0;
/** Result of send: the bytes were not taken. */
export const dropped = 2;

/** Sockets that one publish reaches: those of one uWS App, or those on TCP. */
export interface Audience {
  publish(topic: string, bytes: Uint8Array, isBinary: boolean, compress?: boolean): boolean;
}

/** All audiences of a reactor: usually one. */
export class Audiences implements Audience {
  readonly #all: Audience[] = [];

  add(audience: Audience): void {
    this.#all.push(audience);
  }

  remove(audience: Audience): void {
    const at = this.#all.indexOf(audience);
    if (at >= 0) this.#all.splice(at, 1);
  }

  /** Publishes bytes that are valid only until return. */
  publish(topic: string, bytes: Uint8Array, isBinary: boolean, compress = false): boolean {
    for (let i = 0; i < this.#all.length; i++) this.#all[i]!.publish(topic, bytes, isBinary, compress);
    return true;
  }

  /** Publishes to all but one socket, whose own audience is `its`. */
  publishExcept(socket: Socket, its: Audience, topic: string, bytes: Uint8Array, isBinary: boolean, compress = false): void {
    socket.publish(topic, bytes, isBinary, compress);
    for (const audience of this.#all) if (audience !== its) audience.publish(topic, bytes, isBinary, compress);
  }
}
