/**
 * One process of a node in the simulated world: a main thread with the holder, a reactor that delivers, and a network
 * between it and the store. Each can be slow, frozen or cut off, at every step.
 */
import { createGate, Gate, GateWriter } from "../../../src/placement/leases/gate.ts";
import { Holder } from "../../../src/placement/leases/holder.ts";
import type { HolderWorld } from "../../../src/placement/leases/holderoptions.ts";
import type { PartitionQueue, Pull, PullEvents, QueuedMessage, RecordStore, StoredRecord } from "../../../src/placement/leases/leases.ts";
import type { Timers } from "../../../src/placement/leases/timers.ts";
import type { SimulatedBucket } from "./bucket.ts";
import { answerTurns, type Random, type SimulatedClock } from "./clock.ts";
import type { SimulatedQueue } from "./queue.ts";
import { SimulatedThread } from "./thread.ts";

/** How likely things go wrong at each step. */
export interface Faults {
  /** A request or an answer takes seconds. */
  late: number;
  /** A request or its answer is lost. */
  lost: number;
  /** A read shows an old record. */
  stale: number;
  /** A watch tells nothing of a write. */
  deaf: number;
  /** The main thread, the reactor or both stop for a while after a step. */
  stall: number;
}

export interface Store {
  readonly leases: SimulatedBucket;
  readonly assignments: SimulatedBucket;
  readonly queue: SimulatedQueue;
  /** The store does not answer until then. */
  awayUntil: number;
}

/** What a test may replace in a process, to plant a mistake. */
export interface ProcessParts {
  leases: RecordStore;
  assignments: RecordStore;
  queue: PartitionQueue<QueuedMessage>;
  gate: GateWriter;
  timers: Timers;
  randomId: () => string;
}

export type Plant = (parts: ProcessParts, process: SimulatedProcess) => ProcessParts;

export interface ProcessOptions {
  readonly node: string;
  readonly name: string;
  readonly partitions: number;
  readonly maxPartitions: number;
  readonly clock: SimulatedClock;
  readonly random: Random;
  readonly faults: Faults;
  readonly store: Store;
  readonly world: HolderWorld;
  readonly plant: Plant | undefined;
  /** A delivery begins: it was allowed. */
  delivers(process: SimulatedProcess, partition: number, seq: number): void;
  held(process: SimulatedProcess, partition: number): void;
  /** A consumer is made that begins behind this floor. */
  creates(partition: number, epoch: number, floor: number): void;
}

/** Most timers settle nothing. What is not followed now, is followed with the next event. */
const timerTurns = 3;
const noAnswer = new Error("no answer");

export class SimulatedProcess {
  readonly options: ProcessOptions;
  readonly holder: Holder<QueuedMessage>;
  readonly parts: ProcessParts;
  readonly #gate: Gate;
  /** The claim under which each partition was held last. */
  readonly #claims: number[];
  isAlive = true;
  readonly main: SimulatedThread;
  readonly reactor: SimulatedThread;
  cutUntil = 0;
  /** Only one bucket does not answer: its leader is another server. */
  readonly halfCutUntil = { leases: 0, assignments: 0 };
  readonly #watches: Record<"leases" | "assignments", Set<(record: StoredRecord) => void>> = { leases: new Set(), assignments: new Set() };
  readonly #base: number;
  readonly #rate: number;

  constructor(options: ProcessOptions) {
    const { node, name, partitions, maxPartitions, random, world, plant, held } = options;
    this.options = options;
    this.main = new SimulatedThread(options.clock);
    this.reactor = new SimulatedThread(options.clock);
    this.#base = random.below(1_000_000);
    this.#rate = random.between(0.995, 1.005);
    this.#claims = Array.from({ length: partitions }, () => 0);
    const shared = createGate(partitions);
    const offset = random.below(1e9);
    let boots = 0;
    const parts: ProcessParts = {
      leases: this.#recordStore("leases"),
      assignments: this.#recordStore("assignments"),
      queue: this.#partitionQueue(),
      gate: new GateWriter(shared, offset),
      timers: { now: () => this.now(), after: (ms, run) => this.#after(ms, run) },
      randomId: () => `${name}-${++boots}`,
    };
    this.parts = plant === undefined ? parts : plant(parts, this);
    // The reactor's clock began at another moment.
    const origin = random.below(1_000_000);
    this.#gate = new Gate(shared, partitions, () => this.now() - origin, offset + origin);
    const quiet = { info() {}, warn() {}, error() {} };
    this.holder = new Holder<QueuedMessage>({
      ...this.parts, node, partitions, maxPartitions, world, log: quiet,
      events: {
        held: (partition, claim) => {
          this.#claims[partition] = claim;
          held(this, partition);
        },
        message: (partition, claim, { seq }) => this.#toReactor(partition, claim, seq),
        leaving: () => {},
        dropped: () => {},
        assigned: () => {},
      },
    });
    this.holder.start();
  }

  /** By its own monotonic clock. */
  now(): number {
    return this.#base + this.options.clock.now * this.#rate;
  }

  /** Whether a delivery for the partition may begin in it now. */
  allows(partition: number): boolean {
    return this.isAlive && this.#gate.allows(partition, this.#claims[partition]!);
  }

  kill(): void {
    this.isAlive = false;
    this.main.end();
    this.reactor.end();
  }

  watched(bucket: "leases" | "assignments", record: StoredRecord): void {
    for (const listener of this.#watches[bucket]) {
      if (!this.options.random.chance(this.options.faults.deaf)) this.#arrive(() => listener(record));
    }
  }

  #toReactor(partition: number, claim: number, seq: number): void {
    const { clock, delivers } = this.options;
    this.#mayStall();
    this.reactor.at(clock.now + 0.1, () => {
      const isAllowed = this.#gate.allows(partition, claim);
      if (isAllowed) delivers(this, partition, seq);
      this.#mayStall();
      this.main.at(clock.now + 0.1, () => {
        clock.turns = timerTurns;
        if (isAllowed) this.holder.acknowledged(partition, claim, seq);
        else this.holder.refused(partition, claim);
      });
    });
  }

