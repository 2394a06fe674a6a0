/**
 * Checks of option values. A value comes as JSON from a file, or as a string from a flag or a variable. Every check
 * accepts both, and states in one sentence what is allowed.
 */
import * as z from "zod";

export interface Check<T> {
  readonly schema: z.ZodType<T>;
  /** Name of the value in the command line's help; empty for an option without one. */
  readonly takes: string;
  /** Allowed values in a few words, for documentation. */
  readonly allowed: string;
  /** The value, as an operator would write it. */
  show(value: T): string;
  /** JSON Schema of the value in a file, for editors. The check itself decides. */
  readonly json: JsonSchema;
}

export type JsonSchema = { readonly [key: string]: unknown };

/** The type of a check's result. */
export type Checked<C> = C extends Check<infer T> ? T : never;

const timeUnits = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000], ["ms", 1]] as const;
const sizeUnits = [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10], ["B", 1]] as const;
type Units = readonly (readonly [name: string, factor: number])[];

/** Node's timers fire at once if they are set for more than 2^31 - 1 ms, which is a little more than this. */
export const timerMsMax = 24 * 86_400_000;

export function count(min: number, max: number): Check<number> {
  const wanted = `a whole number from ${min} to ${max}`;
  const read = (value: unknown) => (typeof value === "string" ? wholeNumber(value) : value);
  return { ...scalar(wanted, "n", String, (value) => within(read(value), min, max)), allowed: `${min} to ${max}`, json: numberOr(min, max, digits) };
}

/** A port, or null for no port. */
export function portOrOff(): Check<number | null> {
  const check = scalar("a port from 0 to 65535, or off", "n|off", (value: number | null) => String(value ?? "off"), (value) => {
    if (value === null || value === "off") return null;
    return within(typeof value === "string" ? wholeNumber(value) : value, 0, 65_535);
  });
  return { ...check, allowed: "0 to 65535, `off`", json: anyOf(numberOr(0, 65_535, digits), { enum: ["off", null] }) };
}

/** A duration: a number of milliseconds, or `500ms`, `30s`, `15m`, `24h`, `7d`. */
export function time(min: number, max: number): Check<number> {
  const allowed = `${showTime(min)} to ${showTime(max)}`;
  const wanted = `a time from ${allowed}, such as 500ms, 30s or 24h (a bare number is milliseconds)`;
  return { ...scalar(wanted, "time", showTime, (value) => within(measured(value, timeUnits), min, max)), allowed, json: numberOr(min, max, unitPattern(timeUnits)) };
}

/** A size: a number of bytes, or `64KiB`, `1MiB`, `1GiB`. */
export function size(min: number, max: number): Check<number> {
  const allowed = `${showSize(min)} to ${showSize(max)}`;
  const wanted = `a size from ${allowed}, such as 64KiB or 1MiB (a bare number is bytes)`;
  return { ...scalar(wanted, "size", showSize, (value) => within(measured(value, sizeUnits), min, max)), allowed, json: numberOr(min, max, unitPattern(sizeUnits)) };
}

export function powerOfTwo(min: number, max: number): Check<number> {
  const range = `${showSize(min)} to ${showSize(max)}`;
  const wanted = `a power of two from ${range}, such as 1MiB or 4MiB`;
  const check = scalar(wanted, "size", showSize, (value) => {
    const bytes = within(measured(value, sizeUnits), min, max);
    return bytes !== undefined && Number.isInteger(Math.log2(bytes)) ? bytes : undefined;
  });
  return { ...check, allowed: `${range}, a power of two`, json: numberOr(min, max, unitPattern(sizeUnits)) };
}

const yes = new Set<unknown>([true, "true", "1", "yes", "on"]);
const no = new Set<unknown>([false, "false", "0", "no", "off"]);

export function yesOrNo(): Check<boolean> {
  const check = scalar("true or false", "", String, (value) => {
    const word = typeof value === "string" ? value.toLowerCase() : value;
    return yes.has(word) ? true : no.has(word) ? false : undefined;
  });
  return { ...check, allowed: "`true`, `false`", json: { enum: [...yes, ...no] } };
}

