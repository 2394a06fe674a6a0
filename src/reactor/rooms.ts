/**
 * The rooms of one reactor and who is in them, and what the hub says about them: joined, page, refused, deliver.
 *
 * A room's live members of one format are subscribed to one topic, so a delivery is one publish whatever
 * their number. Deliveries that follow each other in one batch to the same topic are packed into one message:
 * what uWS does per message and socket is then done once for all of them.
 */
import { allows } from "../grants.ts";
import { now } from "../link/clock.ts";
import type { RecordReader } from "../link/link.ts";
import { kinds, writeAbandon, writeJoin, writeLeave, writeNext, writeUnplaced, type JoinRecord } from "../link/records.ts";
import type { Context } from "./context.ts";
import { sendBytes, sendFrame } from "./outgoing.ts";
import { keyOf } from "./names.ts";
import { evicted, noMembers, stays, type Member, type Room, type Session } from "./session.ts";

/** uWS stops coalescing the writes of a turn at messages of 16 kB, so a pack stays below. */
const packBytesMax = 15 * 1024;
/** A replay's next page is asked for once less than this waits in the socket. */
const replayQueueBytes = 64 * 1024;

/** What a session wants of a room, by the name it knows it by. */
export interface JoinWanted extends Pick<JoinRecord, "id" | "epoch" | "seq" | "history" | "restored"> {
  readonly name: string;
}

export class Rooms {
  readonly #context: Context;
  readonly #rooms = new Map<number, Room>();
  /** Members on their way in, by number. */
  readonly #arriving = new Map<number, Member>();
  #lastNumber = 0;

  readonly #pack = Buffer.allocUnsafeSlow(packBytesMax);
  #packed = 0;
  #packRoom: Room | null = null;

  constructor(context: Context) {
    this.#context = context;
  }

  // ------------------------------------------------------------------------------- from sessions

