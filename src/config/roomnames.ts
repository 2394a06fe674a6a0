/** Room names: valid names, and the namespace that a name belongs to. */
import { lettersOfRooms } from "./told.ts";
import type { Retention } from "../broker/broker.ts";
import type { Config } from "./config.ts";
import { inboxName, nameOfRoom } from "../protocol/roomkeys.ts";

/** A namespace of the configuration, in the form that rooms use. */
export interface RoomKind {
  /** Who may publish: members, any session, or nobody. */
  readonly publish: "members" | "anyone" | "nobody";
  /** Who may read the room's members, likewise; and whether members receive presence events. */
  readonly presence: "members" | "anyone" | "nobody";
  readonly presenceEvents: boolean;
  readonly retention: Retention;
  /** What happens to a member whose socket queue is full. */
  readonly slowReaders: SlowReaders;
  /** Time that deliveries may wait to be sent together. */
  readonly flushMs: number;
  /** Whether the application's backend is asked before a client joins, and before it publishes. */
  readonly asksJoin: boolean;
  readonly asksPublish: boolean;
  /** Letters of the facts of its rooms that webhooks tell (facts.ts). */
  readonly facts: string;
  /** Whether the node keeps the room's members, for clients or for webhooks. */
  readonly hasMembers: boolean;
}

/** disconnect: closes the socket. drop: skips publications and reports the gap. catch-up: delivers them later. */
export type SlowReaders = "disconnect" | "drop" | "catch-up";

type KindsConfig = Pick<Config, "namespaces" | "webhooks" | "inboxSize" | "inboxTtlMs" | "inboxBytesMax">;

/** Finds a room's kind: `chat:general` is in namespace `chat`, a name without a colon in `default`. */
export type KindOf = (room: string) => RoomKind | null;

export function compileKinds(config: KindsConfig): KindOf {
  const kinds = new Map<string, RoomKind>();
  for (const [name, namespace] of Object.entries(config.namespaces)) {
    const { publish, presence, presenceEvents, slowReaders, flushMs, hookJoin, hookPublish } = namespace;
    const asks = { asksJoin: hookJoin !== "", asksPublish: hookPublish !== "" };
    const facts = lettersOfRooms(config.webhooks, name);
    kinds.set(name, { publish, presence, presenceEvents, slowReaders, flushMs, ...asks, facts, hasMembers: presence !== "nobody" || facts !== "", retention: retentionOf(namespace) });
  }
  const inbox: RoomKind = {
    publish: "nobody", presence: "nobody", presenceEvents: false, slowReaders: "catch-up", flushMs: 0, asksJoin: false, asksPublish: false, facts: "", hasMembers: false,
    retention: inboxRetention(config),
  };
  return (room) => {
    return room === inboxName ? inbox : kinds.get(namespaceNamed(room)) ?? null;
  };
}

function retentionOf(namespace: KindsConfig["namespaces"][string]): Retention {
  const { durable, historySize = 0, historyTtlMs = 0, historyBytesMax = 0, archive = false, archiveRecovery = false } = namespace;
  return { durable, historySize, historyTtlMs, historyBytesMax, archive, archiveRecovery };
}

function inboxRetention({ inboxSize, inboxTtlMs, inboxBytesMax }: KindsConfig): Retention {
  return { durable: true, historySize: inboxSize, historyTtlMs: inboxTtlMs, historyBytesMax: inboxBytesMax };
}

/** Retention of durable namespaces by name. Inboxes are a namespace of their own. */
export function durableNamespaces(config: KindsConfig): ReadonlyMap<string, Retention> {
  const all = Object.entries(config.namespaces).map(([name, namespace]) => [name, retentionOf(namespace)] as const);
  return new Map([...all.filter(([, { durable }]) => durable), [inboxNamespace, inboxRetention(config)]]);
}

function namespaceNamed(room: string): string {
  const colon = room.indexOf(":");
  return colon < 0 ? "default" : room.slice(0, colon);
}

/** Name of the inboxes' namespace. No configured namespace can have it. */
export const inboxNamespace = "_inbox";

/** Namespace of a room, by the room's key. */
export function namespaceOf(key: string): string {
  const room = nameOfRoom(key);
  return room === inboxName ? inboxNamespace : namespaceNamed(room);
}

/** Bytes of the name of a user, a tenant or a device. */
export const nameBytesMax = 128;

export function roomNameProblem(name: string, bytesMax: number): string | null {
  return nameProblem("room", name, bytesMax);
}

/**
 * Why a name is invalid, or null. Any Unicode is valid except control characters: they confuse logs, and room keys
 * contain one.
 */
export function nameProblem(field: string, name: string, bytesMax: number): string | null {
  if (name.length === 0) return `${field}: the name is empty`;
  // One UTF-16 unit takes at most three bytes in UTF-8, so most names need no counting.
  if (name.length * 3 > bytesMax && Buffer.byteLength(name) > bytesMax) return `${field}: at most ${bytesMax} bytes`;
  if (controlCharacter.test(name)) return `${field}: control characters are not allowed`;
  if (!name.isWellFormed()) return `${field}: contains half of a surrogate pair (invalid Unicode)`;
  return null;
}

const controlCharacter = /[\u0000-\u001f\u007f]/;
