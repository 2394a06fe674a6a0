/** Markdown tables made from the tables in the code, and how they get into README. */
import { options, type Option } from "../config/config.ts";
import { configSchema } from "../config/schema.ts";
import { builtInNamespaces, historyKeys, namespaceKeys, namespaceRows, showNamespaceOption } from "../config/namespaces.ts";
import { noFlag } from "../config/sources.ts";
import { closes, errors, mayReconnect } from "../errors.ts";

/** What README holds between `<!-- name:start -->` and `<!-- name:end -->`. */
const sections = { config: configDoc, codes: closesDoc, errors: errorsDoc } as const;

/** @throws Error if a marker is missing. */
export function updateReadme(readme: string): string {
  return Object.entries(sections).reduce((text, [name, body]) => replaceBetween(text, name, body()), readme);
}

/** Puts `body` between the markers of this name. */
export function replaceBetween(text: string, name: string, body: string): string {
  const start = `<!-- ${name}:start -->`;
  const end = `<!-- ${name}:end -->`;
  const from = text.indexOf(start);
  const to = text.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`markers are missing: ${start} before ${end}`);
  return `${text.slice(0, from + start.length)}\n\n${body.trim()}\n\n${text.slice(to)}`;
}

/** The text of flux.schema.json. */
export function schemaText(): string {
  return `${JSON.stringify(configSchema(options), null, 2)}\n`;
}

export function configDoc(): string {
  const groups = [...new Set(options.map(({ group }) => group))];
  const tables = groups.map((group) => {
    const rows = options.filter((option) => option.group === group).map(optionRow);
    return `**${group}**\n\n${table(["key", "flag", "default", "what it is"], rows)}`;
  });
  return [...tables, namespacesDoc()].join("\n\n");
}

function optionRow({ key, flag, takes, defaultText, text, over }: Option): string[] {
  const typed = takes === "" ? switchOf(flag, defaultText) : `${flag} <${takes}>`;
  const [kind, name] = over?.split(" ") ?? [];
  const told = kind === undefined || name === undefined ? "" : ` Else ${kind} ${code(name)}.`;
  return [code(key), code(typed), defaultText, text + told];
}

function namespacesDoc(): string {
  const options = namespaceKeys.map((key) => {
    const { text, default: preset } = namespaceRows[key];
    const only = historyKeys.some((historyKey) => historyKey === key) ? " Only with durable." : "";
    return [code(key), showNamespaceOption(key, preset), text + only];
  });
  const builtIn = Object.entries(builtInNamespaces).map(([name, given]) => {
    const has = namespaceKeys.filter((key) => given?.[key] !== undefined);
    const shown = has.map((key) => code(`${key}: ${showNamespaceOption(key, given?.[key])}`));
    return [code(name), name === "default" ? "names without a colon" : code(`${name}:anything`), shown.join(", ")];
  });
  return [
    "Options of a namespace:",
    table(["key", "default", "what it is"], options),
    "Namespaces that are there unless removed:",
    table(["namespace", "rooms", "options"], builtIn),
  ].join("\n\n");
}

/** Of an option that is on or off, the flag that changes something. */
function switchOf(flag: string, defaultText: string): string {
  return defaultText === "true" ? noFlag(flag) : flag;
}

/** Both tables of what clients can be told. */
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

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function code(text: string): string {
  return `\`${text}\``;
}

function yesOrNo(answer: boolean): string {
  return answer ? "yes" : "no";
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
