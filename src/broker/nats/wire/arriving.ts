/**
 * Reads what arrives from NATS. Others may publish on the same subjects, and nodes may have other limits than this one. What
 * cannot be read or is larger than this node can pass on is not delivered: it is counted, and logged once a minute at most.
 */
import type { NatsLog } from "../connection/connection.ts";
import { readEnvelope, type Envelope } from "./envelope.ts";

/** Users have shorter names. In JSON each byte of it may take six. */
const senderCharactersMax = 1_024;
const logAgainMs = 60_000;

export class Arriving {
  /** Messages of open rooms that were not delivered. */
  refused = 0;
  readonly #node: Buffer;
  readonly #bytesMax: number;
  readonly #log: NatsLog;
  #loggedAt = -Infinity;

  /** @param node by which this node knows its own publications. @param bytesMax of a message */
  constructor(node: Buffer, bytesMax: number, log: NatsLog) {
    this.#node = node;
    this.#bytesMax = bytesMax;
    this.#log = log;
  }

  /** Null: it cannot be delivered. */
  read(data: Uint8Array): Envelope | null {
    if (data.length > this.#bytesMax) return null;
    const envelope = readEnvelope(this.#node, data);
    if (envelope === null || envelope.sender.length > senderCharactersMax) return null;
    return Number.isSafeInteger(envelope.time) && envelope.time >= 0 ? envelope : null;
  }

  /** Something came for an open room that cannot be delivered. */
  refuse(room: string, bytes: number): void {
    this.refused++;
    const now = performance.now();
    if (now < this.#loggedAt + logAgainMs) return;
    this.#loggedAt = now;
    this.#log.warn({ room, bytes, bytesMax: this.#bytesMax }, "NATS: a message cannot be delivered and its room has a gap: it is too large, or not of this program; see that all nodes have the same --frame-bytes-max and --ring-bytes, and who may publish there");
  }
}
