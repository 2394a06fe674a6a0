/**
 * Verdicts that hold for the same question for a while, as long as the backend said. A sign-out of the user removes
 * them: those about the user, and those that made somebody this user.
 */
import { LRUCache } from "lru-cache";
import type { AskRecord } from "../link/hooks.ts";
import { userKey } from "../protocol/roomkeys.ts";
import type { Answered } from "./verdict.ts";

const verdictsMax = 20_000;
const bytesMax = 16 * 2 ** 20;
const entryBytes = 512;

interface Remembered {
  readonly verdict: Answered["verdict"];
  readonly until: number;
  readonly users: readonly string[];
}

type About = Pick<AskRecord, "hook" | "tenant" | "user" | "isAnonymous" | "tokenHash" | "room">;

export class RememberedVerdicts {
  readonly #clock: () => number;
  readonly #kept: LRUCache<string, Remembered>;
  /** Keys by user. */
  readonly #ofUser = new Map<string, Set<string>>();
  #signOuts = 0;

  /** @param clock milliseconds since 1970; replaced in tests */
  constructor(clock = () => Date.now()) {
    this.#clock = clock;
    this.#kept = new LRUCache({ max: verdictsMax, maxSize: bytesMax, dispose: ({ users }, key) => users.forEach((user) => this.#unlist(user, key)) });
  }

  get size(): number {
    return this.#kept.size;
  }

  get(about: About): Answered["verdict"] | undefined {
    const key = keyOf(about);
    const kept = key === null ? undefined : this.#kept.get(key);
    if (kept === undefined || kept.until > this.#clock()) return kept?.verdict;
    this.#kept.delete(key!);
    return undefined;
  }

  /** Call this before asking: the returned function keeps the answer, unless somebody was signed out in between. */
  keeping(about: About): (answered: Answered) => void {
    const key = keyOf(about);
    const before = this.#signOuts;
    return ({ verdict, maxAgeMs }) => {
      if (key === null || maxAgeMs === 0 || before !== this.#signOuts) return;
      // It is about this one publication.
      if (verdict.kind === "allowed" && verdict.payload !== null) return;
      const named = verdict.kind === "allowed" && verdict.user !== "" ? verdict.user : about.user;
      const users = [...new Set([userKey(about.tenant, about.user), userKey(about.tenant, named)])];
      const rooms = verdict.kind === "allowed" ? verdict.rooms.reduce((sum, room) => sum + room.length, 0) : 0;
      this.#kept.set(key, { verdict, until: this.#clock() + maxAgeMs, users }, { size: entryBytes + key.length + rooms });
      for (const user of users) this.#list(user, key);
    };
  }

  signedOut(user: string): void {
    this.#signOuts++;
    for (const key of [...(this.#ofUser.get(user) ?? [])]) this.#kept.delete(key);
  }

  #list(user: string, key: string): void {
    const keys = this.#ofUser.get(user);
    if (keys === undefined) this.#ofUser.set(user, new Set([key]));
    else keys.add(key);
  }

  #unlist(user: string, key: string): void {
    const keys = this.#ofUser.get(user);
    keys?.delete(key);
    if (keys?.size === 0) this.#ofUser.delete(user);
  }
}

/** Null for a question that nobody asks again: of a client that has no token, under a name that it got just now. */
function keyOf({ hook, tenant, user, isAnonymous, tokenHash, room }: About): string | null {
  if (hook === "connect" && isAnonymous) return tokenHash === "" ? null : JSON.stringify([hook, tenant, tokenHash]);
  return JSON.stringify([hook, tenant, user, tokenHash, room]);
}
