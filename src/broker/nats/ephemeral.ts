/**
 * Ephemeral rooms over plain NATS. Nodes share no order: each node numbers what arrives, in an epoch of its own, for as
 * long as it has the room open.
 */
import type { Msg } from "nats";
import type { ErrorCode } from "../../errors.ts";
import { randomId } from "../../platform/ids.ts";
import type { Broker, Deliver, Moved, Position } from "../broker.ts";
import { KeyWindow } from "../keys.ts";
import type { Arriving } from "./wire/arriving.ts";
import type { Envelope } from "./wire/envelope.ts";
import type { Heard, Listening } from "./listening.ts";
import { outSubject, tokenOf } from "./wire/names.ts";
import type { Outbox } from "./outbox.ts";

export interface EphemeralOptions {
  readonly listening: Listening;
  readonly outbox: Outbox;
  readonly arriving: Arriving;
  readonly prefix: string;
  readonly namespaceOf: (room: string) => string;
  readonly keyWindowMs: number;
  readonly keysPerRoomMax: number;
  readonly roomsMax: number;
}

interface Room {
  readonly name: string;
  readonly subject: string;
  readonly heard: Heard;
  readonly epoch: string;
  /** Whether the server has this node's subscription. Messages before that have no receiver here. */
  open: boolean;
  seq: number;
  /** Keys seen on this node, of any publisher. */
  keys: KeyWindow | null;
}

/** Rooms whose members hear of a loss in one turn of the event loop. */
const toldAtOnce = 1_000;

const nowhere: Position = { epoch: "", seq: 0 };

export class EphemeralRooms implements Pick<Broker, "open" | "close" | "publish" | "history"> {
  readonly #options: EphemeralOptions;
  readonly #deliver: Deliver;
  readonly #moved: Moved;
  readonly #rooms = new Map<string, Room>();

  constructor(options: EphemeralOptions, deliver: Deliver, moved: Moved) {
    this.#options = options;
    this.#deliver = deliver;
    this.#moved = moved;
  }

  get size(): number {
    return this.#rooms.size;
  }

  open: Broker["open"] = (name, _retention, done) => {
    const { listening, roomsMax } = this.#options;
    if (this.#rooms.size >= roomsMax) return done({ error: "overloaded" });
    const subject = this.#subjectOf(name);
    // An opened room may lead to a publish by others, so the server must have the subscription by then.
    const settled = (refused: ErrorCode | null) => {
      const isHere = this.#rooms.get(name) === room;
      if (refused !== null && isHere) this.close(name);
      if (refused !== null || !isHere) return done({ error: refused ?? "unavailable" });
      room.open = true;
      done({ value: { epoch: room.epoch, seq: room.seq } });
    };
    const heard = listening.listen({ room: name, subject, message: (message) => this.#arrived(room, message), settled, regained: () => this.#missed([room]) });
    const room: Room = { name, subject, heard, epoch: randomId(6), open: false, seq: 0, keys: null };
    this.#rooms.set(name, room);
  };

  close: Broker["close"] = (name) => {
    const room = this.#rooms.get(name);
    if (room === undefined) return;
    this.#rooms.delete(name);
    room.heard.stop();
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
    // No copy would come back to a room without a subscription.
    if (room.heard.isLost) return done({ error: "unavailable" });
    outbox.publish("copy", name, room.subject, draft, done);
  };

  /** No history is stored: nothing is missing only if nothing was published. */
  history: Broker["history"] = (name, _retention, query, done) => {
    const room = this.#rooms.get(name);
    const { epoch, seq } = room ?? nowhere;
    const { position, direction } = query;
    const isHere = room !== undefined && position.epoch === epoch && (direction === "since" ? position.seq === seq : position.seq <= seq);
    if (direction !== "newest" && !isHere) return done({ error: "unrecoverable_position" });
    done({ value: { publications: [], position: { epoch, seq }, more: false } });
  };

  /**
   * Messages may have been lost, and nobody knows how many: the next publication does not follow the last. Members hear
   * of it at once, since the next publication may be far off.
   */
  interrupted(): void {
    this.#missed([...this.#rooms.values()]);
  }

  #missed(rooms: readonly Room[]): void {
    for (const room of rooms) room.seq++;
    this.#tell(rooms, 0);
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

  /** Seq of the first publication with this key; undefined if this is the first. */
  #firstWith(room: Room, { key }: Envelope): number | undefined {
    const { keyWindowMs, keysPerRoomMax } = this.#options;
    room.keys ??= new KeyWindow(keyWindowMs, keysPerRoomMax);
    const now = performance.now();
    const first = room.keys.find(key, now);
    if (first === undefined) room.keys.add(key, room.seq + 1, now);
    return first;
  }
}
