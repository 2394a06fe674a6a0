/**
 * The streams of durable rooms: `partitions` of them for each namespace. Missing streams are created, existing ones
 * compared with the configuration. Differences are reported, never changed.
 *
 * The epoch of a stream consists of its name, its time of creation, and a word in its description. A lost stream is
 * created again. A stream that was set back (its server lost unwritten messages) gets another word from the node that
 * notices. In both cases earlier positions become invalid, and no node uses them.
 */
import { createHash } from "node:crypto";
import type { NatsConnection } from "nats";
import type { ErrorCode } from "../../../errors.ts";
import { randomId } from "../../../platform/ids.ts";
import type { Retention } from "../../broker.ts";
import { NatsProblem } from "../connection/access.ts";
import { ApiFailure, readAnswer, readKeptMessage, readStreamInfo, type Fields, type KeptMessage, type StreamConfig, type StreamInfo, type StreamState } from "../wire/answers.ts";
import type { NatsLog } from "../connection/connection.ts";
import { timeOf } from "../wire/envelope.ts";
import type { Listening } from "../listening.ts";
import { queueMark, queueSubject, streamName } from "../wire/names.ts";
import { SetBacks } from "./setback.ts";

export interface StreamOptions {
  readonly prefix: string;
  readonly partitions: number;
  readonly replicas: number;
  readonly storage: "file" | "memory";
  readonly keyWindowMs: number;
  /** Age and bytes up to which streams of archived namespaces keep publications; 0 bytes: any number. */
  readonly archiveLagMs?: number;
  readonly archiveLagBytesMax?: number;
  /** Undefined: no room has a queue. */
  readonly queue?: QueueOptions | undefined;
  /** Monotonic clock in milliseconds; replaced in tests. */
  readonly now?: () => number;
  /** Wait before a rejected subscription to notices is repeated. */
  readonly noticeRetryMs?: number;
}

/**
 * The rooms of one namespace have queues: their publications are not copied to all nodes, but consumed by the node that
 * holds the room's partition.
 */
export interface QueueOptions {
  readonly namespace: string;
  /** Of all users, and the streams that store them. */
  readonly partitions: number;
  readonly streams: number;
  /** The partition of a room of the namespace, by its key. */
  readonly partitionOf: (room: string) => number;
}

export interface Stream {
  readonly name: string;
  readonly namespace: string;
  readonly partition: number;
  readonly retention: Retention;
  /** "" while unknown: at start, and after NATS was unavailable until the stream is checked. */
  epoch: string;
  /** Highest sequence that this node has seen. */
  seen: number;
  /** Every message up to here was delivered by this node, or belongs to no room that is open here. */
  through: number;
  /** Newest message known to this node, with its time: another one in its place means a set-back. */
  markSeq: number;
  markTime: number;
  /** Messages after it may differ from those before NATS was unavailable; Infinity if none do. */
  floor: number;
  /** The stream has no limit for each room: it is archived, or was. */
  isUnlimited: boolean;
}

interface Keeping {
  readonly created: string;
  /** Somebody set a limit that this program does not set: it may delete old messages. */
  readonly isBounded: boolean;
}

/** A server that has just started may lose a request; the caller retries. */
export const apiTimeoutMs = 3_000;
const noticeRetryMs = 30_000;
const nanosecondsPerMs = 1e6;
const noStream = 10059;
const noMessage = 10037;
/** NATS's word for no limit. */
const unlimited = -1;

export class Streams {
  /** Streams that began another epoch while this node ran. */
  restarts = 0;
  /** Called for each of them. */
  onBeganAgain: (stream: Stream) => void = () => {};
  readonly #connection: NatsConnection;
  readonly #options: StreamOptions;
  readonly #noticeSubject: string;
  readonly #log: NatsLog;
  readonly #setBacks: SetBacks;
  readonly #byNamespace = new Map<string, Promise<readonly Stream[]>>();
  readonly #known = new Map<string, readonly Stream[]>();
  /** Requests for a stream's head: not sent yet, and sent last. */
  readonly #heads = new Map<Stream, Promise<number>>();
  readonly #answers = new Map<Stream, Promise<number>>();
  /** The state of each stream at its last check. */
  readonly #epochOf = new Map<string, { readonly created: string; readonly epoch: string }>();

