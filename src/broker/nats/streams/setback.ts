/**
 * Whether a stream has really lost its end. In a cluster of NATS a server whose routes are cut may believe for up to ten
 * seconds that it still leads a stream. It answers with what it had, which is less than other servers have acknowledged
 * since. So a stream with replicas counts as set back only when every answer over a longer time says so: by then such a
 * server has noticed that it is alone, and answers no more.
 *
 * nats-server: a leader without a quorum steps down after `lostQuorumInterval`, 10 s (server/raft.go).
 */

interface Stream {
  readonly name: string;
  /** The highest sequence that this node has seen. */
  readonly seen: number;
}

/** Longer than a server takes to notice that it leads nobody. */
const confirmMs = 15_000;
/** A node that stood still meanwhile has not asked often enough. */
const confirmAnswers = 10;

interface Suspicion {
  readonly since: number;
  answers: number;
}

/** The stream may have been set back, or the answer was of a server that is behind: it has to be asked again. */
export class NotCertain extends Error {
  override readonly name = "NotCertain";

  constructor(stream: Stream, last: number) {
    super(`stream ${stream.name} ends at ${last}, and has been at ${stream.seen}: a server may be cut off from the others; asking again`);
  }
}

export class SetBacks {
  readonly #isReplicated: boolean;
  readonly #now: () => number;
  readonly #suspicions = new Map<Stream, Suspicion>();

  /** @param now milliseconds of a clock that nobody sets */
  constructor(isReplicated: boolean, now: () => number) {
    this.#isReplicated = isReplicated;
    this.#now = now;
  }

  /**
   * An answer says that the stream was set back, or that it was not.
   * @returns whether it was
   * @throws NotCertain where that may be the answer of a server that is cut off
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
