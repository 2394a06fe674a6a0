/**
 * A set that usually has one element, such as the sessions of a user. A single element is stored without a Set, which
 * would cost more memory than the rest.
 */
export type Held<T extends string | object> = T | Set<T> | null;

export function countOf<T extends string | object>(held: Held<T>): number {
  if (held === null) return 0;
  return held instanceof Set ? held.size : 1;
}

/** `held` with this element added. */
export function withOne<T extends string | object>(held: Held<T>, one: T): Held<T> {
  if (held === null || held === one) return one;
  return held instanceof Set ? held.add(one) : new Set([held, one]);
}

/** `held` without this element; null when it was the last. */
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
