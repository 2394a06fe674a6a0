/**
 * Joining with history: a member is given what it missed page by page, each when the one before has left its
 * socket, and becomes live with the page that reaches the head. Until then what the room gets is not sent to it
 * but read for it, so a recovery holds no more than a cursor, however long the history and slow the reader.
 *
 * A member that was live and whose socket did not keep up comes back to this: it is given what it missed in the same
 * pages, or told what it will not get, once its socket has room again.
 *
 * All or nothing: `recovered: true` is only said where everything after the member's position is there to be
 * read. If the history is trimmed under a slow replay, the member gets `sync` and knows that it has a gap.
 */
import type { Broker, Stored } from "../../broker/broker.ts";
import { writeJoined, writePage, type BehindRecord, type JoinRecord } from "../../link/records.ts";
import type { Encoder } from "../../protocol/encoder.ts";
import { pageSizeMax } from "../../protocol/limits.ts";
import { inboxName } from "../../protocol/roomkeys.ts";
import type { Lagging } from "./lagging.ts";
import { bodiesOf, recordBytes, type Reading } from "./pages.ts";
import { headOf, type Reactor, type HubRoom } from "../rooms.ts";

/** A join whose place is known. */
export interface Joining extends JoinRecord {
  /** Where not all is kept that came after the position, what is kept is wanted from its beginning. */
  readonly orOldest?: boolean;
}

interface Replay {
  readonly room: HubRoom;
  readonly member: number;
  readonly wire: number;
  /** The member has everything up to here, in this era of the stream. */
  cursor: number;
  readonly era: number;
  /** It was live before and fell behind. */
  readonly behind: boolean;
  /** It is told what it missed, not given it. */
  readonly skip: boolean;
}

/** A piece of history: bodies, the seq of the last, and whether that reaches the head. Null: no longer there. */
type Piece = { bodies: Uint8Array[]; seq: number; trimmed?: boolean } | null;
/** It may be there, but cannot be read now. */
type Read = Piece | "unavailable";

/** Until a member's next page is tried again. */
const retryMs = 500;

export class Replays {
  readonly #broker: Broker;
  readonly #encoder: Encoder;
  readonly #pageBytesMax: number;
  readonly #lagging: Lagging;
  readonly #running = new Map<Reactor, Map<number, Replay>>();
  /** Publications that members which were behind were given later, and those they were only told of. */
  caughtUp = 0;
  skipped = 0;

  constructor({ broker, encoder, pageBytesMax }: Reading, lagging: Lagging) {
    this.#lagging = lagging;
    this.#pageBytesMax = pageBytesMax;
    this.#broker = broker;
    this.#encoder = encoder;
  }

