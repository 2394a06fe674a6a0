/**
 * Log level trace: events of single sockets and commands, for finding one client's problem. It logs no payload and no
 * token. It is bounded: with many clients it would fill the log and the main thread's memory.
 */
import { closes, type CloseName, type ErrorCode } from "../errors.ts";
import type { FromReactor } from "../link/threads.ts";
import { formats } from "../protocol/formats/formats.ts";
import type { Session } from "./session/session.ts";

/** Lines of a reactor within one second. */
const linesMax = 200;
const everyMs = 1000;
const textMax = 200;

type Fields = Record<string, string | number | boolean>;

export class Trace {
  readonly #post: (message: FromReactor) => void;
  readonly #clock: () => number;
  #since = -Infinity;
  #lines = 0;

  /** @param clock milliseconds; replaced in tests */
  constructor(post: (message: FromReactor) => void, clock = () => performance.now()) {
    this.#post = post;
    this.#clock = clock;
  }

  /** The node closes a socket. */
  closed(session: Session, name: CloseName, text: string): void {
    this.#tell("socket closed", session, { reason: name, code: closes[name].code, ...(text !== "" && { text: text.slice(0, textMax) }) });
  }

  /** A socket is gone, no matter which side closed it. */
  gone(session: Session): void {
    this.#tell("socket gone", session, { over: session.over });
  }

  /** A command of a session is answered with an error. */
  refused(session: Session, id: number, code: ErrorCode, text: string): void {
    this.#tell("command refused", session, { id, code, text: text.slice(0, textMax) });
  }

  #tell(text: string, { id: session, grant, wire }: Session, fields: Fields): void {
    const now = this.#clock();
    const unsaid = this.#lines - linesMax;
    if (now - this.#since >= everyMs) {
      if (unsaid > 0) this.#post({ kind: "trace", text: "trace lines omitted", fields: { unsaid } });
      this.#since = now;
      this.#lines = 0;
    }
    if (++this.#lines > linesMax) return;
    this.#post({ kind: "trace", text, fields: { session, user: grant?.user ?? "", format: formats[wire]!.name, ...fields } });
  }
}
