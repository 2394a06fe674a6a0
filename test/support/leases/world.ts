/**
 * A gateway in a simulated world: nodes, their store, publishers and devices, and everything that can go wrong with them
 * in an order that a seed decides. What is promised is checked at every delivery.
 */
import type { HolderNode } from "../../../src/placement/leases/holderoptions.ts";
import { leaseMs } from "../../../src/placement/leases/leases.ts";
import { assignmentKey, partitionOfKey, readAssignment, type Assignment } from "../../../src/placement/leases/records.ts";
import { SimulatedBucket } from "./bucket.ts";
import { randomOf, SimulatedClock, type Random } from "./clock.ts";
import { SimulatedProcess, type Faults, type Plant, type Store } from "./process.ts";
import { SimulatedQueue } from "./queue.ts";

const partitions = 3;
/** What goes wrong. A schedule has a few kinds of it, so that these meet often. */
const kinds = ["freeze", "freeze", "freeze", "cut", "cut", "half cut", "kill", "replace", "drain", "table", "table", "limit", "jump", "away", "wipe", "leave", "forget"] as const;
const noFaults: Faults = { late: 0, lost: 0, stale: 0, stall: 0, deaf: 0 };
/** A cluster that starts claims after 5 s. Nothing goes wrong before. */
const startMs = 6_500;
/** A world that has healed goes on: starting one takes as long as most schedules. */
export const schedulesOfWorld = 8;
/** And when nothing does any more, everything has to be held and delivered in this time. */
const healMs = 60_000;

export interface Report {
  /** Schedules that were run. Where something is wrong, it is in the last of them. */
  readonly schedules: number;
  /** What broke a promise; "" for nothing. */
  readonly broken: string;
  /** What did not come back when nothing went wrong any more; "" for nothing. */
  readonly stuck: string;
  readonly deliveries: number;
  readonly claims: number;
  /** What happened, for a person; filled where the world was asked to. */
  readonly story: readonly string[];
}

/** Runs the schedules of one world, up to `count`. The same seed is the same world. */
export async function runWorld(seed: number, count: number, plant?: Plant, isTold = false): Promise<Report> {
  const world = new World(seed, plant, isTold);
  await world.run(count);
  return world.report();
}

class World {
  readonly #clock = new SimulatedClock();
  readonly #random: Random;
  readonly #faults: Faults;
  /** What is likely to fail in this schedule. */
  #later: Faults = noFaults;
  readonly #store: Store;
  readonly #plant: Plant | undefined;
  #processes: SimulatedProcess[] = [];
  #started = 0;
  readonly #nodes: { id: string; state: HolderNode["state"]; maxPartitions: number }[];
  #kinds: readonly (typeof kinds)[number][] = [];
  #owners: string[] = [];
  #heirs: string[] = [];
  readonly #devices = Array.from({ length: partitions }, () => ({ position: 0, isAway: false }));
  /** Index of the next message of each partition that was never delivered. */
  readonly #undelivered = Array.from({ length: partitions }, () => 0);
  /** What was acknowledged of each partition, and the part of it before the claim after its last holder was stored. */
  readonly #floors = Array.from({ length: partitions }, () => ({ isClaimed: false, acknowledged: 0, floor: 0 }));
  readonly #story: string[] = [];
  readonly #isTold: boolean;
  #broken = "";
  #stuck = "";
  #deliveries = 0;
  #claims = 0;
  #isHealing = true;
  #schedules = 0;

