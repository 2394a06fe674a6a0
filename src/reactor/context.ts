/** What every part of a reactor works with. Made once, in main.ts; reactor.ts adds the parts that work with it. */
import type { Verifier } from "../auth/verifier.ts";
import type { Config } from "../config/config.ts";
import type { Counters } from "../link/counters.ts";
import type { Link } from "../link/link.ts";
import type { Encoder } from "../protocol/encoder.ts";
import type { BufferPool } from "../protocol/framing.ts";
import type { ResumeTokens } from "../auth/resume.ts";
import type { KindOf } from "../config/roomnames.ts";
import type { Tickets } from "../auth/tickets.ts";
import type { Admission } from "./transport/admission.ts";
import type { QueueBudget } from "./rooms/queuebudget.ts";
import type { Refusals } from "./refusals.ts";
import type { Session, ReactorSessions } from "./session/session.ts";
import type { Audiences } from "./transport/socket.ts";
import type { Trace } from "./trace.ts";

export interface Context {
  readonly config: Config;
  /** Messages of at least this many bytes are compressed; infinity where compression is off. */
  readonly compressFrom: number;
  /** Whom deliveries go to. */
  readonly audiences: Audiences;
  readonly link: Link;
  readonly counters: Counters;
  readonly sessions: ReactorSessions;
  readonly encoder: Encoder;
  readonly pool: BufferPool;
  /** The node refuses what would take more memory. */
  readonly outOfMemory: () => boolean;
  /** What may wait in the queues of all sockets. */
  readonly queueBudget: QueueBudget;
  readonly kindOf: KindOf;
  /** Null where no key is configured: everybody is anonymous. */
  readonly verifier: Verifier | null;
  readonly resumeTokens: ResumeTokens;
  readonly tickets: Tickets;
  readonly admission: Admission;
  readonly refusals: Refusals;
  /** Tells the log who said hello; null where it is not for debugging. */
  readonly greeted: ((session: Session, client: string, resumed: boolean) => void) | null;
  /** Tells the log what becomes of single sockets and commands; null where nobody asked for that. */
  readonly trace: Trace | null;
  /** Those that have been told to come back elsewhere and wait for their last answers (sendaway.ts). */
  readonly leaving: Set<Session>;
}
