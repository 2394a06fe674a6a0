/** Keys of one room or one user share a hash tag, and with it a slot of Redis Cluster: scripts use them together. */

export function keysOfRoom(prefix: string, room: string, parts: readonly string[]): string[] {
  return parts.map((part) => `${prefix}room:{${tag(room)}}:${part}`);
}

export function keysOfUser(prefix: string, user: string, parts: readonly string[]): string[] {
  return parts.map((part) => `${prefix}user:{${tag(user)}}:${part}`);
}

/** A brace would end the tag early. Escaping keeps tags of different names different, and never empty. */
function tag(name: string): string {
  return name.replace(/[%{}]/g, (found) => `%${found.charCodeAt(0).toString(16)}`);
}