  constructor(seed: number, plant: Plant | undefined, isTold: boolean) {
    const random = (this.#random = randomOf(seed));
    this.#isTold = isTold;
    this.#plant = plant;
    this.#faults = { ...noFaults };
    this.#clock.now = 1_000_000;
    const leases = new SimulatedBucket(this.#clock, leaseMs, random.chance(0.1) ? 0 : 100_000);
    const assignments = new SimulatedBucket(this.#clock, 0, random.chance(0.1) ? 0 : 100_000);
    this.#store = { leases, assignments, queue: new SimulatedQueue(partitions), awayUntil: 0 };
    leases.onWrite = (record) => this.#processes.forEach((one) => one.watched("leases", record));
    this.#store.queue.onAcknowledged = (partition, epoch, floor) => this.#acknowledged(partition, epoch, floor);
    assignments.onWrite = (record) => {
      this.#noteFloor(record);
      this.#processes.forEach((one) => one.watched("assignments", record));
    };
    const count = random.chance(0.8) ? 2 : 3;
    this.#nodes = Array.from({ length: count }, (_, i) => ({ id: `n${i}`, state: "up", maxPartitions: 0 }));
  }

  report(): Report {
    return { schedules: this.#schedules, broken: this.#broken, stuck: this.#stuck, deliveries: this.#deliveries, claims: this.#claims, story: this.#story };
  }

  async run(count: number): Promise<void> {
    this.#place();
    for (const { id } of this.#nodes) this.#start(id);
    this.#publishUntil(this.#clock.now + startMs);
    await this.#runUntil(this.#clock.now + startMs);
    while (this.#schedules < count && this.#broken === "" && this.#stuck === "") await this.#schedule();
  }

  async #schedule(): Promise<void> {
    const { between, below } = this.#random;
    const some = (...values: number[]) => values[below(values.length)]!;
    this.#schedules++;
    this.#tell(() => `schedule ${this.#schedules} begins`);
    this.#later = { late: some(0, 0, 0.03, 0.1), lost: some(0, 0, 0.003, 0.02), stale: some(0, 0.1, 0.5), stall: some(0, 0, 0.003, 0.02), deaf: some(0, 0, 0.3, 1) };
    this.#kinds = Array.from({ length: 3 + below(2) }, () => kinds[below(kinds.length)]!);
    const [begin, end] = [this.#clock.now, this.#clock.now + some(7_000, 18_000, 24_000)];
    this.#publishUntil(end + 2_000);
    for (let time = begin + between(0, 2_000); time < end; time += between(500, 7_500)) this.#clock.at(time, () => this.#trouble());
    Object.assign(this.#faults, this.#later);
    this.#isHealing = false;
    await this.#runUntil(end);
    this.#heal();
    let wholeMs = 0;
    for (let ms = 3_000; ms <= healMs && this.#broken === ""; ms += 1_000) {
      await this.#runUntil(end + ms);
      if (!this.#isWhole()) wholeMs = 0;
      // Nodes that hear nothing of each other may still quarrel when they read all records again.
      else if ((wholeMs += 1_000) > (this.#faults.deaf === 1 ? 8_000 : 0)) return;
    }
    if (this.#broken !== "") return;
    this.#stuck = `${healMs / 1_000} s after the last fault: ${this.#missing()}`;
    this.#tell(() => this.#stuck);
  }

  /** Runs it then, if this schedule's trouble has not ended by then. */
  #duringTrouble(time: number, run: () => void): void {
    const schedule = this.#schedules;
    this.#clock.at(time, () => {
      if (!this.#isHealing && this.#schedules === schedule) run();
    });
  }

  /** In steps: a schedule that has shown a mistake need not go on. */
  async #runUntil(end: number): Promise<void> {
    while (this.#clock.now < end && this.#broken === "") await this.#clock.runUntil(Math.min(end, this.#clock.now + 1_000));
  }

  #tell(text: () => string): void {
    if (this.#isTold) this.#story.push(`${((this.#clock.now - 1_000_000) / 1_000).toFixed(3)} ${text()}`);
  }

  #break(text: string): void {
    this.#tell(() => `BROKEN: ${text}`);
    this.#broken ||= text;
  }

  #start(node: string): void {
    const faults = this.#faults;
    const process: SimulatedProcess = new SimulatedProcess({
      node, faults, partitions, name: `${node}/${this.#started++}`, clock: this.#clock, random: this.#random, store: this.#store, plant: this.#plant,
      maxPartitions: this.#node(node).maxPartitions,
      world: { ownerOf: (partition) => this.#owners[partition]!, heirOf: (partition) => this.#heirs[partition]!, nodes: () => this.#nodes, mayRebalance: () => true },
      delivers: (one, partition, seq) => this.#delivered(one, partition, seq),
      held: (one, partition) => this.#held(one, partition),
      creates: (partition, epoch, floor) => this.#created(partition, epoch, floor),
    });
    this.#tell(() => `${process.options.name} starts`);
    this.#node(node).state = "up";
    this.#processes.push(process);
  }

  #node(id: string) {
    return this.#nodes.find((one) => one.id === id)!;
  }

  /** The table names any nodes: it may be wrong. */
  #place(): void {
    const { below } = this.#random;
    this.#owners = Array.from({ length: partitions }, () => this.#nodes[below(this.#nodes.length)]!.id);
    this.#heirs = Array.from({ length: partitions }, () => this.#nodes[below(this.#nodes.length)]!.id);
    for (const { holder } of this.#processes) holder.look();
  }

  #publishUntil(end: number): void {
    if (this.#clock.now >= end) return;
    this.#store.queue.publish(this.#random.below(partitions));
    this.#clock.at(this.#clock.now + this.#random.between(200, 3_000), () => this.#publishUntil(end));
  }

  #delivered(process: SimulatedProcess, partition: number, seq: number): void {
    this.#deliveries++;
    this.#checkAlone(process, partition, `delivers ${seq}`);
    const messages = this.#store.queue.messages(partition);
    const next = this.#undelivered[partition]!;
    // Messages before it are delivered, so they were not skipped. One that is delivered again is a device's to discard.
    if (seq === messages[next]) this.#undelivered[partition] = next + 1;
    else if (seq > (messages[next] ?? Infinity)) this.#break(`message ${messages[next]} of partition ${partition} was skipped: ${process.options.name} delivers ${seq}`);
    const device = this.#devices[partition]!;
    if (device.isAway || seq <= device.position) return;
    const expected = messages[messages.lastIndexOf(device.position) + 1];
    if (seq !== expected) this.#break(`a device of partition ${partition} at ${device.position} gets ${seq} instead of ${expected}`);
    device.position = seq;
  }

  #held(process: SimulatedProcess, partition: number): void {
    this.#claims++;
    this.#tell(() => `${process.options.name} holds ${partition}`);
    this.#checkAlone(process, partition, "holds it");
  }

  #checkAlone(process: SimulatedProcess, partition: number, what: string): void {
    for (const other of this.#processes) {
      if (other !== process && other.allows(partition)) this.#break(`two deliver for partition ${partition}: ${other.options.name}, when ${process.options.name} ${what}`);
    }
  }

  /** What was acknowledged before the first claim after a holder must not be queued for the next one. Nor may a record say too much. */
  #noteFloor({ key, value }: { readonly key: string; readonly value: string }): void {
    const partition = partitionOfKey(key);
    const record = this.#read(value);
    if (partition < 0 || record === null) return;
    this.#tell(() => `${key} is ${value}`);
    const undelivered = this.#store.queue.messages(partition)[this.#undelivered[partition]!] ?? Infinity;
    if (record.floor >= undelivered) this.#break(`${key} says that everything up to ${record.floor} was delivered, and ${undelivered} was not`);
    const before = this.#floors[partition]!;
    const isClaimed = record.state === "claimed";
    if (isClaimed && !before.isClaimed) before.floor = before.acknowledged;
    before.isClaimed = isClaimed;
  }

  /** Each is read many times. */
  #read(value: string): Assignment | null {
    let record = this.#records.get(value);
    if (record === undefined) this.#records.set(value, (record = readAssignment(value)));
    return record;
  }

  readonly #records = new Map<string, Assignment | null>();

  /** An acknowledgement that arrives after the next claim may be too late for it. */
  #acknowledged(partition: number, epoch: number, floor: number): void {
    const record = this.#read(this.#store.assignments.find(assignmentKey(partition))?.value ?? "");
    const floors = this.#floors[partition]!;
    if (record !== null && record.state !== "claimed" && record.epoch === epoch) floors.acknowledged = Math.max(floors.acknowledged, floor);
  }

  #created(partition: number, epoch: number, floor: number): void {
    const { isClaimed, floor: least } = this.#floors[partition]!;
    this.#tell(() => `consumer ${epoch} of ${partition} from ${floor}`);
    const stored = this.#store.assignments.find(assignmentKey(partition));
    // Others have lost, and nobody delivers from their consumers.
    if (!isClaimed || stored?.revision !== epoch) return;
    if (floor < least) this.#break(`partition ${partition} goes on behind ${floor}: messages up to ${least} were acknowledged before the claim`);
  }

