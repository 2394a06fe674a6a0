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
  /** What it holds, where users have one holder; absent otherwise. */
  readonly partitions?: PartitionsSaid | undefined;
  /** The progress of its drain; absent where it does not drain. */
  readonly drain?: DrainSaid | undefined;
}

/** Partitions that a node holds, may hold (0: any number), and knows to be without a holder; messages that wait there. */
export interface PartitionsSaid {
  readonly held: number;
  readonly max: number;
  readonly unowned: number;
  readonly backlog: number;
  /** Age of the oldest of them. */
  readonly oldestMs: number;
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

/** Questions for a list. Each node answers for itself. */
export type ListQuestion =
  | { readonly kind: "sessions"; readonly user: string; readonly tenant: string }
  /**
   * The first rooms by name that have members, begin with `prefix` and come after `after`; at most `limit`. Where
   * `patterns` is given, only names that one of them matches.
   */
  | { readonly kind: "rooms"; readonly tenant: string; readonly prefix: string; readonly after: string; readonly limit: number; readonly patterns?: readonly string[] | undefined }
  /** What the dashboard shows of the node (dashboard/answers.ts). */
  | LookQuestion;

/** `user`, `tenant` and `after` are of a trace: the user who is traced, and the last event that the asker has. */
export interface LookQuestion {
  readonly kind: "look";
  readonly about: string;
  readonly user?: string | undefined;
  readonly tenant?: string | undefined;
  readonly after?: number | undefined;
}

/** A session with a socket on the node; `rooms` is the number of those it is in. */
export interface SessionSaid {
  readonly session: string;
  readonly device: string;
  readonly rooms: number;
}

/** `sessions` are those of the user with a socket on the node, `members` the sessions in the room there. */
export type NodeAnswer =
  | ({ readonly kind: "health" } & Health)
  | { readonly kind: "user"; readonly sessions: number }
  | { readonly kind: "room"; readonly members: number }
  | { readonly kind: "sessions"; readonly sessions: readonly SessionSaid[] }
  /** `more`: there are others after the last of them. */
  | { readonly kind: "rooms"; readonly rooms: readonly (readonly [name: string, sessions: number])[]; readonly more: boolean }
  /** Checked by the asker, by what it asked about. */
  | { readonly kind: "look"; readonly said: unknown }
  /** Sessions of a user that are in a room now, or have left it, and those that could not join. */
  | { readonly kind: "assigned"; readonly sessions: number; readonly refused: number }
  /** The node's settings after a change. */
  | { readonly kind: "settings"; readonly weight: number; readonly maxPartitions?: number | undefined };

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
  /**
   * The rooms into which the application has joined a user have changed: read them. `room`: the one that the application
   * meant, also for sessions that were in it or out of it by themselves. A late or repeated message does not have it.
   */
  | { readonly kind: "assigned"; readonly tenant: string; readonly user: string; readonly room?: string | undefined; readonly replyTo?: ReplyTo | undefined }
  /** Asks the user's clients to reconnect, to `url` unless it is empty. */
  | { readonly kind: "reconnect"; readonly tenant: string; readonly user: string; readonly url: string; readonly replyTo: ReplyTo }
  | { readonly kind: "question"; readonly question: Question | ListQuestion; readonly replyTo: ReplyTo }
  | { readonly kind: "answer"; readonly survey: string; readonly node: string; readonly answer: NodeAnswer }
  /** Drains the node whose start time, by its own clock, is `started`, and makes it exit (drainoptions.ts). */
  | { readonly kind: "drain"; readonly started: number; readonly windowMs?: number | undefined; readonly url?: string | undefined }
  /** Changes settings of the node that started then (placement/settings.ts). `replyTo` gets those that it has after. */
  | { readonly kind: "settings"; readonly started: number; readonly weight?: number | undefined; readonly maxPartitions?: number | undefined; readonly replyTo: ReplyTo };

/**
 * Messages that must be delivered later if not now. For surveys, drains and answers the sender may be gone, or repeats
 * them itself.
 */
export function holds({ kind }: NodeMessage): boolean {
  return kind === "taken" || kind === "disconnect" || kind === "assigned";
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
