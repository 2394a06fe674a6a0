/**
 * Joining with history. A member gets what it missed page by page, each when the one before has left its socket. The
 * page that reaches the head makes it live. Until then it gets publications only in pages, which the hub reads from the
 * tail or the broker. It is not subscribed. So a recovery holds only a cursor, however long the history and however
 * slow the reader.
 *
 * A live member whose socket lagged comes back to this. Once its socket has room again, it gets what it missed in the
 * same pages, or learns what it will not get.
 *
 * `recovered: true` means that everything after the member's position can be read. Otherwise the member knows that it
 * has a gap, and gets everything that is kept. If the history is trimmed under a slow replay, the member gets `sync`.
 */
import type { Broker, Stored } from "../../broker/broker.ts";
import { writeJoined, writePage, type BehindRecord, type JoinRecord } from "../../link/records.ts";
import type { Encoder } from "../../protocol/formats/encoder.ts";
import { pageSizeMax } from "../../protocol/limits.ts";
import { inboxName } from "../../protocol/roomkeys.ts";
import type { Lagging } from "./lagging.ts";
import { bodiesOf, recordBytes, type Reading } from "./pages.ts";
import { headOf, type AttachedReactor, type HubRoom } from "../rooms.ts";

interface Replay {
  readonly room: HubRoom;
  readonly member: number;
  readonly wire: number;
  /** The member has everything up to here, in this era of the stream. */
  cursor: number;
  readonly era: number;
  /** The member was live before and lagged. */
  readonly behind: boolean;
  /** The member learns what it missed, but does not get it. */
  readonly skip: boolean;
  /** The member knows of a gap, and nothing has followed: the replay begins with the oldest that is kept. */
  orOldest: boolean;
}

/** A piece of history: bodies, and the seq up to which they reach. Null: no longer kept. */
type Piece = { bodies: Uint8Array[]; seq: number; trimmed?: boolean } | null;
/** `unavailable`: it may be kept, but cannot be read now. */
type Read = Piece | "unavailable";

const noFrame = new Uint8Array(0);

export class Replays {
  readonly #broker: Broker;
  readonly #encoder: Encoder;
  readonly #pageBytesMax: number;
  readonly #lagging: Lagging;
  readonly #running = new Map<AttachedReactor, Map<number, Replay>>();
  /** Publications that lagging members got later, and those that they only learnt they had missed. */
  caughtUp = 0;
  skipped = 0;

  constructor({ broker, encoder, pageBytesMax }: Reading, lagging: Lagging) {
    this.#lagging = lagging;
    this.#pageBytesMax = pageBytesMax;
    this.#broker = broker;
    this.#encoder = encoder;
  }

