/**
 * Options of namespaces, the kinds of room. Each source of configuration gives some namespaces some options; they
 * are laid over the built-in ones name by name and option by option, and `null` takes a namespace away.
 */
import { count, oneOf, size, time, yesOrNo, type Check, type Checked } from "./checks.ts";
import { label, unknownName, type Source } from "./sources.ts";

export const namespaceRows = {
  durable: { check: yesOrNo(), default: false, text: "Durable rooms: the broker stores a history that members recover from." },
  historySize: { check: count(1, 10_000_000), default: 1000, text: "Publications a room keeps. Beyond it the oldest are deleted." },
  historyTtlMs: { check: time(1, 3650 * 86_400_000), default: 86_400_000, text: "Time a publication is kept." },
  historyBytesMax: { check: size(1, 2 ** 40), default: 16_777_216, text: "Bytes of publications a room keeps. Beyond it the oldest are deleted." },
  publish: {
    check: oneOf("members", "anyone", "nobody"),
    default: "members",
    text: "Who may publish: members of the room, anyone (a session need not join), or nobody. With nobody every publish is rejected with forbidden.",
  },
  presence: {
    check: oneOf("members", "anyone", "nobody"),
    default: "nobody",
    text: "Who may read the members of a room: its members, anyone, or nobody. With nobody the node does not track them.",
  },
  presenceEvents: {
    check: yesOrNo(),
    default: false,
    text: "Presence events: members receive who joined and left. Only with presence.",
  },
  flushMs: {
    check: time(0, 10_000),
    default: 0,
    text: "Time a publication may wait on the node so that several leave in one write. 0: at once.",
  },
  slowReaders: {
    check: oneOf("disconnect", "drop", "catch-up"),
    default: "disconnect",
    text: "What happens to a member whose socket queue is full: disconnect closes it with 3008, drop skips publications, catch-up delivers them later (durable only).",
  },
} as const;

type Rows = typeof namespaceRows;
export type NamespaceKey = keyof Rows;
type Fields = { readonly [K in NamespaceKey]: Checked<Rows[K]["check"]> };
type HistoryKey = (typeof historyKeys)[number];

export const namespaceKeys = Object.keys(namespaceRows) as NamespaceKey[];
/** Options that only a durable namespace has. */
export const historyKeys = ["historySize", "historyTtlMs", "historyBytesMax"] as const;

type DurableNamespace = Omit<Fields, "durable"> & { readonly durable: true };
type EphemeralNamespace = Omit<Fields, "durable" | HistoryKey> & { readonly durable: false } & { readonly [K in HistoryKey]?: never };
export type NamespaceConfig = DurableNamespace | EphemeralNamespace;
export type Namespaces = { readonly [name: string]: NamespaceConfig };

/** What may be given: options of some namespaces, `null` to remove one. */
export type NamespacesGiven = { readonly [name: string]: Partial<Fields> | null };

export const builtInNamespaces: NamespacesGiven = {
  chat: { durable: true, historySize: 1000, historyTtlMs: 86_400_000, historyBytesMax: 16_777_216, publish: "members", presence: "members", presenceEvents: true },
  live: { durable: false, publish: "members" },
  default: { durable: false, publish: "members" },
};

/** What one source gave for `namespaces`. */
export interface NamespacesLayer {
  readonly source: Source;
  readonly value: unknown;
}

interface Merged {
  readonly namespaces: Namespaces;
  readonly sources: ReadonlyMap<string, Source>;
}

interface Cell {
  readonly value: unknown;
  readonly source: Source;
}
type Cells = Map<NamespaceKey, Cell>;

export const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/;
const nameRule =
  'a namespace is named by 1 to 64 letters, digits, "_" or "-", without a colon: the rooms of chat are called chat:anything';

/**
 * @param layers what counts least first; the built-in namespaces are the first of them.
 * @param problems is added to.
 * @returns the namespaces, and for each of their options (as `chat.historySize`) where it came from.
 */
