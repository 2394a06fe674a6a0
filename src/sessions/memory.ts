/** The embedded store of sessions: this node alone, gone with the process. */
import type { Position } from "../broker/broker.ts";
import type { SessionRecord, Sessions } from "./sessions.ts";

export interface MemorySessionsOptions {
  readonly ttlMs: number;
  readonly sessionsMax: number;
  readonly cursorsMax: number;
  readonly clock?: () => number;
}

interface Entry { record: SessionRecord; at: number }

export function createMemorySessions({ ttlMs, sessionsMax, cursorsMax, clock = Date.now }: MemorySessionsOptions): Sessions {
  // Maps keep the order of insertion: their fronts are what expires, or gives way, first.
  const sessions = new Map<string, Entry>();
  const cursors = new Map<string, Position>();
  const signOuts = new Map<string, number>();

  function expire(): void {
    const before = clock() - ttlMs;
    for (const [id, { at }] of sessions) {
      if (at > before && sessions.size <= sessionsMax) return;
      sessions.delete(id);
    }
  }
  function write(record: SessionRecord): void {
    sessions.delete(record.id);
    sessions.set(record.id, { record, at: clock() });
    expire();
  }
  return {
    put: write,
    keep(id) {
      const entry = sessions.get(id);
      if (entry !== undefined) write(entry.record);
    },
    take(id, done) {
      expire();
      done({ value: sessions.get(id)?.record ?? null });
    },
    end: (id) => void sessions.delete(id),
    cursor: (user, device, done) => done({ value: cursors.get(`${user}\u001f${device}`) ?? null }),
    acknowledge(user, device, position) {
      const key = `${user}\u001f${device}`;
      const before = cursors.get(key);
      if (before !== undefined && before.epoch === position.epoch && before.seq >= position.seq) return;
      cursors.delete(key);
      cursors.set(key, position);
      if (cursors.size > cursorsMax) cursors.delete(cursors.keys().next().value!);
    },
    signOut: (user, time) => void signOuts.set(user, time),
    signedOutAt: (user, done) => done({ value: signOuts.get(user) ?? 0 }),
    usage: () => ({ sessions: sessions.size, cursors: cursors.size }),
    stop: async () => sessions.clear(),
  };
}