  /** Asks the hub to let the session in. False: the hub is too far behind. */
  join(session: Session, { name, ...join }: JoinWanted): boolean {
    const number = (this.#lastNumber = (this.#lastNumber + 1) >>> 0);
    const { slot, life, json } = session;
    const room = keyOf(session, name);
    if (!writeJoin(this.#context.link, { ...join, member: number, slot, life, json, room })) return false;
    const mayPublish = allows(session.grant!, "publish", name);
    const told = this.#mayBeTold(session, name);
    const member: Member = {
      name, session, number, state: "joining", room: null, mayPublish, told, restored: join.restored, held: false, leaveId: stays,
    };
    this.#arriving.set(number, member);
    if (session.members === noMembers) session.members = [member];
    else session.members.push(member);
    return true;
  }

  leave(session: Session, member: Member, id: number): void {
    session.members.splice(session.members.indexOf(member), 1);
    if (member.state === "joining") member.leaveId = id;
    if (member.state === "live") {
      session.socket?.unsubscribe(member.room!.topics[formatOf(session)]);
      if (member.told) session.socket?.unsubscribe(member.room!.toldTopics[formatOf(session)]);
    }
    this.#drop(member, false);
    if (member.leaveId === stays) sendLeft(this.#context, member, id);
  }

  /** The session may not be in the room any more. */
  evict(session: Session, member: Member): void {
    this.leave(session, member, member.state === "joining" ? evicted : 0);
    if (member.leaveId === stays) sendGone(this.#context, session, member.name);
  }

  /** The session's socket is gone; uWS has ended its subscriptions. */
  leaveAll(session: Session): void {
    for (const member of session.members) this.#drop(member, true);
    session.members = noMembers;
  }

  /** The session's socket has room again: replays that waited for it go on. */
  drained(session: Session): void {
    for (const member of session.members) {
      if (member.held) this.#askForNext(member);
    }
  }

  // ------------------------------------------------------------------------------- from the hub

  onRecord(kind: number, record: RecordReader): void {
    if (kind === kinds.deliver) return this.#onDeliver(record);
    // Whatever else it is must not overtake a delivery.
    this.flush();
    switch (kind) {
      case kinds.reply: return this.#onReply(record);
      case kinds.joined: return this.#onJoined(record);
      case kinds.page: return this.#onPage(record);
      case kinds.refused: return this.#onRefused(record);
      case kinds.told: return this.#onTold(record);
      default: throw new Error(`unknown record ${kind}`);
    }
  }

  #onReply(record: RecordReader): void {
    const session = this.#context.sessions.find(record.u32(), record.u32());
    if (session !== null) sendBytes(this.#context, session, record.blob());
  }

  #onJoined(record: RecordReader): void {
    const number = record.u32();
    const handle = record.u32();
    const live = record.u8() !== 0;
    const member = this.#arriving.get(number);
    if (member === undefined) throw new Error(`joined: nobody is member ${number}`);
    const format = formatOf(member.session);
    if (member.state === "gone") {
      // It left before it was in: the hub has counted it.
      this.#arriving.delete(number);
      if (!live) writeAbandon(this.#context.link, number);
      const { slot, life, json } = member.session;
      writeLeave(this.#context.link, { slot, life, handle, json, lost: member.leaveId === stays });
      return answerBoth(this.#context, member, record.blob());
    }
    member.room = this.#roomOf(handle);
    member.room.joined[format]++;
    this.#context.counters.add("members", 1);
    member.state = "replaying";
    this.#continue(member, live, record.blob());
  }

  #onPage(record: RecordReader): void {
    const member = this.#arriving.get(record.u32());
    const live = record.u8() !== 0;
    if (member !== undefined) this.#continue(member, live, record.blob());
  }

  /** Sends a page, and makes the member live or asks for more. Sending may end the session. */
  #continue(member: Member, live: boolean, frame: Uint8Array): void {
    const { session } = member;
    if (live) {
      // First the frame, then the topic: what the room gets from here on comes behind it.
      sendBytes(this.#context, session, frame);
      if (member.state !== "replaying" || session.state !== "ready" || session.socket === null) return;
      this.#arriving.delete(member.number);
      member.state = "live";
      member.room!.live[formatOf(session)]++;
      session.socket.subscribe(member.room!.topics[formatOf(session)]);
      if (member.told) this.#tell(member);
      return;
    }
    sendBytes(this.#context, session, frame);
    if (session.state !== "ready" || session.socket === null) return;
    member.held = true;
    if (session.socket.getBufferedAmount() < replayQueueBytes) this.#askForNext(member);
  }

  #askForNext(member: Member): void {
    member.held = false;
    writeNext(this.#context.link, member.number);
  }

  #onRefused(record: RecordReader): void {
    const member = this.#arriving.get(record.u32());
    if (member === undefined) return;
    this.#arriving.delete(member.number);
    if (member.state === "gone") return answerBoth(this.#context, member, record.blob());
    member.state = "gone";
    member.session.members.splice(member.session.members.indexOf(member), 1);
    this.#context.counters.add("errorReplies", 1);
    sendBytes(this.#context, member.session, record.blob());
    if (!member.restored) return;
    writeUnplaced(this.#context.link, member.session.slot, member.session.life, member.name);
    sendGone(this.#context, member.session, member.name);
  }

  #onDeliver(record: RecordReader): void {
    const room = this.#rooms.get(record.u32());
    const format = record.u8() as 0 | 1;
    const slot = record.u32();
    const life = record.u32();
    const at = record.f64();
    const frame = record.blob();
    if (room === undefined || room.live[format] === 0) return;
    const topic = room.topics[format];
    const publisher = this.#context.sessions.find(slot, life);
    const excluded = publisher?.socket?.isSubscribed(topic) === true ? publisher : null;
    this.#count(room.live[format] - (excluded === null ? 0 : 1), frame.length, at);
    // JSON clients get one object a message.
    if (format === 0 && excluded === null) return this.#packIn(room, frame);
    this.flush();
    const compress = frame.length >= this.#context.compressFrom;
    if (excluded === null) this.#context.audiences.publish(topic, frame, format === 0, compress);
    else this.#context.audiences.publishExcept(excluded.socket!, excluded.audience, topic, frame, format === 0, compress);
  }

  /** Who came and who went. One a second at most for a room: it is not packed with what is delivered. */
  #onTold(record: RecordReader): void {
    const room = this.#rooms.get(record.u32());
    const format = record.u8() as 0 | 1;
    const frame = record.blob();
    if (room === undefined || room.told[format] === 0) return;
    this.#context.counters.add("framesOut", room.told[format]);
    this.#context.counters.add("bytesOut", room.told[format] * frame.length);
    this.#context.audiences.publish(room.toldTopics[format], frame, format === 0);
  }

  #tell({ session, room }: Member): void {
    const format = formatOf(session);
    room!.told[format]++;
    session.socket?.subscribe(room!.toldTopics[format]);
  }

  /** Whether a member is told who comes and goes, when its session's grant has changed. */
  setTold(member: Member): void {
    const { told, session, room } = member;
    member.told = this.#mayBeTold(session, member.name);
    if (member.told === told || member.state !== "live" || room === null) return;
    if (member.told) return this.#tell(member);
    room.told[formatOf(session)]--;
    session.socket?.unsubscribe(room.toldTopics[formatOf(session)]);
  }

  #mayBeTold(session: Session, name: string): boolean {
    return this.#context.kindOf(name)?.presenceEvents === true && allows(session.grant!, "presence", name);
  }

  #count(members: number, bytes: number, at: number): void {
    this.#context.counters.add("deliveries", members);
    this.#context.counters.add("framesOut", members);
    this.#context.counters.add("bytesOut", members * bytes);
    this.#context.counters.fanout(now() - at);
  }

  #packIn(room: Room, frame: Uint8Array): void {
    if (room !== this.#packRoom || this.#packed + frame.length > packBytesMax) {
      this.flush();
      if (frame.length > packBytesMax) {
        this.#context.audiences.publish(room.topics[0], frame, true, frame.length >= this.#context.compressFrom);
        return;
      }
      this.#packRoom = room;
    }
    this.#pack.set(frame, this.#packed);
    this.#packed += frame.length;
  }

  /** Publishes what has been packed. */
  flush(): void {
    if (this.#packRoom === null) return;
    const compress = this.#packed >= this.#context.compressFrom;
    this.#context.audiences.publish(this.#packRoom.topics[0], this.#pack.subarray(0, this.#packed), true, compress);
    this.#packRoom = null;
    this.#packed = 0;
  }

  // -------------------------------------------------------------------------------------- rooms

  /** Takes a member out of its room and tells the hub. `lost`: because its socket is gone. */
  #drop(member: Member, lost: boolean): void {
    const { state, room, session } = member;
    member.state = "gone";
    if (room === null) return; // still joining: the hub's answer will find it gone
    const format = formatOf(member.session);
    if (state === "replaying") {
      this.#arriving.delete(member.number);
      writeAbandon(this.#context.link, member.number);
    }
    if (state === "live") room.live[format]--;
    if (state === "live" && member.told) room.told[format]--;
    room.joined[format]--;
    this.#context.counters.add("members", -1);
    const { slot, life, json } = session;
    writeLeave(this.#context.link, { slot, life, handle: room.handle, json, lost });
    if (room.joined[0] + room.joined[1] === 0) {
      this.#rooms.delete(room.handle);
      this.#context.counters.set("rooms", this.#rooms.size);
    }
  }

  #roomOf(handle: number): Room {
    const known = this.#rooms.get(handle);
    if (known !== undefined) return known;
    const room: Room = { handle, joined: [0, 0], live: [0, 0], topics: [`b${handle}`, `j${handle}`], told: [0, 0], toldTopics: [`pb${handle}`, `pj${handle}`] };
    this.#rooms.set(handle, room);
    return room;
  }
}

/** The hub's answer to a join, then to the leave that came before it. */
function answerBoth(context: Context, member: Member, frame: Uint8Array): void {
  if (member.leaveId === stays) return; // the session is gone
  sendBytes(context, member.session, frame);
  if (member.leaveId === evicted) sendGone(context, member.session, member.name);
  else sendLeft(context, member, member.leaveId);
}

/** Unasked: the node has ended the membership, or could not bring it back. */
export function sendGone(context: Context, session: Session, name: string): void {
  sendFrame(context, session, { id: 0, left: { room: name } });
}

function sendLeft(context: Context, member: Member, id: number): void {
  if (id !== 0) sendFrame(context, member.session, { id, left: { room: member.name } });
}

/** Index of a session's format: 0 binary, 1 JSON. */
function formatOf(session: Session): 0 | 1 {
  return session.json ? 1 : 0;
}
