/** Opening a journal: its files in order, every record of them read once, and what a power loss tore cut off. */
import { fstatSync, mkdirSync, readdirSync, unlinkSync } from "node:fs";
import { open } from "node:fs/promises";
import { DataDirError } from "./error.ts";
import { formatVersion, readFileHead, scanFrames } from "./frames.ts";
import { Journal, type JournalOptions } from "./journal.ts";
import { Segment, createSegment, openFlags, segmentId, segmentPath } from "./segment.ts";

/** A record as it was found; valid until return. */
export type OnRecord = (record: Buffer, segment: Segment, at: number) => void;

/** @throws DataDirError where a file is damaged or not of this version. */
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

/** Null: a file that was created, and never written to. */
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
      log.warn({ file: path, from: bytes, bytes: size - bytes }, "the end of a file was never committed, and is cut off");
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
    `${path} is of format ${version}, and this version of flux-gateway reads ${formatVersion}; start the version that wrote it`,
  );
}

function damaged(path: string, at: number, size: number): DataDirError {
  return new DataDirError(
    `${path} is damaged at byte ${at} of ${size}, and more than a last write that was cut short; ` +
      "put a backup in its place, or move the whole directory away to begin with an empty one",
  );
}
