/**
 * The history checker, in the manner of Jepsen: tests record what was attempted, answered, delivered and
 * signalled, in the order in which they saw it, and the verdict says what should not have happened.
 *
 * What a member is owed: every acknowledged publication after the position it joined at, exactly once and in
 * order, unless a gap over it was signalled to that member. What was not acknowledged may be delivered or not,
 * but at most once, and at the same position for everyone.
 */
import { judge, type Verdict } from "./verdict.ts";

export interface Position {
  epoch: string;
  seq: number;
}

export type GapReason = "not recovered" | "sync" | "close";

export type HistoryEvent =
  | { kind: "attempted"; room: string; id: string }
  | { kind: "acknowledged"; room: string; id: string; position: Position }
  | { kind: "refused"; room: string; id: string; code: string }
  /** From here on the member is owed everything after `position`; recovering, everything after what it had. */
  | { kind: "joined"; room: string; member: string; position: Position; recovering: boolean }
  | { kind: "delivered"; room: string; member: string; id: string; position: Position; prev: number }
  /** The publisher was told the position of a publication that it asked not to be sent. */
  | { kind: "excluded"; room: string; member: string; id: string; position: Position }
  /** The member was told that it will not see what lies after `from`, up to and including `to`. */
  | { kind: "gap"; room: string; member: string; from: Position; to: Position; by: GapReason }
  /** The membership ended; the member is owed nothing after the last publication it has. */
  | { kind: "left"; room: string; member: string };

export interface History {
  readonly events: readonly HistoryEvent[];
  /** A publish is about to be sent. `id` is what its payload carries, unique over the history. */
  attempted(room: string, id: string): void;
  acknowledged(room: string, id: string, position: Position): void;
  refused(room: string, id: string, code: string): void;
  joined(room: string, member: string, position: Position): void;
  /**
   * The member joined again with `recover: asked`. Recovered, it is owed everything after `asked`; not
   * recovered, it is owed what follows `position` and the gap up to there was signalled.
   */
  rejoined(room: string, member: string, asked: Position, answer: { recovered: boolean; position: Position }): void;
  delivered(room: string, member: string, id: string, position: Position, prev: number): void;
  excluded(room: string, member: string, id: string, position: Position): void;
  gap(room: string, member: string, from: Position, to: Position, by: GapReason): void;
  left(room: string, member: string): void;
  judge(): Verdict;
}

/** `seed` is whatever repeats the run; it is printed in the report. */
export function createHistory(seed: number | string = "none"): History {
  const events: HistoryEvent[] = [];
  const add = (event: HistoryEvent): void => void events.push(event);
  return {
    events,
    attempted: (room, id) => add({ kind: "attempted", room, id }),
    acknowledged: (room, id, position) => add({ kind: "acknowledged", room, id, position }),
    refused: (room, id, code) => add({ kind: "refused", room, id, code }),
    joined: (room, member, position) => add({ kind: "joined", room, member, position, recovering: false }),
    rejoined: (room, member, asked, answer) => {
      add({ kind: "joined", room, member, position: asked, recovering: true });
      if (!answer.recovered) add({ kind: "gap", room, member, from: asked, to: answer.position, by: "not recovered" });
    },
    delivered: (room, member, id, position, prev) => add({ kind: "delivered", room, member, id, position, prev }),
    excluded: (room, member, id, position) => add({ kind: "excluded", room, member, id, position }),
    gap: (room, member, from, to, by) => add({ kind: "gap", room, member, from, to, by }),
    left: (room, member) => add({ kind: "left", room, member }),
    judge: () => judge(events, seed),
  };
}
