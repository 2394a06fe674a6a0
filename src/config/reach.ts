/**
 * Whom a configuration lets in. Reactors use this too, and they start without the table of options (options.ts): it takes a
 * thread a fifth of its start to build.
 */
import { BlockList, isIP } from "node:net";

interface Keys {
  readonly authSecret?: string;
  readonly authKeys?: readonly string[];
  readonly authJwksUrl?: string;
}

/** Whether a key for tokens is configured. Without one no client needs a token. */
export function hasKey({ authSecret = "", authKeys = [], authJwksUrl = "" }: Keys): boolean {
  return authSecret !== "" || authKeys.length > 0 || authJwksUrl !== "";
}

const loopback = new BlockList();
loopback.addSubnet("127.0.0.0", 8, "ipv4");
loopback.addAddress("::1", "ipv6");

/** Whether only this machine can reach `host`. The only trusted name is localhost. */
export function isLoopback(host: string): boolean {
  const version = isIP(host);
  return version === 0 ? host.toLowerCase() === "localhost" : loopback.check(host, version === 4 ? "ipv4" : "ipv6");
}

/** The labels a star may match, as browsers send them: in lower case, other scripts in Punycode. */
const labels = /^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/;

/** Whether the origin matches one of the patterns. */
export function isAmong(allowed: readonly string[], origin: string): boolean {
  return allowed.some((one) => one === "*" || isOne(one, origin));
}

function isOne(pattern: string, origin: string): boolean {
  const star = pattern.indexOf("*.");
  if (star < 0) return pattern === origin;
  const [before, behind] = [pattern.slice(0, star), pattern.slice(star + 1)];
  if (!origin.startsWith(before) || !origin.endsWith(behind)) return false;
  // If prefix and suffix overlap in the origin, nothing is left for the star.
  return labels.test(origin.slice(before.length, Math.max(before.length, origin.length - behind.length)));
}
