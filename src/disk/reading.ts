/** Reads a file of a journal while the node serves: frame by frame, never much at once. */
import { fileHeadBytes, frameHeadBytes, isWhole, recordsLength } from "./frames.ts";
import type { Segment } from "./segment.ts";

/** The records of each frame, and where in the file they begin. @throws Error at a frame that is not whole. */
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