  /** Members with a replay under way. */
  get size(): number {
    let sum = 0;
    for (const replays of this.#running.values()) sum += replays.size;
    return sum;
  }

  /** Answers a join whose member has just been counted in. */
  begin(reactor: AttachedReactor, room: HubRoom, join: JoinRecord): void {
    if (join.epoch === null) return this.#joinWithHistory(reactor, room, join, join.history);
    const { era } = room;
    const isOther = join.epoch !== room.epoch;
    const seq = isOther ? 0 : join.seq;
    const answer = (read: Read) => {
      // The stream was replaced while it was read.
      if (room.era !== era) return this.begin(reactor, room, join);
      // The member gets what it missed when the broker is available again. Until then it gets nothing of the room.
      const piece: Read = read === "unavailable" && seq < room.seq ? { bodies: [], seq } : read;
      // A position beyond the head: nothing is known to be new. Otherwise only a part can be read for a recovery.
      if (piece === null || piece === "unavailable") return this.#joinWithHistory(reactor, room, join, seq > room.seq ? join.history : pageSizeMax);
      this.#joined(reactor, room, join, piece, piece.seq, !isOther && piece.trimmed !== true, seq);
    };
    this.#read(room, seq, answer, true);
  }

  /** The member's last page has left: sends the next one, or `sync` if the replay cannot go on. */
  next(reactor: AttachedReactor, member: number): void {
    const replay = this.#running.get(reactor)?.get(member);
    if (replay === undefined) return; // the member left meanwhile
    if (this.#lagging.waits(reactor, () => this.next(reactor, member))) return;
    // There is nothing new to send, and the reactor's other members are behind this one.
    if (replay.cursor === replay.room.seq && this.#isHeld(reactor, replay)) return;
    if (replay.skip || isLost(replay)) return this.#broken(reactor, replay);
    this.#read(replay.room, replay.cursor, (piece) => {
      if (!reactor.live || this.#running.get(reactor)?.get(member) !== replay) return;
      if (piece === "unavailable") return this.#notYet(reactor, replay);
      if (piece === null || isLost(replay)) return this.#broken(reactor, replay);
      replay.cursor = piece.seq;
      if (piece.bodies.length > 0) replay.orOldest = false;
      if (replay.behind) this.caughtUp += piece.bodies.length;
      const live = piece.seq >= replay.room.seq && !this.#lagging.isMarked(reactor, replay.room, replay.wire);
      const head = { room: replay.room.name, more: !live };
      writePage(reactor.link, member, live, piece.seq, replay.era, this.#encoder.page(replay.wire, "replay", 0, head, piece.bodies));
      if (live) this.abandon(reactor, member);
    }, replay.orOldest);
  }

  /** The page cannot be read now. The reactor asks again, and has its members of other rooms go first. */
  #notYet(reactor: AttachedReactor, replay: Replay): void {
    const { member, cursor, era } = replay;
    if (!reactor.live || this.#running.get(reactor)?.get(member) !== replay) return;
    if (this.#lagging.waits(reactor, () => this.#notYet(reactor, replay))) return;
    writePage(reactor.link, member, false, cursor, era, noFrame);
  }

  /** A member lags from `seq` on: it will ask when it can take more. */
  resume(reactor: AttachedReactor, room: HubRoom, { member, wire, seq, era, skip }: BehindRecord): void {
    this.#remember(reactor, { room, member, wire, cursor: seq, era, behind: true, skip, orOldest: false });
  }

  abandon(reactor: AttachedReactor, member: number): void {
    this.#running.get(reactor)?.delete(member);
  }

  forgetReactor(reactor: AttachedReactor): void {
    this.#running.delete(reactor);
  }

  #joinWithHistory(reactor: AttachedReactor, room: HubRoom, join: JoinRecord, history: number): void {
    const count = Math.min(history, pageSizeMax);
    if (count === 0) return this.#joined(reactor, room, join, null, room.seq, false);
    if (room.tail.holds(count) || !room.kind.retention.durable) {
      const bodies = room.tail.newest(count, this.#pageBytesMax);
      return this.#joined(reactor, room, join, { bodies, seq: room.seq }, room.seq, false);
    }
    const { era } = room;
    const query = { direction: "newest", position: headOf(room), limit: count, recovers: true, ...this.#page(room) } as const;
    this.#broker.history(room.key, room.kind.retention, query, (answer) => {
      // The newest publications are optional: an unreadable broker does not prevent a join.
      const publications = "value" in answer ? answer.value.publications : [];
      const seq = "value" in answer ? answer.value.position.seq : room.seq;
      const isOther = "value" in answer && answer.value.position.epoch !== room.epoch;
      if (room.era !== era || isOther) return this.#joined(reactor, room, join, null, room.seq, false);
      this.#joined(reactor, room, join, { bodies: this.#bodies(room, publications), seq }, seq, false);
    });
  }

  /**
   * `piece` null: nothing is replayed. Otherwise this answer gives the member everything up to `cursor`.
   * @param from where a recovery began; null for a join without one
   */
  #joined(reactor: AttachedReactor, room: HubRoom, join: JoinRecord, piece: Piece, cursor: number, recovered: boolean, from: number | null = null): void {
    if (!reactor.live) return;
    // A lagging reactor gets no pages, which would queue up. They follow when it asks for the next.
    const later = reactor.link.congested && from !== null;
    if (later) cursor = from;
    // A room's newest publications are optional then. A device's messages are not, since no later page brings them.
    const isBare = later || (reactor.link.congested && room.name !== inboxName);
    const orOldest = from !== null && !recovered && (isBare || piece === null || piece.bodies.length === 0);
    const live = cursor >= room.seq && !this.#lagging.isMarked(reactor, room, join.wire);
    const head = { room: room.name, position: headOf(room), recovered, more: !live, ...(join.assigned && { assigned: true }) };
    const frame = this.#encoder.page(join.wire, "joined", join.id, head, isBare ? [] : piece?.bodies ?? []);
    writeJoined(reactor.link, join.member, room.handle, live, cursor, room.era, frame);
    if (!live) this.#remember(reactor, { room, member: join.member, wire: join.wire, cursor, era: room.era, behind: false, skip: false, orOldest });
  }

  /**
   * Whether it has to wait until the room's other members on its reactor have caught up: it must not be live before
   * them.
   */
  #isHeld(reactor: AttachedReactor, { room, member, wire }: Replay): boolean {
    if (!this.#lagging.isMarked(reactor, room, wire)) return false;
    this.#lagging.hold(reactor, room, wire, () => this.next(reactor, member));
    return true;
  }

  #broken(reactor: AttachedReactor, replay: Replay): void {
    if (this.#isHeld(reactor, replay)) return;
    const frame = this.#encoder.frame(replay.wire, {
      id: 0,
      sync: { room: replay.room.name, position: headOf(replay.room) },
    });
    if (replay.behind && replay.era === replay.room.era) this.skipped += Math.max(0, replay.room.seq - replay.cursor);
    writePage(reactor.link, replay.member, true, replay.room.seq, replay.room.era, frame);
    this.abandon(reactor, replay.member);
  }

