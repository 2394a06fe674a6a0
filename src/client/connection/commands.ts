import type { ClientFrame, ServerFrame } from "../../protocol/messages.ts";
import type { Cancel, Clock } from "../clock.ts";
import { fluxError, fromReply } from "../flux-error.ts";
import type { FluxError } from "../flux-error.ts";
import { problemOf } from "../values.ts";

export type Reply = { reply: ServerFrame } | { error: FluxError };
/**
 * Called while the reply is read, and not a microtask later like a promise. Later frames of the same message are read
 * next and must see the reply's effects.
 */
export type OnReply = (reply: Reply) => void;

type Pending = { onReply: OnReply; cancelTimeout: Cancel | null };

const idMax = 0xffffffff;

/** Commands of one socket that wait for their replies. */
export class Commands {
  readonly #send: (frame: ClientFrame) => void;
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  constructor(send: (frame: ClientFrame) => void, clock: Clock) {
    this.#send = send;
    this.#clock = clock;
  }

  /** `timeoutMs` null: for a command that may last as long as the socket. */
  send(command: ClientFrame, timeoutMs: number | null, onReply: OnReply): void {
    const problem = problemOf(command);
    if (problem !== null) return onReply({ error: fluxError("bad_request", problem) });
    const id = this.#nextId();
    const cancelTimeout = timeoutMs === null ? null : this.#clock.after(timeoutMs, () => this.#fail(id, fluxError("timeout")));
    this.#pending.set(id, { onReply, cancelTimeout });
    this.#send({ ...command, id });
  }

  /** Passes a reply to its command. A reply after the timeout is dropped. */
  settle(reply: ServerFrame): void {
    const pending = this.#take(reply.id ?? 0);
    pending?.onReply(reply.error ? { error: fromReply(reply.error) } : { reply });
  }

  failAll(error: FluxError): void {
    for (const id of [...this.#pending.keys()]) this.#fail(id, error);
  }

  #fail(id: number, error: FluxError): void {
    this.#take(id)?.onReply({ error });
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.cancelTimeout?.();
    return pending;
  }

  #nextId(): number {
    this.#lastId = this.#lastId === idMax ? 1 : this.#lastId + 1;
    return this.#lastId;
  }
}
