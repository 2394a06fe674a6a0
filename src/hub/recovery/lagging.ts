/**
 * Reactors that lag behind the hub. The queue before a reactor's ring is bounded, but publications of other nodes
 * cannot be refused. So at the bound a room is marked behind for the reactor. The hub remembers up to where its members
 * there have everything, and writes nothing more of the room. When the queue is empty, it writes the rest from there
 * on, from the room's tail or from the broker. Where the rest is not kept any more, the members get `sync`, and the
 * loss is counted.
 *
 * While a room is marked, no member becomes live in it on that reactor. The publications that the others still lack
 * would reach it too.
 */
import type { Broker } from "../../broker/broker.ts";
import { now } from "../../link/clock.ts";
import { nobody, writeDeliver } from "../../link/publications.ts";
import { writeMoved } from "../../link/records.ts";
import type { Logger } from "../../platform/log/log.ts";
import type { Encoder } from "../../protocol/formats/encoder.ts";
import { formats } from "../../protocol/formats/formats.ts";
import { pageSizeMax } from "../../protocol/limits.ts";
import { bodiesOf, recordBytes, type Reading } from "./pages.ts";
import { countIn, headOf, type AttachedReactor, type HubRoom } from "../rooms.ts";

/** A room on a reactor whose members in one format are behind. Bounded by the rooms with members there. */
interface Mark {
  readonly room: HubRoom;
  readonly wire: number;
  /** The members have everything up to here, in this era of the stream. */
  cursor: number;
  readonly era: number;
  /** Publications that were skipped and have not been delivered since. */
  missing: number;
  /** There is a gap, whatever can be read. */
  isLost: boolean;
  reading: boolean;
  /** Replays to single members that wait for the mark to go. */
  held: (() => void)[];
}

/** The work put off for one reactor. */
interface Backlog {
  readonly reactor: AttachedReactor;
  /** By wire format. */
  readonly marks: readonly Map<HubRoom, Mark>[];
  /** Calls that wait until the queue is empty. */
  readonly waiting: Set<() => void>;
  reads: number;
  /** The backlog is being worked off, further up the stack. */
  busy: boolean;
}

/** Rooms of a reactor that are read from the broker at once. */
const readsMax = 4;
/** Retry interval for a room whose broker cannot be read. */
const retryMs = 500;
/** A reactor that lags again within this time gets no further line in the log. */
const quietMs = 10_000;

export interface LaggingOptions extends Reading {
  readonly log: Logger;
  /** Work that had waited failed by a bug of ours. */
  failed(reactor: AttachedReactor, error: unknown): void;
}

export class Lagging {
  /** Publications that reactors got late, and those that they never got. */
  late = 0;
  lost = 0;
  readonly #broker: Broker;
  readonly #encoder: Encoder;
  readonly #pageBytesMax: number;
  readonly #log: Logger;
  /** By index of the reactor. */
  readonly #backlogs: (Backlog | null)[] = [];
  readonly #failed: LaggingOptions["failed"];
  #loggedAt = -Infinity;

  constructor({ broker, encoder, pageBytesMax, log, failed }: LaggingOptions) {
    this.#failed = failed;
    this.#broker = broker;
    this.#encoder = encoder;
    this.#pageBytesMax = pageBytesMax;
    this.#log = log;
  }

  /** Marked rooms. A room with members in two wire formats counts twice. */
  get rooms(): number {
    return this.#backlogs.reduce((sum, backlog) => sum + (backlog === null ? 0 : marked(backlog)), 0);
  }

  /** Whether this publication is skipped for the reactor now. Its members had everything up to `cursor` before it. */
  skips(reactor: AttachedReactor, room: HubRoom, wire: number, cursor: number, era: number): boolean {
    // The data path: usually there is no backlog.
    if (this.#backlogs[reactor.index] == null && !reactor.link.congested) return false;
    const mark = this.#markIfBehind(reactor, room, wire, cursor, era);
    if (mark === null) return false;
    mark.missing++;
    return true;
  }

  /** Whether a frame that tells of a gap is skipped for the reactor now. */
  skipsMove(reactor: AttachedReactor, room: HubRoom, wire: number, cursor: number, era: number): boolean {
    const mark = this.#markIfBehind(reactor, room, wire, cursor, era);
    if (mark !== null) mark.isLost = true;
    return mark !== null;
  }

  isMarked(reactor: AttachedReactor, room: HubRoom, wire: number): boolean {
    return this.#markOf(reactor, room, wire) !== undefined;
  }

  /** Calls `again` when the room is no longer marked. */
  hold(reactor: AttachedReactor, room: HubRoom, wire: number, again: () => void): void {
    this.#markOf(reactor, room, wire)!.held.push(again);
  }

  /** Whether the reactor's queue is at its bound. Then `again` is called once the queue is empty. */
  waits(reactor: AttachedReactor, again: () => void): boolean {
    if (!reactor.live || !reactor.link.congested) return false;
    this.#backlogOf(reactor).waiting.add(again);
    return true;
  }

  forgetReactor({ index }: AttachedReactor): void {
    this.#backlogs[index] = null;
  }

  /** The reactor's queue is empty: the backlog is worked off until the queue fills again. */
  goOn(reactor: AttachedReactor): void {
    const backlog = this.#backlogs[reactor.index];
    if (backlog == null || backlog.reactor !== reactor || backlog.busy) return;
    backlog.busy = true;
    try {
      this.#workOff(backlog);
    } finally {
      backlog.busy = false;
    }
    if (marked(backlog) + backlog.waiting.size === 0 && this.#backlogs[reactor.index] === backlog) this.#backlogs[reactor.index] = null;
  }

  #workOff(backlog: Backlog): void {
    const { reactor: { link }, marks, waiting } = backlog;
    for (const again of waiting) {
      if (link.full) return;
      waiting.delete(again);
      this.#run(backlog.reactor, again);
    }
    for (const ofFormat of marks) {
      for (const mark of ofFormat.values()) {
        if (link.full || backlog.reads >= readsMax) return;
        if (!mark.reading) this.#catchUp(backlog, mark);
      }
    }
  }

  #catchUp(backlog: Backlog, mark: Mark): void {
    const { reactor } = backlog;
    const { room, wire, era } = mark;
    while (!reactor.link.full && !mark.reading) {
      if (countIn(room, reactor.index, wire) === 0) return this.#settle(backlog, mark);
      if (mark.isLost || era !== room.era || mark.cursor > room.seq) return this.#tellGap(backlog, mark);
      if (mark.cursor === room.seq) return this.#settle(backlog, mark);
      const next = room.tail.covers(mark.cursor) ? room.tail.next(mark.cursor) : null;
      if (next !== null) this.#give(backlog, mark, next.seq, next.body);
      else if (backlog.reads < readsMax) this.#read(backlog, mark);
      else return;
    }
  }

