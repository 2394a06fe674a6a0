/**
 * Options of namespaces, the kinds of room. Each source of configuration may set some options of some namespaces. They
 * are merged over the built-in namespaces, option by option; `null` removes a namespace.
 */
import { backendUrl, count, oneOf, size, time, yesOrNo, type Check, type Checked } from "./values.ts";
import { label, unknownName, type Source } from "./sources.ts";

export const namespaceRows = {
  durable: { check: yesOrNo(), default: false, text: "Durable rooms: the broker stores a history that members recover from." },
  historySize: { check: count(1, 10_000_000), default: 1000, text: "Publications a room keeps. Beyond it the oldest are deleted." },
  historyTtlMs: { check: time(1, 3650 * 86_400_000), default: 86_400_000, text: "Time a publication is kept." },
  historyBytesMax: { check: size(1, 2 ** 40), default: 16_777_216, text: "Bytes of publications a room keeps. Beyond it the oldest are deleted." },
  archive: { check: yesOrNo(), default: false, text: "Archive: the node stores every publication in PostgreSQL (archive option), and history goes on there. Durable only." },
  archiveRecovery: { check: yesOrNo(), default: false, text: "Recovery from the archive: members that reconnect get in pages what the stream no longer keeps, beyond historySize too. Only with archive." },
  publish: {
    check: oneOf("members", "anyone", "nobody"),
    default: "members",
    text: "Who may publish: members of the room, anyone (a session need not join), or nobody. With nobody only the application publishes: a client's publish is rejected with forbidden.",
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
  hookJoin: {
    check: backendUrl(),
    default: "",
    text: "URL of the backend that decides on each join of a client. Without it the token decides.",
  },
  hookPublish: {
    check: backendUrl(),
    default: "",
    text: "URL of the backend that decides on each publish of a client, and may replace its data. Without it the token decides.",
  },
  hookOnFailure: {
    check: oneOf("deny", "allow"),
    default: "deny",
    text: "Decision while the backend of hookJoin or hookPublish does not answer: deny (error unavailable), or allow.",
  },
} as const;

type Rows = typeof namespaceRows;
export type NamespaceKey = keyof Rows;
type Fields = { readonly [K in NamespaceKey]: Checked<Rows[K]["check"]> };
type HistoryKey = (typeof historyKeys)[number];

export const namespaceKeys = Object.keys(namespaceRows) as NamespaceKey[];
/** Options that apply only to durable namespaces. */
export const historyKeys = ["historySize", "historyTtlMs", "historyBytesMax", "archive", "archiveRecovery"] as const;

type DurableNamespace = Omit<Fields, "durable"> & { readonly durable: true };
type EphemeralNamespace = Omit<Fields, "durable" | HistoryKey> & { readonly durable: false } & { readonly [K in HistoryKey]?: never };
export type NamespaceConfig = DurableNamespace | EphemeralNamespace;
export type Namespaces = { readonly [name: string]: NamespaceConfig };

/** A source's value: options of some namespaces, or `null` to remove one. */
export type NamespacesGiven = { readonly [name: string]: Partial<Fields> | null };

export const builtInNamespaces: NamespacesGiven = {
  chat: { durable: true, historySize: 1000, historyTtlMs: 86_400_000, historyBytesMax: 16_777_216, publish: "members", presence: "members", presenceEvents: true },
  live: { durable: false, publish: "members" },
  default: { durable: false, publish: "members" },
};

/** The value of `namespaces` from one source. */
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
  'the name of a namespace has 1 to 64 letters, digits, "_" or "-", and no colon: the rooms of chat are named chat:anything';

/**
 * Merges the layers.
 * @param layers lowest priority first, beginning with the built-in namespaces.
 * @param problems receives errors.
 * @returns the namespaces, and the source of each option (as `chat.historySize`).
 */
export function mergeNamespaces(layers: readonly NamespacesLayer[], problems: string[]): Merged {
  const draft = new Map<string, Cells>();
  for (const layer of layers) layNamespaces(layer, draft, problems);

  const fallback = layers[0]?.source ?? { rank: "default", name: "namespaces" };
  const last = layers.at(-1)?.source ?? fallback;
  if (draft.size === 0) {
    problems.push(`${label(last, "namespaces")}: every namespace is removed, so no room can be joined; keep at least one`);
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
  // A cell contains only values that passed the check of its own row.
  const read = <K extends NamespaceKey>(key: K) => (cells.get(key)?.value ?? namespaceRows[key].default) as Fields[K];
  const presence = read("presence");
  const events = cells.get("presenceEvents");
  // Presence events set by a built-in namespace go with its presence. Those that an operator set must not be lost
  // silently.
  if (presence === "nobody" && read("presenceEvents") && events !== undefined && events.source.rank !== "default") {
    const subject = label(events.source, "namespaces", `${name}.presenceEvents`);
    problems.push(`${subject}: namespace ${name} has no presence (presence: nobody); set ${name}.presence to members, or remove presenceEvents`);
  }
  const common = {
    publish: read("publish"),
    presence,
    presenceEvents: presence !== "nobody" && read("presenceEvents"),
    flushMs: read("flushMs"),
    slowReaders: read("slowReaders"),
    hookJoin: read("hookJoin"),
    hookPublish: read("hookPublish"),
    hookOnFailure: read("hookOnFailure"),
  };
  if (read("archiveRecovery") && read("durable") && !read("archive")) {
    const subject = label(cells.get("archiveRecovery")?.source ?? fallback, "namespaces", `${name}.archiveRecovery`);
    problems.push(`${subject}: namespace ${name} is not archived; set ${name}.archive to true, or remove archiveRecovery`);
  }
  if (read("durable")) {
    return {
      durable: true,
      historySize: read("historySize"),
      historyTtlMs: read("historyTtlMs"),
      historyBytesMax: read("historyBytesMax"),
      archive: read("archive"),
      archiveRecovery: read("archiveRecovery"),
      ...common,
    };
  }
  if (read("slowReaders") === "catch-up") {
    const subject = label(cells.get("slowReaders")?.source ?? fallback, "namespaces", `${name}.slowReaders`);
    const way = `set ${name}.durable to true, or set slowReaders to drop or disconnect`;
    problems.push(`${subject}: namespace ${name} stores no history from which slow readers could catch up; ${way}`);
  }
  for (const key of historyKeys) {
    const cell = cells.get(key);
    // History options of a built-in namespace go with its history. Those that an operator set must not be lost
    // silently.
    if (cell === undefined || cell.source.rank === "default") continue;
    const subject = label(cell.source, "namespaces", `${name}.${key}`);
    problems.push(`${subject}: namespace ${name} stores no history; set ${name}.durable to true, or remove ${key}`);
  }
  return { durable: false, ...common };
}

/** An option of a namespace, as an operator would write it. */
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
    return undefined; // the caller rejects it, like any other value that is no object
  }
}
