/** History, for a session or for the node itself: answers from the room's tail if it reaches back far enough, else from the broker. */
import type { Answer, Page, Query, Stored } from "../../broker/broker.ts";
import type { RoomKind } from "../../config/roomnames.ts";
import { writeReply, type HistoryRecord } from "../../link/records.ts";
import { decodePublication } from "../../protocol/codec.ts";
import { historyLimitDefault, pageSizeMax } from "../../protocol/limits.ts";
import { bodiesOf, recordBytes, type Reading } from "./pages.ts";
import { nameOfRoom } from "../../protocol/roomkeys.ts";
import { headOf, type AttachedReactor, type HubRoom } from "../rooms.ts";

export type HistoryQuery = Pick<HistoryRecord, "direction" | "epoch" | "seq" | "limit"> & Pick<Query, "recovers" | "orOldest">;

export function answerHistory({ broker, encoder, pageBytesMax }: Reading, reactor: AttachedReactor, room: HubRoom, record: HistoryRecord): void {
  const asked = record.orOldest && record.epoch !== room.epoch ? { ...record, epoch: room.epoch, seq: 0 } : record;
  const limit = Math.min(asked.limit || historyLimitDefault, pageSizeMax);
  const send = (frame: Uint8Array) => {
    if (reactor.live) writeReply(reactor.link, asked.slot, asked.life, frame);
  };
  const page = (bodies: readonly Uint8Array[], position: Page["position"], more: boolean) =>
    send(encoder.page(asked.wire, "history", asked.id, { room: room.name, position, more }, bodies));

  const fromTail = readTail(room, asked, limit, pageBytesMax);
  if (fromTail !== null) return page(fromTail.bodies, headOf(room), fromTail.more);
  const { direction, orOldest } = asked;
  const query = { direction, position: asked, limit, bytesMax: pageBytesMax, bytesEach: recordBytes(room), orOldest };
  broker.history(room.key, room.kind.retention, query, (answer) => {
    if ("error" in answer) return send(encoder.error(asked.wire, asked.id, answer.error));
    // The reactor may have begun to lag meanwhile: pages are not queued for it.
    if (reactor.link.congested) return send(encoder.error(asked.wire, asked.id, "overloaded"));
    page(bodiesOf(encoder, room, answer.value.publications), answer.value.position, answer.value.more);
  });
}

interface Asked {
  readonly key: string;
  readonly kind: RoomKind;
  /** Undefined: the node does not have it. */
  readonly room: HubRoom | undefined;
}

/** The page of a room that the node itself reads. What is in it is valid until `done` returns. */
export function readHistoryPage({ broker, pageBytesMax }: Reading, { key, kind, room }: Asked, query: HistoryQuery, done: (answer: Answer<Page>) => void): void {
  const { direction, limit, recovers = false, orOldest = false } = query;
  const fromTail = room?.open === true ? readTail(room, query, limit, pageBytesMax) : null;
  if (fromTail !== null) {
    const publications = fromTail.bodies.map(storedOf);
    return done({ value: { publications, position: headOf(room!), more: fromTail.more } });
  }
  const bytesEach = recordBytes({ name: nameOfRoom(key) });
  broker.history(key, kind.retention, { direction, position: query, limit, bytesMax: pageBytesMax, bytesEach, recovers, orOldest }, done);
}

/** What is empty or 0 is not on the wire, so a decoded publication has it from its prototype only. */
function storedOf(body: Uint8Array): Stored {
  const { epoch, seq, prev, sender, time, payload, format } = decodePublication(body);
  return { epoch: epoch!, seq: seq!, prev: prev!, sender: sender!, time: time!, payload: payload!, format: format!, origin: "" };
}

/** Null: the broker has to be asked. */
function readTail(
  room: HubRoom,
  asked: HistoryQuery,
  limit: number,
  pageBytesMax: number,
): { bodies: Uint8Array[]; more: boolean } | null {
  if (asked.direction === "newest" && !room.kind.retention.durable) {
    return { bodies: room.tail.newest(limit, pageBytesMax), more: false };
  }
  if (asked.direction !== "since") return null;
  if (asked.epoch !== room.epoch || asked.seq > room.seq) return null;
  // Of an ephemeral room nothing else is kept.
  if (!room.tail.covers(asked.seq) && (room.kind.retention.durable || asked.orOldest !== true)) return null;
  const { bodies, seq } = room.tail.after(asked.seq, pageBytesMax);
  const taken = bodies.slice(0, limit);
  // What is evicted is no page to come: a reader would ask for it for ever.
  return { bodies: taken, more: taken.length > 0 && (taken.length < bodies.length || seq < room.seq) };
}
