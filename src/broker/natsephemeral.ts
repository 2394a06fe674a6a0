/**
 * Ephemeral rooms over plain NATS. There is no order that all nodes share: each numbers what arrives, in an epoch of
 * its own, for as long as it has the room open.
 */
import type { Msg, NatsConnection, Subscription } from "nats";
import { randomId } from "../ids.ts";
import type { Broker, Deliver, Moved, Position } from "./broker.ts";
import { KeyWindow } from "./keys.ts";
import { listen, type NatsLog } from "./natsconnection.ts";
import type { Arriving } from "./natsarriving.ts";
import type { Envelope } from "./natsenvelope.ts";
import { outSubject, tokenOf } from "./natsnames.ts";
import type { Outbox } from "./natsoutbox.ts";

export interface EphemeralOptions {
  readonly connection: NatsConnection;
  readonly outbox: Outbox;
  readonly arriving: Arriving;
  readonly prefix: string;
  readonly namespaceOf: (room: string) => string;
  readonly keyWindowMs: number;
  readonly keysPerRoomMax: number;
  readonly roomsMax: number;
  readonly log: NatsLog;
}

interface Room {
  readonly name: string;
  readonly subject: string;
  readonly subscription: Subscription;
  readonly epoch: string;
  /** The server knows that this node listens. What arrives before has nobody to go to. */
  open: boolean;
  seq: number;
  /** Keys that have been seen here, whoever published them. */
  keys: KeyWindow | null;
}

/** Rooms whose members are told of a loss in one turn of the loop. */
const toldAtOnce = 1_000;

const nowhere: Position = { epoch: "", seq: 0 };

export class EphemeralRooms implements Pick<Broker, "open" | "close" | "publish" | "history"> {
  readonly #options: EphemeralOptions;
  readonly #deliver: Deliver;
  readonly #moved: Moved;
  readonly #rooms = new Map<string, Room>();
  #opened: ((error: boolean) => void)[] = [];

  constructor(options: EphemeralOptions, deliver: Deliver, moved: Moved) {
    this.#options = options;
    this.#deliver = deliver;
    this.#moved = moved;
  }

  get size(): number {
    return this.#rooms.size;
  }

  open: Broker["open"] = (name, _retention, done) => {
    const { connection, roomsMax, log } = this.#options;
    if (this.#rooms.size >= roomsMax) return done({ error: "overloaded" });
    const subject = this.#subjectOf(name);
    const subscription = listen(connection, subject, log, (message) => this.#arrived(room, message), () => {
      if (!room.open && this.#rooms.get(name) === room) this.close(name);
    });
    const room: Room = { name, subject, subscription, epoch: randomId(6), open: false, seq: 0, keys: null };
    this.#rooms.set(name, room);
    // Whoever is told that it is open may tell others to publish: the server has to know by then.
    this.#whenSubscribed((failed) => {
      if (this.#rooms.get(name) !== room) return done({ error: "unavailable" });
      if (failed) {
        this.close(name);
        return done({ error: "unavailable" });
      }
      room.open = true;
      done({ value: { epoch: room.epoch, seq: room.seq } });
    });
  };

  close: Broker["close"] = (name) => {
    const room = this.#rooms.get(name);
    if (room === undefined) return;
    this.#rooms.delete(name);
    room.subscription.unsubscribe();
    const { outbox } = this.#options;
    for (const { number, sentAt } of [...outbox.copiesOf(name)]) {
      outbox.take(number)?.done(sentAt > 0 ? { value: { ...nowhere, duplicate: false } } : { error: "unavailable" });
    }
  };

  publish: Broker["publish"] = (name, _retention, draft, done) => {
    const { outbox, keyWindowMs, keysPerRoomMax } = this.#options;
    const room = this.#rooms.get(name);
    if (room === undefined) return outbox.publish("leave", name, this.#subjectOf(name), draft, done);
    if (draft.key !== "") {
      room.keys ??= new KeyWindow(keyWindowMs, keysPerRoomMax);
      const first = room.keys.find(draft.key, performance.now());
      if (first !== undefined) return done({ value: { epoch: room.epoch, seq: first, duplicate: true } });
    }
    outbox.publish("copy", name, room.subject, draft, done);
  };

  /** Nothing is kept, so nothing is missing only where nothing has come. */
  history: Broker["history"] = (name, _retention, query, done) => {
    const room = this.#rooms.get(name);
    const { epoch, seq } = room ?? nowhere;
    const { position, direction } = query;
    const isHere = room !== undefined && position.epoch === epoch && (direction === "since" ? position.seq === seq : position.seq <= seq);
    if (direction !== "newest" && !isHere) return done({ error: "unrecoverable_position" });
    done({ value: { publications: [], position: { epoch, seq }, more: false } });
  };

  /**
   * Something may have been missed, and nobody knows how much: the next publication does not follow the last. Members
   * are told, for the next may be long in coming.
   */
  interrupted(): void {
    for (const room of this.#rooms.values()) room.seq++;
    this.#tell([...this.#rooms.values()], 0);
  }

  #tell(rooms: readonly Room[], from: number): void {
    for (const room of rooms.slice(from, from + toldAtOnce)) {
      const { name, epoch, seq, open } = room;
      if (open && this.#rooms.get(name) === room) this.#moved(name, { epoch, seq });
    }
    const next = from + toldAtOnce;
    if (next < rooms.length) setImmediate(() => this.#tell(rooms, next));
  }

  #subjectOf(name: string): string {
    const { prefix, namespaceOf } = this.#options;
    return outSubject(prefix, namespaceOf(name), tokenOf(name));
  }

  #arrived(room: Room, message: Msg): void {
    const { outbox, arriving } = this.#options;
    if (this.#rooms.get(room.name) !== room) return;
    const envelope = arriving.read(message.data);
    if (envelope === null) return this.#refuse(room, message.data.length);
    const waiting = envelope.number === 0 ? undefined : outbox.take(envelope.number);
    const first = envelope.key === "" ? undefined : this.#firstWith(room, envelope);
    if (first !== undefined) return waiting?.done({ value: { epoch: room.epoch, seq: first, duplicate: true } });
    const prev = room.seq++;
    const { epoch, seq } = room;
    const { sender, time, payload, format, origin } = envelope;
    if (room.open) this.#deliver(room.name, { epoch, seq, prev, sender, time, payload, format, origin });
    waiting?.done({ value: { epoch, seq, duplicate: false, prev } });
  }

  #refuse(room: Room, bytes: number): void {
    this.#options.arriving.refuse(room.name, bytes);
    room.seq++;
    if (room.open) this.#moved(room.name, { epoch: room.epoch, seq: room.seq });
  }

  /** Seq of the first publication with this key, undefined if this is it. */
  #firstWith(room: Room, { key }: Envelope): number | undefined {
    const { keyWindowMs, keysPerRoomMax } = this.#options;
    room.keys ??= new KeyWindow(keyWindowMs, keysPerRoomMax);
    const now = performance.now();
    const first = room.keys.find(key, now);
    if (first === undefined) room.keys.add(key, room.seq + 1, now);
    return first;
  }

  /** One round trip for all rooms that are opened in a turn. */
  #whenSubscribed(then: (failed: boolean) => void): void {
    this.#opened.push(then);
    if (this.#opened.length > 1) return;
    queueMicrotask(() => {
      const opened = this.#opened;
      this.#opened = [];
      this.#options.connection.flush().then(
        () => opened.forEach((each) => each(false)),
        () => opened.forEach((each) => each(true)),
      );
    });
  }
}
