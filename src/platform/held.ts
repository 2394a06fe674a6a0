/** Things of which there is mostly one, such as the sessions of a user: it is then itself what is held, since a Set costs more than all the rest. */
export type Held<T extends string | object> = T | Set<T> | null;

export function countOf<T extends string | object>(held: Held<T>): number {
  if (held === null) return 0;
  return held instanceof Set ? held.size : 1;
}

/** `held` with this one; the same count where it was in it. */
export function withOne<T extends string | object>(held: Held<T>, one: T): Held<T> {
  if (held === null || held === one) return one;
  return held instanceof Set ? held.add(one) : new Set([held, one]);
}

/** `held` without this one; null when that was the last. */
export function withoutOne<T extends string | object>(held: Held<T>, one: T): Held<T> {
  if (held === one) return null;
  if (!(held instanceof Set)) return held;
  held.delete(one);
  if (held.size > 1) return held;
  for (const last of held) return last;
  return null;
}

export function allOf<T extends string | object>(held: Held<T>): T[] {
  if (held === null) return [];
  return held instanceof Set ? [...held] : [held];
}
