/** What the log says of clients that were refused: one line for each reason, now and then, with what to do about it. */
import { closes, type CloseName } from "../../errors.ts";
import type { Logger } from "../../platform/log/log.ts";
import { Sparse } from "../../platform/log/sparse.ts";
import type { Refusal, RefusalReason } from "../../link/threads.ts";

/** What to do about it, for whoever reads the log. */
const hints: Readonly<Partial<Record<RefusalReason, string>>> = {
  invalid_token: "flux-gateway token explain TOKEN says what is wrong with one; the node checks with --auth-secret, --auth-keys and --auth-jwks-url",
  disconnected: "its user was disconnected or signed out: a token issued later is good again",
  frame_too_large: "--frame-bytes-max sets the limit",
  too_many_sessions: "--sessions-per-user-max sets the limit",
  rate_limited: "--commands-per-second and --bytes-per-second set the limits",
  handshake_timeout: "clients have --handshake-timeout-ms to say hello",
  unsupported_version: "the client's version of the SDK is for another version of the gateway",
  not_hello: "a client has to begin with hello",
  bad_frame: "what it sends is not of this protocol",
  overloaded: "its memory or the way to its hub is full, or the keys at --auth-jwks-url cannot be had",
  draining: "it drains, or starts or ends: a load balancer that asks /ready sends nobody here",
  sockets_max: "--sockets-max sets the limit, and lowers itself to the files that the process may open (ulimit -n)",
  memory: "--memory-limit-bytes and --memory-high-percent say when; flux_memory_used_bytes shows it",
  handshakes: "--handshakes-per-second sets the limit",
  returns: "--handshakes-per-second sets the limit",
  refresh: "its session ends when the token it has expires; flux-gateway token explain TOKEN says what is wrong with one",
};

export class RefusalLog {
  readonly #sparse = new Sparse();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Every reactor tells the first of a reason; the log has one line for all of them. */
  tell({ reason, text, client, unsaid }: Refusal & { readonly unsaid: number }): void {
    const due = this.#sparse.due(reason, unsaid);
    if (due === null) return;
    const more = due + unsaid;
    const hint = hints[reason];
    const close = isClose(reason) ? closes[reason] : null;
    this.#log.info(
      { reason, ...(close !== null && { code: close.code }), ...(client !== "" && { client }), ...(more > 0 && { unsaid: more }) },
      `${what(reason)}, ${reason}: ${text === "" ? (close?.text ?? "") : text}${hint === undefined ? "" : `; ${hint}`}`,
    );
  }
}

function isClose(reason: RefusalReason): reason is CloseName {
  return Object.hasOwn(closes, reason);
}

function what(reason: RefusalReason): string {
  if (reason === "refresh") return "a newer token was refused";
  return isClose(reason) ? "a client was refused" : "a socket was refused";
}