  #isWhole(): boolean {
    return this.#missing() === "";
  }

  #missing(): string {
    for (let partition = 0; partition < partitions; partition++) {
      const holders = this.#processes.filter((one) => one.allows(partition));
      if (holders.length !== 1) return `partition ${partition} is held by ${holders.length} nodes`;
      const messages = this.#store.queue.messages(partition);
      if (this.#undelivered[partition] !== messages.length) return `message ${messages[this.#undelivered[partition]!]} of partition ${partition} is not delivered`;
      if (this.#devices[partition]!.position !== (messages.at(-1) ?? 0)) return `the device of partition ${partition} has not got everything`;
    }
    return "";
  }

  #heal(): void {
    this.#tell(() => "everything heals");
    this.#isHealing = true;
    Object.assign(this.#faults, { ...noFaults, deaf: this.#later.deaf });
    this.#store.awayUntil = 0;
    this.#returnDevices();
    for (const node of this.#nodes) {
      node.maxPartitions = 0;
      const mine = this.#processes.filter((one) => one.options.node === node.id && one.isAlive);
      // Of two processes with one id the newer one stays.
      for (const older of mine.slice(0, -1)) older.kill();
      const newest = mine.at(-1);
      if (newest === undefined || node.state !== "up") {
        newest?.kill();
        this.#start(node.id);
        continue;
      }
      newest.holder.setMaxPartitions(0);
      newest.cutUntil = 0;
      Object.assign(newest.halfCutUntil, { leases: 0, assignments: 0 });
      newest.main.wake();
      newest.reactor.wake();
    }
    this.#processes = this.#processes.filter((one) => one.isAlive);
  }

  #returnDevices(): void {
    this.#devices.forEach((device, partition) => {
      if (device.isAway) device.position = this.#store.queue.messages(partition).at(-1) ?? 0;
      device.isAway = false;
    });
  }

  #alive(): SimulatedProcess | undefined {
    const alive = this.#processes.filter((one) => one.isAlive);
    return alive[this.#random.below(Math.max(1, alive.length))];
  }

  #trouble(): void {
    if (this.#isHealing) return;
    const { below, between, chance } = this.#random;
    const now = this.#clock.now;
    const one = this.#alive();
    const forMs = chance(0.4) ? between(300, 5_000) : between(8_000, 28_000);
    switch (this.#kinds[below(this.#kinds.length)]) {
      case "freeze": return this.#freeze(one, now + forMs);
      case "cut": return this.#cut(one, now + forMs);
      case "half cut": return this.#halfCut(one, now + forMs);
      case "kill": return this.#killed(one);
      case "replace": return this.#replaced(one);
      case "drain": return this.#drained(one);
      case "table": return this.#tabled();
      case "limit": return this.#limited(one);
      case "jump": return this.#jumped();
      case "away": return this.#away(now + (chance(0.7) ? between(300, 6_000) : between(6_000, 16_000)));
      case "wipe": return this.#wiped();
      case "leave": return this.#left();
      case "forget": return this.#forgotten();
    }
  }

  #freeze(one: SimulatedProcess | undefined, until: number): void {
    if (one === undefined) return;
    const which = Math.max(0, this.#random.below(4) - 1);
    this.#tell(() => `${one.options.name}: ${["main thread", "reactor", "process"][which]} frozen until ${(until - 1e6) / 1e3}`);
    if (which !== 1) one.main.freeze(until);
    if (which !== 0) one.reactor.freeze(until);
    if (this.#kinds.includes("jump")) this.#jumped();
  }

  #cut(one: SimulatedProcess | undefined, until: number): void {
    this.#tell(() => `${one?.options.name} is cut off until ${(until - 1e6) / 1e3}`);
    if (one !== undefined) one.cutUntil = Math.max(one.cutUntil, until);
  }

  #halfCut(one: SimulatedProcess | undefined, until: number): void {
    const bucket = this.#random.chance(0.7) ? "leases" : "assignments";
    this.#tell(() => `${one?.options.name} is cut off from the ${bucket} until ${(until - 1e6) / 1e3}`);
    if (one !== undefined) one.halfCutUntil[bucket] = until;
  }

  #killed(one: SimulatedProcess | undefined): void {
    if (one === undefined) return;
    this.#tell(() => `${one.options.name} is killed`);
    one.kill();
    const { node } = one.options;
    this.#node(node).state = "down";
    this.#duringTrouble(this.#clock.now + this.#random.between(100, 15_000), () => this.#start(node));
  }

  /** The old process is frozen or cut off, and another one with its id starts. Later the old one wakes. */
  #replaced(one: SimulatedProcess | undefined): void {
    if (one === undefined) return;
    const until = this.#clock.now + this.#random.between(1_000, 25_000);
    if (this.#random.chance(0.5)) one.main.freeze(until);
    else one.cutUntil = Math.max(one.cutUntil, until);
    this.#tell(() => `${one.options.name} is replaced`);
    this.#start(one.options.node);
  }

  #drained(one: SimulatedProcess | undefined): void {
    if (one === undefined) return;
    const { node } = one.options;
    this.#tell(() => `${one.options.name} drains`);
    this.#node(node).state = "draining";
    const schedule = this.#schedules;
    const end = (): void => {
      if (!one.isAlive || this.#isHealing || this.#schedules !== schedule) return;
      void one.holder.stop().then(() => one.kill());
      this.#duringTrouble(this.#clock.now + this.#random.between(3_000, 8_000), () => this.#start(node));
    };
    void one.holder.drain().then(end);
    if (this.#random.chance(0.2)) this.#clock.at(this.#clock.now + 500, end);
  }

  #tabled(): void {
    this.#place();
    this.#tell(() => `the table says ${this.#owners}`);
  }

  #limited(one: SimulatedProcess | undefined): void {
    if (one === undefined) return;
    const limit = this.#random.below(partitions + 1);
    this.#tell(() => `${one.options.name} may hold ${limit || "any"}`);
    this.#node(one.options.node).maxPartitions = limit;
    one.holder.setMaxPartitions(limit);
  }

  /** The leader's clock, and the wall clocks of nodes (see the test). */
  #jumped(): void {
    const { leases, assignments } = this.#store;
    const ms = this.#random.chance(0.8) ? this.#random.between(3_000, 3_900) : -this.#random.between(0, 20_000);
    // At most one jump forward in the life of a lease.
    if (ms > 0 && this.#clock.now < this.#jumpedAt + 30_000) return;
    if (ms > 0) this.#jumpedAt = this.#clock.now;
    this.#tell(() => `the leader's clock jumps ${Math.round(ms)} ms`);
    leases.ahead += ms;
    assignments.ahead += ms;
  }

  #jumpedAt = -Infinity;

  #away(until: number): void {
    this.#tell(() => `the store is away until ${(until - 1e6) / 1e3}`);
    this.#store.awayUntil = Math.max(this.#store.awayUntil, until);
  }

  /** Made again at any time, or set back by an outage that took so long that nobody serves any more. */
  #wiped(): void {
    const { leases, assignments } = this.#store;
    const which = this.#random.below(4);
    if (this.#random.chance(0.5)) this.#killed(this.#alive());
    this.#tell(() => `wiped: ${["leases", "partitions", "both", "set back"][which]}`);
    if (which === 0 || which === 2) leases.wipe();
    if (which === 1 || which === 2) assignments.wipe();
    this.#lost();
    if (which !== 3) return;
    const until = this.#clock.now + this.#random.between(11_000, 15_000);
    this.#away(until);
    // Without an outage before, it is nothing that was promised.
    this.#duringTrouble(until - 1, () => {
      leases.setBack(this.#random.below(20));
      assignments.setBack(this.#random.below(5));
      this.#lost();
    });
  }

  #forgotten(): void {
    const areGone = this.#random.chance(0.7);
    this.#tell(() => `consumers ${areGone ? "are gone" : "begin again"}`);
    this.#store.queue.forget(areGone);
    this.#lost();
  }

  /** Records or consumers are gone: of what was acknowledged, only what the others know counts. */
  #lost(): void {
    this.#floors.forEach((floors, partition) => {
      const recorded = this.#read(this.#store.assignments.find(assignmentKey(partition))?.value ?? "")?.floor ?? 0;
      const known = Math.max(recorded, ...this.#store.queue.state(partition).consumers.map(({ floor }) => floor));
      floors.acknowledged = Math.min(floors.acknowledged, known);
      floors.floor = Math.min(floors.floor, known);
    });
  }

  #left(): void {
    if (this.#random.chance(0.5)) return this.#returnDevices();
    for (const device of this.#devices) device.isAway = true;
  }
}