  #give({ reactor }: Backlog, mark: Mark, seq: number, body: Uint8Array): void {
    const { room: { handle }, wire, cursor } = mark;
    const isGiven = this.#run(reactor, () => {
      writeDeliver(reactor.link, handle, wire, nobody, 0, now(), seq, cursor, { bytes: body, start: 0, end: body.length, publication: null });
    });
    // A publication that cannot be written is lost for all members. Otherwise it would be tried forever.
    if (!isGiven) mark.isLost = true;
    else {
      mark.cursor = seq;
      mark.missing--;
      this.late++;
    }
  }

  #read(backlog: Backlog, mark: Mark): void {
    const { room, era, cursor: seq } = mark;
    const query = {
      direction: "since", position: { epoch: room.epoch, seq }, limit: pageSizeMax, bytesMax: this.#pageBytesMax, bytesEach: recordBytes(room),
    } as const;
    mark.reading = true;
    backlog.reads++;
    const done = () => {
      mark.reading = false;
      backlog.reads--;
      this.goOn(backlog.reactor);
    };
    this.#broker.history(room.key, room.kind.retention, query, (answer) => {
      if (this.#backlogs[backlog.reactor.index] !== backlog) return;
      if ("error" in answer) {
        if (answer.error === "unavailable") return void setTimeout(done, retryMs).unref();
        mark.isLost = true;
      } else if (era === room.era) {
        const { publications, position, more } = answer.value;
        // The broker may be ahead of what it delivered here: the rest is still to come.
        const delivered = publications.filter((publication) => publication.seq <= room.seq);
        bodiesOf(this.#encoder, room, delivered).forEach((body, i) => mark.isLost || this.#give(backlog, mark, delivered[i]!.seq, body));
        // No more pages: the head is reached, even where the head is no stored publication.
        if (!more || delivered.length < publications.length) mark.cursor = Math.max(mark.cursor, Math.min(position.seq, room.seq));
        if (mark.cursor === seq) mark.isLost = true;
      }
      done();
    });
  }

  #tellGap(backlog: Backlog, mark: Mark): void {
    const { room, wire, cursor: prev, era: eraBefore } = mark;
    const frame = this.#encoder.frame(wire, { id: 0, sync: { room: room.name, position: headOf(room) } });
    writeMoved(backlog.reactor.link, room.handle, wire, { prev, eraBefore, era: room.era }, frame);
    this.lost += Math.max(0, mark.missing);
    this.#settle(backlog, mark);
  }

  /** From here on deliveries are written again. */
  #settle({ reactor, marks }: Backlog, { room, wire, held }: Mark): void {
    marks[wire]!.delete(room);
    for (const again of held) this.#run(reactor, again);
  }

  /** Contains an error to this one call. */
  #run(reactor: AttachedReactor, act: () => void): boolean {
    try {
      act();
      return true;
    } catch (error) {
      this.#failed(reactor, error);
      return false;
    }
  }

  #markOf({ index }: AttachedReactor, room: HubRoom, wire: number): Mark | undefined {
    return this.#backlogs[index]?.marks[wire]!.get(room);
  }

  /** The room's mark, made now if the reactor is at its bound. Null: deliveries are written. */
  #markIfBehind(reactor: AttachedReactor, room: HubRoom, wire: number, cursor: number, era: number): Mark | null {
    const known = this.#markOf(reactor, room, wire);
    if (known !== undefined || !reactor.link.congested) return known ?? null;
    const mark: Mark = { room, wire, cursor, era, missing: 0, isLost: false, reading: false, held: [] };
    this.#backlogOf(reactor).marks[wire]!.set(room, mark);
    this.#tellLog(reactor);
    return mark;
  }

  #backlogOf(reactor: AttachedReactor): Backlog {
    return (this.#backlogs[reactor.index] ??= { reactor, marks: formats.map(() => new Map<HubRoom, Mark>()), waiting: new Set(), reads: 0, busy: false });
  }

  #tellLog({ index, link }: AttachedReactor): void {
    if (now() - this.#loggedAt < quietMs) return;
    this.#loggedAt = now();
    this.#log.warn({ reactor: index, queuedBytes: link.depth.overflow }, `reactor ${index} lags: publications for its clients are delayed until it has read its queue; see flux_ring_overflow_bytes`);
  }
}

function marked({ marks }: Backlog): number {
  return marks.reduce((sum, ofFormat) => sum + ofFormat.size, 0);
}