export function mergeNamespaces(layers: readonly NamespacesLayer[], problems: string[]): Merged {
  const draft = new Map<string, Cells>();
  for (const layer of layers) layNamespaces(layer, draft, problems);

  const fallback = layers[0]?.source ?? { rank: "default", name: "namespaces" };
  const last = layers.at(-1)?.source ?? fallback;
  if (draft.size === 0) {
    problems.push(`${label(last, "namespaces")}: every namespace is removed and no room could be joined; leave at least one`);
  }

  const sources = new Map<string, Source>();
  const namespaces: Record<string, NamespaceConfig> = {};
  for (const [name, cells] of draft) {
    const finished = finish(name, cells, fallback, problems);
    namespaces[name] = finished;
    for (const key of namespaceKeys) {
      if (finished[key] !== undefined) sources.set(`${name}.${key}`, cells.get(key)?.source ?? fallback);
    }
  }
  return { namespaces, sources };
}

function layNamespaces({ source, value }: NamespacesLayer, draft: Map<string, Cells>, problems: string[]): void {
  const given = typeof value === "string" ? parsed(value) : value;
  if (!isRecord(given)) {
    problems.push(`${label(source, "namespaces")}: must be a JSON object such as {"chat":{"historySize":100}}`);
    return;
  }
  for (const [name, options] of Object.entries(given)) {
    const subject = label(source, "namespaces", namePattern.test(name) ? name : JSON.stringify(name));
    if (!namePattern.test(name)) {
      problems.push(`${subject}: ${nameRule}`);
    } else if (options === null) {
      draft.delete(name);
    } else if (!isRecord(options)) {
      problems.push(`${subject}: must be an object of options such as {"durable":false}, or null to remove the namespace`);
    } else {
      const cells: Cells = draft.get(name) ?? new Map();
      draft.set(name, cells);
      layOptions(name, options, source, cells, problems);
    }
  }
}

function layOptions(
  name: string,
  options: Record<string, unknown>,
  source: Source,
  cells: Cells,
  problems: string[],
): void {
  for (const [key, value] of Object.entries(options)) {
    const subject = label(source, "namespaces", `${name}.${key}`);
    const known = namespaceKeys.find((candidate) => candidate === key);
    if (value === undefined) continue;
    if (known === undefined) {
      problems.push(unknownName(subject, key, namespaceKeys));
      continue;
    }
    const result = namespaceRows[known].check.schema.safeParse(value);
    if (result.success) cells.set(known, { value: result.data, source });
    else problems.push(`${subject}: ${result.error.issues[0]?.message}`);
  }
}

function finish(name: string, cells: Cells, fallback: Source, problems: string[]): NamespaceConfig {
  // A cell holds only what passed the check of its own row.
  const read = <K extends NamespaceKey>(key: K) => (cells.get(key)?.value ?? namespaceRows[key].default) as Fields[K];
  const presence = read("presence");
  const events = cells.get("presenceEvents");
  // What the built-in namespace told goes with its presence; what someone asked for must not be lost silently.
  if (presence === "nobody" && read("presenceEvents") && events !== undefined && events.source.rank !== "default") {
    const subject = label(events.source, "namespaces", `${name}.presenceEvents`);
    problems.push(`${subject}: nobody may know who is in a room of ${name}; set ${name}.presence to members, or leave presenceEvents out`);
  }
  const common = {
    publish: read("publish"),
    presence,
    presenceEvents: presence !== "nobody" && read("presenceEvents"),
    flushMs: read("flushMs"),
    slowReaders: read("slowReaders"),
  };
  if (read("durable")) {
    return {
      durable: true,
      historySize: read("historySize"),
      historyTtlMs: read("historyTtlMs"),
      historyBytesMax: read("historyBytesMax"),
      ...common,
    };
  }
  if (read("slowReaders") === "catch-up") {
    const subject = label(cells.get("slowReaders")?.source ?? fallback, "namespaces", `${name}.slowReaders`);
    const way = `set ${name}.durable to true, or choose drop or disconnect`;
    problems.push(`${subject}: namespace ${name} keeps no history that slow readers could catch up from; ${way}`);
  }
  for (const key of historyKeys) {
    const cell = cells.get(key);
    // What the built-in namespace had goes with its history; what someone asked for must not be lost silently.
    if (cell === undefined || cell.source.rank === "default") continue;
    const subject = label(cell.source, "namespaces", `${name}.${key}`);
    problems.push(`${subject}: namespace ${name} keeps no history; set ${name}.durable to true, or leave ${key} out`);
  }
  return { durable: false, ...common };
}

/** A namespace's option as an operator would write it. */
export function showNamespaceOption(key: NamespaceKey, value: unknown): string {
  const check: Check<unknown> = namespaceRows[key].check;
  return check.show(value);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // refused by the caller, like any value that is not an object
  }
}