  #remember(reactor: AttachedReactor, replay: Replay): void {
    let replays = this.#running.get(reactor);
    if (replays === undefined) this.#running.set(reactor, (replays = new Map<number, Replay>()));
    replays.set(replay.member, replay);
  }

  /** Reads on after `seq`: from the tail if it reaches back so far, else from the broker. */
  #read(room: HubRoom, seq: number, done: (read: Read) => void, orOldest = false): void {
    // A position beyond our head may exist on another node: only the broker knows.
    if (seq <= room.seq && room.tail.covers(seq)) return done(room.tail.after(seq, this.#pageBytesMax));
    // Of an ephemeral room nothing else is kept.
    if (seq <= room.seq && orOldest && !room.kind.retention.durable) {
      const { seq: last, bodies } = room.tail.after(seq, this.#pageBytesMax);
      return done({ bodies, seq: bodies.length > 0 ? last : room.seq, trimmed: true });
    }
    const position = { epoch: room.epoch, seq };
    const query = { direction: "since", position, limit: pageSizeMax, orOldest, recovers: true, ...this.#page(room) } as const;
    this.#broker.history(room.key, room.kind.retention, query, (answer) => {
      if ("error" in answer) return done(answer.error === "unavailable" ? "unavailable" : null);
      const { publications, position, more, trimmed = false } = answer.value;
      // No more pages: the head is reached, even where the head is no stored publication.
      const reached = more ? publications.at(-1)?.seq ?? seq : Math.max(seq, position.seq);
      done({ bodies: this.#bodies(room, publications), seq: reached, trimmed });
    });
  }

  #page(room: HubRoom): { bytesMax: number; bytesEach: number } {
    return { bytesMax: this.#pageBytesMax, bytesEach: recordBytes(room) };
  }

  #bodies(room: HubRoom, publications: readonly Stored[]): Uint8Array[] {
    return bodiesOf(this.#encoder, room, publications);
  }
}

/** The member's position is unusable: the stream was replaced, or has been set back. */
function isLost({ era, cursor, room }: Replay): boolean {
  return era !== room.era || cursor > room.seq;
}
