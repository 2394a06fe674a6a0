/**
 * Events of single sockets and commands, for finding one client's problem: for log level trace, and for users whom an
 * operator follows on the dashboard. It tells no payload and no token. It is bounded: with many clients it would fill
 * the log and the main thread's memory.
 */
import { closes, type CloseName, type ErrorCode } from "../errors.ts";
import type { FromReactor } from "../link/threads.ts";
import { formats } from "../protocol/formats/formats.ts";
import type { ClientFrame } from "../protocol/messages.ts";
import { userKey } from "../protocol/roomkeys.ts";
import type { Session } from "./session/session.ts";

/** Lines of a reactor within one second. */
const linesMax = 200;
const everyMs = 1000;
const textMax = 200;

type Fields = Record<string, string | number | boolean>;

export class Trace {
  /** Commands are told as well. Read for each command. */
  isFollowing = false;
  readonly #post: (message: FromReactor) => void;
  readonly #isLogged: boolean;
  readonly #clock: () => number;
  /** Keys of the users who are followed. */
  #followed: ReadonlySet<string> = new Set();
  #since = -Infinity;
  #lines = 0;

  /** @param isLogged by log level trace. @param clock milliseconds; replaced in tests */
  constructor(post: (message: FromReactor) => void, isLogged = true, clock = () => performance.now()) {
    this.#post = post;
    this.#isLogged = isLogged;
    this.#clock = clock;
  }

  follow(users: readonly string[]): void {
    this.#followed = new Set(users);
    this.isFollowing = users.length > 0;
  }

  /** A session began or was resumed. */
  greeted(session: Session, client: string, resumed: boolean): void {
    // The log has a line of its own for it.
    this.#tell(resumed ? "resumed" : "hello", session, { client: client.slice(0, textMax) }, false);
  }

  /** A command that may run. */
  command(session: Session, frame: ClientFrame): void {
    this.#tell(frame.command ?? "unknown command", session, detailsOf(frame), false);
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

  #tell(text: string, { id: session, grant, wire }: Session, fields: Fields, mayLog = this.#isLogged): void {
    const key = this.isFollowing && grant !== null ? userKey(grant.tenant, grant.user) : "";
    const followed = key !== "" && this.#followed.has(key) ? key : "";
    const logged = mayLog && this.#isLogged;
    if (!logged && followed === "") return;
    const now = this.#clock();
    const unsaid = this.#lines - linesMax;
    if (now - this.#since >= everyMs) {
      if (unsaid > 0) this.#post({ kind: "trace", text: "trace lines omitted", fields: { unsaid }, logged: this.#isLogged, followed: "" });
      this.#since = now;
      this.#lines = 0;
    }
    if (++this.#lines > linesMax) return;
    this.#post({ kind: "trace", text, fields: { session, user: grant?.user ?? "", format: formats[wire]!.name, ...fields }, logged, followed });
  }
}

function detailsOf(frame: ClientFrame): Fields {
  const { publish, send, join, leave, history } = frame;
  if (publish != null) return { room: named(publish.room), bytes: publish.payload?.length ?? 0 };
  if (send != null) return { to: named(send.user), bytes: send.payload?.length ?? 0 };
  const room = (join ?? leave ?? history)?.room;
  return room == null ? {} : { room: named(room) };
}

function named(name: string | null | undefined): string {
  return (name ?? "").slice(0, textMax);
}
