/**
 * Durable rooms. A publication goes to a stream, which stores it. The stream sends a copy to all nodes with the room
 * open, with its sequence and the one before it in the room. All nodes deliver copies, the publisher's node too, so
 * they all see one order. A copy that does not follow the last delivery, or a lost connection, makes the room catch up
 * from the stream; later copies are held meanwhile.
 */
import type { Msg } from "nats";
import type { ErrorCode } from "../../../errors.ts";
import type { Broker, Deliver, Moved } from "../../broker.ts";
import type { Arriving } from "../wire/arriving.ts";
import { timeOf, type Envelope } from "../wire/envelope.ts";
import { History } from "../history/history.ts";
import type { Listening } from "../listening.ts";
import type { Ack } from "../wire/answers.ts";
import type { Outbox, Waiting } from "../outbox.ts";
import type { QueuedPublication } from "../queue/pulling.ts";
import { Looks } from "../streams/looks.ts";
import { Quiet } from "./quiet.ts";
import { Trouble } from "../streams/trouble.ts";
import { Addresses, type AddressesOptions } from "./addresses.ts";
import { Answers } from "./answers.ts";
import { QueuedRooms } from "./queued.ts";
import { placeOf } from "../wire/raw.ts";
import { beginAgain, dropHeld, fallBehind, hold, isComplete, openingRoom, type Acked, type DurableRoom } from "./room.ts";
import type { Reader } from "../history/reading.ts";
import { know, type Stream } from "../streams/streams.ts";

export interface DurableOptions extends AddressesOptions {
  readonly listening: Listening;
  readonly outbox: Outbox;
  readonly arriving: Arriving;
  readonly reader: Reader;
  readonly roomsMax: number;
  readonly quietLookMs?: number;
}

const pieceSize = 256;
/** Rooms checked together after NATS was unavailable. */
const checkedAtOnce = 256;
const retryMs = 250;
/** A copy that claims to be further after the stream's known end is rejected. */
const aheadMax = 100_000;
/** A copy that is missing this long after its acknowledgement is lost. */
const copyLateMs = 500;

export class DurableRooms implements Pick<Broker, "open" | "close" | "publish" | "history"> {
  /** Publications read from a stream because their copy did not arrive. */
  filled = 0;
  readonly #options: DurableOptions;
  readonly #deliver: Deliver;
  readonly #moved: Moved;
  readonly #addresses: Addresses;
  readonly #rooms = new Map<string, DurableRoom>();
  readonly #bySubject = new Map<string, DurableRoom>();
  readonly #history: History;
  readonly queued = new QueuedRooms();
  /** Acknowledgements received before their stream's epoch is known. */
  readonly #early = new Map<Stream, (() => void)[]>();
  readonly #looks: Looks;
  readonly #quiet: Quiet;
  /** Streams that cannot be read. While a stream has no leader, all its rooms retry. */
  readonly #unreadable: Trouble;
  readonly #answers: Answers;
  readonly #sweeper = setInterval(() => this.#sweep(), copyLateMs).unref();

