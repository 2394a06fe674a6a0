/**
 * The rooms of one reactor with their members, and the hub's records about them: joined, page, refused, deliver.
 *
 * All live members in one format are subscribed to one topic. So a delivery (deliveries.ts) is one publish, however
 * many there are.
 *
 * A member whose socket is full is taken out of the topic (slow.ts). From then on it recovers like a member on its way
 * in: it asks the hub for a page whenever its socket has room. The page that reaches the head makes it live again.
 */
import { allows } from "../../auth/grants.ts";
import type { RecordReader } from "../../link/link.ts";
import { kinds, writeAbandon, writeBehind, writeJoin, writeLeave, writeNext, type JoinRecord } from "../../link/records.ts";
import { writeUnplaced } from "../../link/sessions.ts";
import { Arrivals } from "./arrivals.ts";
import { formats } from "../../protocol/formats/formats.ts";
import type { Context } from "../context.ts";
import { Deliveries } from "./deliveries.ts";
import { Fanout, type UpTo } from "./fanout.ts";
import { sendBytes } from "../outgoing.ts";
import { answerBoth, refuseEnded, sendGone, sendLeft } from "./endings.ts";
import { keyOf } from "../names.ts";
import { sendOff } from "../session/directions.ts";
import { SlowReaders } from "./slow.ts";
import { PagesAsked } from "./queuebudget.ts";
import { sendEach } from "./sendeach.ts";
import { addMember, delist, enlist, isAssigned, memberOf, membersOf, removeMember, type Arrival, type Evicted, type Member, type ReactorRoom, type Session } from "../session/session.ts";

/** A replay's next page is requested once fewer bytes than this wait in the socket. */
const replayQueueBytes = 64 * 1024;

/** About the bytes of a page. A page has at least its largest publication. */
const pageBytes = 32 * 1024;
/** Until the hub is asked again for a page that it could not read. */
const unreadMs = 500;

/** A session's request to be in a room, under the session's name for it. */
export interface JoinWanted extends Pick<JoinRecord, "id" | "epoch" | "seq" | "history"> {
  readonly name: string;
  readonly kind: "asked" | "restored" | "assigned";
  /** Hello is not answered yet. */
  readonly ahead?: boolean;
}

export class ReactorRooms {
  readonly #context: Context;
  readonly #rooms = new Map<number, ReactorRoom>();
  readonly #arriving = new Arrivals();
  #lastNumber = 0;
  readonly #pageQueueBytes: number;
  readonly #pages: PagesAsked<Arrival>;

  readonly fanout: Fanout;
  readonly slow: SlowReaders;
  readonly deliveries: Deliveries;

