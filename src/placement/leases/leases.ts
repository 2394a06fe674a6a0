/**
 * The leases seam: what `--placement partition` stores outside the node. A partition's one holder delivers the direct
 * messages of its users. The holder (holder.ts) decides with nothing but the answers of these two interfaces, and of a
 * monotonic clock. So it is tested without NATS (test/leases-model.test.ts).
 *
 * - `RecordStore`, two buckets. `leases`: one record a node, `node.<id>`, with the maximum age `leaseMs`.
 *   `assignments`: one record a partition, `p.<n>`, kept. records.ts has their form.
 * - `PartitionQueue`: the direct messages of each partition, in order, and the consumers that remember how many of them
 *   were acknowledged. Consumers may vanish, or stand where they began: then the floor in the assignment counts.
 *
 * Rules for both:
 * - **Only an answered write decides.** A write that resolves MUST be stored (or refused) as answered, on the leader,
 *   by as many replicas as the bucket has. An implementation MUST NOT answer from a cache, nor from what it expects.
 * - **A rejection means: unknown.** The write may be stored, now, later or never. An implementation MUST reject where
 *   it does not know, and never turn a timeout, a lost connection, "no responders" or an error that it does not know
 *   into `conflict`. It MUST NOT repeat a write by itself: the repetition of a stored write looks like a conflict.
 * - **Reads go to the leader** (no direct get), and may be old all the same. They are hints.
 * - Nothing throws synchronously. Every promise settles: the holder gives up after `answerMs` by its own timer, and
 *   ignores what comes later.
 * - No wall clock of a node takes part. Ages come from the server's own clock, or are 0.
 */

/** Age at which the store removes a lease that is not renewed. */
export const leaseMs = 15_000;
/** Interval of renewals. */
export const renewMs = 3_000;
/** An answer that takes longer is unknown. */
export const answerMs = 2_000;
/**
 * After the *send* of the last answered renewal a node stops serving its partitions. The difference to `leaseMs` is
 * what the clock of the store's leader may jump forward (4 s), and a second.
 */
export const serveMs = 10_000;
/** After an outage of the store a node claims for so long only what it held before. */
export const settleMs = 5_000;
/** `next` has this time to claim a released partition, then the table's owner has it, then any node with room may. */
export const nextMs = 2_000;
/** What was pulled has this time to be acknowledged before its partition is released. */
export const finishMs = 1_000;
/** A holder records how far it has delivered so often, where that has changed. */
export const floorMs = 10_000;
/** The store's records are read again so often: no watch is complete. */
export const readAgainMs = 5_000;

/** A record with its revision: the position of the write in its bucket. */
export interface StoredRecord {
  readonly key: string;
  readonly value: string;
  readonly revision: number;
}

/** conflict: another revision is stored, or none, or for `create` any. Nothing was written. */
export type Written = { readonly kind: "written"; readonly revision: number } | { readonly kind: "conflict" };

export interface BucketInfo {
  /** Names this life of the bucket: another one after it was deleted and made again. Such as the time of its creation. */
  readonly created: string;
  /**
   * At least so old, in ms, by the clock of the server. 0 where the server does not say: then its age counts from when
   * the node saw it first. MUST NOT come from the node's wall clock.
   */
  readonly ageMs: number;
  /** The highest revision that was ever written. It MUST NOT fall when records expire. */
  readonly lastRevision: number;
}

/**
 * A bucket. Keys are ASCII letters, digits, `-`, `_`, `.` and `=`; values are JSON of at most 1 KiB. Revisions are of
 * the whole bucket and increase with each write of any key.
 */
export interface RecordStore {
  /** Stores the record where the key has none, or where the last one has expired. MUST be atomic. */
  create(key: string, value: string): Promise<Written>;
  /** Stores the record where the key's newest one has this revision and has not expired. MUST be atomic. */
  update(key: string, value: string, revision: number): Promise<Written>;
  /** Null: none, or expired. */
  read(key: string): Promise<StoredRecord | null>;
  /** All records. Hints. */
  readAll(): Promise<readonly StoredRecord[]>;
  /** Of the bucket as it is now: it MUST notice one that was deleted and made again. MUST NOT come from a cache. */
  info(): Promise<BucketInfo>;
  /**
   * Calls `listener` with records as they are written, by any node. Records may come late, twice or never; expiry is
   * not told. MUST go on by itself after an outage and in a new bucket.
   * @returns ends it
   */
  watch(listener: (record: StoredRecord) => void): () => void;
}

/** A consumer of a partition's messages. */
export interface PartitionConsumer {
  readonly epoch: number;
  /** All messages up to this sequence, inclusive, are acknowledged. */
  readonly floor: number;
}

export interface PartitionState {
  /** Names this life of the stream: another one after it was deleted and made again. Sequences of two lives differ. */
  readonly stream: string;
  /** Highest sequence of the stream, 0 for none. */
  readonly last: number;
  /** All consumers of the partition, of any epoch, in any order. */
  readonly consumers: readonly PartitionConsumer[];
}

/** A message as the queue hands it over. The holder looks at its sequence only. */
export interface QueuedMessage {
  /** Position in the stream of the partition. A partition's sequences increase, with gaps. */
  readonly seq: number;
}

export interface PullEvents<M extends QueuedMessage> {
  /** In order of sequence. MUST NOT be called before `pull` has returned, nor after `stop`. */
  message(message: M): void;
  /** The consumer is gone, or can pull no more, and the queue does not mend it. Called once at most. */
  lost(reason: string): void;
}

/** Pulls for one consumer. */
export interface Pull {
  /** No more messages are pulled or handed over. What was handed over can still be acknowledged. */
  stop(): void;
  /** Ends it, acknowledgements included. The consumer stays. */
  close(): void;
  /** The message was handed to the user's sessions. May be lost: it is then delivered again to the next holder. */
  acknowledge(seq: number): void;
}

/**
 * The messages of all partitions. A consumer outlives its node, belongs to one claim of a partition, and is named for the
 * claim's epoch. Its owner alone pulls; others read its floor and delete it. It may be lost when servers restart: the
 * holder records its floor in the assignment every `floorMs`, and what was delivered since comes again.
 *
 * A consumer is deleted only by a claim of a higher epoch, after that has made its own. So at any moment the consumer
 * of the highest epoch has at least the floor of all others. Nobody deletes its own: see docs/decisions.
 */
export interface PartitionQueue<M extends QueuedMessage> {
  /** MUST be read where floors are newest: they decide from where a new holder delivers. */
  state(partition: number): Promise<PartitionState>;
  /**
   * Makes a consumer that begins behind `floor`: with the replicas of the stream, explicit acknowledgement, and
   * no inactivity limit. MUST resolve also where this consumer already exists (an earlier call was not answered), and
   * MUST NOT change its floor then.
   */
  createConsumer(partition: number, epoch: number, floor: number): Promise<void>;
  /** Deletes the partition's consumers of lower epochs. MUST NOT touch any other. */
  deleteConsumersBelow(partition: number, epoch: number): Promise<void>;
  /**
   * Begins to pull. An unacknowledged message is handed over once in a pull, not again after a time: the holder closes
   * the pull and claims again where one is refused. Interruptions of the connection are the queue's to mend; it MUST
   * call `lost` where it cannot, or where it may have skipped a message.
   */
  pull(partition: number, epoch: number, events: PullEvents<M>): Pull;
}
