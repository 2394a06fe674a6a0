/**
 * Origins whose pages may connect, as configured and as browsers send them. A star stands for one or more leading
 * labels of a host: `https://*.example.com` matches a.example.com and a.b.example.com, but not example.com.
 */
import { scalar, type Check, textOrTexts } from "./values.ts";

const originPattern = /^[a-z][a-z0-9+.-]*:\/\/[^/\s,?#@]+$/i;
/** At least two labels must follow the star: `*.com` would match every site of a registry. */
const starPattern = /^(https?:\/\/)\*(\.[^/\s,?#@*.:]+(?:\.[^/\s,?#@*.:]+)+(?::\d{1,5})?)$/i;

/** From a JSON array or separated by commas. */
export function origins(): Check<readonly string[]> {
  const wanted =
    'origins such as https://example.com:8443 or https://*.example.com (http or https; "*." in front of a host of two or more labels matches the hosts below it), without a path, separated by commas, or "*" for any';
  const show = (list: readonly string[]) => list.join(",");
  const check = scalar(wanted, "origins", show, (value) => {
    const list: unknown = typeof value === "string" ? value.split(",").map((part) => part.trim()) : value;
    if (!Array.isArray(list)) return undefined;
    const read = list.filter((part) => part !== "").map(origin);
    return read.every((part) => part !== undefined) ? read : undefined;
  });
  return { ...check, json: textOrTexts };
}

/** Browsers send scheme and host in lower case and omit a default port. Pages without an origin send `null`. */
function origin(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined;
  if (value === "*" || value === "null") return value;
  if (value.includes("*")) return starred(value);
  if (!originPattern.test(value) || !URL.canParse(value)) return undefined;
  const read = new URL(value).origin;
  return read === "null" ? value.toLowerCase() : read;
}

/** Normalizes a pattern like an origin, with a label in place of the star meanwhile. */
function starred(value: string): string | undefined {
  const [, scheme, rest] = starPattern.exec(value) ?? [];
  const example = `${scheme}a${rest}`;
  if (scheme === undefined || !URL.canParse(example)) return undefined;
  return new URL(example).origin.replace("://a.", "://*.");
}
