/** Log lines about refused and slow clients: one line per reason and interval, with what to do. */
import { closes, type CloseName } from "../errors.ts";
import type { Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";
import type { Refusal, RefusalReason } from "../link/threads.ts";

/** Hints for the operator, by reason. */
const hints: Readonly<Partial<Record<RefusalReason, string>>> = {
  invalid_token: "run flux-gateway token explain TOKEN to see why; the node verifies with --auth-secret, --auth-keys and --auth-jwks-url",
  disconnected: "the user was disconnected or signed out: a token issued later is accepted",
  frame_too_large: "--frame-bytes-max sets the limit",
  too_many_sessions: "--sessions-per-user-max sets the limit",
  slow_consumer: "GET /slow on the admin port shows who is slow now; --socket-queue-bytes-max sets the limit, slowReaders of the namespace what happens there",
  rate_limited: "--commands-per-second and --bytes-per-second set the limits",
  handshake_timeout: "clients have --handshake-timeout-ms to say hello",
  unsupported_version: "use an SDK version that matches the gateway",
  not_hello: "the client's first frame must be hello",
  bad_frame: "the client does not use this protocol",
  overloaded: "the node is short of memory, a ring to its hub is full, --auth-jwks-url is unreachable, or the backend of --hook-connect gives no verdict",
  denied: "the backend of --hook-connect decided so, for the reason in the text",
  draining: "the node is starting, draining or stopping: let the load balancer check /ready",
  sockets_max: "--sockets-max sets the limit; the limit of open files (ulimit -n) may lower it",
  memory: "--memory-limit-bytes and --memory-high-percent set the limit; see flux_memory_used_bytes",
  handshakes: "--handshakes-per-second sets the limit",
  returns: "--handshakes-per-second sets the limit",
  refresh: "the session closes when its present token expires; run flux-gateway token explain TOKEN to see why",
};

/** What the log said, or would have said, of the last refusal of a reason. */
export interface LoggedRefusal {
  readonly text: string;
  readonly hint: string;
  readonly client: string;
}

export class RefusalLog {
  readonly #sparse = new Sparse();
  /** By reason: all of them are named in the code. */
  readonly #last = new Map<string, LoggedRefusal>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Every reactor reports the first refusal of a reason. The log has one line for all of them. */
  tell({ reason, text, client, unsaid }: Refusal & { readonly unsaid: number }): void {
    const hint = hints[reason];
    const close = isClose(reason) ? closes[reason] : null;
    this.#last.set(reason, { text: text === "" ? (close?.text ?? "") : text, hint: hint ?? "", client });
    const due = this.#sparse.due(reason, unsaid);
    if (due === null) return;
    const more = due + unsaid;
    this.#log.info(
      { event: "client_refused", reason, ...(close !== null && { code: close.code }), ...(client !== "" && { client }), ...(more > 0 && { unsaid: more }) },
      `${what(reason)}, ${reason}: ${text === "" ? (close?.text ?? "") : text}${hint === undefined ? "" : `; ${hint}`}`,
    );
  }

  /** Null: there was none. Reasons that need no change anywhere have a hint at most. */
  last(reason: string): LoggedRefusal | null {
    const last = this.#last.get(reason);
    if (last !== undefined) return last;
    return isClose(reason as RefusalReason) ? { text: closes[reason as CloseName].text, hint: hints[reason as CloseName] ?? "", client: "" } : null;
  }
}

function isClose(reason: RefusalReason): reason is CloseName {
  return Object.hasOwn(closes, reason);
}

function what(reason: RefusalReason): string {
  if (reason === "refresh") return "a newer token was refused";
  if (reason === "slow_consumer") return "a client was disconnected";
  return isClose(reason) ? "a client was refused" : "a socket was refused";
}
