/** The sessions of one user: mostly one, which is then the string itself, for a Set costs more than all the rest. */
export type Held = string | Set<string> | null;

export function countOf(held: Held): number {
  if (held === null) return 0;
  return typeof held === "string" ? 1 : held.size;
}

/** `held` with the session; the same count where it was in it. */
export function withSession(held: Held, session: string): Held {
  if (held === null || held === session) return session;
  if (typeof held === "string") return new Set([held, session]);
  return held.add(session);
}

/** `held` without the session; null when that was the last. */
export function withoutSession(held: Held, session: string): Held {
  if (held === session) return null;
  if (held === null || typeof held === "string") return held;
  held.delete(session);
  if (held.size > 1) return held;
  for (const last of held) return last;
  return null;
}
