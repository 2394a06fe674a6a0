/**
 * Messages that consumers push for reads, all on one subscription. It is made at start, so reads work where the server
 * accepts no more subscriptions.
 *
 * A message of a stream keeps its subject there. Its reply subject, for the acknowledgement, names the consumer.
 * Statuses for the request arrive on the request's own subject.
 */
import { createInbox, type Msg } from "nats";
import type { ErrorCode } from "../../../errors.ts";
import type { Listening } from "../listening.ts";

/** Receives the messages of one read. */
type Take = (message: Msg) => void;

export interface Pull {
  /** Subject for the consumer's messages. */
  readonly reply: string;
  end(): void;
}

export class Pulls {
  /** Whether the subscription works: null, or why not. */
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

  /** One read at a time per consumer. */
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
    const take = place === null ? this.#byReply.get(message.subject) : this.#byConsumer.get(place.source);
    take?.(message);
  }
}

export interface PlaceInStream {
  /** `<stream>.<consumer>`. */
  readonly source: string;
  /** Sequence in the stream, and number (from 1) among the messages of its consumer. */
  readonly seq: number;
  readonly place: number;
  readonly pending: number;
  /** When the stream stored it, in microseconds since 1970. */
  readonly time: number;
  /** Where it is stored. The message itself may say something else. */
  readonly subject: string;
  /** Subject for the acknowledgement. */
  readonly reply: string;
}

const ackPrefix = "$JS.ACK.";
const dot = 0x2e;
/** Where the tokens behind the prefix begin. Reused for every message. */
const starts: number[] = [];

/**
 * Parses the subject for acknowledgements: `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<n>.<time>.<pending>`; newer
 * servers put a domain and an account before the stream. Null: not a message of a stream.
 *
 * A server sends `<reply>@<subject>` to the server that the node is connected to, if that is another one. Servers from before April
 * 2025 (nats-server's pull request 6777) split this at the last `@`, and the keys of inboxes contain `@`. So both parts are
 * joined again, and split at the first.
 */
export function placeInStream(message: Msg): PlaceInStream | null {
  let { reply = "" } = message;
  if (!reply.startsWith(ackPrefix)) return null;
  const at = reply.indexOf("@");
  const subject = at < 0 ? message.subject : `${reply.slice(at + 1)}@${message.subject}`;
  if (at >= 0) reply = reply.slice(0, at);
  starts.length = 0;
  starts.push(ackPrefix.length);
  for (let i = ackPrefix.length; i < reply.length; i++) if (reply.charCodeAt(i) === dot) starts.push(i + 1);
  starts.push(reply.length + 1);
  const first = starts.length > 8 ? 2 : 0;
  const token = (n: number): string => reply.slice(starts[first + n], (starts[first + n + 1] ?? 0) - 1);
  return {
    source: reply.slice(starts[first], (starts[first + 2] ?? 0) - 1),
    seq: Number(token(3)), place: Number(token(4)), pending: Number(token(6)), time: Number(token(5).slice(0, -3)), subject, reply,
  };
}