export function oneOf<const W extends string>(...words: W[]): Check<W> {
  const wanted = `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
  const takes = words.length < 4 ? words.join("|") : "word";
  return { ...scalar(wanted, takes, String, (value) => words.find((word) => word === value)), allowed: words.map((word) => `\`${word}\``).join(", "), json: { enum: words } };
}

export function matching(pattern: RegExp, wanted: string, takes: string): Check<string> {
  const check = scalar(wanted, takes, String, (value) => (typeof value === "string" && pattern.test(value) ? value : undefined));
  return { ...check, json: { type: "string", pattern: pattern.source } };
}

/** A secret. It is never shown, not even when it is rejected. */
export function secret(min: number, max: number): Check<string> {
  return hiddenText(`a secret of ${min} to ${max} characters`, (value) => value.length >= min && value.length <= max);
}

/** A secret for an HTTP header. */
export function headerSecret(min: number, max: number): Check<string> {
  const isPrintable = (value: string) => /^[!-~]*$/.test(value);
  return hiddenText(`a secret of ${min} to ${max} printable ASCII characters without spaces`, (value) => value.length >= min && value.length <= max && isPrintable(value));
}

/**
 * Rejects a secret that ends with a line break. Editors and `echo` add one. It is not trimmed: the program that signs
 * with the same file may not trim it, and would then use another secret.
 */
function hiddenText(wanted: string, isGood: (value: string) => boolean): Check<string> {
  const show = (value: string) => (value === "" ? "" : hidden);
  const isPem = (value: string) => value.includes("-----BEGIN ");
  const said = (value: unknown) => {
    if (typeof value !== "string") return "a value that is no text";
    if (isPem(value)) return "a PEM key, which belongs in authKeys";
    return endsWithBreak(value) ? "one that ends with a line break; remove it (printf %s writes none) here and wherever the secret is used" : `one of ${value.length}`;
  };
  const read = (value: unknown) => {
    if (typeof value !== "string" || isPem(value) || endsWithBreak(value)) return undefined;
    return value === "" || isGood(value) ? value : undefined;
  };
  return scalar(wanted, "secret", show, read, said);
}

/** The passphrase of a key: never shown, of any length. */
export function passphraseText(max: number): Check<string> {
  return hiddenText(`a text of at most ${max} characters`, (value) => value.length <= max && !value.includes("\0"));
}

function endsWithBreak(value: string): boolean {
  return /[\r\n]$/.test(value);
}

export const hidden = "[hidden]";

const webhookKey = /^whsec_([A-Za-z0-9+/]{32,86})={0,2}$/;

/** A key that signs requests, in the form of Standard Webhooks. */
export function signingSecret(): Check<string> {
  return hiddenText("a key of 24 to 64 bytes in base64 behind whsec_, such as printf whsec_$(openssl rand -base64 32) prints", (value) => webhookKey.test(value));
}

/** URL of a backend that the node sends requests to. The configuration is trusted: it may be in a private network. */
export function backendUrl(): Check<string> {
  const wanted = "an address such as http://10.0.0.5:3000/hooks/connect (http or https; no user or password, no #)";
  return scalar(wanted, "url", String, (value) => {
    if (value === "") return "";
    if (typeof value !== "string" || value.length > urlCharsMax || !URL.canParse(value)) return undefined;
    const { protocol, username, password, hash } = new URL(value);
    return (protocol === "http:" || protocol === "https:") && username === "" && password === "" && hash === "" ? value : undefined;
  });
}

const urlCharsMax = 2048;

/** A list of texts, from a JSON array or separated by commas. */
export function list(pattern: RegExp, wanted: string, takes: string): Check<readonly string[]> {
  const show = (parts: readonly string[]) => parts.join(",");
  const check = scalar(`${wanted}, separated by commas`, takes, show, (value) => {
    const parts: unknown = typeof value === "string" ? value.split(",").map((part) => part.trim()).filter((part) => part !== "") : value;
    if (!Array.isArray(parts)) return undefined;
    return parts.every((part): part is string => typeof part === "string" && pattern.test(part)) ? parts : undefined;
  });
  return { ...check, json: textOrTexts };
}

