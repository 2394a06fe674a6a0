/** flux.v1.proto: frames of protobuf, each with its length in front. */
import { decodeClientFrame, decodeServerFrame, headerBytes } from "../codec.ts";
import { readLength } from "../framing.ts";
import { subprotocols } from "../messages.ts";
import { varintBytes } from "../publicationbody.ts";
import { noFrame, wireFormat } from "./format.ts";

/** Tag of a ServerFrame's id. It comes first, behind the length, and only in a frame that answers a command. */
const idTag = 8;
/** Tag of a ServerFrame's publication: field number × 8 + wire type. */
const publicationTag = 10 * 8 + 2;
/** The length of the frame, the tag, and the length of the body. */
const eventBytesMax = headerBytes + 1 + 5;

export const binary = wireFormat({
  name: "binary",
  subprotocol: subprotocols.binary,
  isBinary: true,
  isStream: true,
  parsesPayloads: false,

  decode(bytes, start, end) {
    try {
      return decodeClientFrame(bytes, start, end);
    } catch {
      // The client sees only a close code, so protobufjs's error text is dropped.
      return null;
    }
  },

  frame: (encoder, frame) => encoder.frame(frame),
  publicationBytesMax: ({ start, end }) => eventBytesMax + end - start,
  writePublication(out, { bytes, start, end }) {
    const length = end - start;
    const rest = 1 + varintBytes(length) + length;
    for (let shift = 24; shift >= 0; shift -= 8) out.u8((rest >>> shift) & 0xff);
    out.u8(publicationTag);
    let left = length;
    for (; left >= 0x80; left >>>= 7) out.u8((left & 0x7f) | 0x80);
    out.u8(left);
    out.raw(bytes, start, end);
  },
  page: (encoder, kind, id, head, bodies) => encoder.page(kind, id, head, bodies),

  append(pack, at, message) {
    pack.set(message, at);
    return at + message.length;
  },

  isAnswer: (message) => message[headerBytes] === idTag,

  firstOf(message) {
    const end = headerBytes + readLength(message, 0);
    if (end > message.length) return noFrame;
    try {
      const { publication, presenceChanged } = decodeServerFrame(message, headerBytes, end);
      if (publication != null) return { room: publication.room ?? "", seq: publication.seq ?? 0, isPresence: false };
      return presenceChanged == null ? null : { room: presenceChanged.room ?? "", seq: presenceChanged.version ?? 0, isPresence: true };
    } catch {
      return noFrame;
    }
  },
});
