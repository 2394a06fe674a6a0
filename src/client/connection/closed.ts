/** Why sockets closed: the codes of the node, and those of the client itself. */
import { closes } from "../../errors.ts";

/** Close of a socket: code, name of the code, and a sentence. */
export type Closed = { readonly code: number; readonly name: string; readonly text: string };

/** Codes for sockets that the client abandons; they are not sent. All of them mean: try again. */
export const local = { noAnswer: 4001, silent: 4002, refused: 4003, badUrl: 4004, noToken: 4005, noAddress: 4007 } as const;

/**
 * The close code of suspend(). The node keeps the session after any close; this code only tells it that the page means
 * to reconnect.
 */
export const suspended: Closed = { code: 4006, name: "suspended", text: "the session is kept for another socket" };

/** Meaning of a close code. 1000 has none here: after its own bye a client does not wait, so a proxy sent it. */
export function closed(code: number, reason: string): Closed {
  for (const [name, known] of Object.entries(closes)) {
    if (known.code !== code || name === "bye") continue;
    // After the name, the reason may contain advice.
    const advice = reason.startsWith(`${name}: `) ? reason.slice(name.length) : "";
    return { code, name, text: known.text + advice };
  }
  return { code, name: "socket_closed", text: reason || "the socket closed without a reason" };
}
