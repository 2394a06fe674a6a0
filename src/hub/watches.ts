/** Which sessions watch which users, in both directions. Sessions can be any objects; users are keys. */
export class Watches<Session> {
  /** Pairs of a session and a user. */
  size = 0;
  readonly #watchers = new Map<string, Set<Session>>();
  readonly #watched = new Map<Session, Set<string>>();

  of(user: string): Session[] {
    return [...(this.#watchers.get(user) ?? [])];
  }

  /** How many users the session would watch with these. */
  countWith(session: Session, users: readonly string[]): number {
    return new Set([...(this.#watched.get(session) ?? []), ...users]).size;
  }

  /** @returns those it did not watch before. */
  add(session: Session, users: readonly string[]): string[] {
    const watched = this.#watched.get(session) ?? new Set();
    this.#watched.set(session, watched);
    const added = [...new Set(users)].filter((user) => !watched.has(user));
    for (const user of added) {
      watched.add(user);
      const watchers = this.#watchers.get(user);
      if (watchers === undefined) this.#watchers.set(user, new Set([session]));
      else watchers.add(session);
    }
    this.size += added.length;
    return added;
  }

  /** @returns those it did watch. */
  remove(session: Session, users: readonly string[]): string[] {
    const watched = this.#watched.get(session);
    if (watched === undefined) return [];
    const removed = users.filter((user) => watched.delete(user));
    if (watched.size === 0) this.#watched.delete(session);
    for (const user of removed) {
      const watchers = this.#watchers.get(user)!;
      watchers.delete(session);
      if (watchers.size === 0) this.#watchers.delete(user);
    }
    this.size -= removed.length;
    return removed;
  }

  /** The session is over. */
  end(session: Session): string[] {
    return this.remove(session, [...(this.#watched.get(session) ?? [])]);
  }
}
