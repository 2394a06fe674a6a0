/** Users that the application watches. The node forgets them with the session; the client watches them again. */
import type { ClientFrame, UserStatus as WireStatus } from "../protocol/messages.ts";
import { backoffMs } from "./clock.ts";
import type { Clock } from "./clock.ts";
import type { OnReply } from "./connection/commands.ts";
import { fluxError } from "./flux-error.ts";
import type { FluxError } from "./flux-error.ts";
import { toDate } from "./rooms/publication.ts";
import { problemOf } from "./values.ts";

/** Whether a user is online. */
export type UserStatus = {
  /** Name of the user. */
  readonly user: string;
  /** The user has a session, or had one within the grace period. */
  readonly online: boolean;
  /** Time the user was last online; null while online or where the node does not know. */
  readonly lastSeen: Date | null;
};

export type WatchesOwner = {
  send(command: ClientFrame, onReply: OnReply): void;
  tell(command: ClientFrame): void;
  onStatus(status: UserStatus): void;
  /** The node refused users whom it had accepted in an earlier session. */
  onError(error: FluxError): void;
  clock: Clock;
  random: () => number;
};

type Ask = { readonly users: readonly string[]; resolve(statuses: UserStatus[]): void; reject(error: FluxError): void; refusals: number };

/** Users per command; a node accepts a few more. */
const usersPerAsk = 200;
const retryBackoff = { baseMs: 200, capMs: 5000 };

export class Watches {
  readonly #owner: WatchesOwner;
  readonly #known = new Map<string, UserStatus | null>();
  /** Calls that wait for a session. */
  #waiting: Ask[] = [];
  /** Calls without an answer. */
  readonly #asking = new Set<Ask>();
  /** Why nothing more is asked, or null. */
  #ended: FluxError | null = null;

  constructor(owner: WatchesOwner) {
    this.#owner = owner;
  }

  watch(users: readonly string[]): Promise<UserStatus[]> {
    const wanted = [...new Set(users)];
    const problem = problemOf(wanted, "users");
    if (problem !== null) return Promise.reject(fluxError("bad_request", problem));
    for (const user of wanted) if (!this.#known.has(user)) this.#known.set(user, null);
    const parts = chunks(wanted).map((part) => new Promise<UserStatus[]>((resolve, reject) => this.#ask({ users: part, resolve, reject, refusals: 0 })));
    return Promise.all(parts).then((statuses) => statuses.flat());
  }

  unwatch(users: readonly string[]): void {
    const watched = [...new Set(users)].filter((user) => this.#known.delete(user));
    this.#tellOf(watched);
    // Nobody waits for those any more.
    const isWanted = ({ users }: Ask) => users.some((user) => this.#known.has(user));
    const unwanted = this.#waiting.filter((ask) => !isWanted(ask));
    this.#waiting = this.#waiting.filter(isWanted);
    for (const ask of unwanted) {
      this.#asking.delete(ask);
      ask.resolve([]);
    }
  }

  /** A new session: it watches nobody yet. */
  open(): void {
    const waiting = this.#waiting.splice(0);
    const asked = new Set(waiting.flatMap(({ users }) => users));
    for (const users of chunks([...this.#known.keys()].filter((user) => !asked.has(user)))) {
      waiting.push({ users, resolve: () => {}, reject: this.#owner.onError, refusals: 0 });
    }
    for (const ask of waiting) this.#ask(ask);
  }

  end(error: FluxError): void {
    this.#ended = error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#asking.clear();
  }

  onStatus(wire: WireStatus): UserStatus {
    const status = { user: wire.user ?? "", online: wire.online ?? false, lastSeen: toDate(wire.lastSeen) };
    const known = this.#known.get(status.user);
    if (known === undefined) return status; // unwatched meanwhile
    this.#known.set(status.user, status);
    if (known?.online !== status.online || known.lastSeen?.getTime() !== status.lastSeen?.getTime()) this.#owner.onStatus(status);
    return status;
  }

  /** Nobody watches these users any more. */
  #tellOf(users: readonly string[]): void {
    for (const part of chunks(users)) this.#owner.tell({ unwatch: { users: part } });
  }

  #ask(ask: Ask): void {
    const { clock, random } = this.#owner;
    if (this.#ended !== null) return ask.reject(this.#ended);
    this.#asking.add(ask);
    this.#owner.send({ watch: { users: [...ask.users] } }, (answer) => {
      if ("reply" in answer || !answer.error.retryable) this.#asking.delete(ask);
      if ("reply" in answer) {
        this.#tellOf(ask.users.filter((user) => !this.#known.has(user))); // unwatched before the node was asked
        return ask.resolve((answer.reply.watched?.statuses ?? []).map((status) => this.onStatus(status)));
      }
      const { error } = answer;
      if (error.code === "disconnected") return void this.#waiting.push(ask);
      if (error.retryable) return void clock.after(backoffMs(ask.refusals++, retryBackoff, random), () => this.#ask(ask));
      // Users of other calls stay: those with a status were accepted, the others may be.
      const others = new Set([...this.#asking].flatMap(({ users }) => users));
      for (const user of ask.users) if (this.#known.get(user) === null && !others.has(user)) this.#known.delete(user);
      ask.reject(error);
    });
  }
}

function chunks(users: readonly string[]): string[][] {
  const parts: string[][] = [];
  for (let at = 0; at < users.length; at += usersPerAsk) parts.push(users.slice(at, at + usersPerAsk));
  return parts;
}
