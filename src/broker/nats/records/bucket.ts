/**
 * A bucket of small records in NATS: a key-value bucket in the form of the NATS tools (`nats kv ls FLUX_PARTITIONS`),
 * used through JetStream's API. The library's bucket was rejected: it reads from any replica, repeats writes, and
 * accepts any JSON as an answer.
 *
 * The stream sends a copy of each stored record, with its revision, to all nodes that watch. Copies may be lost.
 */
import { createInbox, headers, type Msg, type NatsConnection } from "nats";
import * as z from "zod";
import { listen, type NatsLog } from "../connection/connection.ts";
import { ApiFailure, readAnswer, readConsumerInfo, type Fields } from "../wire/answers.ts";
import { placeOf } from "../wire/raw.ts";
import { NatsProblem } from "../connection/access.ts";

export interface BucketOptions {
  readonly connection: NatsConnection;
  /** Of all subjects of the gateway. */
  readonly prefix: string;
  /** Of the bucket, without the prefix: LEASES. */
  readonly name: string;
  /** Age at which records expire; 0: never. */
  readonly maxAgeMs: number;
  readonly replicas: number;
  /** Of each request. */
  readonly timeoutMs: number;
  readonly log: NatsLog;
}

export interface BucketRecord {
  readonly key: string;
  readonly value: string;
  readonly revision: number;
}

export type BucketWritten = { readonly kind: "written"; readonly revision: number } | { readonly kind: "conflict" };

/** See placement/leases/leases.ts, RecordStore. */
export interface Bucket {
  create(key: string, value: string): Promise<BucketWritten>;
  update(key: string, value: string, revision: number): Promise<BucketWritten>;
  read(key: string): Promise<BucketRecord | null>;
  readAll(): Promise<readonly BucketRecord[]>;
  info(): Promise<{ readonly created: string; readonly ageMs: number; readonly lastRevision: number }>;
  watch(listener: (record: BucketRecord) => void): () => void;
}

const wrongRevision = 10071;
const noStream = 10059;
const noMessage = 10037;
const nameInUse = 10058;
const nanosecondsPerMs = 1e6;
const recordBytesMax = 2_048;
const recordsMax = 100_000;

/** Makes the bucket where there is none. @throws NatsProblem where it cannot be used */
export async function openBucket(options: BucketOptions): Promise<Bucket> {
  const { connection, prefix, name, timeoutMs, log } = options;
  const bucket = `${prefix.toUpperCase()}_${name}`;
  const stream = `KV_${bucket}`;
  const subject = (key: string) => `$KV.${bucket}.${key}`;
  const copies = `${prefix}.kv.${bucket}`;

  const request = async <T>(call: string, body: unknown, read: (fields: Fields) => T | null): Promise<T> => {
    const answer = await connection.request(`$JS.API.${call}`, JSON.stringify(body), { timeout: timeoutMs });
    return readAnswer(call, answer.string(), read);
  };
  const write = async (key: string, value: string, expected: number): Promise<BucketWritten> => {
    const condition = headers();
    condition.set("Nats-Expected-Last-Subject-Sequence", String(expected));
    try {
      const answer = await connection.request(subject(key), value, { timeout: timeoutMs, headers: condition });
      const revision = readAnswer(subject(key), answer.string(), (fields) => (fields.stream === stream && isRevision(fields.seq) ? fields.seq : null));
      return { kind: "written", revision };
    } catch (error) {
      if (error instanceof ApiFailure && error.code === wrongRevision) return { kind: "conflict" };
      // The bucket was deleted: it has to be made again by whoever looks.
      throw error;
    }
  };
  const info = () => request(`STREAM.INFO.${stream}`, {}, readInfo);
  const ensure = async () => {
    try {
      return await info();
    } catch (error) {
      if (!(error instanceof ApiFailure) || error.code !== noStream) throw error;
    }
    try {
      return await request(`STREAM.CREATE.${stream}`, configOf(options, bucket, stream, copies), readInfo);
    } catch (error) {
      // Another node has just made it.
      if (error instanceof ApiFailure && error.code === nameInUse) return info();
      throw error;
    }
  };

  const found = await ensure();
  checkConfig(options, stream, found);

  return {
    create: (key, value) => write(key, value, 0),
    update: (key, value, revision) => write(key, value, revision),

    async read(key) {
      try {
        const { seq, data } = await request(`STREAM.MSG.GET.${stream}`, { last_by_subj: subject(key) }, readMessage);
        return { key, value: data, revision: seq };
      } catch (error) {
        if (error instanceof ApiFailure && error.code === noMessage) return null;
        throw error;
      }
    },

    readAll: () => readAll(options, stream, bucket, request),

    async info() {
      const { created, state, ts } = await ensure();
      // Servers before 2.10 do not say what time it is; the newest record is the latest that they have said.
      const latest = Math.max(timeIn(ts), timeIn(state.last_ts));
      return { created, ageMs: Math.max(0, latest - timeIn(created)), lastRevision: state.last_seq };
    },

    watch(listener) {
      const subscription = listen(connection, `${copies}.>`, log, (message) => {
        const place = placeOf(message, stream);
        if (place !== null) listener({ key: message.subject.slice(copies.length + 1), value: message.string(), revision: place.seq });
      });
      return () => subscription.unsubscribe();
    },
  };
}

type Request = <T>(call: string, body: unknown, read: (fields: Fields) => T | null) => Promise<T>;

