/**
 * The queues of partitions: a consumer for each life of a partition's ownership, named `p<partition>_<epoch>`. Where it has
 * acknowledged up to is in the memory of the servers, so it outlives the node that made it. Servers that write it to disk
 * do so ten times a second for each consumer, which costs as much as storing the messages. When no server that knew it
 * is left, the consumer is gone, or stands where it began: then the floor in the partition's record counts.
 */
import { createInbox, type Msg, type NatsConnection } from "nats";
import * as z from "zod";
import type { ErrorCode } from "../../../errors.ts";
import type { Listening } from "../listening.ts";
import { placeInStream } from "../history/pulls.ts";
import type { QueueOptions, Stream, Streams } from "../streams/streams.ts";
import { ApiFailure, readConsumerInfo, type Fields } from "../wire/answers.ts";
import { queueSubject } from "../wire/names.ts";
import { Pulling, type QueuedPublication } from "./pulling.ts";

export interface QueuesOptions {
  readonly connection: NatsConnection;
  readonly streams: Streams;
  readonly listening: Listening;
  readonly prefix: string;
  readonly queue: QueueOptions;
}

/** See placement/leases/leases.ts, PartitionQueue. */
export interface QueueEvents {
  message(publication: QueuedPublication): void;
  lost(reason: string): void;
}

export interface QueueState {
  readonly stream: string;
  readonly last: number;
  readonly consumers: readonly { readonly epoch: number; readonly floor: number }[];
}

const noConsumer = 10014;
const noStream = 10059;
/** Consumers in one page of names, and pages read. */
const namesMax = 1024;
const pagesMax = 100;
/** What was pulled and not acknowledged is sent again after this time. */
const ackWaitMs = 60_000;
const unacknowledgedMax = 4096;
const nanosecondsPerMs = 1e6;
const lookMs = 1_000;