  constructor(options: DurableOptions, deliver: Deliver, moved: Moved) {
    this.#options = options;
    this.#addresses = new Addresses(options);
    this.#deliver = deliver;
    this.#moved = moved;
    this.#history = new History(options.reader, options.streams, options.arriving);
    this.#looks = new Looks(options.streams, options.log, (stream, isOver) => this.#compare(stream, isOver));
    const roomAt = (subject: string) => this.#bySubject.get(subject);
    const roomsOf = (stream: Stream) => [...this.#rooms.values()].filter((room) => room.stream === stream);
    const hasRooms = (stream: Stream) => {
      for (const room of this.#rooms.values()) if (room.stream === stream) return true;
      return false;
    };
    this.#quiet = new Quiet({ ...options, roomAt, roomsOf, hasRooms, isConnected: () => this.#looks.connected, onMissing: (room) => this.#bringBack(room) });
    this.#unreadable = new Trouble(options.log, "NATS: a stream cannot be read: its rooms wait, and joins of new ones fail, until it can; check the NATS servers", "NATS: all streams can be read again");
    this.#answers = new Answers({ outbox: options.outbox, history: this.#history, unreadable: this.#unreadable, streamOf: (name) => this.#addresses.streamOf(name) });
  }

  get size(): number {
    return this.#rooms.size;
  }

  // ------------------------------------------------------------------------------- what the hub asks

  open: Broker["open"] = (name, retention, done) => {
    if (this.#rooms.size >= this.#options.roomsMax) return done({ error: "overloaded" });
    this.#addresses.withStream(name, retention, done, (stream, subject) => {
      const room = openingRoom(name, stream, subject, retention, this.#addresses.queueOf(name));
      this.#rooms.set(name, room);
      this.#bySubject.set(subject, room);
      this.queued.add(room);
      this.#open(room).then(
        (opened) => {
          this.#unreadable.ends(stream);
          if (opened !== "open") {
            if (this.#rooms.get(name) === room) this.close(name);
            return done({ error: opened });
          }
          done({ value: { epoch: room.epoch, seq: room.last } });
          this.#answers.settle(room);
          this.#catchUp(room);
        },
        (error: unknown) => {
          this.#unreadable.begins(stream, error);
          if (this.#rooms.get(name) === room) this.close(name);
          done({ error: "unavailable" });
        },
      ).catch((error: unknown) => this.#options.log.error({ err: error, room: name }, "NATS: an opened room could not be continued: a bug"));
    });
  };

  close: Broker["close"] = (name) => {
    const room = this.#rooms.get(name);
    if (room === undefined) return;
    this.#rooms.delete(name);
    this.#bySubject.delete(room.subject);
    this.queued.remove(room);
    room.heard?.stop();
    this.#answers.giveAll(room);
  };

  publish: Broker["publish"] = (name, retention, draft, done) => {
    const room = this.#rooms.get(name);
    if (room !== undefined) return this.#options.outbox.publish(room.stream, name, room.subject, draft, done);
    const known = this.#addresses.streamOf(name);
    if (known !== undefined) return this.#options.outbox.publish(known, name, this.#addresses.subjectOf(name), draft, done);
    // Only for a namespace that is first used now: the payload is valid until this returns.
    const copy = { ...draft, payload: Uint8Array.prototype.slice.call(draft.payload) };
    this.#addresses.withStream(name, retention, done, () => this.publish(name, retention, copy, done));
  };

  history: Broker["history"] = (name, retention, query, done) => {
    this.#addresses.withStream(name, retention, done, (stream, subject) => {
      const room = this.#rooms.get(name);
      const head = room === undefined || room.state === "opening" ? null : room.last;
      this.#answers.page(stream, this.#history.page(stream, subject, retention, query, head), done);
    });
  };

  stop(): void {
    clearInterval(this.#sweeper);
    this.#looks.stop();
    this.#quiet.stop();
    this.queued.stop();
    this.#bySubject.clear();
    this.#rooms.clear();
  }

  // ------------------------------------------------------------------------------- the connection

  /** Nothing is certain until every room is compared with its stream. */
  disconnected(): void {
    this.#looks.disconnected();
    this.#options.streams.forgetEpochs();
    for (const room of this.#rooms.values()) if (room.state === "live") fallBehind(room);
  }

  reconnected(): void {
    this.#looks.reconnected();
  }

  /** Another node noticed that a stream was replaced or set back. */
  resync(): void {
    this.#looks.atAll();
  }

  /** Compares the open rooms of a stream with the stream. */
  async #compare(stream: Stream, isOver: () => boolean): Promise<void> {
    this.#options.outbox.streamBack(stream);
    for (const acknowledge of this.#early.get(stream)?.splice(0) ?? []) acknowledge();
    const rooms = [...this.#rooms.values()].filter((room) => room.stream === stream);
    for (const room of rooms) if (room.state !== "opening" && room.epoch !== stream.epoch) this.#beginAnew(room);
    stream.floor = Infinity;
    for (let i = 0; i < rooms.length; i += checkedAtOnce) {
      if (isOver()) return;
      await Promise.all(rooms.slice(i, i + checkedAtOnce).map((room) => this.#check(room)));
    }
  }

  /** Most rooms missed nothing: one question confirms it. */
  async #check(room: DurableRoom): Promise<void> {
    if (room.state !== "behind" || !this.queued.mayDeliver(room)) return;
    const last = await this.#options.reader.last(room.stream, room.subject).catch(() => Infinity);
    if (room.state !== "behind") return;
    if (last <= room.last && room.held.length === 0 && !room.heldLost && room.epoch === room.stream.epoch) room.state = "live";
    else this.#catchUp(room);
  }

  // ------------------------------------------------------------------------------- what arrives

  #arrived(room: DurableRoom, message: Msg): void {
    const envelope = this.#options.arriving.read(message.data);
    const place = placeOf(message, room.stream.name);
    if (place === null || this.#rooms.get(room.name) !== room) return;
    // The copy may be late, or the stream replaced.
    if (room.state === "live" && place.seq <= room.last) return this.#looks.ask();
    this.#came(room, message.data.length, envelope, place.seq, place.before);
  }

  /**
   * A message of a queue, from the consumer of its partition's holder, in the order of the stream. `isDeep`: so many
   * messages follow in the queue that some before this one may have been dropped at the room's limit.
   */
  consumed({ subject, seq, data }: QueuedPublication, isDeep: boolean): void {
    const room = this.#bySubject.get(subject);
    if (room === undefined || room.state === "opening") this.queued.pass(subject, seq);
    // A new consumer begins where the last holder's is known to have been. The stream may have been read further.
    if (room === undefined || !this.queued.mayDeliver(room) || (room.state === "live" && seq <= room.last)) return;
    room.stream.seen = Math.max(room.stream.seen, seq);
    this.#came(room, data.length, this.#options.arriving.read(data), seq, isDeep ? seq - 1 : 0);
  }

  /** This node holds the partition from now on, or not any more. Its rooms may lack what came meanwhile. */
  queueChanged(partition: number, isHeld: boolean): void {
    for (const room of this.queued.of(partition)) {
      if (isHeld && room.state !== "opening") this.#bringBack(room);
      if (!isHeld && room.state === "live") fallBehind(room);
      if (!isHeld) this.#answers.giveAll(room);
    }
  }

  #came(room: DurableRoom, bytes: number, envelope: Envelope | null, seq: number, before: number): void {
    if (envelope === null) this.#options.arriving.refuse(room.name, bytes);
    if (seq > room.stream.seen + aheadMax) {
      room.heldLost = true; // read from the stream later
      return room.state === "live" ? this.#bringBack(room) : undefined;
    }
    if (envelope === null) {
      return room.state === "live" && before <= room.last ? this.#pass(room, seq) : undefined; // while the room catches up, the stream has it
    }
    if (room.state === "live") {
      if (before <= room.last) return this.#give(room, seq, envelope);
      fallBehind(room);
      hold(room, { seq, before, envelope });
      return this.#catchUp(room);
    }
    hold(room, { seq, before, envelope });
  }

  #give(room: DurableRoom, seq: number, envelope: Envelope): void {
    if (!this.queued.mayDeliver(room)) return fallBehind(room);
    const prev = room.holed ? seq - 1 : room.last;
    room.holed = false;
    room.last = seq;
    know(room.stream, seq, envelope.time);
    const { epoch, name } = room;
    const { sender, time, payload, format, origin } = envelope;
    this.#deliver(name, { epoch, seq, prev, sender, time, payload, format, origin });
    if (envelope.number !== 0) this.#options.outbox.delivered(envelope.number, seq, prev);
    if (room.acked.length > 0) this.#answers.settle(room);
  }

  /** Does not deliver an unreadable message (of another program or a later version): members see a gap. */
  #pass(room: DurableRoom, seq: number): void {
    room.holed = true;
    room.last = seq;
    if (room.acked.length > 0) this.#answers.settle(room);
  }

  // ------------------------------------------------------------------------------- catching up

  /** The room is live and lacks a message. */
  #bringBack(room: DurableRoom): void {
    fallBehind(room);
    this.#catchUp(room);
  }

  #catchUp(room: DurableRoom): void {
    if (room.state === "catchingUp" || this.#rooms.get(room.name) !== room || !this.queued.mayDeliver(room)) return;
    const isOpening = room.state === "opening";
    room.state = "catchingUp";
    this.#bringUp(room, isOpening).catch((error: unknown) => {
      room.state = "behind";
      this.#unreadable.begins(room.stream, error);
      setTimeout(() => {
        if (this.#looks.connected) this.#catchUp(room);
      }, retryMs).unref();
    });
  }

  /** Returns when the room is live, or when NATS is unavailable: the next connection checks the room again. */
  async #bringUp(room: DurableRoom, isOpening: boolean): Promise<void> {
    if (isOpening && this.#drain(room, false)) return;
    const mayGoOn = () => this.#rooms.get(room.name) === room && this.#looks.connected && room.epoch === room.stream.epoch && this.queued.mayDeliver(room);
    for (let stuck = 0; mayGoOn(); ) {
      const before = room.last;
      const ended = await this.#readOn(room);
      if (this.#rooms.get(room.name) !== room) return;
      stuck = room.last === before ? stuck + 1 : 0;
      // The messages missing before the first held one are no longer in the stream.
      if (ended && this.#drain(room, stuck > 2)) return;
    }
    room.state = "behind";
  }

  /** The stream was replaced or set back: members' earlier positions are invalid. */
  #beginAnew(room: DurableRoom): void {
    const { epoch, floor } = room.stream;
    beginAgain(room, epoch, floor);
    this.#moved(room.name, { epoch, seq: room.last });
    // Acknowledgements of the lost stream are answered. Those of the new one wait for delivery.
    const acked = room.acked.splice(0);
    for (const one of acked) {
      if (one.epoch === epoch && one.seq > room.last) room.acked.push(one);
      else this.#answers.give(one);
    }
  }

  /** True: the stream has nothing more. */
  async #readOn(room: DurableRoom): Promise<boolean> {
    const { stream, subject, epoch } = room;
    const { kept, ended } = await this.#options.reader.read(stream, subject, { from: room.last, limit: pieceSize, upTo: room.held[0]?.before ?? 0 });
    this.#unreadable.ends(stream);
    const isWhole = (room.last === 0 && room.queue < 0) || kept[0]?.seq === room.last || isComplete(room, await this.#options.streams.state(stream, subject));
    if (this.#rooms.get(room.name) !== room || epoch !== stream.epoch) return false;
    if (!isWhole) room.holed = true;
    for (const { seq, data } of kept) {
      if (seq <= room.last) continue;
      const envelope = this.#options.arriving.read(data);
      if (envelope === null) {
        this.#pass(room, seq);
        continue;
      }
      this.filled++;
      this.#give(room, seq, envelope);
    }
    return ended;
  }

  /**
   * Delivers the held messages; the room is live afterwards. False: a message before them is missing and must be read.
   */
  #drain(room: DurableRoom, isGone: boolean): boolean {
    if (room.heldLost) {
      dropHeld(room);
      return (room.heldLost = false);
    }
    for (let held = room.held[0]; held !== undefined; held = room.held[0]) {
      if (!this.queued.mayDeliver(room)) return false;
      const { seq, before, envelope } = held;
      if (seq > room.last && before > room.last && !isGone) return false;
      room.held.shift();
      room.heldBytes -= envelope.payload.length;
      if (seq <= room.last) continue;
      if (before > room.last) room.holed = true;
      this.#give(room, seq, envelope);
    }
    room.state = "live";
    return true;
  }

  // ------------------------------------------------------------------------------- answers of streams

  /** @param looked the stream was checked since. */
  acknowledged(waiting: Waiting, ack: Ack | null, looked = false): void {
    const { outbox } = this.#options;
    if (ack === null) return void (this.#looks.ask(), outbox.again(waiting));
    if ("error" in ack) return outbox.refused(waiting, ack.error, ack.reason, ack.text);
    const room = this.#rooms.get(waiting.room);
    const stream = room?.stream ?? this.#addresses.streamOf(waiting.room);
    if (stream === undefined) return; // it was sent to a stream
    // A sequence that is known already: the stream may have been deleted and created again.
    const isOdd = !looked && !ack.duplicate && ack.seq <= waiting.after;
    if (isOdd) this.#looks.ask();
    if (stream.epoch === "" || isOdd) {
      const early = this.#early.get(stream) ?? [];
      this.#early.set(stream, early);
      return void early.push(() => this.acknowledged(waiting, ack, true));
    }
    if (!ack.duplicate) know(stream, ack.seq, timeOf(waiting.bytes));
    const acked: Acked = { number: waiting.number, ...ack, epoch: stream.epoch, at: performance.now() };
    if (room === undefined || !this.queued.mayDeliver(room) || (room.state !== "opening" && ack.seq <= room.last && room.epoch === stream.epoch)) return this.#answers.give(acked);
    room.acked.push(acked);
  }

  #sweep(): void {
    const before = performance.now() - copyLateMs;
    for (const room of this.#rooms.values()) {
      if (room.state === "live" && room.acked.length > 0 && room.acked[0]!.at <= before) this.#bringBack(room);
    }
  }

  // ------------------------------------------------------------------------------- opening

  /** Subscribes, then asks for the room's position. Messages in between are held. */
  async #open(room: DurableRoom): Promise<"open" | ErrorCode> {
    const { listening, reader, streams } = this.#options;
    if (!this.queued.mayDeliver(room)) return "unavailable";
    const refused = room.queue >= 0 ? null : await new Promise<ErrorCode | null>((settled) => {
      const regained = () => void (room.state !== "opening" && this.#rooms.get(room.name) === room && this.#bringBack(room));
      room.heard = listening.listen({ room: room.name, subject: this.#addresses.copiesOf(room.name), message: (message) => this.#arrived(room, message), settled, regained });
    });
    if (refused !== null) return refused;
    const last = await reader.last(room.stream, room.subject);
    const head = last > 0 ? last : await streams.headOf(room.stream);
    if (this.#rooms.get(room.name) !== room || room.epoch !== room.stream.epoch || !this.queued.mayDeliver(room)) return "unavailable";
    room.last = room.queue >= 0 ? Math.max(head, this.queued.passed(room.subject)) : head;
    return "open";
  }
}
