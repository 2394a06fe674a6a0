/**
 * Measures which sockets lag, and how many bytes wait for them. Each timer looks at a tenth of the sockets, so that no
 * single look takes long. Admin requests get the result of the last full look.
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
  readonly #timer: NodeJS.Timeout;
  #next = 0;
  #named: { session: Session; bytes: number }[] = [];
  #longest = 0;
  #over = [0, 0, 0];
  /** When a session's queue was first seen to be long, milliseconds since 1970. */
  #since = new Map<Session, number>();

  /** `onLook`: called about once a second with the slowest sessions, the longest queue first. */
  constructor(context: Context, onLook: (slow: readonly SlowSession[]) => void) {
    this.#context = context;
    this.#bytesMax = context.config.socketQueueBytesMax;
    this.#onLook = onLook;
    this.#timer = setInterval(() => this.#slice(), sliceMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #slice(): void {
    const { sessions } = this.#context;
    // Computed from the current count. With the count at the start, a node that fills up during a look would go on in
    // tiny steps for hours.
    const end = Math.min(sessions.end, this.#next + Math.ceil(sessions.end / slices));
    for (; this.#next < end; this.#next++) {
      const session = sessions.at(this.#next);
      if (session !== null && session.socket !== null) this.#look(session, session.socket.getBufferedAmount());
    }
    if (this.#next >= sessions.end) this.#finish();
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
