/** Finds keys that occur twice in one object of a JSON text. JSON.parse accepts them silently. */

export interface Duplicate {
  /** Path of the key: `namespaces.chat.historySize`. */
  readonly key: string;
  readonly line: number;
}

/** An object or array that is still open. */
interface Open {
  /** Null for an array. */
  readonly keys: Set<string> | null;
  /** Name of the next entry. */
  name: string;
  /** In an object, where a key comes next. */
  atKey: boolean;
}

/** Upper limit of reported duplicates. */
const toldMax = 20;

/** @param text valid JSON. */
export function duplicateKeys(text: string): Duplicate[] {
  const found: Duplicate[] = [];
  const stack: Open[] = [];
  for (const { 0: token, index } of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],]/gs)) {
    const inner = stack.at(-1);
    if (token === "{") stack.push({ keys: new Set(), name: "", atKey: true });
    else if (token === "[") stack.push({ keys: null, name: "", atKey: false });
    else if (token === "}" || token === "]") stack.pop();
    else if (token === ",") inner!.atKey = inner!.keys !== null;
    else if (inner?.atKey === true && inner.keys !== null) {
      const key = JSON.parse(token) as string;
      inner.atKey = false;
      inner.name = key;
      if (inner.keys.has(key) && found.length < toldMax) {
        found.push({ key: stack.map(({ name }) => name).filter((name) => name !== "").join("."), line: text.slice(0, index).split("\n").length });
      }
      inner.keys.add(key);
    }
  }
  return found;
}
