/** Reads a journal file while the node runs, one frame at a time, so that memory stays small. */
import { fileHeadBytes, frameHeadBytes, isWhole, recordsLength } from "./frames.ts";
import type { Segment } from "./segment.ts";

/** Yields the records of each frame and their offset in the file. @throws Error at a damaged frame. */
export async function* framesOf(segment: Segment): AsyncGenerator<[records: Buffer, at: number]> {
  for (let next = fileHeadBytes; next < segment.bytes; ) {
    const [records, at] = await frameAt(segment, next);
    yield [records, at];
    next = at + records.length;
  }
}

/** The records of the frame at this offset, and theirs. @throws Error where no intact frame is there. */
export async function frameAt(segment: Segment, at: number): Promise<[records: Buffer, at: number]> {
  const head = await segment.read(at, frameHeadBytes);
  const length = recordsLength(head);
  if (length === 0 || at + frameHeadBytes + length > segment.bytes) throw new Error(`no frame at byte ${at}`);
  const records = await segment.read(at + frameHeadBytes, length);
  if (!isWhole(head, records, segment.salt)) throw new Error(`the frame at byte ${at} is damaged`);
  return [records, at + frameHeadBytes];
}
