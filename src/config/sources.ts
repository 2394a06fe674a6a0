/** The source of an option's value, and the option's name in errors: as the operator typed it. */

/** Highest priority first. `option`: given by the embedding program. */
export type Rank = "flag" | "option" | "environment" | "file" | "default";

export interface Source {
  readonly rank: Rank;
  /** Name of the file for rank `file`. For `default`: the option's name as the operator would type it. */
  readonly name: string;
}

export function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** The flag that turns an option off. */
export function noFlag(flag: string): string {
  return flag.replace("--", "--no-");
}

export function envOf(key: string): string {
  return `FLUX_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** @param path within a nested option, such as `chat.historySize` in `namespaces`. */
export function label(source: Source, key: string, path?: string): string {
  const dotted = path === undefined ? key : `${key}.${path}`;
  const spaced = path === undefined ? "" : ` ${path}`;
  switch (source.rank) {
    case "flag":
      return flagOf(key) + spaced;
    case "environment":
      return envOf(key) + spaced;
    case "option":
      return dotted;
    case "file":
      return `${dotted} in ${source.name}`;
    case "default":
      return `${source.name}${spaced} (default)`;
  }
}

/** Error text for an unknown name. */
export function unknownName(label: string, name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near === undefined ? `${label}: unknown option` : `${label}: unknown option; did you mean ${near}?`;
}

/** The most similar known name, if few enough edits make it a likely typing error. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const edits = editsBetween(name.toLowerCase(), candidate.toLowerCase());
    if (edits < least) [best, least] = [candidate, edits];
  }
  return best;
}

/** Levenshtein distance, computed row by row. */
function editsBetween(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
