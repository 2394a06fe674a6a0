/** Publishes of sessions, and of the node itself: what may be published now, and the answers. */
import type { Answer, Broker, Draft, Published } from "../broker/broker.ts";
import type { KindOf, RoomKind } from "../config/roomnames.ts";
import type { ErrorCode } from "../errors.ts";
import type { RecordReader } from "../link/link.ts";
import { readPublish, type PublishRecord } from "../link/publications.ts";
import { writeReply, type Asker } from "../link/records.ts";
import type { Encoder } from "../protocol/formats/encoder.ts";
import { formatCount } from "../protocol/formats/formats.ts";
import type { ServerFrame } from "../protocol/messages.ts";
import { nameOfRoom } from "../protocol/roomkeys.ts";
import { AnswerTimes } from "./answertimes.ts";
import type { Inboxes } from "./inboxes.ts";
import type { LeftOut } from "./leftout.ts";
import { countIn, type AttachedReactor, type HubRoom, type HubRooms } from "./rooms.ts";
import type { HubSessions } from "./sessions/sessions.ts";

export interface PublishingOptions {
  readonly broker: Broker;
  readonly rooms: HubRooms;
  readonly kindOf: KindOf;
  readonly encoder: Encoder;
  readonly sessions: HubSessions;
  readonly inboxes: Inboxes;
  readonly leftOut: LeftOut;
  /** By index. */
  readonly reactors: readonly (AttachedReactor | null)[];
  outOfMemory?(): boolean;
  refuse(reactor: AttachedReactor, asker: Asker, code: ErrorCode): void;
}

const nothing = new Uint8Array(0);

export class Publishing {
  /** For metrics. */
  readonly answers = new AnswerTimes();
  readonly #options: PublishingOptions;
  // One record for all publishes: it is read and used before the next one arrives.
  readonly #record: PublishRecord = {
    slot: 0, life: 0, id: 0, wire: 0, handle: 0, room: "", sender: "", key: "",
    format: 0, excludeSelf: false, direct: false, payload: nothing,
  };

  constructor(options: PublishingOptions) {
    this.#options = options;
  }

  onRecord(reactor: AttachedReactor, record: RecordReader): void {
    const publish = readPublish(record, this.#record);
    const { broker, rooms, sessions, inboxes, leftOut, refuse } = this.#options;
    const room = publish.handle === 0 ? rooms.named(publish.room) : rooms.numbered(publish.handle);
    const key = room?.key ?? publish.room;
    // The handle is unknown: the room was evicted, which needs it to have no members.
    if (key === "") return refuse(reactor, publish, "not_joined");
    const kind = this.#kindToPublish(key, room);
    if (typeof kind === "string") return refuse(reactor, publish, kind);
    const { slot, life, id, wire, excludeSelf, direct, sender, format, payload } = publish;
    const from = direct ? sessions.find(reactor, slot, life)?.userKey : undefined;
    if (from !== undefined && !inboxes.maySend(from, room)) return refuse(reactor, publish, "rate_limited");
    const origin = excludeSelf ? leftOut.originOf(reactor, slot, life) : "";
    const draft = { sender, key: publish.key, format, payload, origin, asksFirst: from !== undefined };
    const began = this.answers.begin();
    broker.publish(key, kind.retention, draft, (answer) => {
      if (began !== null) this.answers.end(began);
      if (from !== undefined && "value" in answer) inboxes.sent(from, answer.value);
      if (id === 0 && !excludeSelf && "value" in answer) return;
      if (direct) this.#answerSend(reactor, { slot, life, id, wire }, answer);
      else this.#answerPublish(reactor, { slot, life, id, wire }, key, answer);
    });
  }

  /** `draft.payload` is valid only until this returns. */
  publish(key: string, draft: Draft, done: (answer: Answer<Published>) => void): void {
    const { broker, rooms } = this.#options;
    const kind = this.#kindToPublish(key, rooms.named(key));
    if (typeof kind === "string") return done({ error: kind });
    const began = this.answers.begin();
    if (began === null) return broker.publish(key, kind.retention, draft, done);
    broker.publish(key, kind.retention, draft, (answer) => {
      this.answers.end(began);
      done(answer);
    });
  }

  /** The kind of the room, or why nothing may be published into it now. */
  #kindToPublish(key: string, room: HubRoom | undefined): RoomKind | ErrorCode {
    const kind = room?.kind ?? this.#options.kindOf(nameOfRoom(key));
    if (kind === null) return "unknown_namespace";
    const isOverloaded = (room !== undefined && this.#isCongested(room)) || this.#options.outOfMemory?.() === true;
    return isOverloaded ? "overloaded" : kind;
  }

  #answerSend(reactor: AttachedReactor, asker: Asker, answer: Answer<Published>): void {
    if ("error" in answer) return this.#options.refuse(reactor, asker, answer.error);
    const { epoch, seq, duplicate } = answer.value;
    this.#reply(reactor, asker, { id: asker.id, sent: { position: { epoch, seq }, duplicate } });
  }

  #answerPublish(reactor: AttachedReactor, asker: Asker, key: string, answer: Answer<Published>): void {
    if ("error" in answer) return this.#options.refuse(reactor, asker, answer.error);
    const { epoch, seq, duplicate, prev } = answer.value;
    const receivers = this.#options.rooms.named(key)?.members ?? 0;
    const room = asker.id === 0 ? { room: nameOfRoom(key) } : {};
    const published = { position: { epoch, seq }, receivers, duplicate, ...room, ...(prev !== undefined && { prev }) };
    this.#reply(reactor, asker, { id: asker.id, published });
  }

  #reply(reactor: AttachedReactor, { slot, life, wire }: Asker, frame: ServerFrame): void {
    const bytes = this.#options.encoder.frame(wire, frame);
    if (reactor.live) writeReply(reactor.link, slot, life, bytes);
  }

  /** Whether a reactor with members of this room lags so far that it must not be promised more. */
  #isCongested(room: HubRoom): boolean {
    for (const reactor of this.#options.reactors) {
      if (reactor?.link.congested === true && hasMembers(room, reactor.index)) return true;
    }
    return false;
  }
}

function hasMembers(room: HubRoom, reactor: number): boolean {
  for (let wire = 0; wire < formatCount; wire++) if (countIn(room, reactor, wire) > 0) return true;
  return false;
}
