/** The objects that every part of a reactor uses. main.ts makes them once; reactor.ts adds the parts that depend on them. */
import type { Verifier } from "../auth/verifier.ts";
import type { Config } from "../config/config.ts";
import type { Counters } from "../link/counters.ts";
import type { Link } from "../link/link.ts";
import type { Encoder } from "../protocol/formats/encoder.ts";
import type { BufferPool } from "../protocol/framing.ts";
import type { PlacementView } from "../placement/view.ts";
import type { ResumeTokens } from "../auth/resume.ts";
import type { KindOf } from "../config/roomnames.ts";
import type { PlaceTickets } from "../auth/placetickets.ts";
import type { Tickets } from "../auth/tickets.ts";
import type { ReactorLooks } from "./locate/looks.ts";
import type { Targets } from "./locate/targets.ts";
import type { Admission } from "./transport/admission.ts";
import type { QueueBudget } from "./rooms/queuebudget.ts";
import type { Refusals } from "./refusalreports.ts";
import type { Holdings } from "./session/holdings.ts";
import type { Session, ReactorSessions } from "./session/session.ts";
import type { Audiences } from "./transport/socket.ts";
import type { Together } from "./together.ts";
import type { Trace } from "./trace.ts";

export interface Context {
  readonly config: Config;
  /** Messages of at least this many bytes are compressed. Infinity where compression is off. */
  readonly compressFrom: number;
  /** The receivers of deliveries. */
  readonly audiences: Audiences;
  readonly link: Link;
  /** Answers that leave in one write. */
  readonly together: Together;
  readonly counters: Counters;
  readonly sessions: ReactorSessions;
  readonly encoder: Encoder;
  readonly pool: BufferPool;
  /** True while the node refuses whatever takes more memory. */
  readonly outOfMemory: () => boolean;
  /** Bounds the bytes queued for all sockets together. */
  readonly queueBudget: QueueBudget;
  readonly kindOf: KindOf;
  /** Null without a configured key: every client is anonymous. */
  readonly verifier: Verifier | null;
  readonly resumeTokens: ResumeTokens;
  /** Which node a user belongs on. */
  readonly placement: PlacementView;
  /** What this node may deliver from inboxes. */
  readonly holdings: Holdings;
  /** The nodes that clients can be sent to. */
  readonly targets: Targets;
  readonly tickets: Tickets;
  readonly placeTickets: PlaceTickets;
  readonly admission: Admission;
  /** Nodes that clients could not reach. */
  readonly looks: ReactorLooks;
  readonly refusals: Refusals;
  /** Logs each hello. Null unless the log level is debug or trace. */
  readonly greeted: ((session: Session, client: string, resumed: boolean) => void) | null;
  /** Tells of single sockets and commands: by log level trace, and of users who are followed. */
  readonly trace: Trace | null;
  /** Sessions that the drain has asked to reconnect, and that wait for their last answers (sendaway.ts). */
  readonly leaving: Set<Session>;
}
