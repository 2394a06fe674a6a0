/**
 * Finds lost publications in quiet rooms. A route between NATS servers may break while all clients stay connected. A
 * copy is then lost, and in a quiet room no later one shows the gap. So each stream is asked regularly for its newest
 * sequence. Sequences since the last check that did not arrive here are looked up, to learn their rooms. If there are
 * many of them and few open rooms, the rooms are asked instead.
 */
import type { DurableRoom } from "./room.ts";
import type { Reader } from "../history/reading.ts";
import type { NatsLog } from "../connection/connection.ts";
import type { Stream, Streams } from "../streams/streams.ts";
import { Trouble } from "../streams/trouble.ts";

export interface QuietOptions {
  readonly streams: Streams;
  readonly reader: Reader;
  readonly log: NatsLog;
  /** Interval between checks. Replaced in tests. */
  readonly quietLookMs?: number;
  isConnected(): boolean;
  /** The open room with this subject. */
  roomAt(subject: string): DurableRoom | undefined;
  roomsOf(stream: Stream): DurableRoom[];
  hasRooms(stream: Stream): boolean;
  /** Called for a live room that lacks a message of its stream. */
  onMissing(room: DurableRoom): void;
}

interface Missing {
  readonly epoch: string;
  seq: number;
  looks: number;
}

const usualLookMs = 10_000;
/** A copy that is missing this long after its sequence was listed is lost. */
const copyLateMs = 500;
/** Sequences listed in one read. */
const listedMax = 2_048;
/** Asking one room costs about as much as listing this many sequences. */
const listedPerRoom = 8;
const askedAtOnce = 64;
/** A replica may lag, so the room is checked this many times. */
const looksMax = 3;

export class Quiet {
  readonly #options: QuietOptions;
  readonly #missing = new Map<DurableRoom, Missing>();
  readonly #lookMs: number;
  readonly #unanswered: Trouble;
  #timer: NodeJS.Timeout;
  #stopped = false;

  constructor(options: QuietOptions) {
    this.#options = options;
    this.#lookMs = options.quietLookMs ?? usualLookMs;
    this.#unanswered = new Trouble(options.log, "NATS: a stream does not answer the check for lost publications: quiet rooms may lack their newest publication until it does; check the NATS servers", "NATS: all streams answer the check for lost publications again");
    // Spreads the checks of nodes that start together.
    this.#timer = setTimeout(() => this.#look(), this.#lookMs * Math.random()).unref();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  #look(): void {
    const again = () => {
      if (!this.#stopped) this.#timer = setTimeout(() => this.#look(), this.#lookMs).unref();
    };
    this.#lookAtAll().then(again, again);
  }

  async #lookAtAll(): Promise<void> {
    for (const stream of this.#options.streams.all()) {
      if (this.#stopped || !this.#options.isConnected()) return;
      // A stream that cannot be asked now is asked at the next check.
      await this.#at(stream).then(() => this.#unanswered.ends(stream), (error: unknown) => this.#unanswered.begins(stream, error));
    }
    if (this.#missing.size === 0) return;
    await new Promise((resolve) => setTimeout(resolve, copyLateMs).unref());
    this.#bringUp();
  }

  async #at(stream: Stream): Promise<void> {
    const { epoch, through } = stream;
    if (epoch === "") return;
    const { last_seq: head } = await this.#options.streams.state(stream);
    if (stream.epoch !== epoch || head <= stream.through) return;
    // Later deliveries continue from the head, unless the list does not reach it.
    stream.through = head;
    let reached = through;
    try {
      reached = await this.#compare(stream, through + 1, head);
    } finally {
      if (stream.epoch === epoch && reached < head) stream.through = reached;
    }
  }

  /** @returns the sequence up to which the stream's content is known. */
  async #compare(stream: Stream, first: number, head: number): Promise<number> {
    const { reader, roomAt, roomsOf, hasRooms } = this.#options;
    // Nothing can be missing here. A node without members pays for no publication.
    if (!hasRooms(stream)) return head;
    if (head - first > listedMax) {
      const rooms = roomsOf(stream);
      if (rooms.length * listedPerRoom < head - first) return this.#ask(stream, rooms, head);
    }
    let reached = first - 1;
    while (reached < head) {
      const { kept, ended } = await reader.read(stream, undefined, { from: reached + 1, limit: listedMax, what: "subjects" });
      for (const { seq, subject } of kept) this.#note(roomAt(subject), seq);
      reached = kept.at(-1)?.seq ?? reached;
      if (ended) break;
    }
    return reached;
  }

  async #ask(stream: Stream, rooms: readonly DurableRoom[], head: number): Promise<number> {
    for (let i = 0; i < rooms.length; i += askedAtOnce) {
      await Promise.all(rooms.slice(i, i + askedAtOnce).map(async (room) => {
        this.#note(room, await this.#options.reader.last(stream, room.subject));
      }));
    }
    return head;
  }

  #note(room: DurableRoom | undefined, seq: number): void {
    if (room === undefined || seq <= room.last || room.state === "opening") return;
    this.#missing.set(room, { epoch: room.epoch, seq, looks: 0 });
  }

  #bringUp(): void {
    for (const [room, missing] of this.#missing) {
      const { epoch, seq } = missing;
      const isOver = this.#options.roomAt(room.subject) !== room || room.epoch !== epoch || room.last >= seq || missing.looks++ >= looksMax;
      if (isOver) this.#missing.delete(room);
      else if (room.state === "live") this.#options.onMissing(room);
    }
  }
}
