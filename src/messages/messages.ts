/**
 * The messages seam: messages from one node to another, or to all. Each is delivered at most once and in no fixed
 * order. So nothing may depend on a message alone: facts that must hold are in a store as well.
 */

/** The health of a node, by its own account. */
export interface Health {
  readonly ready: boolean;
  /** Why it is not ready; empty where it is. */
  readonly problem: string;
  readonly sessions: number;
  readonly users: number;
  readonly rooms: number;
  /** Whether it reaches them; null where it uses none. */
  readonly redis: boolean | null;
  readonly nats: boolean | null;
  /** The progress of its drain; absent where it does not drain. */
  readonly drain?: DrainSaid | undefined;
}

/** By the count of the draining node; times in milliseconds. */
export interface DrainSaid {
  readonly sessions: number;
  readonly left: number;
  readonly windowMs: number;
  readonly elapsedMs: number;
}

/** Questions to all nodes. Each node answers for itself. */
export type Question =
  | { readonly kind: "health" }
  | { readonly kind: "user"; readonly user: string; readonly tenant?: string | undefined }
  | { readonly kind: "room"; readonly room: string; readonly tenant?: string | undefined };

/** `sessions` are those of the user with a socket on the node, `members` the sessions in the room there. */
export type NodeAnswer =
  | ({ readonly kind: "health" } & Health)
  | { readonly kind: "user"; readonly sessions: number }
  | { readonly kind: "room"; readonly members: number };

/** The recipient of an answer: the asking node, and its name for the survey. */
export interface ReplyTo {
  readonly node: string;
  readonly survey: string;
}

export type NodeMessage =
  /**
   * A session was resumed on another node with this generation. A socket here with a lower one has lost the session.
   */
  | { readonly kind: "taken"; readonly session: string; readonly generation: number }
  /**
   * Closes and ends every session of the user. `replyTo` gets the number of sessions. A late or repeated message
   * carries `agoMs`, its age: sessions that began since stay, and no reply is sent. Two clocks are never compared.
   * `signedOutAt`: tokens of the user issued then (milliseconds since 1970) or before are invalid.
   */
  | {
    readonly kind: "disconnect"; readonly tenant: string; readonly user: string; readonly signedOutAt?: number | undefined;
    readonly replyTo?: ReplyTo | undefined; readonly agoMs?: number | undefined;
  }
  | { readonly kind: "question"; readonly question: Question; readonly replyTo: ReplyTo }
  | { readonly kind: "answer"; readonly survey: string; readonly node: string; readonly answer: NodeAnswer }
  /** Drains the node whose start time, by its own clock, is `started`, and makes it exit (drainoptions.ts). */
  | { readonly kind: "drain"; readonly started: number; readonly windowMs?: number | undefined; readonly url?: string | undefined };

/**
 * Messages that must be delivered later if not now. For surveys, drains and answers the sender may be gone, or repeats
 * them itself.
 */
export function holds({ kind }: NodeMessage): boolean {
  return kind === "taken" || kind === "disconnect";
}

export interface MessageEvents {
  /** MUST NOT be called for messages of this node, nor twice for one message. */
  received(message: NodeMessage): void;
}

export interface NodeMessages {
  /**
   * Sends to one node, which may be gone. A message that must hold and cannot be sent now MUST be sent later, up to a
   * bound. Any other MUST NOT.
   */
  send(node: string, message: NodeMessage): void;

  /** Sends to every other node, with the same rules. */
  sendAll(message: NodeMessage): void;

  stop(): Promise<void>;
}
