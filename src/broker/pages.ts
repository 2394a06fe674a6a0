/** Pages of history from disk. A page's publications are chosen synchronously and read afterwards. */
import type { Segment } from "../disk/segment.ts";
import type { Page, Position, Query, Stored } from "./broker.ts";
import { readRecord } from "./disk/records.ts";
import type { LogRoom } from "./disk/stock.ts";

/** A page: entries `from` up to `to` (exclusive) of the room's shelf at this moment. */
interface Choice {
  readonly from: number;
  readonly to: number;
  readonly position: Position;
  readonly more: boolean;
  readonly trimmed?: boolean;
}

interface Range {
  readonly segment: Segment;
  readonly start: number;
  end: number;
  /** Offsets of the records. */
  readonly records: number[];
}

/** Records closer than this are read together, up to a limit. */
const gapBytesMax = 16 * 1024;
const rangeBytesMax = 1024 * 1024;

/** Null: the position is not covered. When this returns all reads have started, so files may be deleted. */
export function readPage(room: LogRoom, query: Query): Promise<Page> | null {
  const choice = choose(room, query);
  if (choice === null) return null;
  const { position, more, trimmed = false } = choice;
  const reads = rangesOf(room, choice).map(async ({ segment, start, end, records }) => {
    const bytes = await segment.read(start, end - start);
    return records.map((at) => publicationAt(bytes, at - start, room, query.keys === true));
  });
  return Promise.all(reads).then((pieces) => ({ publications: pieces.flat(), position, more, ...(trimmed && { trimmed }) }));
}

function publicationAt(bytes: Buffer, at: number, room: LogRoom, withKey: boolean): Stored {
  const record = readRecord(bytes.subarray(at, at + bytes.readUInt32LE(at)));
  if (record.room !== room.name || record.epoch !== room.epoch) throw new Error(`the record of room ${room.name} at this place is another one`);
  const { epoch, seq, sender, time, payload, format, key } = record;
  return { epoch, seq, prev: seq - 1, sender, time, payload, format, origin: "", ...(withKey && { key }) };
}

function choose(room: LogRoom, query: Query): Choice | null {
  const { shelf, epoch, seq } = room;
  const position: Position = { epoch, seq };
  const oldest = seq - shelf.count + 1;
  if (query.direction !== "newest" && (query.position.epoch !== epoch || query.position.seq > seq)) return null;
  if (query.direction === "since") {
    const trimmed = query.position.seq + 1 < oldest;
    if (trimmed && query.orOldest !== true) return null;
    const from = trimmed ? 0 : query.position.seq + 1 - oldest;
    const to = from + fitting(room, query, from, 1);
    return { from, to, position, more: to < shelf.count, trimmed };
  }
  const below = query.direction === "before" ? Math.min(query.position.seq, seq + 1) : seq + 1;
  const to = Math.max(0, below - oldest);
  const from = to - fitting(room, query, to - 1, -1);
  return { from, to, position, more: from > 0 };
}

/** Number of entries from `start` on that a page takes. */
function fitting({ shelf }: LogRoom, { limit, bytesMax, bytesEach = 0 }: Query, start: number, step: 1 | -1): number {
  let taken = 0;
  let bytes = 0;
  for (let i = start; i >= 0 && i < shelf.count && taken < limit; i += step) {
    bytes += shelf.payloadBytes(i) + bytesEach;
    if (taken > 0 && bytes > bytesMax) break;
    taken++;
  }
  return taken;
}

function rangesOf({ shelf }: LogRoom, { from, to }: Choice): Range[] {
  const ranges: Range[] = [];
  for (let i = from; i < to; i++) {
    const segment = shelf.segment(i);
    if (segment === undefined) throw new Error("the file of a stored publication is missing");
    const start = shelf.at(i);
    const end = start + shelf.length(i);
    const last = ranges.at(-1);
    if (last?.segment === segment && start >= last.end && start - last.end <= gapBytesMax && end - last.start <= rangeBytesMax) {
      last.end = end;
      last.records.push(start);
    } else {
      ranges.push({ segment, start, end, records: [start] });
    }
  }
  return ranges;
}
