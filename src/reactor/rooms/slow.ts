/**
 * Sockets that do not keep up. What a room's members get by its topic a full socket misses; here it is found out from
 * where on, and what becomes of it is decided by the room's namespace (`slowReaders`): the session is closed and
 * recovers when it comes back, or it is taken out of the topic until there is room again and is then given what it
 * missed, or told of it.
 *
 * uWS tells of it in the middle of its own work, when topics must not be touched. The session is noted, and dealt with
 * before anything else is published: so nothing reaches it behind the gap.
 */
import { noFrame } from "../../protocol/formats/format.ts";
import { formats } from "../../protocol/formats/formats.ts";
import type { Context } from "../context.ts";
import { presenceOffset, type Fanout, type Place } from "./fanout.ts";
import { stopDeliveries, tooSlow } from "../outgoing.ts";
import { memberOf, type Member, type ReactorRoom, type Session } from "../session/session.ts";

/** A session is to be taken out of the room's topic: it has everything up to this place. */
export type Withdraw = (member: Member, place: Place, skip: boolean) => void;

export class SlowReaders {
  readonly #context: Context;
  readonly #fanout: Fanout;
  readonly #roomOf: (handle: number) => ReactorRoom | undefined;
  readonly #withdraw: Withdraw;
  /** The first publish that a session missed. */
  readonly #missed = new Map<Session, number>();

  /** @param roomOf a room with members on this reactor, by its handle */
  constructor(context: Context, fanout: Fanout, roomOf: (handle: number) => ReactorRoom | undefined, withdraw: Withdraw) {
    this.#context = context;
    this.#fanout = fanout;
    this.#roomOf = roomOf;
    this.#withdraw = withdraw;
  }

  /** uWS did not take a message for this socket, and skips what was noted behind it. Called inside uWS. */
  dropped(session: Session, message: Uint8Array, isBinary: boolean): void {
    this.#context.counters.add("droppedBatches", 1);
    // Our pings have no bytes; heartbeat.ts sees that nothing comes back. Pongs, which uWS sends by itself, come as text
    // with whatever the client put into its ping.
    if (session.state !== "ready" || message.length === 0 || isBinary !== formats[session.wire]!.isBinary) return;
    const order = this.#orderOf(session, message);
    if (order === noFrame) return;
    if (order < 0 || !this.#fanout.isExact(order)) tooSlow(this.#context, session);
    this.#note(session, order);
  }

  /** A socket that knows at once did not take what is being published. */
  droppedNow(session: Session): void {
    this.#context.counters.add("droppedBatches", 1);
    if (session.state !== "ready") return;
    // What is no publication has no place to go on from.
    if (this.#fanout.current < 0) tooSlow(this.#context, session);
    this.#note(session, this.#fanout.current);
  }

  /** Before anything is published: sessions that missed something get no more of it. */
  settle = (): void => {
    if (this.#missed.size === 0) return;
    for (const [session, order] of this.#missed) this.#settleOne(session, order);
    this.#missed.clear();
  };

  #note(session: Session, order: number): void {
    const before = this.#missed.get(session);
    if (before === undefined) {
      if (this.#missed.size === 0) setImmediate(this.settle);
      this.#missed.set(session, order);
    } else if (order < before) {
      this.#missed.set(session, order);
    }
  }

  #settleOne(session: Session, order: number): void {
    if (session.state === "closing") return stopDeliveries(session);
    if (session.state !== "ready" || session.socket === null) return;
    const { kindOf } = this.#context;
    const { wire } = session;
    // By what was published since, which is little: a session may be in 100,000 rooms.
    const behind = [...this.#fanout.roomsSince(wire, order)].flatMap((handle) => {
      const room = this.#roomOf(handle);
      const member = room === undefined ? null : memberOf(session, room.name);
      if (member === null || member.room !== room || member.state !== "live") return [];
      const place = this.#fanout.placeBefore(handle, wire, Math.max(order, member.liveAt));
      return place === null ? [] : [{ member, place }];
    });
    if (behind.some(({ member: { name } }) => (kindOf(name)?.slowReaders ?? "disconnect") === "disconnect")) {
      tooSlow(this.#context, session);
      return stopDeliveries(session);
    }
    for (const { member, place } of behind) this.#withdraw(member, place, kindOf(member.name)?.slowReaders === "drop");
  }

  /** -1: it was for this session alone, or is of a room that it has just left. `noFrame`: nothing of ours. */
  #orderOf(session: Session, message: Uint8Array): number | typeof noFrame {
    const first = formats[session.wire]!.firstOf(message);
    if (first === noFrame) return noFrame;
    if (first === null) return -1;
    const room = memberOf(session, first.room)?.room ?? null;
    return room === null ? -1 : this.#fanout.find(room.handle, session.wire + (first.isPresence ? presenceOffset : 0), first.seq);
  }
}
