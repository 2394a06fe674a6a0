/**
 * Joins. The first join opens a room at the broker, and all joins that wait are admitted once it is open. A room
 * without members stays open for a while.
 *
 * Rooms of resumed sessions, and of the application, are refused only for lasting reasons. While the reactor lags or the
 * broker is unavailable, they wait.
 */
import type { Broker } from "../broker/broker.ts";
import type { ErrorCode } from "../errors.ts";
import { writeRefused, type JoinRecord } from "../link/records.ts";
import type { Encoder } from "../protocol/formats/encoder.ts";
import { inboxName, nameOfRoom } from "../protocol/roomkeys.ts";
import type { KindOf } from "../config/roomnames.ts";
import type { Inboxes } from "./inboxes.ts";
import { Postponed } from "./postponed.ts";
import type { HubPresence } from "./presence.ts";
import type { Replays } from "./recovery/replays.ts";
import { headOf, type AttachedReactor, type HubRoom, type HubRooms, type RoomListener } from "./rooms.ts";
import type { HubSession } from "./sessions/session.ts";
import { placeIn } from "./sessions/places.ts";
import type { HubSessions } from "./sessions/sessions.ts";

export interface JoinsOptions {
  readonly broker: Broker;
  readonly rooms: HubRooms;
  readonly kindOf: KindOf;
  readonly encoder: Encoder;
  readonly sessions: HubSessions;
  readonly presence: HubPresence;
  readonly inboxes: Inboxes;
  readonly replays: Replays;
  /** A join that had waited failed by a bug of ours. */
  failed(reactor: AttachedReactor, error: unknown): void;
}

/** Retry intervals for rooms of resumed sessions: after the reactor lagged, and after the broker was unavailable. */
const behindPauseMs = 20;
const awayPauseMs = 500;

export class Joins {
  readonly #options: JoinsOptions;
  readonly #postponed = new Postponed(behindPauseMs, (reactor, join) => this.#again(reactor, join));
  readonly #unserved = new Postponed(awayPauseMs, (reactor, join) => this.#again(reactor, join));

  constructor(options: JoinsOptions) {
    this.#options = options;
  }

  join(reactor: AttachedReactor, join: JoinRecord): void {
    const { rooms } = this.#options;
    if (join.ahead && !this.#mayJoin(reactor, join)) return;
    if (reactor.link.congested) {
      // For a join in a room of the application, the reactor has ended the membership that it replaces.
      if (join.restored || join.assigned) return this.#postponed.add(reactor, join);
      return this.#refuse(reactor, join, "overloaded");
    }
    const known = rooms.named(join.room);
    if (known?.open === true) return this.#admit(reactor, known, join);
    if (known !== undefined) {
      known.waiting.push({ reactor, join });
      return;
    }
    const room = this.#create(join.room);
    if (typeof room === "string") return this.#refuse(reactor, join, room);
    room.waiting.push({ reactor, join });
    this.#open(room);
  }

  /**
   * Whether a join that followed its session's hello may go on. It waits while hello is not answered. A session that is
   * refused, or is not brought back into this room, must not leave a member.
   */
  #mayJoin(reactor: AttachedReactor, join: JoinRecord): boolean {
    const session = this.#options.sessions.find(reactor, join.slot, join.life);
    if (session?.state === "arriving") {
      session.ahead = [...session.ahead, join];
      return false;
    }
    const name = nameOfRoom(join.room);
    const may = session?.state === "here" && (!join.restored || placeIn(session.rooms, name) !== undefined);
    // No client sees this answer: the reactor has ended the membership.
    if (!may) this.#refuse(reactor, join, "unavailable");
    else join.assigned = session.assigned.has(name);
    return may;
  }

  /** The session's hello was answered: so are the joins that came with it. */
  answered(session: HubSession): void {
    const { ahead, reactor } = session;
    if (ahead.length === 0) return;
    session.ahead = [];
    for (const join of ahead) this.#again(reactor, join);
  }

