/**
 * A consumer for one read of a stream. With replicas, nats-server assigns it to any server with the stream. Version 2.9
 * may choose a dead server, where it never comes to exist. So this repeats the request until one is answered, and uses
 * the first consumer that exists.
 */
import type { NatsConnection } from "nats";
import { readConsumerInfo, type ConsumerInfo } from "../wire/answers.ts";
import type { Stream, Streams } from "../streams/streams.ts";

/** Several attempts within the timeout of a JetStream request. Creating a consumer takes a few milliseconds. */
const askAgainMs = 300;

export class Consumer {
  /** Of the first consumer that exists. */
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

  /** Deletes the consumers. */
  end(): void {
    this.#over = true;
    this.#stopAsking();
    this.#forget();
  }

  #stopAsking(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  /** The answer is not awaited: a consumer that is not deleted expires when idle. */
  #forget(): void {
    if (this.#connection.isClosed()) return;
    for (const name of this.#made.splice(0)) this.#connection.publish(`$JS.API.CONSUMER.DELETE.${this.#stream.name}.${name}`);
  }
}
