/** Markdown tables made from the tables in the code. `config doc` prints them, the reference pages contain them. */
import { options, type Option } from "../config/config.ts";
import { configSchema } from "../config/schema.ts";
import { builtInNamespaces, historyKeys, namespaceKeys, namespaceRows, showNamespaceOption } from "../config/namespaces.ts";
import { noFlag } from "../config/sources.ts";
import { closes, errors, mayReconnect } from "../errors.ts";

/** The content of flux.schema.json. */
export function schemaText(): string {
  return `${JSON.stringify(configSchema(options), null, 2)}\n`;
}

/** The tables of options and namespaces. */
export function configDoc(): string {
  return [optionsDoc(), namespacesDoc()].join("\n\n");
}

export function optionsDoc(): string {
  const groups = [...new Set(options.map(({ group }) => group))];
  const tables = groups.map((group) => {
    const rows = options.filter((option) => option.group === group).map(optionRow);
    return `## ${group}\n\n${table(["key", "flag and variable", "default", "allowed", "what it is"], rows)}`;
  });
  return tables.join("\n\n");
}

function optionRow({ key, flag, env, takes, allowed, defaultText, text, over }: Option): string[] {
  const typed = takes === "" ? switchOf(flag, defaultText) : `${flag} <${takes}>`;
  return [code(key), `${code(typed)}<br>${code(env)}`, defaultText === "" ? "none" : defaultText, allowed, text + beyond(over)];
}

/** What happens to a client beyond the limit. */
function beyond(over: Option["over"]): string {
  const [kind, name] = over?.split(" ") ?? [];
  return kind === undefined || name === undefined ? "" : ` Beyond it: ${kind} ${code(name)}.`;
}

export function namespacesDoc(): string {
  const options = namespaceKeys.map((key) => {
    const { check, text, default: preset } = namespaceRows[key];
    const only = historyKeys.some((historyKey) => historyKey === key) ? " Only with `durable`." : "";
    return [code(key), showNamespaceOption(key, preset) || "none", check.allowed, text + only];
  });
  const builtIn = Object.entries(builtInNamespaces).map(([name, given]) => {
    const has = namespaceKeys.filter((key) => given?.[key] !== undefined);
    const shown = has.map((key) => code(`${key}: ${showNamespaceOption(key, given?.[key])}`));
    return [code(name), name === "default" ? "names without a colon" : code(`${name}:anything`), shown.join(", ")];
  });
  return [
    "## Options of a namespace",
    table(["key", "default", "allowed", "what it is"], options),
    "## Built-in namespaces",
    "They exist unless the configuration removes them with `null`.",
    table(["namespace", "rooms", "options"], builtIn),
  ].join("\n\n");
}

/** For a switch: the flag that changes the default. */
function switchOf(flag: string, defaultText: string): string {
  return defaultText === "true" ? noFlag(flag) : flag;
}

/** The tables of close codes and errors. */
export function codesDoc(): string {
  return `${closesDoc()}\n\n${errorsDoc()}`;
}

export function closesDoc(): string {
  const rows = Object.entries(closes).map(([name, { code: number, text }]) => {
    return [String(number), code(name), number === closes.bye.code ? "only without a `bye`" : yesOrNo(mayReconnect(number)), sentence(text)];
  });
  return table(["close code", "reason", "come back", "meaning"], rows);
}

export function errorsDoc(): string {
  const rows = Object.entries(errors).map(([name, { retryable, text }]) => {
    return [code(name), yesOrNo(retryable), sentence(text)];
  });
  return table(["error", "retryable", "meaning"], rows);
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

export function code(text: string): string {
  return `\`${text}\``;
}

export function yesOrNo(answer: boolean): string {
  return answer ? "yes" : "no";
}

export function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