  /** Opens the room if it is not, and has the listener follow it. */
  listen(key: string, listener: RoomListener): void {
    const { rooms } = this.#options;
    const known = rooms.named(key);
    const room = known ?? this.#create(key);
    if (typeof room === "string") return listener.refused(room);
    rooms.listen(room, listener);
    if (known === undefined) this.#open(room);
    else if (known.open) listener.opened(headOf(known));
  }

  unlisten(key: string, listener: RoomListener): void {
    const room = this.#options.rooms.named(key);
    if (room !== undefined) this.#options.rooms.unlisten(room, listener);
  }

  /** A new room, or why there can be none. */
  #create(key: string): HubRoom | ErrorCode {
    const { rooms, kindOf } = this.#options;
    const kind = kindOf(nameOfRoom(key));
    if (kind === null) return "unknown_namespace";
    if (rooms.full) this.#forgetEmptiest();
    return rooms.create(key, kind) ?? "overloaded";
  }

  #again(reactor: AttachedReactor, join: JoinRecord): void {
    if (!reactor.live) return;
    try {
      // Its session has lost its socket meanwhile. Of a join that is ahead, join() looks.
      if (!join.ahead && this.#options.sessions.find(reactor, join.slot, join.life)?.state !== "here") return this.#refuse(reactor, join, "unavailable");
      this.join(reactor, join);
    } catch (error) {
      this.#options.failed(reactor, error);
    }
  }

  #open(room: HubRoom): void {
    const { broker, rooms } = this.#options;
    broker.open(room.key, room.kind.retention, (answer) => {
      const waiting = room.waiting.splice(0).filter(({ reactor }) => reactor.live);
      if ("error" in answer) {
        rooms.remove(room);
        for (const { reactor, join } of waiting) {
          if ((join.restored || join.assigned) && answer.error === "unavailable") this.#unserved.add(reactor, join);
          else this.#refuse(reactor, join, answer.error);
        }
        for (const listener of [...(room.listeners ?? [])]) listener.refused(answer.error);
        return;
      }
      rooms.opened(room, answer.value.epoch, answer.value.seq);
      for (const listener of [...(room.listeners ?? [])]) listener.opened(headOf(room));
      for (const { reactor, join } of waiting) this.#admit(reactor, room, join);
    });
  }

  /** Counts the member first: every later delivery is then written behind its `joined`. */
  #admit(reactor: AttachedReactor, room: HubRoom, join: JoinRecord): void {
    const { rooms, sessions, inboxes } = this.#options;
    rooms.count(room, reactor.index, join.wire, 1);
    const session = sessions.find(reactor, join.slot, join.life);
    if (session !== undefined && room.name === inboxName) {
      return inboxes.placeOf(session, room, join, (place) => this.#begin(reactor, session, room, place));
    }
    this.#begin(reactor, session, room, join);
  }

  #begin(reactor: AttachedReactor, session: HubSession | undefined, room: HubRoom, join: JoinRecord): void {
    const { sessions, presence, replays } = this.#options;
    if (session !== undefined) {
      // With a position of another epoch, the member gets everything that is kept.
      const seq = join.epoch === null ? room.seq : join.epoch === room.epoch ? Math.min(join.seq, room.seq) : 0;
      sessions.entered(session, room, seq);
      presence.entered(session, room);
    }
    replays.begin(reactor, room, join);
  }

  #refuse(reactor: AttachedReactor, join: JoinRecord, code: ErrorCode): void {
    if (reactor.live) writeRefused(reactor.link, join.member, this.#options.encoder.error(join.wire, join.id, code));
  }

  /** Closes rooms that have been empty for long. */
  sweep(): void {
    for (const room of this.#options.rooms.expired()) this.#forget(room);
  }

  /** Closes the room that has been empty longest, to make room for another. */
  #forgetEmptiest(): void {
    const room = this.#options.rooms.emptiest();
    if (room !== null) this.#forget(room);
  }

  #forget(room: HubRoom): void {
    const { broker, rooms, presence } = this.#options;
    presence.emptied(room);
    broker.close(room.key);
    rooms.remove(room);
  }

  close(): void {
    this.#postponed.close();
    this.#unserved.close();
  }
}
