/** Names of presence in Redis. Those of one room share a hash tag, and so do those of one user: scripts use them together. */

export interface PresenceKeys {
  /** As the scripts want them. */
  room(room: string): readonly string[];
  user(user: string): readonly string[];
  /** Rooms and users that a node has sessions in and of. */
  roomsOf(node: string): string;
  usersOf(node: string): string;
  /** There while a node is not taken for dead. */
  alive(node: string): string;
  /** Who takes back what a node has left. */
  lease(node: string): string;
  readonly channel: string;
}

export function keysOf(prefix: string): PresenceKeys {
  return {
    room: (room) => ["s", "c", "n", "l", "m", "f", "p"].map((part) => `${prefix}room:{${tag(room)}}:${part}`),
    user: (user) => ["s", "u"].map((part) => `${prefix}user:{${tag(user)}}:${part}`),
    roomsOf: (node) => `${prefix}rooms-of:${node}`,
    usersOf: (node) => `${prefix}users-of:${node}`,
    alive: (node) => `${prefix}alive:${node}`,
    lease: (node) => `${prefix}lease:${node}`,
    channel: `${prefix}presence`,
  };
}

/** A brace would end the tag where it should not: two names are never one, and a tag is never empty. */
function tag(name: string): string {
  return name.replace(/[%{}]/g, (found) => `%${found.charCodeAt(0).toString(16)}`);
}