  /** @param onNotice a stream has another epoch: check all streams. */
  constructor(connection: NatsConnection, options: StreamOptions, listening: Listening, log: NatsLog, onNotice: () => void) {
    this.#connection = connection;
    this.#options = options;
    this.#log = log;
    this.#setBacks = new SetBacks(options.replicas > 1, options.now ?? (() => performance.now()));
    this.#noticeSubject = `${options.prefix}.streams`;
    this.#hearNotices(listening, onNotice, false);
  }

  /**
   * Rooms of other nodes may get a new epoch meanwhile. So after notices could not be received, all streams are
   * checked.
   */
  #hearNotices(listening: Listening, onNotice: () => void, isAgain: boolean): void {
    const settled = (refused: ErrorCode | null) => {
      if (refused === null) return isAgain ? onNotice() : undefined;
      setTimeout(() => {
        if (!this.#connection.isClosed()) this.#hearNotices(listening, onNotice, true);
      }, this.#options.noticeRetryMs ?? noticeRetryMs).unref();
    };
    listening.listen({ room: "", subject: this.#noticeSubject, message: () => onNotice(), settled, regained: onNotice });
  }

  /** The stream of a room, if its namespace is prepared (`prepare`). */
  of(namespace: string, index: number): Stream | undefined {
    return this.#known.get(namespace)?.[index];
  }

  all(): Stream[] {
    return [...this.#known.values()].flat();
  }

  /** Creates and compares the streams of a namespace. @throws NatsProblem */
  prepare(namespace: string, retention: Retention): Promise<readonly Stream[]> {
    const known = this.#byNamespace.get(namespace);
    if (known !== undefined) return known;
    const prepared = this.#prepare(namespace, retention);
    this.#byNamespace.set(namespace, prepared);
    prepared.catch(() => this.#byNamespace.delete(namespace));
    return prepared;
  }

  /** NATS was unavailable: the streams may have changed. */
  forgetEpochs(): void {
    for (const stream of this.all()) stream.epoch = "";
  }

  /**
   * Checks a stream again: creates it if it is gone, gives it a new epoch if it was set back.
   * @param saysSo the archive knows messages that are not there any more
   * @throws NotCertain, or as `request`
   */
  async refresh(stream: Stream, saysSo = false): Promise<void> {
    const before = this.#epochOf.get(stream.name);
    // Values from before the request: messages published meanwhile may be in neither.
    const { seen, markSeq, markTime } = stream;
    let info = await this.#ensure(stream);
    const { last_seq: last } = info.state;
    const isSame = info.created === before?.created;
    const isSaid = saysSo && epochOf(stream.name, info) === before?.epoch;
    const saysSetBack = isSame && (isSaid || last < seen || (markSeq > 0 && (await this.#isOvertaken(stream, markSeq, markTime))));
    const isSetBack = this.#setBacks.judge(stream, saysSetBack, last);
    if (isSetBack) {
      this.#log.error({ stream: stream.name, seen, last }, "NATS: a stream was set back and lost its newest messages; its rooms start a new epoch");
      const description = `${this.#describe(stream)}, since ${randomId(6)}`;
      info = await this.request(`STREAM.UPDATE.${stream.name}`, { ...info.config, description }, readStreamInfo);
      // Another node may have noticed too. All check again and use the word that remains.
      this.#connection.publish(this.#noticeSubject);
    }
    const isAnother = !isSame;
    // A node that only subscribes would not notice.
    if (info.did_create === true) this.#connection.publish(this.#noticeSubject);
    if (isSetBack || isAnother) stream.seen = stream.markSeq = 0;
    // Read now: another check may have noticed meanwhile.
    const epoch = this.#epochOf.get(stream.name)?.epoch;
    this.#learn(stream, info);
    if (epoch !== undefined && epoch !== stream.epoch) this.#beganAgain(stream, isSetBack);
    if (isSetBack || isAnother) stream.through = info.state.last_seq;
    // Every message of a new stream was published after the loss of the old one.
    if (isAnother) stream.floor = 0;
    else if (isSetBack) stream.floor = Math.min(stream.floor, last);
  }

  /** The node that noticed a set-back has logged it already. */
  #beganAgain(stream: Stream, isLogged: boolean): void {
    const { name } = stream;
    this.restarts++;
    this.onBeganAgain(stream);
    if (isLogged) return;
    this.#log.warn({ stream: name }, "NATS: a stream lost what it kept and starts a new epoch: history and idempotency keys of its rooms or inboxes are lost, and members get a gap; check the store of NATS");
  }

  get isReplicated(): boolean {
    return this.#options.replicas > 1;
  }

  /** Sequence of a subject's newest message, from the stream's leader; 0 if there is none. */
  async last(stream: Stream, subject: string): Promise<number> {
    const found = await this.message(stream, { last_by_subj: subject });
    return found?.seq ?? 0;
  }

  /**
   * Whether the stream was set back and then filled past this node's knowledge: another message is in the known place.
   */
  async #isOvertaken(stream: Stream, seq: number, time: number): Promise<boolean> {
    const found = await this.message(stream, { seq });
    // The message may have been deleted since.
    return found !== null && timeOf(Buffer.from(found.data ?? "", "base64")) !== time;
  }

  /** A message, from the stream's leader. */
  async message(stream: Stream, which: object): Promise<KeptMessage | null> {
    try {
      return await this.request(`STREAM.MSG.GET.${stream.name}`, which, readKeptMessage);
    } catch (error) {
      if (error instanceof ApiFailure && error.code === noMessage) return null;
      throw error;
    }
  }

  /** The stream's last sequence, requested after this call. Callers before the request leaves share it. */
  headOf(stream: Stream): Promise<number> {
    const coming = this.#heads.get(stream);
    if (coming !== undefined) return coming;
    const before = this.#answers.get(stream) ?? Promise.resolve(0);
    const ask = (): Promise<number> => {
      this.#heads.delete(stream);
      const answer = this.state(stream).then((state) => state.last_seq);
      this.#answers.set(stream, answer);
      return answer;
    };
    const asked = before.then(ask, ask);
    this.#heads.set(stream, asked);
    return asked;
  }

  info(stream: Stream): Promise<StreamInfo> {
    return this.request(`STREAM.INFO.${stream.name}`, {}, readStreamInfo);
  }

  async state(stream: Stream, subject?: string): Promise<StreamState & Keeping> {
    const body = subject === undefined ? {} : { subjects_filter: subject };
    const { state, created, config } = await this.request(`STREAM.INFO.${stream.name}`, body, readStreamInfo);
    return { ...state, created, isBounded: (config.max_bytes ?? 0) > 0 || (config.max_msgs ?? 0) > 0 };
  }

  /**
   * Calls JetStream's API. The library's `jetstreamManager` was rejected. It accepts any JSON without `error` as an
   * answer, while readAnswer checks every field (test/nats-hostile.test.ts). Its `streams.info` with a filter reads all
   * pages of subjects. Its `streams.update` reads the stream once more and merges. It has no read that is limited by
   * bytes and shares one subscription (../history/pulls.ts).
   * @throws ApiFailure, the errors of readAnswer, or those of the client library
   */
  async request<T>(call: string, body: unknown, read: (fields: Fields) => T | null): Promise<T> {
    const answer = await this.#connection.request(`$JS.API.${call}`, JSON.stringify(body), { timeout: apiTimeoutMs });
    return readAnswer(call, answer.string(), read);
  }

  #learn(stream: Stream, { created, config, state }: StreamInfo): void {
    // The epoch was unknown: all open rooms are compared with the stream.
    if (stream.epoch === "") stream.through = Math.max(stream.through, state.last_seq);
    stream.epoch = epochOf(stream.name, { created, config });
    stream.isUnlimited = config.max_msgs_per_subject === unlimited;
    stream.seen = Math.max(stream.seen, state.last_seq);
    this.#epochOf.set(stream.name, { created, epoch: stream.epoch });
  }

  async #prepare(namespace: string, retention: Retention): Promise<readonly Stream[]> {
    const { prefix, partitions, queue } = this.#options;
    const isQueue = namespace === queue?.namespace;
    const streams = Array.from({ length: isQueue ? queue.streams : partitions }, (_, partition): Stream => {
      return { name: streamName(prefix, isQueue ? `${namespace}${queueMark}` : namespace, partition), namespace, partition, retention, epoch: "", seen: 0, through: 0, markSeq: 0, markTime: 0, floor: Infinity, isUnlimited: false };
    });
    const problems: string[] = [];
    await Promise.all(streams.map(async (stream) => {
      const info = await this.#ensure(stream);
      const found = this.#differences(stream, info.config);
      problems.push(...found);
      this.#learn(stream, found.length > 0 ? info : await this.#widened(stream, info));
    }));
    if (problems.length > 0) throw new NatsProblem(problems.join("\n"));
    this.#known.set(namespace, streams);
    return streams;
  }

  async #ensure(stream: Stream): Promise<StreamInfo> {
    try {
      return await this.request(`STREAM.INFO.${stream.name}`, {}, readStreamInfo);
    } catch (error) {
      if (!(error instanceof ApiFailure) || error.code !== noStream) throw explained(error);
    }
    try {
      return await this.request(`STREAM.CREATE.${stream.name}`, this.#configOf(stream), readStreamInfo);
    } catch (error) {
      if (!(error instanceof ApiFailure)) throw explained(error);
      // Another node created it at the same time: the server then says that the stream's subjects overlap with those of
      // a stream, which is this one.
      const made = await this.request(`STREAM.INFO.${stream.name}`, {}, readStreamInfo).catch(() => null);
      if (made !== null) return made;
      throw explained(error, `stream ${stream.name} cannot be created: `);
    }
  }

  #configOf(stream: Stream): StreamConfig {
    const { name, namespace, partition, retention } = stream;
    const { prefix, replicas, storage, keyWindowMs, queue } = this.#options;
    const { historySize, historyTtlMs, archive = false } = retention;
    const { archiveLagMs = 0, archiveLagBytesMax = 0 } = this.#options;
    const isQueue = namespace === queue?.namespace;
    const subject = isQueue ? queueSubject(prefix, partition, namespace, "*", "*") : `${prefix}.in.${partition}.${namespace}.*`;
    return {
      name,
      description: this.#describe(stream),
      subjects: [subject],
      retention: "limits",
      storage,
      num_replicas: replicas,
      // One more: as long as that one is stored, all later ones are, and a member at its position can recover.
      // An archived stream keeps all until they are archived. Mirrors and limits would drop some of them in silence.
      max_msgs_per_subject: archive ? unlimited : historySize + 1,
      max_age: (archive ? Math.max(archiveLagMs, historyTtlMs) : historyTtlMs) * nanosecondsPerMs,
      ...(archive && archiveLagBytesMax > 0 && { max_bytes: archiveLagBytesMax }),
      // NATS requires it to be no longer than the age, and at least 100 ms.
      duplicate_window: Math.min(keyWindowMs, historyTtlMs) * nanosecondsPerMs,
      discard: "old",
      allow_direct: true,
      // Of a queue, the holder's consumer is the only reader.
      ...(!isQueue && { republish: { src: subject, dest: `${prefix}.out.${namespace}.{{wildcard(1)}}` } }),
    };
  }

  #describe({ namespace, partition }: Stream): string {
    const { partitions, queue } = this.#options;
    if (namespace === queue?.namespace) return `flux-gateway, queue ${partition} of ${queue.streams}, ${queue.partitions} partitions`;
    return `flux-gateway, partition ${partition} of ${partitions}`;
  }

  /**
   * Turning the archive on edits the stream in place: nothing is deleted by it, and nodes of before go on. Turning it off
   * leaves the stream as it is, since other nodes may still archive it.
   */
  async #widened(stream: Stream, info: StreamInfo): Promise<StreamInfo> {
    const { config } = info;
    const { max_msgs_per_subject, max_age, max_bytes } = this.#configOf(stream);
    const isArchived = stream.retention.archive === true;
    if (!isArchived && config.max_msgs_per_subject !== unlimited) return info;
    const age = isArchived ? max_age : Math.max(max_age, config.max_age);
    const bytes = isArchived ? max_bytes ?? unlimited : config.max_bytes ?? unlimited;
    if (!isArchived) {
      this.#log.warn({ stream: stream.name, max_msgs_per_subject }, `NATS: the stream of namespace ${stream.namespace} was archived and still has no limit for each room; when no node archives it any more, give it one (nats stream edit ${stream.name} --max-msgs-per-subject ${max_msgs_per_subject})`);
    }
    if (config.max_msgs_per_subject === unlimited && config.max_age === age && (config.max_bytes ?? unlimited) === bytes) return info;
    this.#log.info({ stream: stream.name }, "NATS: the stream is edited: it keeps all publications until they are archived");
    return this.request(`STREAM.UPDATE.${stream.name}`, { ...config, max_msgs_per_subject: unlimited, max_age: age, max_bytes: bytes }, readStreamInfo);
  }

  #differences(stream: Stream, there: StreamConfig): string[] {
    const here = this.#configOf(stream);
    // Limits of archived streams are widened, never a reason to refuse.
    const isArchived = stream.retention.archive === true || there.max_msgs_per_subject === unlimited;
    const { name, namespace } = stream;
    const wrong = (field: string, has: unknown, wants: unknown, way: string) =>
      has === wants ? [] : [`stream ${name} has ${field} ${String(has)}, but the configuration requires ${String(wants)}: ${way}, or change the stream (nats stream edit ${name})`];
    const inbox = namespace === "_inbox";
    const option = (ofNamespace: string, ofInbox: string) => (inbox ? `--${ofInbox}` : `${ofNamespace} of namespace ${namespace}`);
    return [
      ...this.#otherDivision(there, wrong),
      ...wrong("num_replicas", there.num_replicas, here.num_replicas, `set --nats-replicas to ${there.num_replicas}`),
      ...wrong("storage", there.storage, here.storage, `set --nats-storage to ${there.storage}`),
      ...(isArchived ? [] : wrong("max_msgs_per_subject", there.max_msgs_per_subject, here.max_msgs_per_subject, `set ${option("historySize", "inbox-size")} to ${there.max_msgs_per_subject - 1}`)),
      ...(isArchived ? [] : wrong("max_age", `${there.max_age / nanosecondsPerMs} ms`, `${here.max_age / nanosecondsPerMs} ms`, `set ${option("historyTtlMs", "inbox-ttl-ms")} to that`)),
      ...wrong("duplicate_window", `${there.duplicate_window / nanosecondsPerMs} ms`, `${here.duplicate_window / nanosecondsPerMs} ms`, "set --key-window-ms to the stream's value"),
      ...wrong("subjects", there.subjects.join(), here.subjects.join(), "use another --nats-prefix"),
      ...wrong("republish", shownRepublish(there), shownRepublish(here), "use another --nats-prefix"),
      ...wrong("retention", there.retention, here.retention, "use another --nats-prefix"),
      ...wrong("discard", there.discard, here.discard, "use another --nats-prefix"),
      ...wrong("allow_direct", there.allow_direct ?? false, here.allow_direct, "use another --nats-prefix"),
    ];
  }