  /** Members that are being replayed to. */
  get size(): number {
    let sum = 0;
    for (const replays of this.#running.values()) sum += replays.size;
    return sum;
  }

  /** Answers a join whose member has just been counted in. Where its position is lost, it gets history as if it had none. */
  begin(reactor: Reactor, room: HubRoom, join: Joining): void {
    if (join.epoch !== room.epoch) return this.#joinWithHistory(reactor, room, join);
    const { era } = room;
    const answer = (read: Read) => {
      // It was read of a stream that is another one by now.
      if (room.era !== era) return this.#joinWithHistory(reactor, room, join);
      // What it missed is given to it when the broker is back; until then nothing of the room is.
      const piece: Read = read === "unavailable" && join.seq < room.seq ? { bodies: [], seq: join.seq } : read;
      if (piece === null || piece === "unavailable") this.#joinWithHistory(reactor, room, join);
      else this.#joined(reactor, room, join, piece, piece.seq, piece.trimmed !== true);
    };
    this.#read(room, join.seq, answer, join.orOldest);
  }

  /** The member's last page has left: the next one, or the news that it is broken. */
  next(reactor: Reactor, member: number): void {
    const replay = this.#running.get(reactor)?.get(member);
    if (replay === undefined) return; // it left meanwhile
    if (this.#lagging.waits(reactor, () => this.next(reactor, member))) return;
    // There is nothing to give to it, and the reactor's other members are not where it is.
    if (replay.cursor === replay.room.seq && this.#isHeld(reactor, replay)) return;
    if (replay.skip || isLost(replay)) return this.#broken(reactor, replay);
    this.#read(replay.room, replay.cursor, (piece) => {
      if (!reactor.live || this.#running.get(reactor)?.get(member) !== replay) return;
      if (piece === "unavailable") return void setTimeout(() => this.next(reactor, member), retryMs).unref();
      if (piece === null || isLost(replay)) return this.#broken(reactor, replay);
      replay.cursor = piece.seq;
      if (replay.behind) this.caughtUp += piece.bodies.length;
      const live = piece.seq >= replay.room.seq && !this.#lagging.isMarked(reactor, replay.room, replay.wire);
      const head = { room: replay.room.name, more: !live };
      writePage(reactor.link, member, live, piece.seq, replay.era, this.#encoder.page(replay.wire, "replay", 0, head, piece.bodies));
      if (live) this.abandon(reactor, member);
    });
  }

  /** A member is behind from `seq` on: it will ask when it can take more. */
  resume(reactor: Reactor, room: HubRoom, { member, wire, seq, era, skip }: BehindRecord): void {
    this.#remember(reactor, { room, member, wire, cursor: seq, era, behind: true, skip });
  }

  abandon(reactor: Reactor, member: number): void {
    this.#running.get(reactor)?.delete(member);
  }

  forgetReactor(reactor: Reactor): void {
    this.#running.delete(reactor);
  }

  #joinWithHistory(reactor: Reactor, room: HubRoom, join: JoinRecord): void {
    const count = Math.min(join.history, pageSizeMax);
    if (count === 0) return this.#joined(reactor, room, join, null, room.seq, false);
    if (room.tail.holds(count) || !room.kind.retention.durable) {
      const bodies = room.tail.newest(count, this.#pageBytesMax);
      return this.#joined(reactor, room, join, { bodies, seq: room.seq }, room.seq, false);
    }
    const { era } = room;
    const query = { direction: "newest", position: headOf(room), limit: count, ...this.#page(room) } as const;
    this.#broker.history(room.key, room.kind.retention, query, (answer) => {
      // The newest are a courtesy: a broker that cannot be read does not keep anybody from joining.
      const publications = "value" in answer ? answer.value.publications : [];
      const seq = "value" in answer ? answer.value.position.seq : room.seq;
      if (room.era !== era) return this.#joined(reactor, room, join, null, room.seq, false);
      this.#joined(reactor, room, join, { bodies: this.#bodies(room, publications), seq }, seq, false);
    });
  }

  /** `piece` null: nothing is replayed. Otherwise the member has everything up to `cursor` with this answer. */
  #joined(reactor: Reactor, room: HubRoom, join: JoinRecord, piece: Piece, cursor: number, recovered: boolean): void {
    if (!reactor.live) return;
    // A reactor that does not keep up gets no pages, which would be queued: they come when it asks for the next.
    const later = reactor.link.congested && recovered;
    if (later) cursor = join.seq;
    // The newest of a room are a courtesy then; but a device's messages are not asked for again.
    const isBare = later || (reactor.link.congested && room.name !== inboxName);
    const live = cursor >= room.seq && !this.#lagging.isMarked(reactor, room, join.wire);
    const head = { room: room.name, position: headOf(room), recovered, more: !live };
    const frame = this.#encoder.page(join.wire, "joined", join.id, head, isBare ? [] : piece?.bodies ?? []);
    writeJoined(reactor.link, join.member, room.handle, live, cursor, room.era, frame);
    if (!live) this.#remember(reactor, { room, member: join.member, wire: join.wire, cursor, era: room.era, behind: false, skip: false });
  }

  /** Whether it has to wait until the others of its room on its reactor have caught up: it may not be live before them. */
  #isHeld(reactor: Reactor, { room, member, wire }: Replay): boolean {
    if (!this.#lagging.isMarked(reactor, room, wire)) return false;
    this.#lagging.hold(reactor, room, wire, () => this.next(reactor, member));
    return true;
  }

  #broken(reactor: Reactor, replay: Replay): void {
    if (this.#isHeld(reactor, replay)) return;
    const frame = this.#encoder.frame(replay.wire, {
      id: 0,
      sync: { room: replay.room.name, position: headOf(replay.room) },
    });
    if (replay.behind && replay.era === replay.room.era) this.skipped += Math.max(0, replay.room.seq - replay.cursor);
    writePage(reactor.link, replay.member, true, replay.room.seq, replay.room.era, frame);
    this.abandon(reactor, replay.member);
  }

  #remember(reactor: Reactor, replay: Replay): void {
    let replays = this.#running.get(reactor);
    if (replays === undefined) this.#running.set(reactor, (replays = new Map<number, Replay>()));
    replays.set(replay.member, replay);
  }

  /** Reads on after `seq`: from the tail if it reaches back so far, else from the broker. */
  #read(room: HubRoom, seq: number, done: (read: Read) => void, orOldest = false): void {
    // Behind our head there may be a place that another node knows: the broker has to tell.
    if (seq <= room.seq && room.tail.covers(seq)) return done(room.tail.after(seq, this.#pageBytesMax));
    const position = { epoch: room.epoch, seq };
    const query = { direction: "since", position, limit: pageSizeMax, orOldest, ...this.#page(room) } as const;
    this.#broker.history(room.key, room.kind.retention, query, (answer) => {
      if ("error" in answer) return done(answer.error === "unavailable" ? "unavailable" : null);
      const { publications, position, more, trimmed = false } = answer.value;
      // Nothing more: the head is reached, even where it is no publication that is kept.
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

/** Where the member is there is nothing to go on from: the stream is another one, or has been set back. */
function isLost({ era, cursor, room }: Replay): boolean {
  return era !== room.era || cursor > room.seq;
}
