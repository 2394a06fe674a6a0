/**
 * Log-ins to the dashboard: the cookie of a browser stands for a key that its user has shown. The node keeps the key in
 * memory only, and shows it to itself with every request. So a key that is revoked ends its log-ins at once.
 */
import { randomBytes } from "node:crypto";
import { digest } from "../auth/bearer.ts";

export interface Login {
  /** As a program would send it. Undefined: the port is open. */
  readonly authorization: string | undefined;
}

interface Kept extends Login {
  readonly since: number;
  usedAt: number;
}

/** A page asks every second, so one that is open stays logged in until the longer time is over. */
const idleMs = 60 * 60_000;
export const loginMs = 12 * 60 * 60_000;
const loginsMax = 256;
const failuresMax = 10;
const failuresMs = 60_000;
const addressesMax = 4_096;

export class Logins {
  readonly #clock: () => number;
  /** By the digest of the cookie's value: who reads the node's memory still has no cookie. */
  readonly #kept = new Map<string, Kept>();
  readonly #failures = new Map<string, { count: number; readonly since: number }>();

  /** @param clock milliseconds that never go back; replaced in tests */
  constructor(clock = () => performance.now()) {
    this.#clock = clock;
  }

  /** The value of a new cookie. */
  open(authorization: string): string {
    const now = this.#clock();
    for (const [id, kept] of this.#kept) if (this.#isOver(kept)) this.#kept.delete(id);
    // The one that was opened first.
    if (this.#kept.size >= loginsMax) this.#kept.delete(this.#kept.keys().next().value!);
    const value = randomBytes(32).toString("base64url");
    this.#kept.set(idOf(value), { authorization, since: now, usedAt: now });
    return value;
  }

  find(value: string): Login | null {
    const id = idOf(value);
    const kept = this.#kept.get(id);
    if (kept === undefined) return null;
    if (this.#isOver(kept)) {
      this.#kept.delete(id);
      return null;
    }
    kept.usedAt = this.#clock();
    return kept;
  }

  end(value: string): void {
    this.#kept.delete(idOf(value));
  }

  /** Takes an attempt of the address. Returns the milliseconds to wait, or 0: it may try. */
  attempt(address: string): number {
    const now = this.#clock();
    const from = networkOf(address);
    const before = this.#failures.get(from);
    const isOld = before === undefined || now - before.since >= failuresMs;
    if (!isOld && before.count >= failuresMax) return Math.ceil(before.since + failuresMs - now);
    if (isOld) {
      this.#failures.delete(from);
      if (this.#failures.size >= addressesMax) this.#failures.delete(this.#failures.keys().next().value!);
      this.#failures.set(from, { count: 1, since: now });
    } else {
      before.count++;
    }
    return 0;
  }

  /** The attempt had the right key. */
  succeeded(address: string): void {
    this.#failures.delete(networkOf(address));
  }

  #isOver({ since, usedAt }: Kept): boolean {
    const now = this.#clock();
    return now - since >= loginMs || now - usedAt >= idleMs;
  }
}

function idOf(value: string): string {
  return digest(value).toString("base64");
}

/** One who has an address of IPv6 has all of its /64. */
function networkOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, "");
  if (!plain.includes(":")) return plain;
  // `::` stands for as many zeros as are missing.
  const [head = [], tail = []] = plain.split("::").map((part) => part.split(":").filter((group) => group !== ""));
  const zeros = Array.from({ length: Math.max(0, 8 - head.length - tail.length) }, () => "0");
  return [...head, ...zeros, ...tail].slice(0, 4).join(":");
}
