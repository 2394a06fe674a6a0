/**
 * Subjects of rooms in NATS. A room's key (any Unicode, including its tenant) becomes one token of a subject. Different
 * keys have different tokens.
 *
 *     | subject | |
 *     |---|---|
 *     | `flux.out.<namespace>.<token>` | subscribed to by nodes with the room open; ephemeral rooms publish here |
 *     | `flux.in.<partition>.<namespace>.<token>` | durable rooms publish here: the stream `FLUX_<namespace>_<partition>` stores it and sends a copy to `flux.out` |
 *     | `flux.in.<stream>._inbox.<partition>.<token>` | inboxes under `--placement partition` publish here: the stream `FLUX__inbox_queue_<stream>` stores it, and only the consumer of the partition's holder reads it |
 */
import { createHash } from "node:crypto";

/** A longer token is replaced by its hash, so that subjects stay short. */
const tokenCharactersMax = 120;
/** Every other byte, `=` included, is written as `=` and two hexadecimal digits. */
const plain = /^[A-Za-z0-9_:@-]+$/;
const escaped = /[^A-Za-z0-9_:@-]/gu;

export function tokenOf(room: string): string {
  const token = plain.test(room) ? room : room.replace(escaped, escape);
  if (token.length <= tokenCharactersMax) return token;
  // No escape starts with `=h`.
  return `=h${createHash("sha256").update(room).digest("base64url")}`;
}

/** Header with the room's key, where the token is a hash: the archive stores names. */
export const nameHeader = "Flux-Room";

/** Value of `nameHeader`; "" where the token says the name. */
export function nameBeside(room: string, subject: string): string {
  return isHashed(subject) ? Buffer.from(room).toString("base64url") : "";
}

/** The room's key from the subject in a stream. A hash without the header, from a node of before, is its own name. */
export function roomOf(subject: string, beside: () => string): string {
  const token = subject.slice(subject.lastIndexOf(".") + 1);
  if (isHashed(subject)) return Buffer.from(beside(), "base64url").toString() || token;
  if (!token.includes("=")) return token;
  return Buffer.from(token.replace(/=([0-9A-F]{2})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 16))), "latin1").toString();
}

/** No escape starts with `=h`. */
function isHashed(subject: string): boolean {
  return subject.startsWith("=h", subject.lastIndexOf(".") + 1);
}

function escape(character: string): string {
  let text = "";
  for (const byte of Buffer.from(character)) text += `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return text;
}

/** FNV-1a: every node must compute the same partition. */
export function partitionOf(token: string, partitions: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < token.length; i++) hash = Math.imul(hash ^ token.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % partitions;
}

export function outSubject(prefix: string, namespace: string, token: string): string {
  return `${prefix}.out.${namespace}.${token}`;
}

export function inSubject(prefix: string, partition: number, namespace: string, token: string): string {
  return `${prefix}.in.${partition}.${namespace}.${token}`;
}

/** Where an inbox has a queue: `partition` is its user's, and `stream` the one that stores the partition. */
export function queueSubject(prefix: string, stream: number, namespace: string, partition: number | "*", token: string): string {
  return `${prefix}.in.${stream}.${namespace}.${partition}.${token}`;
}

/** Part of the names of streams that store queues, behind the namespace. */
export const queueMark = "_queue";

export function streamName(prefix: string, namespace: string, partition: number): string {
  return `${prefix.toUpperCase()}_${namespace}_${partition}`;
}
