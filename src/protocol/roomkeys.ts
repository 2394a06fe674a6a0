/**
 * Keys: the names of rooms and users inside a node and in its stores. A client's names are unique only within its
 * tenant, so a key is `tenant US name`. An inbox is the room `@inbox` of one user, `tenant US @inbox US user`. The unit
 * separator is a control character, which no name may contain. So keys of different things never collide.
 */
const separator = "\u001f";

/** The name under which clients join the room of their own direct messages. */
export const inboxName = "@inbox";

export function roomKey(tenant: string, room: string): string {
  return tenant === "" ? room : `${tenant}${separator}${room}`;
}

export function inboxKey(tenant: string, user: string): string {
  return `${tenant}${separator}${inboxName}${separator}${user}`;
}

/** What a user's partition is computed from, from the key of the user's inbox: the user, with its tenant in front. */
export function userOfInbox(key: string): string {
  const [tenant = "", , user = ""] = key.split(separator);
  return roomKey(tenant, user);
}

export function userKey(tenant: string, user: string): string {
  return `${tenant}${separator}${user}`;
}

/** The idempotency key of a direct message: the same key of another sender is a different message. */
export function senderKey(user: string, key: string): string {
  return `${user}${separator}${key}`;
}

/** The idempotency key of a publication by the application. No client's key meets it: see `isApplicationKey`. */
export function applicationKey(key: string): string {
  return key === "" ? "" : senderKey("", key);
}

/** A client that could use such a key up could keep the application's publication out of the room. */
export function isApplicationKey(key: string): boolean {
  return key.startsWith(separator);
}

/** The name its members know a room by. */
export function nameOfRoom(key: string): string {
  const start = key.indexOf(separator);
  if (start < 0) return key;
  const end = key.indexOf(separator, start + 1);
  return end < 0 ? key.slice(start + 1) : key.slice(start + 1, end);
}

export function tenantOfRoom(key: string): string {
  return key.slice(0, Math.max(0, key.indexOf(separator)));
}

/** The name of the user, from the user's key. */
export function nameOfUser(key: string): string {
  return key.slice(key.indexOf(separator) + 1);
}

export function tenantOfUser(key: string): string {
  return key.slice(0, key.indexOf(separator));
}
