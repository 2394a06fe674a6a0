/**
 * Key names of presence in Redis. The keys of one room share a hash tag, and so do those of one user: scripts use them
 * together.
 */

import { keysOfRoom, keysOfUser } from "../../redis/slots.ts";

export interface PresenceKeys {
  /** In the order that the scripts expect. */
  room(room: string): readonly string[];
  user(user: string): readonly string[];
  /** Rooms that a node has sessions in, and users that it has sessions of. */
  roomsOf(node: string): string;
  usersOf(node: string): string;
  /** Exists until another node declares this one dead. */
  alive(node: string): string;
  /** Held by the node that removes the entries of a dead node. */
  lease(node: string): string;
  readonly channel: string;
}

export function keysOf(prefix: string): PresenceKeys {
  return {
    room: (room) => keysOfRoom(prefix, room, ["s", "c", "n", "l", "m", "f", "p", "h", "w"]),
    user: (user) => keysOfUser(prefix, user, ["s", "u", "h", "w", "b", "d"]),
    roomsOf: (node) => `${prefix}rooms-of:${node}`,
    usersOf: (node) => `${prefix}users-of:${node}`,
    alive: (node) => `${prefix}alive:${node}`,
    lease: (node) => `${prefix}lease:${node}`,
    channel: `${prefix}presence`,
  };
}
