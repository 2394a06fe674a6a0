/**
 * Reactors that do not keep up with the hub. The queue before a reactor's ring is bounded, but what other nodes publish
 * cannot be refused. So past the bound a room is marked behind for the reactor: the hub remembers up to where its members have
 * everything, and writes nothing more of the room. When the queue is empty, the reactor is given the rest from there on, out of
 * the room's tail or the broker. Where the rest is not kept any more, its members get `sync`, and the loss is counted.
 *
 * While a room is marked nobody becomes live in it on that reactor: it would get what the others still have to get.
 */
import type { Broker } from "../../broker/broker.ts";
import { now } from "../../link/clock.ts";
import { nobody, writeDeliver, writeMoved } from "../../link/records.ts";
import type { Logger } from "../../platform/log/log.ts";
import type { Encoder } from "../../protocol/encoder.ts";
import { formats } from "../../protocol/formats/formats.ts";
import { pageSizeMax } from "../../protocol/limits.ts";
import { bodiesOf, recordBytes, type Reading } from "./pages.ts";
import { countIn, headOf, type Reactor, type HubRoom } from "../rooms.ts";

/** A room of a reactor whose members of one format are behind. There are no more of them than rooms with members there. */
interface Mark {
  readonly room: HubRoom;
  readonly wire: number;
  /** The members have everything up to here, in this era of the stream. */
  cursor: number;
  readonly era: number;
  /** Publications that were not written, and have not been given later. */
  missing: number;
  /** There is a gap, whatever can be read. */
  isLost: boolean;
  reading: boolean;
  /** What members that are being replayed to wait with. */
  held: (() => void)[];
}

/** What is put off for one reactor. */
interface Backlog {
  readonly reactor: Reactor;
  /** By wire format. */
  readonly marks: readonly Map<HubRoom, Mark>[];
  /** What waits until the queue is empty. */
  readonly waiting: Set<() => void>;
  reads: number;
  /** It is being worked off, further up the stack. */
  busy: boolean;
}

/** Rooms of a reactor that are read from the broker at once. */
const readsMax = 4;
/** Until a room is tried again whose broker cannot be read. */
const retryMs = 500;
/** A reactor that falls behind again within this time is not worth another line in the log. */
const quietMs = 10_000;

export interface LaggingOptions extends Reading {
  readonly log: Logger;
  /** Something that had waited failed by our own mistake. */
  failed(reactor: Reactor, error: unknown): void;
}

export class Lagging {
  /** Publications that reactors were given late, and those that they never got. */
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

  /** Rooms that are marked, one with members of two wire formats being two. */
  get rooms(): number {
    return this.#backlogs.reduce((sum, backlog) => sum + (backlog === null ? 0 : marked(backlog)), 0);
  }

  /** Whether a publication is not to be written for this reactor now. Its members had everything up to `cursor` before it. */
  skips(reactor: Reactor, room: HubRoom, wire: number, cursor: number, era: number): boolean {
    // The data path: mostly there is no backlog.
    if (this.#backlogs[reactor.index] == null && !reactor.link.congested) return false;
    const mark = this.#markIfBehind(reactor, room, wire, cursor, era);
    if (mark === null) return false;
    mark.missing++;
    return true;
  }

  /** The same of the news that there is a gap. */
  skipsMove(reactor: Reactor, room: HubRoom, wire: number, cursor: number, era: number): boolean {
    const mark = this.#markIfBehind(reactor, room, wire, cursor, era);
    if (mark !== null) mark.isLost = true;
    return mark !== null;
  }

  isMarked(reactor: Reactor, room: HubRoom, wire: number): boolean {
    return this.#markOf(reactor, room, wire) !== undefined;
  }

  /** Does it when the room is marked no longer. */
  hold(reactor: Reactor, room: HubRoom, wire: number, again: () => void): void {
    this.#markOf(reactor, room, wire)!.held.push(again);
  }

  /** Whether it has to wait until the reactor's queue is empty, since that is at its bound: it is done then. */
  waits(reactor: Reactor, again: () => void): boolean {
    if (!reactor.live || !reactor.link.congested) return false;
    this.#backlogOf(reactor).waiting.add(again);
    return true;
  }

  forgetReactor({ index }: Reactor): void {
    this.#backlogs[index] = null;
  }

  /** The reactor's queue is empty: what was put off goes on, until something has to be queued again. */
  goOn(reactor: Reactor): void {
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
      writeDeliver(reactor.link, handle, wire, nobody, 0, now(), seq, cursor, this.#encoder.publication(wire, body, null));
    });
    // What cannot be written is missed by them all: else it would be tried for ever.
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
        // The broker may be further than what was delivered here: that is still to come.
        const delivered = publications.filter((publication) => publication.seq <= room.seq);
        bodiesOf(this.#encoder, room, delivered).forEach((body, i) => mark.isLost || this.#give(backlog, mark, delivered[i]!.seq, body));
        // Nothing more: the head is reached, even where that is no publication that is kept.
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

  /** What is delivered from here on is written again. */
  #settle({ reactor, marks }: Backlog, { room, wire, held }: Mark): void {
    marks[wire]!.delete(room);
    for (const again of held) this.#run(reactor, again);
  }

  /** One that fails costs only itself. */
  #run(reactor: Reactor, act: () => void): boolean {
    try {
      act();
      return true;
    } catch (error) {
      this.#failed(reactor, error);
      return false;
    }
  }

  #markOf({ index }: Reactor, room: HubRoom, wire: number): Mark | undefined {
    return this.#backlogs[index]?.marks[wire]!.get(room);
  }

  /** The room's mark, which it gets where the reactor is past its bound; null: what comes is written. */
  #markIfBehind(reactor: Reactor, room: HubRoom, wire: number, cursor: number, era: number): Mark | null {
    const known = this.#markOf(reactor, room, wire);
    if (known !== undefined || !reactor.link.congested) return known ?? null;
    const mark: Mark = { room, wire, cursor, era, missing: 0, isLost: false, reading: false, held: [] };
    this.#backlogOf(reactor).marks[wire]!.set(room, mark);
    this.#tellLog(reactor);
    return mark;
  }

  #backlogOf(reactor: Reactor): Backlog {
    return (this.#backlogs[reactor.index] ??= { reactor, marks: formats.map(() => new Map<HubRoom, Mark>()), waiting: new Set(), reads: 0, busy: false });
  }

  #tellLog({ index, link }: Reactor): void {
    if (now() - this.#loggedAt < quietMs) return;
    this.#loggedAt = now();
    this.#log.warn({ reactor: index, queuedBytes: link.depth.overflow }, `reactor ${index} does not keep up: its rooms get what is published when it has read what is queued for it`);
  }
}

function marked({ marks }: Backlog): number {
  return marks.reduce((sum, ofFormat) => sum + ofFormat.size, 0);
}
