/**
 * The audit log: one line for every action on the admin port. It says who asked (address, and the key's id, never the
 * key), what for, and how it went. Requests that were refused are logged too, but not all of them: whoever reaches the
 * port can send as many as he likes.
 */
import type { Logger } from "../platform/log/log.ts";
import { printable } from "../platform/log/quoted.ts";
import { Sparse } from "../platform/log/sparse.ts";
import { keyId } from "./key.ts";

/** Who sends a request. It is read when the request arrives: later its socket may be gone. */
export interface Caller {
  /** The address that the node sees. */
  readonly from: string;
  readonly method: string;
  readonly path: string;
}

export class Audit {
  readonly #log: Logger;
  /** Id of the key that every request had to show; none: the port is open to this machine. */
  readonly #key: string;
  readonly #refusals: Sparse;

  constructor(log: Logger, key: string) {
    this.#log = log;
    this.#key = key === "" ? "none" : keyId(key);
    this.#refusals = new Sparse();
  }

  /** @param asked what the action was to do; no secrets. @param outcome what came of it. */
  done({ from }: Caller, action: string, asked: object, outcome: object): void {
    this.#log.info({ audit: { action, from, key: this.#key, asked, outcome } }, `admin port: ${action}`);
  }

  /** @param text what the caller was answered. */
  refused({ from, method, path }: Caller, code: string, text: string): void {
    const unsaid = this.#refusals.due(code);
    if (unsaid === null) return;
    const audit = { action: "refused", from, method, path, code, ...(unsaid > 0 && { unsaid }) };
    this.#log.warn({ audit }, `admin port: refused, ${code}: ${printable(text)}`);
  }
}
