/** Logs refused clients, and slow ones: the first of each reason, then one line per interval. */
import type { CloseName } from "../errors.ts";
import { printable } from "../platform/log/quoted.ts";
import { Sparse } from "../platform/log/sparse.ts";
import type { FromReactor, RefusalReason } from "../link/threads.ts";

/**
 * Reasons of normal operation. Any other needs a change at the client or in the configuration. `slow_consumer` is
 * reported where it is noticed: a full socket may be gone before it can be closed.
 */
const everyday: ReadonlySet<RefusalReason> = new Set<CloseName>([
  "bye", "shutdown", "moved", "token_expired", "slow_consumer", "session_replaced", "no_heartbeat",
]);
const textMax = 200;
const clientMax = 64;

export class Refusals {
  readonly #sparse = new Sparse();
  readonly #post: (message: FromReactor) => void;

  constructor(post: (message: FromReactor) => void) {
    this.#post = post;
  }

  tell(reason: RefusalReason, text: string, client: string): void {
    if (!everyday.has(reason)) this.report(reason, text, client);
  }

  report(reason: RefusalReason, text: string, client: string): void {
    const unsaid = this.#sparse.due(reason);
    if (unsaid !== null) this.#post({ kind: "refused", reason, text: printable(text.slice(0, textMax)), client: printable(client.slice(0, clientMax)), unsaid });
  }
}
