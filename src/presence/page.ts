import type { MembersQuery, RoomPresence } from "./presence.ts";

/** Makes a page from the answer of readRoom (scripts.ts). */
export function pageOf([version, users, sessions, ...rows]: (string | number)[], { limit, bytesMax, bytesEach }: MembersQuery): RoomPresence {
  const members: { user: string; sessions: number }[] = [];
  const counts = { version: Number(version), users: Number(users), sessions: Number(sessions), members };
  let bytes = 0;
  let last = "";
  for (let i = 0; i + 2 < rows.length; i += 3) {
    const user = String(rows[i]);
    bytes += Buffer.byteLength(user) + bytesEach;
    if (members.length === limit || (members.length > 0 && bytes > bytesMax)) return { ...counts, next: last };
    members.push({ user, sessions: Number(rows[i + 2]) });
    last = String(rows[i + 1]);
  }
  return { ...counts, next: "" };
}
