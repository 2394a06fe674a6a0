/**
 * Records of the disk broker. Each names its room, epoch and seq, so that each file of the journal can be read alone:
 *
 *      0 u32 length   4 u8 kind   5 u8 format   6 u16 bytes of the room's name
 *      8 f64 seq     16 f64 time
 *     24 u16 bytes of the epoch   26 u16 of the sender   28 u16 of the key   30 u16 unused
 *     32 room, epoch, sender, key, payload
 *
 * `publication` is a publication. `head` is the position of a room; its payload is the first seq that the room keeps,
 * as f64. `key` is an idempotency key whose publication is deleted.
 */
export const recordKinds = { publication: 1, head: 2, key: 3 } as const;
export type RecordKind = (typeof recordKinds)[keyof typeof recordKinds];

const headBytes = 32;

/** All of a record but its payload. */
export interface Fields {
  readonly kind: RecordKind;
  readonly room: string;
  readonly epoch: string;
  readonly seq: number;
  readonly time: number;
  readonly sender: string;
  readonly key: string;
  readonly format: number;
}

export interface Found extends Fields {
  readonly payload: Buffer;
}

export function recordLength({ room, epoch, sender, key }: Fields, payloadBytes: number): number {
  return headBytes + Buffer.byteLength(room) + epoch.length + Buffer.byteLength(sender) + Buffer.byteLength(key) + payloadBytes;
}

/** Writes all but the length, which is already there. Returns a view of the payload. */
export function writeRecord(record: Buffer, fields: Fields, payload: Uint8Array): Buffer {
  record[4] = fields.kind;
  record[5] = fields.format;
  record.writeDoubleLE(fields.seq, 8);
  record.writeDoubleLE(fields.time, 16);
  record.writeUInt16LE(0, 30);
  let at = headBytes;
  at = writeText(record, 6, at, fields.room);
  at = writeText(record, 24, at, fields.epoch);
  at = writeText(record, 26, at, fields.sender);
  at = writeText(record, 28, at, fields.key);
  record.set(payload, at);
  return record.subarray(at);
}

function writeText(record: Buffer, lengthAt: number, at: number, text: string): number {
  const length = record.write(text, at);
  record.writeUInt16LE(length, lengthAt);
  return at + length;
}

export function readRecord(record: Buffer): Found {
  const roomEnd = headBytes + record.readUInt16LE(6);
  const epochEnd = roomEnd + record.readUInt16LE(24);
  const senderEnd = epochEnd + record.readUInt16LE(26);
  const keyEnd = senderEnd + record.readUInt16LE(28);
  return {
    kind: record[4] as RecordKind,
    format: record[5]!,
    seq: record.readDoubleLE(8),
    time: record.readDoubleLE(16),
    room: record.toString("utf8", headBytes, roomEnd),
    epoch: record.toString("latin1", roomEnd, epochEnd),
    sender: record.toString("utf8", epochEnd, senderEnd),
    key: record.toString("utf8", senderEnd, keyEnd),
    payload: record.subarray(keyEnd),
  };
}
