/** The pseudo-room of all online users. */
export const nowhere = "";

/** The sessions of this node by room. The node writes them again when Redis has lost them. */
export class OwnSessions {
  /** Pairs of a room and a user with a session in it. */
  members = 0;
  /** Room, or "" → user → sessions. */
  readonly #rooms = new Map<string, Map<string, Set<string>>>();

  has(room: string): boolean {
    return this.#rooms.has(room);
  }

  hasUser(room: string, user: string): boolean {
    return this.#rooms.get(room)?.has(user) === true;
  }

  hasSession(room: string, user: string, session: string): boolean {
    return this.#rooms.get(room)?.get(user)?.has(session) === true;
  }

  /** False: it was there already. */
  add(room: string, user: string, session: string): boolean {
    let users = this.#rooms.get(room);
    if (users === undefined) this.#rooms.set(room, (users = new Map()));
    const sessions = users.get(user);
    if (sessions?.has(session) === true) return false;
    if (sessions === undefined) {
      users.set(user, new Set([session]));
      this.members++;
    } else sessions.add(session);
    return true;
  }

  /** False: it was not there. */
  remove(room: string, user: string, session: string): boolean {
    const users = this.#rooms.get(room);
    const sessions = users?.get(user);
    if (users === undefined || sessions?.delete(session) !== true) return false;
    if (sessions.size > 0) return true;
    users.delete(user);
    this.members--;
    if (users.size === 0) this.#rooms.delete(room);
    return true;
  }

  names(): string[] {
    return [...this.#rooms.keys()];
  }

  *of(room: string): Generator<[user: string, session: string]> {
    for (const [user, sessions] of this.#rooms.get(room) ?? []) for (const session of sessions) yield [user, session];
  }

  clear(): void {
    this.#rooms.clear();
    this.members = 0;
  }
}