  /** In how many streams, and of a queue in how many partitions, the rooms are divided. */
  #otherDivision({ name, description = "" }: StreamConfig, wrong: (field: string, has: unknown, wants: unknown, way: string) => string[]): string[] {
    const { partitions, queue } = this.#options;
    const divided = /queue \d+ of (\d+), (\d+) partitions/.exec(description);
    if (divided !== null && queue !== undefined) {
      const [streams, parts] = [Number(divided[1]), Number(divided[2])];
      return [
        ...wrong("streams", streams, queue.streams, `set --placement-streams to ${streams}`),
        ...wrong("partitions", parts, queue.partitions, `set --placement-partitions to ${parts}, or stop all nodes and delete the streams ${name.slice(0, name.lastIndexOf("_"))}_*`),
      ];
    }
    const there = /partition \d+ of (\d+)/.exec(description)?.[1];
    return there === undefined ? [] : wrong("partitions", Number(there), partitions, `set --nats-partitions to ${there}`);
  }
}

function shownRepublish({ republish }: StreamConfig): string {
  return republish === undefined ? "none" : `${republish.src} → ${republish.dest}`;
}

/** Names the stream as it is now. */
export function epochOf(name: string, { created, config }: Pick<StreamInfo, "created" | "config">): string {
  return createHash("sha256").update(`${name} ${created} ${config.description ?? ""}`).digest("base64url").slice(0, 10);
}

/** Notes a message of the stream. */
export function know(stream: Stream, seq: number, time: number): void {
  if (stream.seen < seq) stream.seen = seq;
  if (seq === stream.through + 1) stream.through = seq;
  if (stream.markSeq >= seq) return;
  stream.markSeq = seq;
  stream.markTime = time;
}

/** JetStream that is disabled shows in two ways: no answer, or an account without access. */
function explained(error: unknown, before = ""): Error {
  const { code = "", message } = error as Error & { code?: string | number };
  if (code === "503" || code === 10039 || code === 10076) {
    return new NatsProblem("JetStream is not enabled on the server, and durable rooms need it; start nats-server with -js and a store directory (-sd)");
  }
  const tooFew = /replicas|peers/.test(message) ? "; --nats-replicas needs as many servers in one cluster; start them, or set it to 1" : "";
  return error instanceof ApiFailure ? new NatsProblem(`${before}${message}${tooFew}`) : (error as Error);
}
