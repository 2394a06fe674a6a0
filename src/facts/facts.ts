/**
 * The facts seam: what has happened to rooms and users, kept until every webhook endpoint has been told. Each room and
 * each user is a subject with a list of its own, in order. Endpoints read the lists independently of one another.
 *
 * A fact is added in the same step as the change that it states, by whoever makes that change: presence. So it is
 * added once, and its number and time never change. With its epoch they name it, however often it is read.
 */

/** Kinds of facts, and the letter that stands for each in a list. */
export const letterOf = {
  "room.occupied": "o",
  "room.vacated": "v",
  "member.joined": "j",
  "member.left": "l",
  "user.online": "n",
  "user.offline": "f",
  "session.connected": "c",
  "session.ended": "e",
} as const;
export type FactKind = keyof typeof letterOf;
export const factKinds = Object.keys(letterOf) as FactKind[];

/** `r` and the key of a room, or `u` and the key of a user (roomkeys.ts). */
export type Subject = `r${string}` | `u${string}`;

export interface Fact {
  /** Rises with each fact of the subject. Together with epoch and time it names this fact alone. */
  readonly n: number;
  readonly kind: FactKind;
  /** When it happened, milliseconds since 1970. */
  readonly at: number;
  /** Users in the room after it. */
  readonly users: number;
  /** Key of the member; "" where the fact is about the room or user itself. */
  readonly member: string;
  /** The session that connected or ended; else "". */
  readonly session: string;
}

/** What an endpoint has not been told of a subject yet, oldest first. */
export interface FactPage {
  readonly epoch: string;
  readonly facts: readonly Fact[];
  /** Up to which number they go, with those that this version does not know; 0 for none. */
  readonly through: number;
  /** How many there are, those on the page included. */
  readonly waiting: number;
  /** Of those on the page, as they are stored. */
  readonly bytes: number;
  /** Facts of the subject that were deleted untold since the last page: there were too many. */
  readonly lost: number;
  /** More than 0: another node tells this subject's facts. Look again after this time. */
  readonly heldMs: number;
}

/** A fact that an endpoint refused, or did not take for too long. */
export interface DeadLetter {
  /** The webhook-id. */
  readonly id: string;
  /** The body as it was sent. */
  readonly body: string;
  readonly reason: string;
  /** When it was given up, milliseconds since 1970. */
  readonly at: number;
}

export interface Claim {
  /** How many facts to read. */
  readonly max: number;
  /** A node that was found dead so long ago: what it had claimed until then is free. What it claims since, it is back. */
  readonly gone?: { readonly node: string; readonly forMs: number };
}

/** Facts that wait, of all subjects. */
export interface FactsUsage {
  readonly events: number;
  readonly bytes: number;
}

export interface Facts {
  /**
   * Reads what the endpoint has not been told. From here on the subject is this node's, for `claimMs` and for this
   * endpoint: no other node MUST get its facts. MUST reject where the facts cannot be read now.
   */
  claim(endpoint: string, subject: Subject, claim: Claim): Promise<FactPage>;

  /**
   * The endpoint was told everything up to number `n`. Facts that all endpoints of the subject were told MUST be
   * deleted, and no others. `isOver`: the claim ends, else it is renewed. An epoch that is over MUST change nothing.
   * Resolves with the number of facts that still wait. With 0 the claim has ended before the next fact. With -1 another
   * node has the claim, and tells them.
   */
  told(endpoint: string, subject: Subject, told: { readonly epoch: string; readonly n: number; readonly isOver: boolean }): Promise<number>;

  /** Keeps a letter, until `unbury`. Above `deadLettersMax` the oldest are deleted. Burying it again MUST change nothing. */
  bury(endpoint: string, letter: DeadLetter): Promise<void>;
  /** The oldest letters of the endpoint. */
  buried(endpoint: string, max: number): Promise<{ readonly count: number; readonly letters: readonly DeadLetter[] }>;
  unbury(endpoint: string, ids: readonly string[]): Promise<void>;

  /** The URL under which the endpoint answered that it is gone for good; "" for none. */
  disabled(endpoint: string): Promise<string>;
  disable(endpoint: string, url: string): Promise<void>;

  /** How many facts wait for the endpoint in each of these lists. Takes no claim. MUST reject where that is unknown. */
  count(endpoint: string, subjects: readonly Subject[]): Promise<readonly number[]>;
  /** All facts that wait, where this process alone keeps them; null where nodes share them. */
  usage(): FactsUsage | null;
  /** Subjects with facts from before the start. Nodes that share facts know theirs in another way. */
  subjects(): readonly Subject[];

  stop(): Promise<void>;
}

/** Facts of one subject. Above it the oldest are deleted, told or not. */
export const factsMax = 50_000;
export const deadLettersMax = 10_000;
/** A node that says nothing for so long has lost its claim. Longer than a request may take. */
export const claimMs = 90_000;

const kindOf = new Map<string, FactKind>(factKinds.map((kind) => [letterOf[kind], kind]));

/** A fact as lists hold it: number, time, letter, users, session, member. The member comes last: its name may hold spaces. */
export function textOfFact({ n, at, kind, users, session, member }: Fact): string {
  return `${n} ${at} ${letterOf[kind]} ${users} ${session} ${member}`;
}

/** Null for a text that is none, such as one of a newer version. */
export function factOf(text: string): Fact | null {
  const [, n, at, letter = "", users, session = "", member = ""] = /^(\d+) (\d+) (\w) (\d+) (\S*) (.*)$/s.exec(text) ?? [];
  const kind = kindOf.get(letter);
  return kind === undefined ? null : { n: Number(n), at: Number(at), kind, users: Number(users), session, member };
}

/** The letters of these kinds, as scripts and stores compare them. */
export function lettersOf(kinds: Iterable<FactKind>): string {
  return [...new Set(kinds)].map((kind) => letterOf[kind]).sort().join("");
}

/** Of a fact in a list: its text, and what every entry of a list costs. */
export function bytesOfFact({ session, member }: Pick<Fact, "session" | "member">): number {
  return entryBytes + session.length + member.length;
}

const entryBytes = 100;
