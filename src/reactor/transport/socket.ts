/**
 * What a session needs of its socket, whatever it runs on. uWS's WebSocket is one as it is: nothing lies between a
 * session and it, and a delivery to a room stays one call for all of its WebSockets. tcp.ts makes the other kind.
 */
export interface Socket {
  /** Hands over bytes that are valid only until return. `queued`: they wait; `dropped`: they were not taken, the queue is full. */
  send(bytes: Uint8Array, isBinary: boolean, compress?: boolean): number;
  /** A message in parts, where the transport has that (large.ts). */
  sendFirstFragment?(bytes: Uint8Array, isBinary: boolean): number;
  sendFragment?(bytes: Uint8Array): number;
  sendLastFragment?(bytes: Uint8Array): number;
  /** Tells the client why, lets what is queued leave, and closes. The session's close handler runs before this returns. */
  end(code: number, reason: string): void;
  /** Closes at once; so does the close handler run. */
  close(): void;
  /** Asks the client for a sign of life, where the transport can. */
  ping(): number;
  /** Reads nothing for this long, where the transport can: uWS's WebSocket cannot. */
  pauseFor?(ms: number): void;
  /** Bytes that wait to be sent. */
  getBufferedAmount(): number;
  subscribe(topic: string): boolean;
  unsubscribe(topic: string): boolean;
  isSubscribed(topic: string): boolean;
  getTopics(): string[];
  /** To the other subscribers of its own audience. */
  publish(topic: string, bytes: Uint8Array, isBinary: boolean, compress?: boolean): boolean;
}

/** Answers of send: the bytes were taken and are on their way, or were taken and wait. */
export const taken = 1;
export const queued = 0;
/** Answer of send: the bytes were not taken. */
export const dropped = 2;

/** Sockets that one publish reaches: those of one uWS App, or those on TCP. */
export interface Audience {
  publish(topic: string, bytes: Uint8Array, isBinary: boolean, compress?: boolean): boolean;
}

/** All audiences of a reactor: mostly there is one. */
export class Audiences implements Audience {
  readonly #all: Audience[] = [];

  add(audience: Audience): void {
    this.#all.push(audience);
  }

  remove(audience: Audience): void {
    const at = this.#all.indexOf(audience);
    if (at >= 0) this.#all.splice(at, 1);
  }

  /** Bytes that are valid only until return. */
  publish(topic: string, bytes: Uint8Array, isBinary: boolean, compress = false): boolean {
    for (let i = 0; i < this.#all.length; i++) this.#all[i]!.publish(topic, bytes, isBinary, compress);
    return true;
  }

  /** To all but one socket, which is of the audience named. */
  publishExcept(socket: Socket, its: Audience, topic: string, bytes: Uint8Array, isBinary: boolean, compress = false): void {
    socket.publish(topic, bytes, isBinary, compress);
    for (const audience of this.#all) if (audience !== its) audience.publish(topic, bytes, isBinary, compress);
  }
}
