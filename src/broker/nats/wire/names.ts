/**
 * What rooms are called in NATS. A room's key (it may be any Unicode, and holds its tenant) becomes one token of a
 * subject; no two keys become the same one.
 *
 * | subject | |
 * |---|---|
 * | `flux.out.<namespace>.<token>` | what nodes with the room open listen to; ephemeral rooms are published here |
 * | `flux.in.<partition>.<namespace>.<token>` | durable rooms: kept by the stream `FLUX_<namespace>_<partition>`, which hands a copy to `flux.out` |
 */
import { createHash } from "node:crypto";

/** A longer token is replaced by its hash: subjects stay short, whatever rooms are called. */
const tokenCharactersMax = 120;
/** Everything else is written as `=` and two hexadecimal digits a byte, `=` too. */
const plain = /^[A-Za-z0-9_:@-]+$/;
const escaped = /[^A-Za-z0-9_:@-]/gu;

export function tokenOf(room: string): string {
  const token = plain.test(room) ? room : room.replace(escaped, escape);
  if (token.length <= tokenCharactersMax) return token;
  // No escape begins with `=h`.
  return `=h${createHash("sha256").update(room).digest("base64url")}`;
}

function escape(character: string): string {
  let text = "";
  for (const byte of Buffer.from(character)) text += `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return text;
}

/** FNV-1a: every node has to come to the same partition. */
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

export function streamName(prefix: string, namespace: string, partition: number): string {
  return `${prefix.toUpperCase()}_${namespace}_${partition}`;
}