export class Queues {
  /** Whether the subscription for messages works: null, or why not. */
  readonly heard: Promise<ErrorCode | null>;
  readonly #options: QueuesOptions;
  readonly #inbox = createInbox();
  readonly #pulling = new Map<string, Pulling>();
  readonly #looker = setInterval(() => {
    for (const pulling of this.#pulling.values()) pulling.look();
  }, lookMs).unref();

  constructor(options: QueuesOptions) {
    this.#options = options;
    this.heard = new Promise((settled) => {
      options.listening.listen({ room: "", subject: `${this.#inbox}.*.*`, message: (message) => this.#arrived(message), settled, regained: () => undefined });
    });
  }

  stop(): void {
    clearInterval(this.#looker);
    for (const pulling of this.#pulling.values()) pulling.close();
    this.#pulling.clear();
  }

  /** The connection is back. */
  reconnected(): void {
    for (const pulling of this.#pulling.values()) pulling.interrupted();
  }

  /** The stream lost what it kept, or its end: consumers stand at positions that mean something else now. */
  streamBeganAgain({ name }: Stream): void {
    for (const [key, pulling] of this.#pulling) if (key.startsWith(`${name}.`)) pulling.end("the stream lost what it kept, or its end");
  }

  /** @throws where the servers do not answer, or the stream is not known now */
  async state(partition: number): Promise<QueueState> {
    const { streams } = this.#options;
    const stream = this.#streamOf(partition);
    const { epoch } = stream;
    if (epoch === "") throw new Error(`stream ${stream.name} is not known now: NATS is unavailable`);
    // All at once: deliveries wait for the answers.
    const [{ last_seq: last }, epochs] = await Promise.all([streams.state(stream), this.#epochsOf(stream, partition)]);
    const infos = await Promise.all(epochs.map(async (number) => ({ number, info: await this.#infoOf(stream, nameOf(partition, number)) })));
    return { stream: epoch, last, consumers: infos.flatMap(({ number, info }) => (info === null ? [] : { epoch: number, floor: info.floor })) };
  }

  /**
   * Messages that the consumer has not acknowledged, and when the first of them was stored, in ms since 1970 by the
   * clock of NATS; 0: unknown. Null: there is no such consumer. @throws as `state`
   */
  async backlogOf(partition: number, epoch: number): Promise<{ readonly pending: number; readonly since: number } | null> {
    const { streams, prefix, queue } = this.#options;
    const stream = this.#streamOf(partition);
    const name = nameOf(partition, epoch);
    // Where this node pulls, it knows most of the time that nothing waits. The server hears of acknowledgements late.
    if (this.#pulling.get(`${stream.name}.${name}`)?.isCaughtUp === true) return { pending: 0, since: 0 };
    const info = await this.#infoOf(stream, name);
    if (info === null || info.pending === 0) return info && { pending: 0, since: 0 };
    const next = { seq: info.floor + 1, next_by_subj: queueSubject(prefix, stream.partition, queue.namespace, partition, "*") };
    // It may have been dropped meanwhile.
    const since = await streams.request(`STREAM.MSG.GET.${stream.name}`, next, readTime).catch(() => 0);
    return { pending: info.pending, since };
  }

  /** @throws as `state` */
  async createConsumer(partition: number, epoch: number, floor: number): Promise<void> {
    const { streams, prefix, queue } = this.#options;
    const stream = this.#streamOf(partition);
    const name = nameOf(partition, epoch);
    const config = {
      durable_name: name,
      deliver_policy: "by_start_sequence",
      opt_start_seq: floor + 1,
      ack_policy: "all",
      ack_wait: ackWaitMs * nanosecondsPerMs,
      max_ack_pending: unacknowledgedMax,
      filter_subject: queueSubject(prefix, stream.partition, queue.namespace, partition, "*"),
      replay_policy: "instant",
      mem_storage: true,
      num_replicas: 0,
    };
    try {
      await streams.request(`CONSUMER.DURABLE.CREATE.${stream.name}.${name}`, { stream_name: stream.name, config }, readConsumerInfo);
    } catch (error) {
      // Another floor for the same consumer is refused: it is the one that was asked for before.
      if (!(error instanceof ApiFailure) || (await this.#infoOf(stream, name)) === null) throw error;
    }
  }

  /** @throws as `state` */
  async deleteConsumersBelow(partition: number, epoch: number): Promise<void> {
    const stream = this.#streamOf(partition);
    for (const number of await this.#epochsOf(stream, partition)) {
      if (number >= epoch) continue;
      try {
        await this.#options.streams.request(`CONSUMER.DELETE.${stream.name}.${nameOf(partition, number)}`, {}, readSuccess);
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    }
  }

  pull(partition: number, epoch: number, events: QueueEvents): Pick<Pulling, "stop" | "close" | "acknowledge"> {
    const { connection } = this.#options;
    const stream = this.#streamOf(partition);
    const consumer = nameOf(partition, epoch);
    const key = `${stream.name}.${consumer}`;
    this.#pulling.get(key)?.close();
    const exists = async () => (await this.#infoOf(stream, consumer)) !== null;
    const pulling = new Pulling({ connection, stream: stream.name, consumer, reply: `${this.#inbox}.${key}`, exists, message: (publication) => events.message(publication), lost: (reason) => events.lost(reason) });
    this.#pulling.set(key, pulling);
    return {
      stop: () => pulling.stop(),
      acknowledge: (seq) => pulling.acknowledge(seq),
      close: () => {
        pulling.close();
        if (this.#pulling.get(key) === pulling) this.#pulling.delete(key);
      },
    };
  }

  #arrived(message: Msg): void {
    const place = placeInStream(message);
    if (place !== null) this.#pulling.get(place.source)?.onMessage(message, place);
    else this.#pulling.get(message.subject.slice(this.#inbox.length + 1))?.onStatus(message);
  }

  #streamOf(partition: number): Stream {
    const { streams, queue } = this.#options;
    const stream = streams.of(queue.namespace, partition % queue.streams);
    if (stream === undefined) throw new Error(`the stream of partition ${partition} is not prepared`);
    return stream;
  }

  /** Null: there is no such consumer. */
  async #infoOf(stream: Stream, name: string): Promise<{ readonly pending: number; readonly floor: number } | null> {
    try {
      return await this.#options.streams.request(`CONSUMER.INFO.${stream.name}.${name}`, {}, readInfo);
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  }

  async #epochsOf(stream: Stream, partition: number): Promise<number[]> {
    return (await this.#names(stream)).flatMap((name) => epochIn(name, partition) ?? []);
  }

  async #names(stream: Stream): Promise<string[]> {
    const names: string[] = [];
    for (let page = 0; page < pagesMax; page++) {
      const { consumers, total } = await this.#options.streams.request(`CONSUMER.NAMES.${stream.name}`, { offset: names.length }, readNames);
      names.push(...consumers);
      if (names.length >= total || consumers.length < namesMax) break;
    }
    return names;
  }
}

function nameOf(partition: number, epoch: number): string {
  return `p${partition}_${epoch}`;
}

function epochIn(name: string, partition: number): number | null {
  const [, of, epoch] = /^p(\d+)_(\d+)$/.exec(name) ?? [];
  return Number(of) === partition && epoch !== undefined ? Number(epoch) : null;
}

function isMissing(error: unknown): boolean {
  return error instanceof ApiFailure && (error.code === noConsumer || error.code === noStream);
}

const count = z.int().min(0);
const infoShape = z.object({ ack_floor: z.object({ stream_seq: count }), num_pending: count, num_ack_pending: count });
const namesShape = z.object({ consumers: z.array(z.string()).nullish(), total: count });

function readInfo(fields: Fields): { pending: number; floor: number } | null {
  const { data } = infoShape.safeParse(fields);
  return data === undefined ? null : { pending: data.num_pending + data.num_ack_pending, floor: data.ack_floor.stream_seq };
}

function readNames(fields: Fields): { consumers: string[]; total: number } | null {
  const { data } = namesShape.safeParse(fields);
  return data === undefined ? null : { consumers: data.consumers ?? [], total: data.total };
}

function readTime({ message }: Fields): number | null {
  const time = Date.parse((message as { time?: unknown } | undefined)?.time as string);
  return Number.isNaN(time) ? null : time;
}

function readSuccess({ success }: Fields): true | null {
  return success === true ? true : null;
}