const natsServer = /^(?:(?:nats|tls):\/\/)?(?:(?:[^\s,/@:%]|%[0-9a-fA-F]{2})+(?::(?:[^\s,/@%]|%[0-9a-fA-F]{2})*)?@)?(?:[a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?\/?$/;

/** Addresses of NATS servers. Passwords in them are never shown, not even when an address is rejected. */
export function natsServers(): Check<readonly string[]> {
  const wanted = "addresses such as nats://10.0.0.1:4222, separated by commas";
  const show = (list: readonly string[]) => list.map((server) => server.replace(/^(\w+:\/\/)?[^@]*@/, `$1${hidden}@`)).join(",");
  const read = (value: unknown) => {
    const list: unknown = typeof value === "string" ? value.split(",").map((part) => part.trim()).filter((part) => part !== "") : value;
    if (!Array.isArray(list)) return undefined;
    const servers = list.filter((part): part is string => typeof part === "string" && natsServer.test(part));
    return servers.length === list.length ? servers.map((server) => (/^\w+:\/\//.test(server) ? server : `nats://${server}`)) : undefined;
  };
  return { ...scalar(wanted, "servers", show, read, () => "what was given"), json: textOrTexts };
}

/** A URL of trusted content: https, or http on this machine. */
export function secureUrl(isHere: (host: string) => boolean): Check<string> {
  const wanted = "an address such as https://id.example.com/jwks.json (https; http only from this machine; no user or password)";
  return scalar(wanted, "url", String, (value) => {
    if (value === "") return "";
    if (typeof value !== "string" || !URL.canParse(value)) return undefined;
    const { protocol, hostname, username, password } = new URL(value);
    if (username !== "" || password !== "") return undefined;
    const isSafe = protocol === "https:" || (protocol === "http:" && isHere(hostname.replace(/^\[|\]$/g, "")));
    return isSafe ? value : undefined;
  });
}

/** @param read parses the value; undefined: invalid. @param said shows a rejected value. */
export function scalar<T>(
  wanted: string,
  takes: string,
  show: (value: T) => string,
  read: (value: unknown) => T | undefined,
  said: (value: unknown) => string = shown,
): Check<T> {
  const schema = z.unknown().transform((value, context): T => {
    const result = read(value);
    if (result !== undefined) return result;
    context.issues.push({ code: "custom", message: `must be ${wanted}, not ${said(value)}`, input: value });
    return z.NEVER;
  });
  return { schema, takes, allowed: wanted, show, json: { type: "string" } };
}

const digits = "^\\d{1,15}$";
export const textOrTexts: JsonSchema = { type: ["string", "array"], items: { type: "string" } };

function anyOf(...schemas: JsonSchema[]): JsonSchema {
  return { anyOf: schemas };
}

/** Schema of a number in a range, or a text with a unit. */
function numberOr(minimum: number, maximum: number, pattern: string): JsonSchema {
  return { type: ["integer", "string"], minimum, maximum, pattern };
}

function unitPattern(units: Units): string {
  return `^\\d{1,15}(\\.\\d{1,6})? ?(${units.map(([name]) => name).join("|")})?$`;
}

function within(value: unknown, min: number, max: number): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max ? value : undefined;
}

function wholeNumber(text: string): number | undefined {
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function measured(value: unknown, units: Units): unknown {
  if (typeof value !== "string") return value;
  const parts = /^(\d{1,15}(?:\.\d{1,6})?) ?([a-z]*)$/i.exec(value.trim());
  if (!parts) return undefined;
  const [, number, name] = parts;
  const factor = name === "" ? 1 : units.find(([unit]) => unit.toLowerCase() === name?.toLowerCase())?.[1];
  return factor === undefined ? undefined : Math.round(Number(number) * factor);
}

function showTime(ms: number): string {
  return inUnits(ms, timeUnits, "ms");
}

export function showSize(bytes: number): string {
  return inUnits(bytes, sizeUnits, "B");
}

/** In the largest unit that gives a whole number. One day is 24h. */
function inUnits(value: number, units: Units, smallest: string): string {
  const unit = units.find(([name, factor]) => value % factor === 0 && value >= (name === "d" ? 2 * factor : factor));
  return unit ? `${value / unit[1]}${unit[0]}` : `${value}${smallest}`;
}

/** A rejected value for an error text: short, on one line. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
