/** What a session may do: made from its token when it says hello, asked at every command, without waiting for anyone. */

/** What can be allowed in a room. */
export const rightNames = ["join", "publish", "history", "presence"] as const;
export type Right = (typeof rightNames)[number];

/** One line of a token's `rooms` claim: rooms whose name matches, and what may be done in them. */
export interface RoomRule {
  /** `chat:general`, or with `*` for any run of characters: `chat:*`. */
  readonly pattern: string;
  readonly rights: readonly Right[];
}

export interface Grant {
  readonly user: string;
  /** Tenants share nothing: rooms, users and presence of one are not there for another. "" where there are none. */
  readonly tenant: string;
  /** What its token is known by, "" where there is none. */
  readonly tokenHash: string;
  /** Milliseconds since 1970; 0 for a token that does not say. */
  readonly issuedAt: number;
  /** Milliseconds since 1970; 0 for never. */
  readonly expiresAt: number;
  /** Null: every room, as its namespace allows. */
  readonly rooms: readonly RoomRule[] | null;
  /** Whether it may send direct messages. */
  readonly send: boolean;
  /** Limits of its own, lower or higher than the node's; null where the node's hold. */
  readonly commandsPerSecond: number | null;
  readonly roomsMax: number | null;
}

/** Whether the grant gives this right in this room. A namespace may still refuse. */
export function allows(grant: Grant, right: Right, room: string): boolean {
  if (grant.rooms === null) return true;
  return grant.rooms.some((rule) => rule.rights.includes(right) && matches(rule.pattern, room));
}

/** `*` is any run of characters, everything else itself. Linear: backtracks to the last star only. */
function matches(pattern: string, name: string): boolean {
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

/** What a client gets that proves nothing, where those may connect. */
export function anonymous(user: string): Grant {
  return { user, tenant: "", tokenHash: "", issuedAt: Date.now(), expiresAt: 0, rooms: null, send: true, commandsPerSecond: null, roomsMax: null };
}
