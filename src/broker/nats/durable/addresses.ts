/** The stream of a durable room, and the subjects of its publications. */
import type { Retention } from "../../broker.ts";
import type { NatsLog } from "../connection/connection.ts";
import { inSubject, outSubject, partitionOf, queueSubject, tokenOf } from "../wire/names.ts";
import type { QueueOptions, Stream, Streams } from "../streams/streams.ts";

export interface AddressesOptions {
  readonly streams: Streams;
  readonly prefix: string;
  readonly partitions: number;
  /** See StreamOptions. */
  readonly queue?: QueueOptions | undefined;
  readonly namespaceOf: (room: string) => string;
  readonly log: NatsLog;
}

export class Addresses {
  readonly #options: AddressesOptions;

  constructor(options: AddressesOptions) {
    this.#options = options;
  }

  subjectOf(name: string): string {
    const { prefix, partitions, namespaceOf, queue } = this.#options;
    const token = tokenOf(name);
    const namespace = namespaceOf(name);
    if (queue?.namespace !== namespace) return inSubject(prefix, partitionOf(token, partitions), namespace, token);
    const partition = queue.partitionOf(name);
    return queueSubject(prefix, partition % queue.streams, namespace, partition, token);
  }

  /** The partition whose queue holds the room's publications. -1: the room has no queue. */
  queueOf(name: string): number {
    const { queue, namespaceOf } = this.#options;
    return queue?.namespace === namespaceOf(name) ? queue.partitionOf(name) : -1;
  }

  /** Subject of a room's copies. */
  copiesOf(name: string): string {
    const { prefix, namespaceOf } = this.#options;
    return outSubject(prefix, namespaceOf(name), tokenOf(name));
  }

  streamOf(name: string): Stream | undefined {
    const { streams, namespaceOf, partitions, queue } = this.#options;
    const partition = this.queueOf(name);
    return streams.of(namespaceOf(name), partition < 0 ? partitionOf(tokenOf(name), partitions) : partition % queue!.streams);
  }

  /** Prepares the streams of the room's namespace, if that has not been done. */
  withStream(name: string, retention: Retention, done: (answer: { error: "unavailable" }) => void, use: (stream: Stream, subject: string) => void): void {
    const stream = this.streamOf(name);
    if (stream !== undefined) return stream.epoch === "" ? done({ error: "unavailable" }) : use(stream, this.subjectOf(name));
    const { streams, namespaceOf, log } = this.#options;
    const failed = (error: unknown) => {
      log.error({ err: error }, "NATS: the streams of a namespace cannot be used: publishes and joins in it fail; see the error");
      done({ error: "unavailable" });
    };
    // An exception of `use` counts as a failure too: nothing else would answer.
    streams.prepare(namespaceOf(name), retention).then(() => this.withStream(name, retention, done, use)).catch(failed);
  }
}
