/**
 * Origins whose pages may connect, as they are configured and as browsers send them. A star stands for the first labels
 * of a host, one or more: `https://*.example.com` is a.example.com and a.b.example.com, and not example.com itself.
 */
import { scalar, type Check, textOrTexts } from "./checks.ts";

const originPattern = /^[a-z][a-z0-9+.-]*:\/\/[^/\s,?#@]+$/i;
/** Behind the star come two labels at least: `*.com` would be every site of a registry. */
const starPattern = /^(https?:\/\/)\*(\.[^/\s,?#@*.:]+(?:\.[^/\s,?#@*.:]+)+(?::\d{1,5})?)$/i;
/** What a star stands for, as browsers send hosts: in small letters, and other scripts in Punycode. */
const labels = /^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/;

/** From a JSON array or separated by commas. */
export function origins(): Check<readonly string[]> {
  const wanted =
    'origins such as https://example.com:8443 or https://*.example.com (http or https, "*." at the front of a host with two labels or more: any labels before them, and not that host itself), no path, separated by commas, or "*" for any';
  const show = (list: readonly string[]) => list.join(",");
  const check = scalar(wanted, "origins", show, (value) => {
    const list: unknown = typeof value === "string" ? value.split(",").map((part) => part.trim()) : value;
    if (!Array.isArray(list)) return undefined;
    const read = list.filter((part) => part !== "").map(origin);
    return read.every((part) => part !== undefined) ? read : undefined;
  });
  return { ...check, json: textOrTexts };
}

/** Browsers send scheme and host in lower case and leave a default port out; `null` is what a page of no origin sends. */
function origin(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined;
  if (value === "*" || value === "null") return value;
  if (value.includes("*")) return starred(value);
  if (!originPattern.test(value) || !URL.canParse(value)) return undefined;
  const read = new URL(value).origin;
  return read === "null" ? value.toLowerCase() : read;
}

/** Brought into the same form, with a label in the star's place meanwhile. */
function starred(value: string): string | undefined {
  const [, scheme, rest] = starPattern.exec(value) ?? [];
  const example = `${scheme}a${rest}`;
  if (scheme === undefined || !URL.canParse(example)) return undefined;
  return new URL(example).origin.replace("://a.", "://*.");
}

/** Whether one of them is this origin. */
export function isAmong(allowed: readonly string[], origin: string): boolean {
  return allowed.some((one) => one === "*" || isOne(one, origin));
}

function isOne(pattern: string, origin: string): boolean {
  const star = pattern.indexOf("*.");
  if (star < 0) return pattern === origin;
  const [before, behind] = [pattern.slice(0, star), pattern.slice(star + 1)];
  if (!origin.startsWith(before) || !origin.endsWith(behind)) return false;
  // Where both are longer than the origin, the star stands for nothing.
  return labels.test(origin.slice(before.length, Math.max(before.length, origin.length - behind.length)));
}
