/** Finds the value of each option (config/options.ts): from flag, environment, file or default, in this order. */
import { hidden, type Checked } from "./values.ts";
import { contradictions } from "./contradictions.ts";
import { hasKey } from "./reach.ts";
import { hookProblems } from "./hooks.ts";
import { webhookProblems } from "./webhooks.ts";
import { readEnvironment } from "./environment.ts";
import {
  builtInNamespaces,
  isRecord,
  mergeNamespaces,
  type Namespaces,
  type NamespacesGiven,
  type NamespacesLayer,
} from "./namespaces.ts";
import { isOptionOf, rows, type Known, type Row, type Runner, type Told } from "./options.ts";
import { envOf, flagOf, label, unknownName, type Rank, type Source } from "./sources.ts";

export { hasKey, isLoopback } from "./reach.ts";
export { isOptionOf, type Runner } from "./options.ts";
export type { NamespaceConfig, NamespacesGiven } from "./namespaces.ts";

type Rows = typeof rows;
type Flat = { readonly [K in keyof Rows]: Checked<Rows[K]["check"]> };
type Key = keyof Flat;

/** A complete, checked configuration. */
export interface Config extends Flat {
  readonly namespaces: Namespaces;
}

/** Options of an embedding program: any part of the configuration. */
export type GatewayOptions = { readonly [K in Exclude<keyof Flat, "webhooks">]?: Flat[K] | undefined } & {
  readonly webhooks?: { readonly [name: string]: Partial<Flat["webhooks"][string]> } | undefined;
  readonly namespaces?: NamespacesGiven | undefined;
};

/** One option, as command line and documentation show it. */
export interface Option {
  readonly key: keyof Config;
  readonly flag: string;
  readonly env: string;
  readonly group: string;
  /** Name of the value in help; empty for a switch. */
  readonly takes: string;
  /** Allowed values, for documentation. */
  readonly allowed: string;
  readonly defaultText: string;
  readonly text: string;
  readonly over?: Told;
  /** For a switch: effect of its `--no-` flag. */
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

/** The value of an option, as an operator would write it. Secrets are hidden. */
export function showValue(config: Config, key: Key): string {
  const { check }: Row<unknown> = rows[key];
  return check.show(config[key]);
}

/** The value for JSON output. Secrets are hidden. */
export function jsonValue(config: Config, key: Key): unknown {
  const shown = showValue(config, key);
  return shown.includes(hidden) ? shown : config[key];
}

/** Errors of the configuration, or of the machine it needs: one sentence each, naming the option. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

export interface Given {
  /** By option key. */
  readonly flags?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly file?: { readonly name: string; readonly values: unknown };
  readonly options?: GatewayOptions;
  /** The command that runs with the result. Default: start. */
  readonly runner?: Runner;
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

/** Earlier results by configuration object, so that a resolved configuration can be passed on. */
const resolvedBefore = new WeakMap<object, Resolved>();

/**
 * A resolved configuration may be passed again as `options` and is used unchanged.
 * @throws ConfigError with every problem found.
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
  // In this order: each default may depend on the earlier ones.
  const preset = (key: Key, known: Partial<Known>) => {
    const { preset: given }: Row<unknown> = rows[key];
    values[key] ??= typeof given === "function" ? given(known as Known) : given;
  };
  for (const key of ["frameBytesMax", "memoryLimitBytes", "ringBytes", "reactors"] as const) preset(key, values as Partial<Known>);
  // It sees each default as soon as that is set.
  const known = Object.create(values, { isGuarded: { value: isGuarded } }) as Partial<Known>;
  for (const key of keys) preset(key, known);
  // Every key is set now, to a checked value or to its default.
  const flat = values as Flat;
  const { runner = "start" } = given;
  problems.push(...contradictions(flat, refused, (key) => sources.get(key) ?? fallback(key), (key) => isOptionOf(runner, key)));

  const merged = mergeNamespaces(namespaceLayers(layers, fallback("namespaces")), problems);
  for (const [path, source] of merged.sources) sources.set(`namespaces.${path}`, source);
  problems.push(...hookProblems({ ...flat, namespaces: merged.namespaces }, refused, (key) => sources.get(key) ?? fallback(key)));
  problems.push(...webhookProblems({ ...flat, namespaces: merged.namespaces }, refused, (key) => sources.get(key) ?? fallback(key)));
  for (const [name, { archive = false }] of Object.entries(merged.namespaces)) {
    if (!archive) continue;
    const subject = label(merged.sources.get(`${name}.archive`) ?? fallback("namespaces"), "namespaces", `${name}.archive`);
    if (flat.archive === "" && !refused.has("archive")) problems.push(`${subject}: there is no archive; set ${fallback("archive").name} to the address of a PostgreSQL database, or remove it`);
    else if (flat.nats.length === 0 && flat.dataDir === "" && !refused.has("nats") && !refused.has("dataDir")) problems.push(`${subject}: the archive is written from the streams of NATS or from the data directory; set ${fallback("nats").name} or ${fallback("dataDir").name}, or remove it`);
  }
  if (problems.length > 0) throw new ConfigError(problems);
  const resolved: Resolved = { config: { ...flat, namespaces: merged.namespaces }, sources };
  resolvedBefore.set(resolved.config, resolved);
  return resolved;
}

/** The given values, highest priority first. Unknown names become problems. */
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
  // `$schema` is for editors and is no option.
  if (file && isRecord(file.values)) add("file", file.name, Object.fromEntries(Object.entries(file.values).filter(([key]) => key !== "$schema")));
  else if (file) problems.push(`${file.name}: must hold a JSON object such as {"port":8080}`);
  return layers;
}

function namespaceLayers(layers: readonly Layer[], fallback: Source): NamespacesLayer[] {
  const given = layers.map((layer) => ({ source: layer, value: layer.values.namespaces }));
  return [...given.filter(({ value }) => value !== undefined), { source: fallback, value: builtInNamespaces }].reverse();
}
