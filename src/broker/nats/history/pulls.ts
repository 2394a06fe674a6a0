/**
 * What consumers send to those who read streams, by way of one subscription for all reads: it is asked for at the start,
 * so there are reads where the server takes no further subscriptions.
 *
 * A message of a stream comes with the subject that it has there; whose it is stands in the subject for its
 * acknowledgement, which names the consumer. What the server says of the question comes to the question's own subject.
 */
import { createInbox, type Msg } from "nats";
import type { ErrorCode } from "../../../errors.ts";
import type { Listening } from "../listening.ts";

/** A read takes what comes for it. */
type Take = (message: Msg) => void;

export interface Pull {
  /** Where what is asked for is to be sent. */
  readonly reply: string;
  end(): void;
}

export class Pulls {
  /** Whether they can be heard: null, or why not. */
  readonly heard: Promise<ErrorCode | null>;
  readonly #inbox = createInbox();
  readonly #byConsumer = new Map<string, Take>();
  readonly #byReply = new Map<string, Take>();
  #number = 0;

  constructor(listening: Listening) {
    this.heard = new Promise((settled) => {
      listening.listen({ room: "", subject: `${this.#inbox}.*`, message: (message) => this.#arrived(message), settled, regained: () => undefined });
    });
  }

  /** One at a time of each consumer. */
  begin(stream: string, consumer: string, take: Take): Pull {
    const name = `${stream}.${consumer}`;
    const reply = `${this.#inbox}.${++this.#number}`;
    this.#byConsumer.set(name, take);
    this.#byReply.set(reply, take);
    const end = () => {
      this.#byConsumer.delete(name);
      this.#byReply.delete(reply);
    };
    return { reply, end };
  }

  #arrived(message: Msg): void {
    const place = placeInStream(message);
    const take = place === null ? this.#byReply.get(message.subject) : this.#byConsumer.get(`${place.stream}.${place.consumer}`);
    take?.(message);
  }
}

export interface PlaceInStream {
  readonly stream: string;
  readonly consumer: string;
  /** Which message of the stream it is, and which (from 1 on) of those that its consumer has sent. */
  readonly seq: number;
  readonly place: number;
  readonly pending: number;
}

/**
 * From the subject that a consumer wants its acknowledgement at: `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<n>.<time>.<pending>`,
 * in newer servers with a domain and an account before the stream. Null: it is no message of a stream.
 */
export function placeInStream({ reply = "" }: Msg): PlaceInStream | null {
  if (!reply.startsWith("$JS.ACK.")) return null;
  const tokens = reply.split(".");
  const shift = tokens.length > 9 ? 2 : 0;
  const [seq, place, pending] = [5, 6, 8].map((at) => Number(tokens[at + shift]));
  return { stream: tokens[2 + shift] ?? "", consumer: tokens[3 + shift] ?? "", seq: seq!, place: place!, pending: pending! };
}
