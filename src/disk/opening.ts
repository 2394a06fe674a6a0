/**
 * Opens a journal: reads each record of its files once, in order, and truncates a write that a power loss cut short.
 */
import { fstatSync, mkdirSync, readdirSync, unlinkSync } from "node:fs";
import { open } from "node:fs/promises";
import { DataDirError } from "./error.ts";
import { formatVersion, readFileHead, scanFrames } from "./frames.ts";
import { Journal, type JournalOptions } from "./journal.ts";
import { Segment, createSegment, openFlags, segmentId, segmentPath } from "./segment.ts";

/** Receives each record found. The buffer is valid until return. */
export type OnRecord = (record: Buffer, segment: Segment, at: number) => void;

/** @throws DataDirError where a file is damaged or has another format version. */
export async function openJournal(options: JournalOptions, onRecord: OnRecord): Promise<Journal> {
  const { folder, sync } = options;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const ids = readdirSync(folder).map(segmentId).filter((id) => id !== null).sort((a, b) => a - b);
  const segments: Segment[] = [];
  for (const id of ids) {
    const segment = await openSegment(options, id, id === ids.at(-1), onRecord);
    if (segment !== null) segments.push(segment);
  }
  if (segments.length === 0) segments.push(await createSegment(folder, (ids.at(-1) ?? 0) + 1, sync));
  return new Journal(options, segments);
}

/** Null for a file that was created and never written to: it is deleted. */
async function openSegment({ folder, sync, log }: JournalOptions, id: number, last: boolean, onRecord: OnRecord): Promise<Segment | null> {
  const path = segmentPath(folder, id);
  const handle = await open(path, openFlags(sync));
  try {
    const { size } = fstatSync(handle.fd);
    const head = readFileHead(handle.fd);
    if (head === "foreign" || (head === null && !last)) throw damaged(path, 0, size);
    if (head === null) {
      await handle.close();
      unlinkSync(path);
      return null;
    }
    if (head.version !== formatVersion) throw otherFormat(path, head.version);
    const segment = new Segment(id, path, head.salt, handle, 0);
    const { bytes, ending } = scanFrames(handle.fd, size, head.salt, (record, at) => onRecord(record, segment, at));
    if (ending === "damaged" || (ending === "torn" && !last)) throw damaged(path, bytes, size);
    if (ending === "torn") {
      log.warn({ file: path, from: bytes, bytes: size - bytes }, "journal: an incomplete last write was cut off; it was never acknowledged");
      await handle.truncate(bytes);
      await handle.sync();
    }
    segment.bytes = bytes;
    return segment;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function otherFormat(path: string, version: number): DataDirError {
  return new DataDirError(
    `${path} has format ${version}, and this version of flux-gateway reads format ${formatVersion}; start the version that wrote the file`,
  );
}

function damaged(path: string, at: number, size: number): DataDirError {
  return new DataDirError(
    `${path} is damaged at byte ${at} of ${size}, and not only by an incomplete last write; ` +
      "restore a backup, or move the whole directory elsewhere to start with an empty one",
  );
}
