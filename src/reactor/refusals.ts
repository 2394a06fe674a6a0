/** Clients that are refused: the log is told the first of each reason, then one in a while. */
import type { CloseName } from "../errors.ts";
import { printable } from "../platform/log/quoted.ts";
import { Sparse } from "../platform/log/sparse.ts";
import type { FromReactor, RefusalReason } from "../link/threads.ts";

/** Ends that are part of every day. The others somebody has to do something about, at the client or in the configuration. */
const everyday: ReadonlySet<RefusalReason> = new Set<CloseName>([
  "bye", "shutdown", "token_expired", "slow_consumer", "session_replaced", "no_heartbeat",
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
    if (everyday.has(reason)) return;
    const unsaid = this.#sparse.due(reason);
    if (unsaid !== null) this.#post({ kind: "refused", reason, text: printable(text.slice(0, textMax)), client: printable(client.slice(0, clientMax)), unsaid });
  }
}
