/**
 * Reads arriving messages. Other programs may publish on these subjects, and other nodes may have other limits. A
 * message that is unreadable or too large for this node is not delivered. It is counted, and logged at most once a
 * minute.
 */
import type { NatsLog } from "../connection/connection.ts";
import { readEnvelope, type Envelope } from "./envelope.ts";

/** User names are shorter. JSON may take six bytes for each of these. */
const senderCharactersMax = 1_024;
const logAgainMs = 60_000;

export class Arriving {
  /** Messages of open rooms that were not delivered. */
  refused = 0;
  readonly #node: Buffer;
  readonly #bytesMax: number;
  readonly #log: NatsLog;
  #loggedAt = -Infinity;

  /** @param node mark of this node's own publications. @param bytesMax of a message */
  constructor(node: Buffer, bytesMax: number, log: NatsLog) {
    this.#node = node;
    this.#bytesMax = bytesMax;
    this.#log = log;
  }

  /** Null: cannot be delivered. */
  read(data: Uint8Array): Envelope | null {
    if (data.length > this.#bytesMax) return null;
    const envelope = readEnvelope(this.#node, data);
    if (envelope === null || envelope.sender.length > senderCharactersMax) return null;
    return Number.isSafeInteger(envelope.time) && envelope.time >= 0 ? envelope : null;
  }

  /** Counts a message for an open room that cannot be delivered. */
  refuse(room: string, bytes: number): void {
    this.refused++;
    const now = performance.now();
    if (now < this.#loggedAt + logAgainMs) return;
    this.#loggedAt = now;
    this.#log.warn({ room, bytes, bytesMax: this.#bytesMax }, "NATS: a message cannot be delivered and its room has a gap: it is too large, or from another program; set the same --frame-bytes-max and --ring-bytes on all nodes, and check who may publish to the subject");
  }
}
