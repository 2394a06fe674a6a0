/**
 * Who may send requests to the HTTP API on the port for clients, before the main thread looks at their credentials. An
 * address whose requests were refused often has to wait: every request costs the main thread time, and the hub runs
 * there. A credential that was accepted lately passes, also where others behind the same proxy try keys.
 */

/** Refused requests of an address at once, and then per second. */
const refusalsAtOnce = 20;
const refusalsPerSecond = 1;
const addressesMax = 10_000;
const acceptedMax = 1_000;
/** Longer ones are not remembered. */
const credentialCharsMax = 2_048;
/** Requests of an address without an answer, in this reactor. */
const openOfOneMax = 512;

interface Address {
  open: number;
  /** Refusals that are not yet forgiven, at `at`. */
  refusals: number;
  at: number;
}

export class Callers {
  readonly #clock: () => number;
  /** In the order of use. */
  readonly #addresses = new Map<string, Address>();
  /** Values of the header Authorization, and tokens. */
  readonly #accepted = new Set<string>();

  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
  }

  /** Null: the request may go on, and `ended` must be called. Else why not. */
  begin(address: string, credential: string): "rate_limited" | "overloaded" | null {
    const key = networkOf(address);
    const known = this.#addresses.get(key) ?? { open: 0, refusals: 0, at: 0 };
    if (known.open >= openOfOneMax) return "overloaded";
    if (known.refusals > 0 && !this.#accepted.has(credential)) {
      this.#forgive(known);
      if (known.refusals >= refusalsAtOnce) return "rate_limited";
    }
    known.open++;
    if (known.open === 1) this.#addresses.set(key, known);
    return null;
  }

  /** The request is over. @param status of its answer; 0: it has none. */
  ended(address: string, credential: string, status: number): void {
    const key = networkOf(address);
    const known = this.#addresses.get(key);
    if (known === undefined) return;
    known.open--;
    if (status >= 200 && status < 300) this.#accept(credential);
    else if (status === unauthorized) this.#accepted.delete(credential);
    // The path may be wrong, or the credential: nothing is known of this caller.
    if (status >= 400 && status < 500 && !this.#accepted.has(credential)) {
      this.#forgive(known);
      known.refusals++;
      // The last to be evicted.
      this.#addresses.delete(key);
      this.#addresses.set(key, known);
    }
    if (known.open === 0 && known.refusals === 0) this.#addresses.delete(key);
    else if (this.#addresses.size > addressesMax) this.#evict();
  }

  get size(): number {
    return this.#addresses.size;
  }

  #accept(credential: string): void {
    if (this.#accepted.has(credential) || credential.length > credentialCharsMax) return;
    if (this.#accepted.size >= acceptedMax) this.#accepted.clear();
    this.#accepted.add(credential);
  }

  #forgive(known: Address): void {
    const now = this.#clock();
    known.refusals = Math.max(0, known.refusals - ((now - known.at) / 1_000) * refusalsPerSecond);
    known.at = now;
  }

  /** The address whose refusals are the longest ago. Those with open requests stay: they are as many as requests. */
  #evict(): void {
    for (const [key, { open }] of this.#addresses) {
      if (open > 0) continue;
      this.#addresses.delete(key);
      return;
    }
  }
}

const unauthorized = 401;
const mapped = "0000:0000:0000:0000:0000:ffff:";

/** A host with IPv6 has 2^64 addresses. uWS writes all digits of them. */
function networkOf(address: string): string {
  return address.length < mapped.length || address.startsWith(mapped) ? address : address.slice(0, 19);
}
