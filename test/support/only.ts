/** Lists for `t.match`, where a list in a pattern matches longer ones too, and an empty one every list. */

/** A list of just these. */
export function only(...items: readonly unknown[]): object {
  return { ...items, length: items.length };
}

export const none = only();
