/** Session records as stores keep them: one line of JSON without the names of its fields. */
import type { SessionRecord, StoredRoom } from "./sessions.ts";

type Fields = [tenant: string, user: string, device: string, node: string, rooms: (string | number)[], generation?: number, assigned?: readonly string[]];

export function textOf({ tenant, user, device, node, generation, rooms, assigned }: SessionRecord): string {
  const flat = rooms.flatMap(({ name, epoch, seq }) => [name, epoch, seq]);
  const fields: Fields = [tenant, user, device, node, flat, generation];
  if (assigned !== undefined) fields.push(assigned);
  return inOnePiece(JSON.stringify(fields));
}

/** V8 keeps a concatenated string as its pieces for as long as the string exists: twice the memory. */
function inOnePiece(text: string): string {
  return Buffer.from(text).toString();
}

/** The prefix of the texts of a user's records, and of no other user's. */
export function prefixOf(tenant: string, user: string): string {
  return `${JSON.stringify([tenant, user]).slice(0, -1)},`;
}

export function recordOf(id: string, text: string): SessionRecord {
  // Records of earlier versions have no generation.
  const [tenant, user, device, node, flat, generation = 0, assigned] = JSON.parse(text) as Fields;
  const rooms: StoredRoom[] = [];
  for (let i = 0; i < flat.length; i += 3) {
    rooms.push({ name: flat[i] as string, epoch: flat[i + 1] as string, seq: flat[i + 2] as number });
  }
  return { id, tenant, user, device, node, generation, rooms, ...(assigned !== undefined && { assigned }) };
}
