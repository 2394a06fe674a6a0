/**
 * A consumer that is made for one read of a stream. With replicas nats-server gives it to any one of the servers that have
 * the stream: 2.9 to one that is gone, too, where it never comes to be. So it is asked for again while nobody answers, and
 * the first that there is will do.
 */
import type { NatsConnection } from "nats";
import { readConsumerInfo, type ConsumerInfo } from "../wire/answers.ts";
import type { Stream, Streams } from "../streams/streams.ts";

/** Several times in what a question to JetStream may take; making one takes a few milliseconds. */
const askAgainMs = 300;

export class Consumer {
  /** Of the first that there is. */
  readonly info: Promise<ConsumerInfo>;
  readonly #connection: NatsConnection;
  readonly #stream: Stream;
  readonly #made: string[] = [];
  readonly #timer: NodeJS.Timeout | null;
  #over = false;

  constructor(connection: NatsConnection, streams: Streams, stream: Stream, config: object) {
    this.#connection = connection;
    this.#stream = stream;
    let ask!: () => void;
    this.info = new Promise((resolve, reject) => {
      ask = () => {
        streams.request(`CONSUMER.CREATE.${stream.name}`, { stream_name: stream.name, config }, readConsumerInfo).then((info) => {
          this.#stopAsking();
          this.#made.push(info.name);
          if (this.#over) this.#forget();
          resolve(info);
        }, reject);
      };
    });
    this.#timer = streams.isReplicated ? setInterval(ask, askAgainMs) : null;
    ask();
  }

  /** It is not needed any more. */
  end(): void {
    this.#over = true;
    this.#stopAsking();
    this.#forget();
  }

  #stopAsking(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  /** Nobody waits for the answer: what is not deleted goes by itself when it was idle. */
  #forget(): void {
    if (this.#connection.isClosed()) return;
    for (const name of this.#made.splice(0)) this.#connection.publish(`$JS.API.CONSUMER.DELETE.${this.#stream.name}.${name}`);
  }
}
