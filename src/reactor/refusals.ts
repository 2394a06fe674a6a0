/** Clients that are refused: the log is told the first of each reason, then one in a while. */
import type { CloseName } from "../errors.ts";
import { Sparse } from "../sparse.ts";
import type { FromReactor } from "../threads.ts";

/** Ends that somebody has to do something about, at the client or in the configuration. The others are part of every day. */
const refusing: ReadonlySet<CloseName> = new Set<CloseName>([
  "invalid_token", "bad_frame", "unsupported_version", "frame_too_large", "disconnected", "forbidden_origin", "not_hello", "too_many_sessions", "handshake_timeout", "rate_limited",
]);
const textMax = 200;
const clientMax = 64;

export class Refusals {
  readonly #sparse = new Sparse();
  readonly #post: (message: FromReactor) => void;

  constructor(post: (message: FromReactor) => void) {
    this.#post = post;
  }

  tell(reason: CloseName, text: string, client: string): void {
    if (!refusing.has(reason)) return;
    const unsaid = this.#sparse.due(reason);
    if (unsaid !== null) this.#post({ kind: "refused", reason, text: text.slice(0, textMax), client: client.slice(0, clientMax), unsaid });
  }
}
