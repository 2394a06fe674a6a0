/** Keys that stand twice in one object of a JSON text, which JSON.parse passes over in silence. */

export interface Duplicate {
  /** With the keys of the objects around it: `namespaces.chat.historySize`. */
  readonly key: string;
  readonly line: number;
}

/** An object or array that is not closed yet. */
interface Open {
  /** Null: an array. */
  readonly keys: Set<string> | null;
  /** Of what comes next in it. */
  name: string;
  /** In an object: a key comes next. */
  atKey: boolean;
}

/** Told at most; a file that is wrong everywhere is not listed whole. */
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
