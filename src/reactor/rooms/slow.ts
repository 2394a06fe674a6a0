/**
 * Sockets that lag. A full socket misses what is published to its topics. This file finds the first publish it missed.
 * `slowReaders` of the room's namespace decides what follows. Either the session is closed and recovers when its client
 * reconnects. Or the member leaves the topic until its socket has room; then it gets what it missed, or an event that
 * says what.
 *
 * uWS reports the loss in the middle of its own work, when topics must not change. So the session is noted, and handled
 * before the next publish: nothing reaches it behind the gap.
 */
import { noFrame } from "../../protocol/formats/format.ts";
import { formats } from "../../protocol/formats/formats.ts";
import type { Context } from "../context.ts";
import { presenceOffset, type Fanout, type UpTo } from "./fanout.ts";
import { stopDeliveries, tooSlow } from "../outgoing.ts";
import { memberOf, type Member, type ReactorRoom, type Session } from "../session/session.ts";

/** Takes a member out of its room's topic. It has everything up to `upTo`. */
export type Withdraw = (member: Member, upTo: UpTo, skip: boolean) => void;

export class SlowReaders {
  readonly #context: Context;
  readonly #fanout: Fanout;
  readonly #roomOf: (handle: number) => ReactorRoom | undefined;
  readonly #withdraw: Withdraw;
  /** The first publish that each session missed. */
  readonly #missed = new Map<Session, number>();

  /** @param roomOf a room with members on this reactor, by its handle */
  constructor(context: Context, fanout: Fanout, roomOf: (handle: number) => ReactorRoom | undefined, withdraw: Withdraw) {
    this.#context = context;
    this.#fanout = fanout;
    this.#roomOf = roomOf;
    this.#withdraw = withdraw;
  }

  /** uWS did not take a message for this socket, and skips the noted ones behind it. uWS calls this. */
  dropped(session: Session, message: Uint8Array, isBinary: boolean): void {
    this.#context.counters.add("droppedBatches", 1);
    // Our pings have no bytes; heartbeat.ts notices when no answer comes. The pongs that uWS sends by itself arrive
    // here as text with the payload of the client's ping.
    if (session.state !== "ready" || message.length === 0 || isBinary !== formats[session.wire]!.isBinary) return;
    const order = this.#orderOf(session, message);
    if (order === noFrame) return;
    if (order < 0 || !this.#fanout.isExact(order)) tooSlow(this.#context, session);
    this.#note(session, order);
  }

  /** A socket that reports a full queue at once did not take the publish under way. */
  droppedNow(session: Session): void {
    this.#context.counters.add("droppedBatches", 1);
    if (session.state !== "ready") return;
    // A frame that is no publication has no position to go on from.
    if (this.#fanout.current < 0) tooSlow(this.#context, session);
    this.#note(session, this.#fanout.current);
  }

  /** Runs before each publish: sessions that missed something get nothing more of it. */
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
    // Only the few rooms with a publish since then are searched: a session may be in 100,000 rooms.
    const behind = [...this.#fanout.roomsSince(wire, order)].flatMap((handle) => {
      const room = this.#roomOf(handle);
      const member = room === undefined ? null : memberOf(session, room.name);
      if (member === null || member.room !== room || member.state !== "live") return [];
      const upTo = this.#fanout.upToBefore(handle, wire, Math.max(order, member.liveAt));
      return upTo === null ? [] : [{ member, upTo }];
    });
    if (behind.some(({ member: { name } }) => (kindOf(name)?.slowReaders ?? "disconnect") === "disconnect")) {
      tooSlow(this.#context, session);
      return stopDeliveries(session);
    }
    for (const { member, upTo } of behind) this.#withdraw(member, upTo, kindOf(member.name)?.slowReaders === "drop");
  }

  /**
   * -1: the message was for this session alone, or its room was just left. `noFrame`: the node did not make the
   * message.
   */
  #orderOf(session: Session, message: Uint8Array): number | typeof noFrame {
    const first = formats[session.wire]!.firstOf(message);
    if (first === noFrame) return noFrame;
    if (first === null) return -1;
    const room = memberOf(session, first.room)?.room ?? null;
    return room === null ? -1 : this.#fanout.find(room.handle, session.wire + (first.isPresence ? presenceOffset : 0), first.seq);
  }
}
