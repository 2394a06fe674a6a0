/** Reads a journal file while the node runs, one frame at a time, so that memory stays small. */
import { fileHeadBytes, frameHeadBytes, isWhole, recordsLength } from "./frames.ts";
import type { Segment } from "./segment.ts";

/** Yields the records of each frame and their offset in the file. @throws Error at a damaged frame. */
export async function* framesOf(segment: Segment): AsyncGenerator<[records: Buffer, at: number]> {
  for (let at = fileHeadBytes; at < segment.bytes; ) {
    const head = await segment.read(at, frameHeadBytes);
    const length = recordsLength(head);
    if (length === 0 || at + frameHeadBytes + length > segment.bytes) throw new Error(`no frame at byte ${at}`);
    const records = await segment.read(at + frameHeadBytes, length);
    if (!isWhole(head, records, segment.salt)) throw new Error(`the frame at byte ${at} is damaged`);
    yield [records, at + frameHeadBytes];
    at += frameHeadBytes + length;
  }
}
