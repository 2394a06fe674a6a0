/**
 * Decides whether a stream really lost its end. In a NATS cluster, a server whose routes are cut may believe for up to
 * ten seconds that it still leads a stream. Its answers then lack what other servers have acknowledged since. So a
 * replicated stream counts as set back only if every answer over a longer time says so. By then such a server has
 * noticed that it is alone, and no longer answers.
 *
 * nats-server: a leader without a quorum steps down after `lostQuorumInterval`, 10 s (server/raft.go).
 */

interface Stream {
  readonly name: string;
  /** Highest sequence that this node has seen. */
  readonly seen: number;
}

/** Longer than a server takes to notice that it lost the leadership. */
const confirmMs = 15_000;
/** A node that was paused meanwhile has not asked often enough. */
const confirmAnswers = 10;

interface Suspicion {
  readonly since: number;
  answers: number;
}

/** The stream may have been set back, or a lagging server answered: ask again. */
export class NotCertain extends Error {
  override readonly name = "NotCertain";

  constructor(stream: Stream, last: number) {
    super(`stream ${stream.name} ends at ${last}, but was at ${stream.seen} before: a server may be cut off from the others; the node asks again`);
  }
}

export class SetBacks {
  readonly #isReplicated: boolean;
  readonly #now: () => number;
  readonly #suspicions = new Map<Stream, Suspicion>();

  /** @param now monotonic clock in milliseconds */
  constructor(isReplicated: boolean, now: () => number) {
    this.#isReplicated = isReplicated;
    this.#now = now;
  }

  /**
   * Judges an answer that says whether the stream was set back.
   * @returns whether it was
   * @throws NotCertain where a server that is cut off may have answered
   */
  judge(stream: Stream, saysSo: boolean, last: number): boolean {
    if (!saysSo) {
      this.#suspicions.delete(stream);
      return false;
    }
    if (!this.#isReplicated) return true;
    const suspicion = this.#suspicions.get(stream) ?? { since: this.#now(), answers: 0 };
    this.#suspicions.set(stream, suspicion);
    suspicion.answers++;
    if (suspicion.answers < confirmAnswers || this.#now() - suspicion.since < confirmMs) throw new NotCertain(stream, last);
    this.#suspicions.delete(stream);
    return true;
  }
}