  #mayStall(): void {
    const { random, faults, clock } = this.options;
    if (!random.chance(faults.stall)) return;
    const until = clock.now + (random.chance(0.4) ? random.between(100, 5_000) : random.between(10_000, 25_000));
    const which = random.below(4);
    if (which !== 1) this.main.freeze(until);
    if (which !== 0) this.reactor.freeze(until);
  }

  #delayMs(): number {
    const { random, faults } = this.options;
    if (!random.chance(faults.late)) return random.between(0.2, 3);
    return random.chance(0.1) ? random.between(2_000, 30_000) : random.between(3, 3_000);
  }

  #isCut(bucket?: "leases" | "assignments"): boolean {
    const { clock, store } = this.options;
    return this.cutUntil > clock.now || store.awayUntil > clock.now || (bucket !== undefined && this.halfCutUntil[bucket] > clock.now);
  }

  /** Something comes from the store, unless the node is cut off when it leaves. */
  #arrive(run: () => void): void {
    if (!this.#isCut()) this.main.at(this.options.clock.now + this.#delayMs(), run);
  }

  #after(ms: number, run: () => void): () => void {
    const event = this.main.at(this.options.clock.now + ms / this.#rate, () => this.#follow(run, timerTurns));
    return () => {
      event.run = null;
    };
  }

  /** It may settle a promise. */
  #follow(run: () => void, turns = answerTurns): void {
    this.options.clock.turns = turns;
    run();
  }

  #request<T>(execute: () => T, bucket?: "leases" | "assignments"): Promise<T> {
    const { clock, random, faults, store } = this.options;
    return new Promise((resolve, reject) => {
      const isLost = this.#isCut(bucket) || random.chance(faults.lost);
      clock.at(clock.now + this.#delayMs(), () => {
        if (isLost || store.awayUntil > clock.now) {
          if (random.chance(0.3)) this.main.at(clock.now + 1, () => this.#follow(() => reject(noAnswer)));
          return;
        }
        const answer = execute();
        if (!random.chance(faults.lost)) this.#arrive(() => this.#follow(() => resolve(answer)));
      });
      this.#mayStall();
    });
  }

  #recordStore(name: "leases" | "assignments"): RecordStore {
    const { store, random, faults } = this.options;
    const bucket = store[name];
    const request = <T>(execute: () => T) => this.#request(execute, name);
    return {
      create: (key, value) => request(() => bucket.create(key, value)),
      update: (key, value, revision) => request(() => bucket.update(key, value, revision)),
      read: (key) => request(() => (random.chance(faults.stale) ? bucket.findOld(key, random) : bucket.find(key))),
      readAll: () => request(() => (random.chance(faults.stale) ? [] : bucket.findAll())),
      info: () => request(() => bucket.info()),
      watch: (listener) => {
        this.#watches[name].add(listener);
        return () => void this.#watches[name].delete(listener);
      },
    };
  }

  #partitionQueue(): PartitionQueue<QueuedMessage> {
    const { store: { queue }, creates } = this.options;
    return {
      state: (partition) => this.#request(() => queue.state(partition)),
      createConsumer: (partition, epoch, floor) => this.#request(() => {
        creates(partition, epoch, floor);
        queue.create(partition, epoch, floor);
      }),
      deleteConsumersBelow: (partition, below) => this.#request(() => queue.deleteWhere(partition, (epoch) => epoch < below)),
      pull: (partition, epoch, events) => this.#pull(partition, epoch, events),
    };
  }

  #pull(partition: number, epoch: number, { message, lost }: PullEvents<QueuedMessage>): Pull {
    const { clock, random, faults, store: { queue } } = this.options;
    let [isOpen, isLost, latest] = [true, false, 0];
    const lose = (reason: string): void => {
      if (!isOpen || isLost) return;
      isLost = true;
      this.main.at(clock.now + this.#delayMs(), () => lost(reason));
    };
    const puller = {
      message: (seq: number) => {
        if (!isOpen || isLost) return;
        if (this.#isCut() || random.chance(faults.lost)) return lose("a message may be missing");
        // In order.
        latest = Math.max(latest, clock.now + this.#delayMs());
        this.main.at(latest, () => {
          if (isOpen) message({ seq });
        });
      },
      lost: () => lose("the consumer is gone"),
    };
    clock.at(clock.now + this.#delayMs(), () => {
      if (this.#isCut() || !queue.pull(partition, epoch, puller)) lose("cannot pull");
    });
    return {
      stop: () => void (isOpen = false),
      close: () => void (isOpen = false),
      acknowledge: (seq) => {
        if (this.#isCut() || random.chance(faults.lost)) return;
        clock.at(clock.now + this.#delayMs(), () => queue.acknowledge(partition, epoch, seq));
      },
    };
  }
}
