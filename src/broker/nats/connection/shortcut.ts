/**
 * Shortens the way of bytes between a socket and the client library (nats 2.29). The library reads its socket with an
 * async iterator, and waits for a promise of each write. Where messages come one at a time, as in most rooms, that costs
 * more than reading a message: several promises and turns of the microtask queue for each. Here the parser gets a
 * socket's bytes at once, and a write has no promise. The library has no hook for that: test/nats-library.test.ts fails
 * if a new version changes what is used.
 */
import type { Socket } from "node:net";
import { ProtocolHandler } from "nats/lib/nats-base-client/protocol.js";

interface Handler {
  readonly transport: Transport;
  readonly parser: { parse(bytes: Uint8Array): void };
  prepare(): unknown;
}

interface Transport {
  readonly socket: Socket | undefined;
  readonly isClosed: boolean;
  /** Bytes that the iterator has not taken yet. */
  readonly yields: readonly Uint8Array[];
  /** Called once the socket is connected and secured. */
  setupHandlers(): void;
  send(bytes: Uint8Array): void;
}

const marked = Symbol.for("flux-gateway.natsshortcut");

/** Applies to all later connections of this process. */
export function shortenWays(): void {
  const prototype = ProtocolHandler.prototype as unknown as Handler & { [marked]?: true };
  if (prototype[marked] === true) return;
  prototype[marked] = true;
  const { prepare } = prototype;
  // Makes the transport and the parser of each attempt to connect.
  prototype.prepare = function (this: Handler): unknown {
    const result = prepare.call(this);
    shorten(this.transport, this.parser);
    return result;
  };
}

function shorten(transport: Transport, parser: Handler["parser"]): void {
  const { setupHandlers } = transport;
  transport.setupHandlers = () => {
    setupHandlers.call(transport);
    const { socket } = transport;
    const [queue] = socket?.listeners("data") ?? [];
    if (socket === undefined || queue === undefined) return;
    socket.removeListener("data", queue as (bytes: Buffer) => void);
    socket.on("data", (bytes) => {
      // The iterator begins with what came before this, such as the server's greeting.
      if (transport.yields.length > 0) return queue(bytes);
      try {
        parser.parse(bytes);
      } catch (error) {
        // Not NATS's protocol. The library would read no further and stay connected.
        socket.destroy(error as Error);
      }
    });
  };
  // A failed write destroys the socket, and the library learns of that.
  transport.send = (bytes) => {
    if (!transport.isClosed) transport.socket?.write(bytes);
  };
}
