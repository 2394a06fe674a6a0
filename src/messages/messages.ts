/**
 * The messages seam: what one node has to tell another, or all of them. Each is told at most once and in no promised
 * order, so none may be the only thing that something depends on: what has to hold is in a store as well.
 */

/** How a node is, as it says itself. */
export interface Health {
  readonly ready: boolean;
  /** Why it is not; empty where it is. */
  readonly problem: string;
  readonly sessions: number;
  readonly users: number;
  readonly rooms: number;
  /** Whether it reaches them; null where it has none. */
  readonly redis: boolean | null;
  readonly nats: boolean | null;
  /** How far its drain is; not there where it does not drain. */
  readonly drain?: DrainSaid | undefined;
}

/** As the node that drains counts it; times in milliseconds. */
export interface DrainSaid {
  readonly sessions: number;
  readonly left: number;
  readonly windowMs: number;
  readonly elapsedMs: number;
}

/** What all nodes can be asked; each answers for itself. */
export type Question =
  | { readonly kind: "health" }
  | { readonly kind: "user"; readonly user: string; readonly tenant?: string | undefined }
  | { readonly kind: "room"; readonly room: string; readonly tenant?: string | undefined };

/** `sessions` are those of the user with a socket on the node, `members` the sessions in the room there. */
export type NodeAnswer =
  | ({ readonly kind: "health" } & Health)
  | { readonly kind: "user"; readonly sessions: number }
  | { readonly kind: "room"; readonly members: number };

/** Where an answer goes: to the node that asks, for the survey that it knows by this name. */
export interface ReplyTo {
  readonly node: string;
  readonly survey: string;
}

export type NodeMessage =
  /** A session was resumed elsewhere, for the `generation`th time: its socket here, if it is an earlier one, has lost it. */
  | { readonly kind: "taken"; readonly session: string; readonly generation: number }
  /**
   * Every session of the user is to be closed and ended; whoever wants to know is told how many there were. Said late or
   * again it says how long ago that was: who came since stays, and nobody wants to know any more. No two clocks are compared.
   * `signedOutAt`: tokens of the user that were issued then or before (milliseconds since 1970) count no more.
   */
  | {
    readonly kind: "disconnect"; readonly tenant: string; readonly user: string; readonly signedOutAt?: number | undefined;
    readonly replyTo?: ReplyTo | undefined; readonly agoMs?: number | undefined;
  }
  | { readonly kind: "question"; readonly question: Question; readonly replyTo: ReplyTo }
  | { readonly kind: "answer"; readonly survey: string; readonly node: string; readonly answer: NodeAnswer }
  /** The node that began then, by its own word, is to send its sessions away and end, as drainoptions.ts has it. */
  | { readonly kind: "drain"; readonly started: number; readonly windowMs?: number | undefined; readonly url?: string | undefined };

/** Messages that have to hold. Whoever asks, drains or answers is not there any more, or asks again himself. */
export function holds({ kind }: NodeMessage): boolean {
  return kind === "taken" || kind === "disconnect";
}

export interface MessageEvents {
  /** MUST NOT be called for what this node has sent itself, nor twice for one message. */
  received(message: NodeMessage): void;
}

export interface NodeMessages {
  /**
   * To one node, which may not be there any more. What cannot be sent now MUST be sent when it can be, up to a bound,
   * where it has to hold; anything else MUST NOT.
   */
  send(node: string, message: NodeMessage): void;

  /** To every other node, likewise. */
  sendAll(message: NodeMessage): void;

  stop(): Promise<void>;
}