/** By a consumer of one use: one request for each record would be a hundred. */
async function readAll({ connection, timeoutMs }: BucketOptions, stream: string, bucket: string, request: Request): Promise<BucketRecord[]> {
  const config = {
    deliver_policy: "last_per_subject", filter_subject: `$KV.${bucket}.>`, ack_policy: "explicit", max_ack_pending: recordsMax, max_deliver: 1, replay_policy: "instant",
    inactive_threshold: 5_000 * nanosecondsPerMs, mem_storage: true, num_replicas: 1,
  };
  const { name, num_pending: pending } = await request(`CONSUMER.CREATE.${stream}`, { stream_name: stream, config }, readConsumerInfo);
  try {
    if (pending === 0) return [];
    if (pending > recordsMax) throw new Error(`${stream} has ${pending} records; a gateway has at most ${recordsMax}`);
    return await new Promise<BucketRecord[]>((resolve, reject) => {
      const records: BucketRecord[] = [];
      const subscription = connection.subscribe(createInbox(), {
        callback: (error, message) => {
          if (error !== null) return end(error);
          const record = recordIn(message, bucket);
          // A status: there is nothing more.
          if (record === null) return end(records.length >= pending ? null : new Error(`${stream}: ${message.headers?.code} ${message.headers?.description ?? ""}`));
          records.push(record);
          if (records.length === pending) end(null);
        },
      });
      const timer = setTimeout(() => end(new Error(`${stream}: not all records were read in time`)), timeoutMs);
      const end = (error: Error | null) => {
        clearTimeout(timer);
        subscription.unsubscribe();
        if (error === null) resolve(records);
        else reject(error);
      };
      connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`, JSON.stringify({ batch: pending, expires: timeoutMs * nanosecondsPerMs }), { reply: subscription.getSubject() });
    });
  } finally {
    if (!connection.isClosed()) connection.publish(`$JS.API.CONSUMER.DELETE.${stream}.${name}`);
  }
}

/** Null: no message of a stream. */
function recordIn(message: Msg, bucket: string): BucketRecord | null {
  const revision = Number(message.reply?.split(".").at(-4));
  if (message.reply?.startsWith("$JS.ACK.") !== true || !isRevision(revision)) return null;
  return { key: message.subject.slice(`$KV.${bucket}.`.length), value: message.string(), revision };
}

function isRevision(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function configOf({ maxAgeMs, replicas }: BucketOptions, bucket: string, stream: string, copies: string): object {
  return {
    name: stream,
    description: "flux-gateway: which node delivers the direct messages of which users",
    subjects: [`$KV.${bucket}.>`],
    retention: "limits",
    storage: "file",
    num_replicas: replicas,
    max_msgs_per_subject: 1,
    max_age: maxAgeMs * nanosecondsPerMs,
    max_msg_size: recordBytesMax,
    // Age has to remove records, and never a write that would make room for itself.
    discard: "new",
    deny_delete: true,
    allow_direct: false,
    duplicate_window: (maxAgeMs === 0 ? 120_000 : Math.min(120_000, maxAgeMs)) * nanosecondsPerMs,
    republish: { src: `$KV.${bucket}.>`, dest: `${copies}.>` },
  };
}

const infoShape = z.object({
  config: z.object({ storage: z.string(), num_replicas: z.number(), max_age: z.number().default(0), max_msgs_per_subject: z.number(), allow_direct: z.boolean().default(false), republish: z.object({ dest: z.string() }).optional() }),
  created: z.string(),
  ts: z.string().optional(),
  state: z.object({ last_seq: z.int().min(0), last_ts: z.string().optional() }),
});
type Info = z.infer<typeof infoShape>;
const messageShape = z.object({ message: z.object({ seq: z.int().min(1), data: z.base64().default("") }) });

function readInfo(fields: Fields): Info | null {
  return infoShape.safeParse(fields).data ?? null;
}

function readMessage(fields: Fields): { seq: number; data: string } | null {
  const { data: found } = messageShape.safeParse(fields);
  return found === undefined ? null : { seq: found.message.seq, data: Buffer.from(found.message.data, "base64").toString() };
}

/** 0: unknown. */
function timeIn(text: string | undefined): number {
  const time = text === undefined ? 0 : Date.parse(text);
  return Number.isFinite(time) && time > 0 ? time : 0;
}

/** @throws NatsProblem where somebody has changed what the records rely on */
function checkConfig({ maxAgeMs, replicas }: BucketOptions, stream: string, { config }: Info): void {
  const wrong = [
    ...(config.storage === "file" ? [] : ["its storage is not file"]),
    ...(config.num_replicas === replicas ? [] : [`it has ${config.num_replicas} replicas, and --nats-replicas is ${replicas}`]),
    ...(config.max_age === maxAgeMs * nanosecondsPerMs ? [] : [`its max_age is ${config.max_age / nanosecondsPerMs} ms, and has to be ${maxAgeMs} ms`]),
    ...(config.max_msgs_per_subject === 1 ? [] : ["its history is not 1"]),
    ...(config.allow_direct ? ["it allows direct reads"] : []),
    ...(config.republish === undefined ? ["it has no republish"] : []),
  ];
  if (wrong.length > 0) throw new NatsProblem(`stream ${stream}: ${wrong.join(", ")}; correct the option, or stop all nodes and delete the stream`);
}
