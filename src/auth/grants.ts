/**
 * A grant: the rights of a session. It is made from the token at hello and checked, without waiting, at every command.
 */

/** Rights that a token can give in a room. */
export const rightNames = ["join", "publish", "history", "presence"] as const;
export type Right = (typeof rightNames)[number];

/** One entry of a token's `rooms` claim: a pattern of room names, and the rights in them. */
export interface RoomRule {
  /** `chat:general`, or with `*` for any run of characters: `chat:*`. */
  readonly pattern: string;
  readonly rights: readonly Right[];
}

export interface Grant {
  readonly user: string;
  /** Tenants share nothing: not rooms, not users, not presence. "" without tenants. */
  readonly tenant: string;
  /** Hash that identifies the token; "" where there is none. */
  readonly tokenHash: string;
  /** Milliseconds since 1970; 0 if the token has no iat. */
  readonly issuedAt: number;
  /** Milliseconds since 1970; 0 for never. */
  readonly expiresAt: number;
  /** Null: every room, as its namespace allows. */
  readonly rooms: readonly RoomRule[] | null;
  /** Whether it may send direct messages. */
  readonly send: boolean;
  /** The token's own limits, lower or higher than the node's. Null: the node's apply. */
  readonly commandsPerSecond: number | null;
  readonly roomsMax: number | null;
  /** What the application's backend decided when the session began. Null: it was not asked, or gave no verdict. */
  readonly hook: HookGrant | null;
}

/** The verdict of the connect hook. It travels in the resume token: sessions that resume keep it. */
export interface HookGrant {
  /** The user that the token names. The verdict may have named another one, the grant's. */
  readonly from: string;
  /** Milliseconds since 1970: a session that resumes later is asked about again. 0: as long as the session lives. */
  readonly until: number;
  /** Rooms into which the session was joined. */
  readonly rooms: readonly string[];
}

/** The grant as the token gave it, before a hook. */
export function asTokenGave(grant: Grant): Grant {
  return grant.hook === null ? grant : { ...grant, user: grant.hook.from, hook: null };
}

/** Whether the grant gives this right in this room. The namespace may still reject the command. */
export function allows(grant: Pick<Grant, "rooms">, right: Right, room: string): boolean {
  if (grant.rooms === null) return true;
  return grant.rooms.some((rule) => rule.rights.includes(right) && matches(rule.pattern, room));
}

/** Matches `*` with any run of characters. Linear: it backtracks to the last star only. */
export function matches(pattern: string, name: string): boolean {
  let p = 0;
  let n = 0;
  let star = -1;
  let resume = 0;
  while (n < name.length) {
    if (pattern[p] === "*") {
      star = p++;
      resume = n;
    } else if (pattern[p] === name[n]) {
      p++;
      n++;
    } else if (star >= 0) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** The grant of a client without a token, where such clients may connect. */
export function anonymous(user: string): Grant {
  return { user, tenant: "", tokenHash: "", issuedAt: Date.now(), expiresAt: 0, rooms: null, send: true, commandsPerSecond: null, roomsMax: null, hook: null };
}
