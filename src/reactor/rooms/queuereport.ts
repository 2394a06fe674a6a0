/**
 * Measures which sockets lag, and how many bytes wait for them. Each timer looks at a tenth of the sockets, so that no
 * single look takes long. Admin requests get the result of the last full look. While nothing is sent, empty queues stay
 * empty, and nobody looks: asking uWS for 10,000 of them costs a millisecond.
 */
import type { SlowSession } from "../../link/threads.ts";
import type { Context } from "../context.ts";
import { membersOf, type Session } from "../session/session.ts";

const slices = 10;
const sliceMs = 100;
/** Sessions reported by name: those with the longest queues. */
const namedMax = 20;
const namedRoomsMax = 10;
/** A session is reported from this share of the queue's bound on. */
const namedShare = 1 / 16;

export class Queues {
  readonly #context: Context;
  readonly #bytesMax: number;
  readonly #onLook: (slow: readonly SlowSession[]) => void;
  readonly #sent: () => number;
  readonly #timer: NodeJS.Timeout;
  #next = 0;
  #named: { session: Session; bytes: number }[] = [];
  #longest = 0;
  /** What had been sent when the look under way began, and whether that was so at the look before, too. */
  #sentBefore = -1;
  #isSecond = false;
  /** What has been sent while all queues are known to be empty; -1: they are not. */
  #sentEmpty = -1;
  #over = [0, 0, 0];
  /** When a session's queue was first seen to be long, milliseconds since 1970. */
  #since = new Map<Session, number>();

  /**
   * @param onLook called about once a second with the slowest sessions, the longest queue first; less often while nothing
   * is sent
   * @param sent a number that rises with everything that is sent to sessions, but for pings of the node and close frames
   */
  constructor(context: Context, onLook: (slow: readonly SlowSession[]) => void, sent: () => number) {
    this.#context = context;
    this.#sent = sent;
    this.#bytesMax = context.config.socketQueueBytesMax;
    this.#onLook = onLook;
    this.#timer = setInterval(() => this.#slice(), sliceMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #slice(): void {
    const { sessions } = this.#context;
    if (this.#next === 0 && !this.#begin()) return;
    // Computed from the current count. With the count at the start, a node that fills up during a look would go on in
    // tiny steps for hours.
    const end = Math.min(sessions.end, this.#next + Math.ceil(sessions.end / slices));
    for (; this.#next < end; this.#next++) {
      const session = sessions.at(this.#next);
      if (session !== null && session.socket !== null) this.#look(session, session.socket.getBufferedAmount());
    }
    if (this.#next >= sessions.end) this.#finish();
  }

  /** False: all queues are still empty. */
  #begin(): boolean {
    const sent = this.#sent();
    if (sent === this.#sentEmpty) return false;
    this.#isSecond = sent === this.#sentBefore;
    this.#sentBefore = sent;
    return true;
  }

  #look(session: Session, bytes: number): void {
    if (bytes === 0) return;
    const share = bytes / this.#bytesMax;
    this.#longest = Math.max(this.#longest, bytes);
    queueShares.forEach((least, i) => {
      if (share > least) this.#over[i]!++;
    });
    if (share > namedShare) this.#named.push({ session, bytes });
  }

  #finish(): void {
    const { counters } = this.#context;
    counters.set("queueLongestBytes", this.#longest);
    counters.set("queuesOver10", this.#over[0]!);
    counters.set("queuesOver50", this.#over[1]!);
    counters.set("queuesFull", this.#over[2]!);
    const time = Date.now();
    const since = new Map<Session, number>();
    for (const { session } of this.#named) since.set(session, this.#since.get(session) ?? time);
    this.#since = since;
    const longest = this.#named.sort((a, b) => b.bytes - a.bytes).slice(0, namedMax);
    this.#onLook(longest.map(({ session, bytes }) => describe(session, bytes, time - since.get(session)!)));
    this.#named = [];
    // uWS may only have noted what was sent just before a look. At the second one it is in the queues.
    this.#sentEmpty = this.#isSecond && this.#longest === 0 ? this.#sentBefore : -1;
    this.#longest = this.#next = 0;
    this.#over = [0, 0, 0];
  }
}

/** Shares of the bound over which queues are counted. */
const queueShares = [0.1, 0.5, 1];

function describe(session: Session, queuedBytes: number, slowMs: number): SlowSession {
  const { id, grant, state } = session;
  const roomsBehind = membersOf(session).filter(({ arrival }) => arrival?.kind === "behind").slice(0, namedRoomsMax).map(({ name }) => name);
  return { session: id, user: grant?.user ?? "", tenant: grant?.tenant ?? "", state, queuedBytes, slowMs, roomsBehind };
}
