/**
 * The audit log: one line for every action on the admin port or by the HTTP API. It has the caller (address and id of the key, never the
 * key), the request and the outcome. Refused requests are logged at intervals only: a caller can send any number of
 * them.
 */
import type { Logger } from "../platform/log/log.ts";
import { printable } from "../platform/log/quoted.ts";
import { Sparse } from "../platform/log/sparse.ts";
import { keyId } from "./key.ts";

/** The sender of a request. Read when the request arrives, since its socket may be gone later. */
export interface Caller {
  /** The address that the node sees. */
  readonly from: string;
  readonly method: string;
  readonly path: string;
  /** Name of the key of a request to the HTTP API. Default: the admin key's id. */
  readonly key?: string;
  /** Of a request to the HTTP API. */
  readonly requestId?: string;
}

export class Audit {
  readonly #log: Logger;
  /** Id of the required key; none: the port is open to this machine. */
  readonly #key: string;
  readonly #refusals: Sparse;

  constructor(log: Logger, key: string) {
    this.#log = log;
    this.#key = key === "" ? "none" : keyId(key);
    this.#refusals = new Sparse();
  }

  /** @param asked the fields of the request, without secrets. @param outcome the result. */
  done({ from, key = this.#key, requestId }: Caller, action: string, asked: object, outcome: object): void {
    this.#log.info({ event: "audit", audit: { action, from, key, ...(requestId && { requestId }), asked, outcome } }, `${portOf(requestId)}: ${action}`);
  }

  /** @param text the error text that the caller got. */
  refused({ from, method, path, requestId }: Caller, code: string, text: string): void {
    const unsaid = this.#refusals.due(code);
    if (unsaid === null) return;
    const audit = { action: "refused", from, method, path, code, ...(requestId && { requestId }), ...(unsaid > 0 && { unsaid }) };
    this.#log.warn({ event: "audit_refused", audit }, `${portOf(requestId)}: refused, ${code}: ${printable(text)}`);
  }
}

function portOf(requestId: string | undefined): string {
  return requestId === undefined ? "admin port" : "http api";
}
