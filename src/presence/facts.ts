/** What the presence of one node adds to the facts that webhooks tell, as changes happen. */
import { letterOf, type FactKind } from "../facts/facts.ts";
import { Due } from "./due.ts";
import type { AddedFacts, BegunSession, LostSession } from "./presence.ts";

export const noFacts: AddedFacts = { ofRoom: () => "", ofUsers: "", sessionTtlMs: 0, isFull: () => false, refused() {}, add() {} };

/** The facts of one node, without others. */
export class OwnFacts {
  readonly #facts: AddedFacts;
  /** Sessions: the socket that each has or had last. */
  readonly #sockets = new Map<string, string>();
  /** User of a session without socket, and such sessions of a user. */
  readonly #lost = new Map<string, string>();
  readonly #lostOf = new Map<string, Set<string>>();
  readonly #expiring: Due<string>;

  constructor(facts: AddedFacts) {
    this.#facts = facts;
    this.#expiring = new Due(facts.sessionTtlMs, (id) => this.#ended(id));
  }

  /** @param users in the room, after the change */
  member(room: string, member: string, came: boolean, users: number): void {
    const wanted = this.#facts.ofRoom(room);
    if (wanted === "") return;
    const add = (kind: FactKind, about = "") => {
      if (wanted.includes(letterOf[kind])) this.#facts.add(`r${room}`, { kind, users, member: about });
    };
    if (came && users === 1) add("room.occupied");
    add(came ? "member.joined" : "member.left", member);
    if (!came && users === 0) add("room.vacated");
  }

  user(user: string, isOnline: boolean): void {
    this.#addOfUser(user, isOnline ? "user.online" : "user.offline");
  }

  began(user: string, socket: string, { id, isNew }: BegunSession): void {
    if (this.#facts.ofUsers === "") return;
    this.#found(id);
    this.#sockets.set(id, socket);
    if (isNew) this.#addOfUser(user, "session.connected", id);
  }

  lost(user: string, socket: string, { id, isOver }: LostSession): void {
    // Another socket has it by now.
    if (this.#sockets.get(id) !== socket) return;
    this.#lost.set(id, user);
    const others = this.#lostOf.get(user);
    if (others === undefined) this.#lostOf.set(user, new Set([id]));
    else others.add(id);
    if (isOver) this.#ended(id);
    else this.#expiring.put(id);
  }

  /** All sessions of the user that have no socket are over. */
  endLost(user: string): void {
    for (const id of [...(this.#lostOf.get(user) ?? [])]) this.#ended(id);
  }

  clear(): void {
    this.#expiring.clear();
    this.#sockets.clear();
    this.#lost.clear();
    this.#lostOf.clear();
  }

  /** It does not wait to be resumed any more. Returns its user. */
  #found(id: string): string | undefined {
    const user = this.#lost.get(id);
    if (user === undefined) return undefined;
    this.#lost.delete(id);
    this.#expiring.take(id);
    const others = this.#lostOf.get(user);
    others?.delete(id);
    if (others?.size === 0) this.#lostOf.delete(user);
    return user;
  }

  #ended(id: string): void {
    const user = this.#found(id);
    this.#sockets.delete(id);
    if (user !== undefined) this.#addOfUser(user, "session.ended", id);
  }

  #addOfUser(user: string, kind: FactKind, session = ""): void {
    if (this.#facts.ofUsers.includes(letterOf[kind])) this.#facts.add(`u${user}`, { kind, session });
  }
}
