/** Configuration: how a value is found for each option of the table (config/options.ts): flag, then environment, file, default. */
import { hidden, type Checked } from "./checks.ts";
import { contradictions, hasKey } from "./contradictions.ts";
import { readEnvironment } from "./environment.ts";
import {
  builtInNamespaces,
  isRecord,
  mergeNamespaces,
  type Namespaces,
  type NamespacesGiven,
  type NamespacesLayer,
} from "./namespaces.ts";
import { rows, type Known, type Row, type Told } from "./options.ts";
import { envOf, flagOf, label, unknownName, type Rank, type Source } from "./sources.ts";

export { hasKey, isLoopback } from "./contradictions.ts";
export type { NamespaceConfig, NamespacesGiven } from "./namespaces.ts";

type Rows = typeof rows;
type Flat = { readonly [K in keyof Rows]: Checked<Rows[K]["check"]> };
type Key = keyof Flat;

/** A complete, checked configuration. */
export interface Config extends Flat {
  readonly namespaces: Namespaces;
}

/** What an embedding program may give: any part of the configuration. */
export type GatewayOptions = { readonly [K in keyof Flat]?: Flat[K] | undefined } & {
  readonly namespaces?: NamespacesGiven | undefined;
};

/** One option as the command line and the documentation show it. */
export interface Option {
  readonly key: keyof Config;
  readonly flag: string;
  readonly env: string;
  readonly group: string;
  /** What the value is called in help; empty for an option that is on or off. */
  readonly takes: string;
  /** What a value may be, as documentation shows it. */
  readonly allowed: string;
  readonly defaultText: string;
  readonly text: string;
  readonly over?: Told;
  /** Of an option that is on or off: what its `--no-` flag does. */
  readonly off?: string;
}

const keys = Object.keys(rows) as Key[];

export const options: readonly Option[] = [
  ...keys.map((key): Option => {
    const { group, check, text, over, off, otherwise, preset }: Row<unknown> = rows[key];
    const defaultText = otherwise ?? check.show(preset);
    return { key, flag: flagOf(key), env: envOf(key), group, takes: check.takes, allowed: check.allowed, defaultText, text, ...(over && { over }), ...(off && { off }) };
  }),
  {
    key: "namespaces",
    flag: "--namespaces",
    env: "FLUX_NAMESPACES",
    group: "Rooms",
    takes: "json",
    allowed: "a JSON object of namespaces, each an object of its options or `null`",
    defaultText: Object.keys(builtInNamespaces).join(", "),
    text: 'Namespaces, merged by name with the built-in ones. null removes one: {"chat":{"historySize":50},"live":null}.',
  },
];

/** The value of an option as an operator would write it; a secret is not shown. */
export function showValue(config: Config, key: Key): string {
  const { check }: Row<unknown> = rows[key];
  return check.show(config[key]);
}

/** The value as JSON shows it: a text as it may be shown. */
export function jsonValue(config: Config, key: Key): unknown {
  const shown = showValue(config, key);
  return shown.includes(hidden) ? shown : config[key];
}

/** What is wrong with the configuration or with what it asks of the machine: one sentence each, naming the option. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

export interface Given {
  /** By key of the option. */
  readonly flags?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly file?: { readonly name: string; readonly values: unknown };
  readonly options?: GatewayOptions;
}

export interface Resolved {
  readonly config: Config;
  /** By key; for namespaces by `namespaces.NAME.OPTION`. */
  readonly sources: ReadonlyMap<string, Source>;
}

interface Layer {
  readonly rank: Rank;
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** What was resolved, by the configuration that came out: an embedding program and the command line pass it on. */
const resolvedBefore = new WeakMap<object, Resolved>();

/**
 * A configuration that came from here may be given again as `options`, and is then taken as it is.
 * @throws ConfigError with every problem there is.
 */
export function resolveConfig(given: Given = {}): Resolved {
  const before = given.options && resolvedBefore.get(given.options);
  if (before) return before;
  const problems: string[] = [];
  const layers = layersOf(given, problems);
  const fallback = (key: string): Source => ({ rank: "default", name: given.options ? key : flagOf(key) });

  const values: Partial<Record<Key, unknown>> = {};
  const sources = new Map<string, Source>();
  const refused = new Set<Key>();
  for (const key of keys) {
    const layer = layers.find((candidate) => candidate.values[key] !== undefined);
    sources.set(key, layer ?? fallback(key));
    if (!layer) continue;
    const result = rows[key].check.schema.safeParse(layer.values[key]);
    if (result.success) {
      values[key] = result.data;
    } else {
      refused.add(key);
      problems.push(`${label(layer, key)}: ${result.error.issues[0]?.message}`);
    }
  }
  const isGuarded = values.allowAnonymous === true || hasKey(values as Partial<Flat>);
  // In this order: each of these may depend on those before it.
  const preset = (key: Key, known: Partial<Known>) => {
    const { preset: given }: Row<unknown> = rows[key];
    values[key] ??= typeof given === "function" ? given(known as Known) : given;
  };
  for (const key of ["frameBytesMax", "memoryLimitBytes", "ringBytes", "reactors"] as const) preset(key, values as Partial<Known>);
  for (const key of keys) preset(key, { ...(values as Omit<Known, "isGuarded">), isGuarded });
  // Every key is set by now, each to what its own check handed on or to its own default.
  const flat = values as Flat;
  problems.push(...contradictions(flat, refused, (key) => sources.get(key) ?? fallback(key)));

  const merged = mergeNamespaces(namespaceLayers(layers, fallback("namespaces")), problems);
  for (const [path, source] of merged.sources) sources.set(`namespaces.${path}`, source);
  if (problems.length > 0) throw new ConfigError(problems);
  const resolved: Resolved = { config: { ...flat, namespaces: merged.namespaces }, sources };
  resolvedBefore.set(resolved.config, resolved);
  return resolved;
}

/** What was given, what counts most first. Names that are no option's are problems. */
function layersOf({ flags, env, file, options }: Given, problems: string[]): Layer[] {
  const layers: Layer[] = [];
  const known = [...keys, "namespaces"];
  const add = (rank: Rank, name: string, values: Readonly<Record<string, unknown>>) => {
    layers.push({ rank, name, values });
    for (const key of Object.keys(values)) {
      if (!known.includes(key)) problems.push(unknownName(label({ rank, name }, key), key, known));
    }
  };
  if (flags) add("flag", "", flags);
  if (options) add("option", "", options);
  if (env) layers.push({ rank: "environment", name: "", values: readEnvironment(env, [...known, "config"], problems) });
  // What an editor reads, and no option.
  if (file && isRecord(file.values)) add("file", file.name, Object.fromEntries(Object.entries(file.values).filter(([key]) => key !== "$schema")));
  else if (file) problems.push(`${file.name}: must hold a JSON object such as {"port":8080}`);
  return layers;
}

function namespaceLayers(layers: readonly Layer[], fallback: Source): NamespacesLayer[] {
  const given = layers.map((layer) => ({ source: layer, value: layer.values.namespaces }));
  return [...given.filter(({ value }) => value !== undefined), { source: fallback, value: builtInNamespaces }].reverse();
}
