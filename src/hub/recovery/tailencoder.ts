/**
 * Encodes publications into the tails of their rooms, from where they are copied into the rings. A publication that its
 * tail cannot hold is encoded into the encoder's buffer.
 */
import type { Stored } from "../../broker/broker.ts";
import type { ServerFrameEncoder } from "../../protocol/codec.ts";
import type { EncodedPublication } from "../../protocol/formats/format.ts";
import type { Publication } from "../../protocol/messages.ts";
import { bodyBytes, writeBody } from "../../protocol/publicationbody.ts";
import type { HubRoom } from "../rooms.ts";

const nothing = new Uint8Array(0);

export class TailEncoder {
  readonly #encoder: ServerFrameEncoder;
  // One record of each for all publications: both are used up before the next one.
  readonly #publication: Publication = { room: "", epoch: "", seq: 0, prev: 0, sender: "", time: 0, payload: nothing, format: 0 };
  readonly #encoded: EncodedPublication = { bytes: nothing, start: 0, end: 0, publication: null };

  constructor(encoder: ServerFrameEncoder) {
    this.#encoder = encoder;
  }

  /** Valid until the next call. */
  encode({ name, tail }: HubRoom, stored: Stored): EncodedPublication {
    const publication = this.#publication;
    publication.room = name;
    publication.epoch = stored.epoch;
    publication.seq = stored.seq;
    publication.prev = stored.prev;
    publication.sender = stored.sender;
    publication.time = stored.time;
    publication.payload = stored.payload;
    publication.format = stored.format;
    const encoded = this.#encoded;
    const length = bodyBytes(publication);
    encoded.start = tail.append(stored.seq, length);
    if (encoded.start >= 0) {
      encoded.bytes = tail.bytes;
      writeBody(encoded.bytes, encoded.start, publication);
    } else {
      encoded.bytes = this.#encoder.body(publication);
      encoded.start = 0;
    }
    encoded.end = encoded.start + length;
    encoded.publication = publication;
    return encoded;
  }
}
