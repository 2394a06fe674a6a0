/** What the calls of `flux-gateway/server` take and give. A test checks them against the schemas of the HTTP API. */

export interface FluxServerOptions {
  /** Of the port that serves the API: `http://127.0.0.1:8081`. */
  readonly url: string;
  /** API key, admin key, or JWT. Default: none, for a node on this machine that needs none. */
  readonly key?: string | undefined;
  /** Tenant of rooms and users, for a key that reaches all tenants. */
  readonly tenant?: string | undefined;
  /** Time to wait for each answer. Default: 10 seconds. */
  readonly timeoutMs?: number | undefined;
  /** Times to repeat a call whose error is retryable. Default: 3. */
  readonly retries?: number | undefined;
  /** Longest time to wait before a repeat. An answer that asks for more is an error at once. Default: 10 seconds. */
  readonly retryAfterMaxMs?: number | undefined;
  /** For tests, and for other agents. Default: the global one, which keeps connections alive. */
  readonly fetch?: typeof fetch | undefined;
}

export interface Published extends Sent {
  /** Members of the room on the node that answered. */
  readonly receivers: number;
}

export interface Sent {
  /** Position in the room, `epoch:seq`: `after` and `before` of history take it. */
  readonly position: string;
  /** The key was used before: the position is that of the first publication. */
  readonly duplicate: boolean;
}

export interface Failed {
  readonly error: { readonly code: string; readonly detail: string; readonly retryable: boolean };
}

export interface Results {
  /** One for each, in the same order. */
  readonly results: readonly (Published | Failed)[];
  /** Results with an error. */
  readonly failed: number;
}

export interface Publication {
  readonly position: string;
  /** User who published; empty: the application did. */
  readonly sender: string;
  /** Time of publishing, in ISO 8601. */
  readonly time: string;
  /** JSON, or a Uint8Array. */
  readonly data?: unknown;
}

export interface HistoryPage {
  readonly publications: readonly Publication[];
  /** Position of the newest publication of the room. */
  readonly position: string;
  /** Publications are missing within this page: their stream deleted them before they were archived. */
  readonly gap?: boolean;
  /** Cursor of the next page; null: this is the last page. */
  readonly next: string | null;
}

/** What all nodes together have answered. */
export interface OfAllNodes {
  /** False: other nodes may have more. */
  readonly complete: boolean;
  /** Nodes without an answer. */
  readonly unanswered: readonly string[];
}

export interface MembersPage {
  /** In the whole room. */
  readonly users: number;
  readonly sessions: number;
  /** In this page. */
  readonly members: readonly { readonly user: string; readonly sessions: number }[];
  /** `after` of the next page; null: this is the last page. */
  readonly next: string | null;
  /** False: members on other nodes may be missing. */
  readonly complete: boolean;
}

export interface RoomsPage extends OfAllNodes {
  readonly rooms: readonly { readonly room: string; readonly sessions: number }[];
  /** `cursor` of the next page; null: this is the last page. */
  readonly next: string | null;
}

export interface RoomInfo extends OfAllNodes {
  readonly room: string;
  readonly sessions: number;
  readonly nodes: readonly { readonly node: string; readonly sessions: number }[];
  /** Null where they cannot be counted. */
  readonly users: number | null;
}

export interface UserInfo extends OfAllNodes {
  readonly user: string;
  readonly sessions: readonly { readonly session: string; readonly node: string; readonly device: string; readonly rooms: number }[];
  /** Rooms into which `join` has joined the user; null: they cannot be read now. */
  readonly joined: readonly string[] | null;
}

export interface Joined extends OfAllNodes {
  readonly sessions: number;
  /** Sessions that could not join. */
  readonly refused: number;
}

export interface Left extends OfAllNodes {
  readonly sessions: number;
}

export interface Surveyed extends OfAllNodes {
  readonly sessions: number;
}

/** What calls take besides names and data. */
export interface Token {
  readonly token: string;
  /** In ISO 8601. */
  readonly expiresAt: string;
}

export declare namespace Options {
  interface Signal {
    /** Ends the call. Whether it had an effect is not known then. */
    readonly signal?: AbortSignal | undefined;
  }
  interface Send extends Signal {
    /** Idempotency key. Default: a random one, so that a repeat has no second effect. */
    readonly key?: string | undefined;
  }
  interface Publish extends Send {
    /** Session that does not get the publication. */
    readonly exclude?: string | undefined;
  }
  interface Item {
    readonly room: string;
    readonly data: unknown;
    readonly key?: string | undefined;
    readonly exclude?: string | undefined;
  }
  interface History extends Signal {
    readonly after?: string | undefined;
    readonly before?: string | undefined;
    readonly limit?: number | undefined;
    readonly reverse?: boolean | undefined;
  }
  interface Members extends Signal {
    readonly after?: string | undefined;
    readonly limit?: number | undefined;
  }
  interface Rooms extends Signal {
    readonly prefix?: string | undefined;
    readonly cursor?: string | undefined;
    readonly limit?: number | undefined;
  }
  interface Disconnect extends Signal {
    readonly signOut?: boolean | undefined;
  }
  interface Reconnect extends Signal {
    /** WebSocket URL that the clients connect to. Default: the one they used before. */
    readonly url?: string | undefined;
  }
  interface Token extends Signal {
    /** Rights by pattern of room names. Default: every room, as its namespace allows. */
    readonly rooms?: Readonly<Record<string, readonly ("join" | "publish" | "history" | "presence")[]>> | undefined;
    /** May send direct messages. Default: true. */
    readonly send?: boolean | undefined;
    /** Of the user's sessions, in place of the node's. */
    readonly limits?: { readonly commandsPerSecond?: number | undefined; readonly rooms?: number | undefined } | undefined;
    /** Lifetime in seconds. Default: an hour. */
    readonly expiresIn?: number | undefined;
  }
}
