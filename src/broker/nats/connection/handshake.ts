/**
 * Reports rejections of a connection. The server sends `-ERR` and closes. The client library (nats 2.29) understands
 * only some of these lines. For others, such as "maximum connections exceeded", it waits for its timeout and reports
 * "timeout". This code ends the attempt at once, with the server's words. The library has no other hook:
 * test/nats-library.test.ts fails if a new version changes this one.
 */
import { NatsError } from "nats";
import { ProtocolHandler } from "nats/lib/nats-base-client/protocol.js";

interface Handler {
  readonly connected: boolean;
  readonly connectError?: (error: Error) => void;
  processError(line: Uint8Array): void;
}

const marked = Symbol.for("flux-gateway.natshandshake");

/** Applies to all later connections of this process. */
export function hearRefusals(): void {
  const prototype = ProtocolHandler.prototype as unknown as Handler & { [marked]?: true };
  if (prototype[marked] === true) return;
  prototype[marked] = true;
  const { processError } = prototype;
  prototype.processError = function (this: Handler, line: Uint8Array): void {
    processError.call(this, line);
    // The library reports errors that it understands. Only the first report counts.
    if (!this.connected) this.connectError?.(new NatsError(Buffer.from(line).toString(), refusedCode));
  };
}

export const refusedCode = "REFUSED_BY_SERVER";
