/**
 * The hub gives every room its order. It runs in the main thread, and only it talks to the broker. It tells each
 * reactor everything about a room through one ring, first in first out. So "here is your history up to 41" and "live:
 * 42" can never be swapped. Ordered delivery, gapless joins and recovery need nothing else.
 */
import type { Answer, Broker, Draft, Page, Position, Published, Stored } from "../broker/broker.ts";
import type { ErrorCode } from "../errors.ts";
import { now } from "../link/clock.ts";
import type { RecordReader } from "../link/link.ts";
import { nobody, writeDeliver } from "../link/publications.ts";
import {
  kinds, readBehind, readHistory, readJoin, readLeave, writeClaim, writeMoved, writeReply,
  type Asker, type BehindRecord, type LeaveRecord,
} from "../link/records.ts";
import { readAck, readHello, readUnplaced, writeKick, type AckRecord } from "../link/sessions.ts";
import { readPresence, readWatch, type PresenceRecord, type WatchRecord } from "../link/presence.ts";
import type { Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";
import { nameOfRoom, roomKey, tenantOfUser } from "../protocol/roomkeys.ts";
import type { KindOf, RoomKind } from "../config/roomnames.ts";
import type { NodeMessage } from "../messages/messages.ts";
import type { Sessions as SessionStore } from "../sessions/sessions.ts";
import type { Encoder } from "../protocol/formats/encoder.ts";
import { formatCount } from "../protocol/formats/formats.ts";
import type { EncodedPublication } from "../protocol/formats/format.ts";
import type { Presence as PresenceStore } from "../presence/presence.ts";
import { LateDisconnects } from "./sessions/disconnects.ts";
import { answerHistory, readHistoryPage, type HistoryQuery } from "./recovery/history.ts";
import { Inboxes, type InboxLimits } from "./inboxes.ts";
import { Joins } from "./joins.ts";
import { Lagging } from "./recovery/lagging.ts";
import { LeftOut, nobodyIsOut } from "./leftout.ts";
import { HubPresence } from "./presence.ts";
import { Publishing } from "./publishing.ts";
import { Replays } from "./recovery/replays.ts";
import { TailEncoder } from "./recovery/tailencoder.ts";
import { countIn, type AttachedReactor, type HubRoom, type HubRooms } from "./rooms.ts";
import type { HubSession } from "./sessions/session.ts";
import { HubSessions } from "./sessions/sessions.ts";

export interface HubOptions extends InboxLimits {
  readonly broker: Broker;
  readonly store: SessionStore;
  readonly presence: PresenceStore;
  readonly watchedPerSessionMax: number;
  readonly rooms: HubRooms;
  readonly node: string;
  readonly toNode: (node: string, message: NodeMessage) => void;
  readonly sessionsPerUserMax: number;
  readonly roomNamesBytesMax: number;
  isRoomName(name: string): boolean;
  /** The user was signed out, here or on another node. */
  onSignedOut?(userKey: string): void;
  /** Interval of renewing stored sessions: well within their TTL. */
  readonly keepMs: number;
  readonly kindOf: KindOf;
  readonly pageBytesMax: number;
  readonly encoder: Encoder;
  readonly log: Logger;
  /** True: nothing more is stored or delivered than was already accepted. */
  outOfMemory?(): boolean;
}

const sweepMs = 5_000;
/** Sessions are renewed in so many short steps, so that none delays publishes noticeably. */
const keepParts = 64;

export class Hub {
  /** Publications delivered to this node, commands refused here, and commands that failed by a bug of ours. */
  publications = 0;
  refusals = 0;
  failures = 0;

  readonly #options: HubOptions;
  readonly #rooms: HubRooms;
  readonly #reactors: (AttachedReactor | null)[] = [];
  /** By index: the number of the reactor that has it now. Numbers are never used again. */
  readonly #numbers: number[] = [];
  #lastNumber = 0;
  readonly #lagging: Lagging;
  readonly #replays: Replays;
  readonly #sweeper = setInterval(() => this.#sweep(), sweepMs).unref();
  readonly #keeper: NodeJS.Timeout;
  readonly sessions: HubSessions;
  readonly lateDisconnects: LateDisconnects;
  readonly #unassigned = new Sparse();
  readonly #inboxes: Inboxes;
  readonly #publishing: Publishing;
  readonly #leftOut: LeftOut;
  /** By partition of the users, where each has one holder: the claim that this node holds it under. */
  readonly #claims = new Map<number, number>();
  readonly joins: Joins;
  readonly presence: HubPresence;
  readonly #tails: TailEncoder;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#tails = new TailEncoder(options.encoder.binary);
    this.#rooms = options.rooms;
    this.#lagging = new Lagging({ ...options, failed: (reactor, error) => this.#failed(reactor, kinds.deliver, error) });
    this.#replays = new Replays(options, this.#lagging);
    const { store, node, toNode, sessionsPerUserMax, roomNamesBytesMax, isRoomName, keepMs } = options;
    const refuse = (reactor: AttachedReactor, asker: Asker, code: ErrorCode) => this.#refuse(reactor, asker, code);
    this.presence = new HubPresence({ ...options, store: options.presence, reactors: this.#reactors, refuse });
    const onBegin = (session: HubSession) => this.presence.began(session);
    const onEnd = (session: HubSession, isOver: boolean) => this.presence.ended(session, isOver);
    const onSignedOut = (user: string) => options.onSignedOut?.(user);
    const onRemoved = (session: HubSession, room: string) => this.#onRemoved(session, room);
    this.sessions = new HubSessions({ store, node, toNode, sessionsPerUserMax, roomNamesBytesMax, isRoomName, onBegin, onEnd, onAnswered: (session) => this.joins.answered(session), onAllEnded: (user) => this.presence.closed(user), onRemoved, onSignedOut });
    this.lateDisconnects = new LateDisconnects(this.sessions);
    this.#inboxes = new Inboxes({ ...options, sessions: this.sessions });
    this.joins = new Joins({
      ...options, sessions: this.sessions, presence: this.presence, inboxes: this.#inboxes, replays: this.#replays,
      failed: (reactor, error) => this.#failed(reactor, kinds.join, error),
    });
    const { sessions } = this;
    this.#leftOut = new LeftOut({ sessions, numbers: this.#numbers, encoder: options.encoder });
    this.#publishing = new Publishing({ ...options, sessions, inboxes: this.#inboxes, reactors: this.#reactors, leftOut: this.#leftOut, refuse });
    this.#keeper = setInterval(() => this.sessions.keep(keepParts), keepMs / keepParts).unref();
  }

  attach(reactor: AttachedReactor): void {
    this.#reactors[reactor.index] = reactor;
    this.#numbers[reactor.index] = ++this.#lastNumber;
    for (const [partition, claim] of this.#claims) writeClaim(reactor.link, partition, claim);
  }

  /** This node holds a partition of the users under this claim. 0: not any more. */
  hold(partition: number, claim: number): void {
    if (claim === 0) return void this.#claims.delete(partition);
    this.#claims.set(partition, claim);
    for (const reactor of this.#reactors) if (reactor != null) writeClaim(reactor.link, partition, claim);
  }

  /** A reactor is gone, and every session it had. */
  detach(reactor: AttachedReactor): void {
    reactor.live = false;
    this.#reactors[reactor.index] = null;
    this.#lagging.forgetReactor(reactor);
    this.#replays.forgetReactor(reactor);
    this.#rooms.forgetReactor(reactor.index);
    this.sessions.forgetReactor(reactor);
  }

  /** The reactor's overflow queue is empty: all of it is in the ring. */
  onRoom(reactor: AttachedReactor): void {
    this.#lagging.goOn(reactor);
  }

  /** Handles one record from a reactor. A bug that a record triggers costs only this record. */
  onRecord(reactor: AttachedReactor, kind: number, record: RecordReader): void {
    try {
      this.#dispatch(reactor, kind, record);
    } catch (error) {
      this.#failed(reactor, kind, error);
    }
  }

  #failed({ index }: AttachedReactor, kind: number, error: unknown): void {
    this.failures++;
    this.#options.log.error({ err: error, kind, reactor: index }, "hub: handling a record failed, the record is skipped: report this as a bug");
  }

  #dispatch(reactor: AttachedReactor, kind: number, record: RecordReader): void {
    switch (kind) {
      case kinds.publish: return this.#publishing.onRecord(reactor, record);
      case kinds.join: return this.joins.join(reactor, readJoin(record));
      case kinds.leave: return this.#onLeave(reactor, readLeave(record));
      case kinds.next: return this.#replays.next(reactor, record.u32());
      case kinds.behind: return this.#onBehind(reactor, readBehind(record));
      case kinds.abandon: return this.#replays.abandon(reactor, record.u32());
      case kinds.hello: return this.sessions.hello(reactor, readHello(record));
      case kinds.gone: return this.sessions.gone(reactor, record.u32(), record.u32(), record.u8() !== 0);
      case kinds.ack: return this.#onAck(reactor, readAck(record));
      case kinds.unplaced: return this.#onUnplaced(reactor, readUnplaced(record));
      case kinds.presence: return this.#onPresence(reactor, readPresence(record));
      case kinds.watch: return this.#onWatch(reactor, readWatch(record));
      case kinds.history: {
        const query = readHistory(record);
        const room = this.#rooms.named(query.room);
        if (room === undefined) return this.#refuse(reactor, query, "not_joined");
        if (reactor.link.congested) return this.#refuse(reactor, query, "overloaded");
        // Its join waits for the broker: the room has neither epoch nor head yet, and would look empty.
        if (!room.open) return this.#refuse(reactor, query, "unavailable");
        return answerHistory(this.#options, reactor, room, query);
      }
      default: throw new Error(`unknown record ${kind}`);
    }
  }

  // ------------------------------------------------------------------------------------ publications

  /**
   * Publishes for the node itself, not for a session, into any room by its key. `draft.payload` is valid only until
   * this returns.
   */
  publish(key: string, draft: Draft, done: (answer: Answer<Published>) => void): void {
    this.#publishing.publish(key, draft, done);
  }

  /** Reads a page for the node itself. The room need not be open. What is in the page is valid until `done` returns. */
  history(key: string, query: HistoryQuery, done: (answer: Answer<Page>) => void): void {
    const kind = this.kindOf(key);
    if (kind === null) return done({ error: "unknown_namespace" });
    readHistoryPage(this.#options, { key, kind, room: this.#rooms.named(key) }, query, done);
  }

  /** The kind of a room by its key; null: no namespace covers its name. */
  kindOf(key: string): RoomKind | null {
    return this.#rooms.named(key)?.kind ?? this.#options.kindOf(nameOfRoom(key));
  }

  /** Called by the broker for each delivery: encodes once, writes once per reactor and format. */
  deliver(key: string, stored: Stored): void {
    const room = this.#rooms.named(key);
    if (room === undefined) return;
    const { seq: before, era: eraBefore } = room;
    this.publications++;
    // A publication before it is missing, so the tail is incomplete.
    if (stored.prev !== room.seq || stored.epoch !== room.epoch) room.tail.clear(stored.prev);
    this.#enter(room, stored.epoch);
    room.seq = stored.seq;
    const at = now();
    room.publishedAt = at;
    const encoded = this.#tails.encode(room, stored);
    if (room.members > 0) this.#write(room, stored, encoded, at, before, eraBefore);
    // Last: what they do may publish, and the record of the encoded publication is used again.
    if (room.listeners !== null) for (const listener of room.listeners) listener.delivered(stored);
  }

  #write(room: HubRoom, stored: Stored, encoded: EncodedPublication, at: number, before: number, eraBefore: number): void {
    const out = stored.origin === "" ? nobodyIsOut : this.#leftOut.find(room, stored.origin);
    for (let wire = 0; wire < formatCount; wire++) {
      for (const reactor of this.#reactors) {
        if (reactor == null || countIn(room, reactor.index, wire) === 0) continue;
        if (this.#lagging.skips(reactor, room, wire, before, eraBefore)) continue;
        const slot = this.#numbers[reactor.index] === out.reactor ? out.slot : nobody;
        writeDeliver(reactor.link, room.handle, wire, slot, out.life, at, stored.seq, stored.prev, encoded);
      }
    }
    if (out.session !== null) this.#leftOut.tell(out.session, room, stored);
  }

  /** A position of another epoch cannot be compared with this one's, so a new epoch begins an era. */
  #enter(room: HubRoom, epoch: string): void {
    if (room.epoch === epoch) return;
    room.epoch = epoch;
    room.era++;
  }

  /** Called by the broker when a room's stream was replaced by another: members learn of the gap. */
  moved(key: string, { epoch, seq }: Position): void {
    const room = this.#rooms.named(key);
    if (room === undefined) return;
    const { seq: prev, era: eraBefore } = room;
    this.#enter(room, epoch);
    room.seq = seq;
    room.tail.clear(seq);
    if (room.listeners !== null) for (const listener of room.listeners) listener.moved({ epoch, seq });
    if (room.members === 0) return;
    const sync = { id: 0, sync: { room: room.name, position: { epoch, seq } } };
    for (let wire = 0; wire < formatCount; wire++) {
      let frame: Uint8Array | null = null;
      for (const reactor of this.#reactors) {
        if (reactor == null || countIn(room, reactor.index, wire) === 0) continue;
        if (this.#lagging.skipsMove(reactor, room, wire, prev, eraBefore)) continue;
        frame ??= this.#options.encoder.frame(wire, sync);
        writeMoved(reactor.link, room.handle, wire, { prev, eraBefore, era: room.era }, frame);
      }
    }
  }

  // ------------------------------------------------------------------------------- members

  /** Asks the user's clients to reconnect, to `url` unless it is empty. Their sessions are kept. Returns how many. */
  reconnect(userKey: string, url: string): number {
    const sessions = this.sessions.of(userKey);
    const reconnect = { reason: "requested", delayMs: 0, url };
    for (const { reactor, slot, life, wire } of sessions) {
      this.#reply(reactor, { slot, life, wire, id: 0 }, this.#options.encoder.frame(wire, { id: 0, reconnect }));
      if (reactor.live) writeKick(reactor.link, slot, life, "shutdown");
    }
    this.sessions.kicked += sessions.length;
    return sessions.length;
  }

  #onLeave(reactor: AttachedReactor, { slot, life, handle, wire, lost }: LeaveRecord): void {
    const room = this.#rooms.numbered(handle);
    if (room === undefined) return;
    this.#rooms.count(room, reactor.index, wire, -1);
    const session = this.sessions.find(reactor, slot, life);
    if (session !== undefined && !lost) {
      this.sessions.left(session, room.name);
      this.presence.left(session, room);
    }
    this.presence.emptied(room);
  }

  #onPresence(reactor: AttachedReactor, asked: PresenceRecord): void {
    if (reactor.link.congested) return this.#refuse(reactor, asked, "overloaded");
    this.presence.answer(reactor, asked);
  }

  #onWatch(reactor: AttachedReactor, asked: WatchRecord): void {
    if (reactor.link.congested) return this.#refuse(reactor, asked, "overloaded");
    const session = this.sessions.find(reactor, asked.slot, asked.life);
    if (session?.state === "here") this.presence.watch(reactor, session, asked);
  }

  /** A resumed session could not be brought back into this room. */
  #onUnplaced(reactor: AttachedReactor, { slot, life, name }: ReturnType<typeof readUnplaced>): void {
    const session = this.sessions.find(reactor, slot, life);
    if (session === undefined) return;
    this.sessions.assigned.unplaced(session, name);
    const unsaid = session.assigned.has(name) ? this.#unassigned.due("") : null;
    if (unsaid !== null) this.#options.log.warn({ user: session.userKey, room: name, unsaid }, "a session could not be joined into a room of its user: it is in roomsPerSessionMax rooms, or the node has roomsMax rooms; it is tried again with the next socket");
    // An earlier membership of the session may still be counted.
    this.#onRemoved(session, name);
  }

  /** What the reactor says of it later changes nothing. */
  #onRemoved(session: HubSession, name: string): void {
    this.sessions.left(session, name);
    const room = this.#rooms.named(roomKey(tenantOfUser(session.userKey), name));
    if (room !== undefined) this.presence.left(session, room);
  }

  #onBehind(reactor: AttachedReactor, behind: BehindRecord): void {
    const room = this.#rooms.numbered(behind.handle);
    if (room !== undefined) this.#replays.resume(reactor, room, behind);
  }

  #onAck(reactor: AttachedReactor, ack: AckRecord): void {
    const session = this.sessions.find(reactor, ack.slot, ack.life);
    const refused = session === undefined ? null : this.#inboxes.acknowledge(session, ack);
    if (refused !== null) this.#refuse(reactor, ack, refused, ack.id === 0);
  }

  #sweep(): void {
    this.joins.sweep();
    this.#rooms.releaseQuietTails();
    this.#inboxes.sweep();
  }

  // ------------------------------------------------------------------------------------ answers

  /** @param isOwed as in `writeReply` */
  #refuse(reactor: AttachedReactor, asker: Asker, code: ErrorCode, isOwed = true): void {
    this.refusals++;
    this.#reply(reactor, asker, this.#options.encoder.error(asker.wire, asker.id, code), isOwed);
  }

  #reply(reactor: AttachedReactor, asker: Asker, frame: Uint8Array, isOwed = true): void {
    if (reactor.live) writeReply(reactor.link, asker.slot, asker.life, frame, isOwed);
  }

  usage() {
    const { publications, refusals, failures } = this;
    const { size: replays, caughtUp, skipped } = this.#replays;
    const { rooms: roomsBehind, late, lost } = this.#lagging;
    const { begun, resumed, assigned: { refused: assignmentsRefused } } = this.sessions;
    const { size: rooms, sizes } = this.#rooms;
    const { answers } = this.#publishing;
    return { rooms, sizes, answers, begun, resumed, publications, refusals, assignmentsRefused, failures, replays, caughtUp, skipped, roomsBehind, late, lost };
  }

  close(): void {
    clearInterval(this.#sweeper);
    clearInterval(this.#keeper);
    this.joins.close();
    this.presence.close();
    this.sessions.stop();
  }
}
