/** Room names: which are valid, and which kind of room they name. */
import type { Retention } from "../broker/broker.ts";
import type { Config } from "./config.ts";
import { inboxName, nameOfRoom } from "../protocol/roomkeys.ts";

/** A namespace of the configuration, as rooms carry it. */
export interface RoomKind {
  /** Who may publish: sessions in the room, any session, or none. */
  readonly publish: "members" | "anyone" | "nobody";
  /** Who may ask who is in it, likewise; and whether members are told who comes and goes. */
  readonly presence: "members" | "anyone" | "nobody";
  readonly presenceEvents: boolean;
  readonly retention: Retention;
  /** What becomes of a member whose socket does not keep up. */
  readonly slowReaders: SlowReaders;
  /** How long deliveries may wait to leave together. */
  readonly flushMs: number;
}

/** disconnect: it is closed. drop: it misses publications and is told. catch-up: it is given them later. */
export type SlowReaders = "disconnect" | "drop" | "catch-up";

type KindsConfig = Pick<Config, "namespaces" | "inboxSize" | "inboxTtlMs" | "inboxBytesMax">;

/** Finds the kind of a room: `chat:general` is in namespace `chat`, a name without a colon in `default`. */
export type KindOf = (room: string) => RoomKind | null;

export function compileKinds(config: KindsConfig): KindOf {
  const kinds = new Map<string, RoomKind>();
  for (const [name, namespace] of Object.entries(config.namespaces)) {
    const { publish, presence, presenceEvents, slowReaders, flushMs } = namespace;
    kinds.set(name, { publish, presence, presenceEvents, slowReaders, flushMs, retention: retentionOf(namespace) });
  }
  const inbox: RoomKind = {
    publish: "nobody", presence: "nobody", presenceEvents: false, slowReaders: "catch-up", flushMs: 0, retention: inboxRetention(config),
  };
  return (room) => {
    return room === inboxName ? inbox : kinds.get(namespaceNamed(room)) ?? null;
  };
}

function retentionOf(namespace: KindsConfig["namespaces"][string]): Retention {
  return { historySize: 0, historyTtlMs: 0, historyBytesMax: 0, ...namespace };
}

function inboxRetention({ inboxSize, inboxTtlMs, inboxBytesMax }: KindsConfig): Retention {
  return { durable: true, historySize: inboxSize, historyTtlMs: inboxTtlMs, historyBytesMax: inboxBytesMax };
}

/** What is kept, by namespace; inboxes are one of their own. */
export function durableNamespaces(config: KindsConfig): ReadonlyMap<string, Retention> {
  const all = Object.entries(config.namespaces).map(([name, namespace]) => [name, retentionOf(namespace)] as const);
  return new Map([...all.filter(([, { durable }]) => durable), [inboxNamespace, inboxRetention(config)]]);
}

function namespaceNamed(room: string): string {
  const colon = room.indexOf(":");
  return colon < 0 ? "default" : room.slice(0, colon);
}

/** What inboxes are called where a namespace is asked for; no namespace can be called so. */
export const inboxNamespace = "_inbox";

/** Namespace of a room by its key. */
export function namespaceOf(key: string): string {
  const room = nameOfRoom(key);
  return room === inboxName ? inboxNamespace : namespaceNamed(room);
}

export function roomNameProblem(name: string, bytesMax: number): string | null {
  return nameProblem("room", name, bytesMax);
}

/** Why a name is refused, or null. Any Unicode goes but control characters: they confuse logs, and keys are made with one. */
export function nameProblem(field: string, name: string, bytesMax: number): string | null {
  if (name.length === 0) return `${field}: a name is needed`;
  // A character of UTF-16 takes at most three bytes: most names need no counting.
  if (name.length * 3 > bytesMax && Buffer.byteLength(name) > bytesMax) return `${field}: at most ${bytesMax} bytes`;
  if (controlCharacter.test(name)) return `${field}: control characters are not allowed`;
  if (!name.isWellFormed()) return `${field}: half of a surrogate pair`;
  return null;
}

const controlCharacter = /[\u0000-\u001f\u007f]/;
