/**
 * A server that refuses a connection says so with `-ERR` and closes. The client library (nats 2.29) understands some of
 * these lines; of any other, such as "maximum connections exceeded", it waits for its timeout and then says "timeout".
 * Here such a line ends the attempt at once, with the server's words. The library has no other place to hear it:
 * test/nats-library.test.ts fails where a new version has changed this one.
 */
import { NatsError } from "nats";
import { ProtocolHandler } from "nats/lib/nats-base-client/protocol.js";

interface Handler {
  readonly connected: boolean;
  readonly connectError?: (error: Error) => void;
  processError(line: Uint8Array): void;
}

const marked = Symbol.for("flux-gateway.natshandshake");

/** For all connections of this process from now on. */
export function hearRefusals(): void {
  const prototype = ProtocolHandler.prototype as unknown as Handler & { [marked]?: true };
  if (prototype[marked] === true) return;
  prototype[marked] = true;
  const { processError } = prototype;
  prototype.processError = function (this: Handler, line: Uint8Array): void {
    processError.call(this, line);
    // One that the library has understood is told already; only the first counts.
    if (!this.connected) this.connectError?.(new NatsError(Buffer.from(line).toString(), refusedCode));
  };
}

export const refusedCode = "REFUSED_BY_SERVER";