  constructor(context: Context) {
    this.#context = context;
    this.#pageQueueBytes = Math.min(replayQueueBytes, context.config.socketQueueBytesMax / 2);
    this.#pages = new PagesAsked(context.queueBudget.pagesMax(Math.max(pageBytes, context.config.frameBytesMax)), (arrival) => {
      const asks = this.#hasRoom(arrival.member.session);
      if (asks) writeNext(context.link, arrival.number);
      else this.#arriving.hold(arrival);
      return asks;
    });
    this.fanout = new Fanout(context.audiences, context.compressFrom, () => this.slow.settle(), {
      takes: (bytes) => context.queueBudget.takes(bytes),
      relieve: () => context.queueBudget.relieve(),
      turn: () => context.queueBudget.turn(),
      sendEach: (...message) => sendEach(context, this.slow, ...message),
    });
    this.slow = new SlowReaders(context, this.fanout, (handle) => this.#rooms.get(handle), (member, upTo, skip) => this.#withdraw(member, upTo, skip));
    this.deliveries = new Deliveries(context, this.fanout, this.#rooms);
  }

  // ------------------------------------------------------------------------------- from sessions

  /** Asks the hub to let the session in. False: the hub is too far behind. */
  join(session: Session, { id, name, epoch, seq, history, kind, ahead = false }: JoinWanted): boolean {
    const number = this.#nextNumber();
    const { slot, life, wire } = session;
    const room = keyOf(session, name);
    const assigned = isAssigned(session, name);
    if (!writeJoin(this.#context.link, { member: number, slot, life, id, wire, room, epoch, seq, history, restored: kind !== "asked", assigned, ahead })) return false;
    const mayPublish = allows(session.grant!, "publish", name);
    const seesPresence = this.#maySeePresence(session, name);
    const member: Member = { name, session, state: "joining", room: null, mayPublish, seesPresence, liveAt: 0, arrival: null, next: null, before: null, after: null };
    this.#arrive({ member, number, kind, id, seq: 0, era: 0, ended: null, leaveId: 0 });
    addMember(session, member);
    return true;
  }

  /** The client leaves the room. */
  leave(session: Session, member: Member, id: number): void {
    const { state, arrival } = member;
    if (state === "joining") arrival!.leaveId = id;
    this.#end(session, member, "left");
    if (state !== "joining") sendLeft(this.#context, member, id);
  }

  /** The node takes the member out: the session may not be in the room any more. */
  evict(session: Session, member: Member, reason: Evicted): void {
    const { state } = member;
    this.#end(session, member, reason);
    if (state !== "joining") sendGone(this.#context, session, member.name, reason);
  }

  /** The join of a member that went ahead is refused: the session may be in no more rooms. */
  refuseAhead(session: Session, member: Member): void {
    this.#end(session, member, "full");
  }

  /** The session is not brought back into the room of a member that went ahead. The client does not know of it. */
  forgetAhead(session: Session, member: Member): void {
    removeMember(session, member);
    this.#drop(member, true);
  }

  #end(session: Session, member: Member, ended: "left" | "full" | Evicted): void {
    const { state, arrival } = member;
    this.deliveries.handOver(member);
    removeMember(session, member);
    if (state === "joining") arrival!.ended = ended;
    if (state === "live") {
      session.socket?.unsubscribe(member.room!.topics[session.wire]!);
      if (member.seesPresence) session.socket?.unsubscribe(member.room!.presenceTopics[session.wire]!);
    }
    this.#drop(member, false);
  }

  /** Call this when the session's socket is gone. uWS has ended its subscriptions. */
  leaveAll(session: Session): void {
    for (const member of membersOf(session)) this.#drop(member, true);
    session.members = null;
  }

  /** The session's socket has room again: replays that waited for it go on. */
  drained(session: Session): void {
    if (session.members === null || !this.#hasRoom(session)) return;
    for (const arrival of this.#arriving.release(session)) this.#pages.ask(arrival);
  }

  /** Whether the session is on its way into a room, or back into one. */
  isArriving(session: Session): boolean {
    return this.#arriving.has(session);
  }

  #hasRoom({ socket }: Session): boolean {
    return socket !== null && socket.getBufferedAmount() <= this.#pageQueueBytes;
  }

  // ------------------------------------------------------------------------------- from the hub

  /** False: not in this turn of the loop. */
  onRecord(kind: number, record: RecordReader): boolean | void {
    if (kind === kinds.deliver) return this.deliveries.onRecord(record);
    if (kind === kinds.moved) return this.deliveries.onMoved(record);
    if (kind === kinds.reply) return this.#onReply(record);
    // Any other record must not overtake a delivery.
    this.deliveries.flush();
    switch (kind) {
      case kinds.joined: return this.#onJoined(record);
      case kinds.page: return this.#onPage(record);
      case kinds.refused: return this.#onRefused(record);
      case kinds.presenceChanged: return this.#onPresenceChanged(record);
      default: throw new Error(`unknown record ${kind}`);
    }
  }

  #onReply(record: RecordReader): void {
    const session = this.#context.sessions.find(record.u32(), record.u32());
    if (session === null) return;
    // A refused ack: it does not count among the unanswered.
    if (record.u8() === 0) session.unanswered++;
    this.deliveries.flushBefore(session);
    sendBytes(this.#context, session, record.blob());
  }

  /**
   * Waiting publications are published before a new member becomes live. True: that exceeds the limit of this turn of
   * the loop.
   */
  #mustWait(room: ReactorRoom | null | undefined, wire: number): boolean {
    return room != null && !this.deliveries.mayFlush(room, wire);
  }

  #onJoined(record: RecordReader): boolean | void {
    const number = record.u32();
    const handle = record.u32();
    const live = record.u8() !== 0;
    const upTo = { seq: record.f64(), era: record.u32() };
    const arrival = this.#arriving.get(number);
    if (arrival === undefined) throw new Error(`joined: unknown member ${number}`);
    const { member } = arrival;
    const { wire } = member.session;
    this.#context.together.leaveUnless(member.session);
    if (live && this.#mustWait(this.#rooms.get(handle), wire)) return false;
    if (member.state === "gone") {
      // The member left before the answer came, but the hub has counted it.
      this.#arrived(arrival);
      if (!live) writeAbandon(this.#context.link, number);
      const { slot, life } = member.session;
      // When the session has joined again meanwhile, the place that the hub keeps belongs to the new member.
      const isBack = memberOf(member.session, member.name) !== null;
      writeLeave(this.#context.link, { slot, life, handle, wire, lost: arrival.ended === null || isBack });
      return answerBoth(this.#context, arrival, record.blob());
    }
    member.room = this.#roomOf(handle, member.name, member.session);
    member.name = member.room.name;
    member.room.joined[wire]!++;
    member.room.eras[wire] = upTo.era;
    this.#context.counters.add("members", 1);
    member.state = "replaying";
    this.#continue(arrival, live, upTo, record.blob());
  }

  #onPage(record: RecordReader): boolean | void {
    const arrival = this.#arriving.get(record.u32());
    const live = record.u8() !== 0;
    const upTo = { seq: record.f64(), era: record.u32() };
    if (arrival === undefined) return;
    const { session, name, room } = arrival.member;
    if (live && this.#mustWait(room, session.wire)) return false;
    this.#pages.done(arrival);
    if (this.#isFull(session)) return this.#wait(arrival, this.#context.kindOf(name)?.slowReaders === "drop");
    this.#continue(arrival, live, upTo, record.blob());
  }

  #askAgain(arrival: Arrival): void {
    if (this.#arriving.get(arrival.number) !== arrival) return;
    if (this.#hasRoom(arrival.member.session)) this.#pages.ask(arrival);
    else this.#arriving.hold(arrival);
  }

  /** Sends a page, and makes the member live or asks for more. Sending may end the session. */
  #continue(arrival: Arrival, live: boolean, { seq, era }: UpTo, frame: Uint8Array): void {
    const { member } = arrival;
    const { session } = member;
    arrival.seq = seq;
    arrival.era = era;
    // What is in the frame comes from an inbox that another node may deliver by now.
    if (!this.#context.holdings.allows(member.room!.partition)) return sendOff(this.#context, session);
    if (live) {
      // The frame already contains the waiting publications.
      this.deliveries.flushRoom(member.room!, session.wire);
      // First the frame, then the topic: later publications of the room then follow the frame.
      sendBytes(this.#context, session, frame);
      if (member.state !== "replaying" || session.state !== "ready" || session.socket === null) return;
      this.#arrived(arrival);
      member.state = "live";
      member.liveAt = this.fanout.order;
      enlist(member);
      session.socket.subscribe(member.room!.topics[session.wire]!);
      if (member.seesPresence) this.#showPresence(member);
      return;
    }
    // The hub could not read the page.
    if (frame.length === 0) return void setTimeout(() => this.#askAgain(arrival), unreadMs).unref();
    sendBytes(this.#context, session, frame);
    // Whether the socket has room for the next page is asked below.
    this.#context.together.leave();
    if (session.state !== "ready" || session.socket === null) return;
    if (this.#hasRoom(session)) this.#pages.ask(arrival);
    else this.#arriving.hold(arrival);
  }

  /**
   * Takes a live member out of its room's topic. It has everything up to `seq` of `era`. `skip`: it only learns what it
   * missed.
   */
  #withdraw(member: Member, { seq, era }: UpTo, skip: boolean): void {
    const { session, room } = member;
    const { wire } = session;
    session.socket!.unsubscribe(room!.topics[wire]!);
    this.#unlive(member);
    if (member.seesPresence) this.#hidePresence(member);
    member.state = "replaying";
    this.#context.counters.add(skip ? "slowSkips" : "slowCatchUps", 1);
    const arrival: Arrival = { member, number: this.#nextNumber(), kind: "behind", id: 0, seq, era, ended: null, leaveId: 0 };
    this.#arrive(arrival);
    this.#wait(arrival, skip);
  }

  #nextNumber(): number {
    return (this.#lastNumber = (this.#lastNumber + 1) >>> 0);
  }

  #arrive(arrival: Arrival): void {
    arrival.member.arrival = arrival;
    this.#arriving.add(arrival);
    if (arrival.kind === "behind") this.#context.counters.add("behind", 1);
  }

  #arrived(arrival: Arrival): void {
    arrival.member.arrival = null;
    this.#pages.done(arrival);
    this.#arriving.remove(arrival);
    if (arrival.kind === "behind") this.#context.counters.add("behind", -1);
  }

  /** The member gets nothing until its socket has room again. */
  #wait(arrival: Arrival, skip: boolean): void {
    const { number, seq, era, member: { session, room } } = arrival;
    writeBehind(this.#context.link, { member: number, handle: room!.handle, seq, era, wire: session.wire, skip });
    if (this.#hasRoom(session)) this.#pages.ask(arrival);
    else this.#arriving.hold(arrival);
  }

  /** Whether the socket takes nothing more, not even a page that was requested when it had room. */
  #isFull({ socket }: Session): boolean {
    return socket !== null && socket.getBufferedAmount() > this.#context.config.socketQueueBytesMax;
  }

  #onRefused(record: RecordReader): void {
    const arrival = this.#arriving.get(record.u32());
    if (arrival === undefined) return;
    this.#arrived(arrival);
    const { member } = arrival;
    if (member.state === "gone") return refuseEnded(this.#context, arrival, record.blob());
    const { session, name } = member;
    member.state = "gone";
    removeMember(session, member);
    // Its hello was refused, and the join that came with it therefore, too.
    if (session.state !== "ready") return;
    writeUnplaced(this.#context.link, session.slot, session.life, name);
    // The client has not heard of the room.
    if (arrival.kind === "assigned") return;
    this.#context.counters.add("errorReplies", 1);
    sendBytes(this.#context, session, record.blob());
    if (arrival.kind === "restored") sendGone(this.#context, session, name, "");
  }

  /** A presence change. A room has at most one a second, so it is not packed with deliveries. */
  #onPresenceChanged(record: RecordReader): boolean | void {
    const room = this.#rooms.get(record.u32());
    const wire = record.u8();
    const version = record.f64();
    const frame = record.blob();
    if (room === undefined || room.presence[wire]! === 0) return;
    if (!this.fanout.mayPublish(frame.length, 0)) return false;
    this.#context.counters.add("framesOut", room.presence[wire]!);
    this.#context.counters.add("bytesOut", room.presence[wire]! * frame.length);
    this.fanout.tell(room, wire, frame, version);
  }

  #showPresence({ session, room }: Member): void {
    const { wire } = session;
    room!.presence[wire]!++;
    session.socket?.subscribe(room!.presenceTopics[wire]!);
  }

  #hidePresence({ session, room }: Member): void {
    const { wire } = session;
    room!.presence[wire]!--;
    session.socket?.unsubscribe(room!.presenceTopics[wire]!);
  }

  /** Updates whether a member gets presence changes, after its session's grant has changed. */
  setPresence(member: Member): void {
    const { seesPresence: saw, session, room } = member;
    member.seesPresence = this.#maySeePresence(session, member.name);
    if (member.seesPresence === saw || member.state !== "live" || room === null) return;
    if (member.seesPresence) this.#showPresence(member);
    else this.#hidePresence(member);
  }

  #maySeePresence(session: Session, name: string): boolean {
    return this.#context.kindOf(name)?.presenceEvents === true && allows(session.grant!, "presence", name);
  }

  // -------------------------------------------------------------------------------------- rooms

  /** Takes a member out of its room and tells the hub. `lost`: because its socket is gone. */
  #drop(member: Member, lost: boolean): void {
    const { state, room, session, arrival } = member;
    member.state = "gone";
    if (room === null) return; // still joining: the hub's answer will find its state
    const { slot, life, wire } = session;
    if (arrival !== null) {
      this.#arrived(arrival);
      writeAbandon(this.#context.link, arrival.number);
    }
    if (state === "live") this.#unlive(member);
    if (state === "live" && member.seesPresence) room.presence[wire]!--;
    room.joined[wire]!--;
    this.#context.counters.add("members", -1);
    writeLeave(this.#context.link, { slot, life, handle: room.handle, wire, lost });
    if (room.joined.every((count) => count === 0)) {
      this.#rooms.delete(room.handle);
      this.#context.counters.set("rooms", this.#rooms.size);
    }
  }

  #unlive(member: Member): void {
    delist(member);
    this.deliveries.left(member.room!, member.session.wire);
  }

  #roomOf(handle: number, name: string, { grant }: Session): ReactorRoom {
    const known = this.#rooms.get(handle);
    if (known !== undefined) return known;
    const { flushMs = 0 } = this.#context.kindOf(name) ?? {};
    const room: ReactorRoom = {
      name,
      handle,
      partition: this.#context.holdings.partitionOf(grant!, name),
      joined: formats.map(() => 0),
      live: formats.map(() => 0),
      firsts: formats.map(() => null),
      eras: formats.map(() => 0),
      topics: formats.map((_, wire) => `${wire}:${handle}`),
      presence: formats.map(() => 0),
      presenceTopics: formats.map((_, wire) => `p${wire}:${handle}`),
      flushMs,
      windows: formats.map(() => null),
    };
    this.#rooms.set(handle, room);
    return room;
  }
}
