/**
 * One node's part in the leases: keeps the node's lease, claims the partitions that are its own, delivers for them while
 * the lease lasts, and hands them over. leases.ts has the rules, claim.ts the order of a claim, decide.ts what comes next.
 */
import { Asking } from "./asking.ts";
import { Assignments, type KnownAssignment } from "./assignments.ts";
import { Bucket } from "./bucket.ts";
import { claim, type Claimed } from "./claim.ts";
import { betterOwner, heirOf, nextStep, type Situation } from "./decide.ts";
import type { HolderOptions, HolderUsage, PartitionHolder, PartitionReport } from "./holderoptions.ts";
import { Floors } from "./floors.ts";
import { Holding } from "./holding.ts";
import { Lease } from "./lease.ts";
import { finishMs, nextMs, readAgainMs, settleMs, type QueuedMessage, type StoredRecord } from "./leases.ts";
import { Proofs } from "./proofs.ts";
import { epochOf, isHeldBy, type Assignment } from "./records.ts";
import { release } from "./release.ts";

/** The node looks at all partitions so often, and whenever something changed. */
const lookMs = 1_000;
/** After a claim that failed, or a partition that was dropped. */
const againMs = 250;
/** A partition that was handed over and not taken is not handed over again to balance nodes for so long. */
const untakenMs = 30_000;
/** At once: a node should not keep others waiting for their answers. */
const claimsMax = 32;
/** At once: each of them waits until the next node delivers, and the users of the others are served here meanwhile. */
const handoversMax = 4;

export class Holder<M extends QueuedMessage> implements PartitionHolder {
  readonly #options: HolderOptions<M>;
  readonly #asking: Asking;
  readonly #leases: Bucket;
  readonly #bucket: Bucket;
  readonly #lease: Lease;
  readonly #proofs: Proofs;
  readonly #assignments: Assignments;
  readonly #holdings = new Map<number, Holding<M>>();
  readonly #claiming = new Set<number>();
  readonly #releasing = new Set<number>();
  readonly #floors: Floors;
  /** Partitions that this process held last, and its claims of them. */
  readonly #wasOwn = new Map<number, Claimed>();
  /** Partitions that are left alone until then. */
  readonly #notBefore = new Map<number, number>();
  /** Partitions that were handed over, and until when the next node may take its time to deliver for them. */
  readonly #handedUntil = new Map<number, number>();
  /** Partitions whose better owner did not take them: until then they stay here. */
  readonly #staysUntil = new Map<number, number>();
  readonly #ends: (() => void)[] = [];
  readonly #at: Situation;
  #maxPartitions: number;
  #claims = 0;
  #isStopped = false;
  #isSoon = false;
  #readAt = -Infinity;
  #drained: { readonly promise: Promise<void>; readonly resolve: () => void } | null = null;

  constructor(options: HolderOptions<M>) {
    const { node, partitions, maxPartitions, leases, assignments, timers, randomId, log, gate } = options;
    this.#options = options;
    this.#maxPartitions = maxPartitions;
    this.#asking = new Asking(timers);
    this.#leases = new Bucket(leases, this.#asking, timers, (how) => this.#startOver(`the bucket of leases ${how}`));
    this.#bucket = new Bucket(assignments, this.#asking, timers, (how) => this.#startOver(`the bucket of partitions ${how}`));
    this.#proofs = new Proofs(node, this.#leases, timers, () => this.look());
    this.#assignments = new Assignments(partitions, timers, (partition, known) => this.#changed(partition, known));
    this.#lease = new Lease({
      node, leases: this.#leases, assignments: this.#bucket, timers, randomId, log,
      serve: (until) => gate.serve(until),
      begun: () => this.look(),
      ended: (reason) => this.#leaseEnded(reason),
    });
    this.#floors = new Floors({ node, lease: this.#lease, bucket: this.#bucket, assignments: this.#assignments, timers });
    this.#leases.onLooked = (revision, at) => this.#proofs.forgetAbove(revision, at);
    this.#bucket.onLooked = (revision, at) => this.#assignments.forgetAbove(revision, at);
    this.#at = this.#makeSituation();
  }

  start(): void {
    this.#ends.push(this.#leases.watch((record) => this.#proofs.learn(record)));
    this.#ends.push(this.#bucket.watch((record) => this.#assignments.learn(record)));
    this.#lease.start();
    this.#tick();
  }

  /** Soon, and once for all that changed. */
  look(): void {
    if (this.#isSoon || this.#isStopped) return;
    this.#isSoon = true;
    this.#options.timers.after(0, () => {
      this.#isSoon = false;
      this.#lookNow();
    });
  }

  storeAway(): void {
    this.#asking.away();
  }

  acknowledged(partition: number, claimNumber: number, seq: number): void {
    const holding = this.#holdings.get(partition);
    if (holding?.claim === claimNumber) holding.acknowledged(seq);
  }

  refused(partition: number, claimNumber: number): void {
    if (this.#holdings.get(partition)?.claim === claimNumber) this.#drop(partition, "a message was not delivered");
  }

  setMaxPartitions(limit: number): void {
    this.#maxPartitions = limit;
    this.look();
  }

  drain(): Promise<void> {
    if (this.#drained === null) {
      let resolve = () => {};
      const promise = new Promise<void>((done) => (resolve = done));
      this.#drained = { promise, resolve };
      this.look();
    }
    return this.#drained.promise;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const end of this.#ends.splice(0)) end();
    await this.#lease.stop();
    this.#drained?.resolve();
  }

  get hasLease(): boolean {
    return this.#lease.boot !== "";
  }

  report(partition: number): PartitionReport {
    const known = this.#assignments.get(partition);
    const { owner = "", boot = "", state = "released", next = "" } = known?.record ?? {};
    const unownedMs = this.#unownedMs(partition, known);
    return {
      partition, boot, next, unownedMs, owner: state === "released" ? "" : owner, confirmed: state === "held",
      epoch: known?.record ? epochOf(known.record, known.revision) : 0, here: this.#here(partition),
    };
  }

  usage(): HolderUsage {
    const holdings = [...this.#holdings.values()];
    const leaving = holdings.filter(({ isLeaving }) => isLeaving).length;
    const unowned = Array.from({ length: this.#options.partitions }, (_, i) => this.#unownedMs(i, this.#assignments.get(i))).filter((ms) => ms > 0);
    return {
      held: holdings.length - leaving, leaving, claiming: this.#claiming.size, maxPartitions: this.#maxPartitions,
      unowned: unowned.length, unownedMs: Math.max(0, ...unowned), leaseMs: this.#lease.heldMs, problem: this.#problem,
    };
  }

  #here(partition: number): PartitionReport["here"] {
    if (this.#claiming.has(partition)) return "claiming";
    const holding = this.#holdings.get(partition);
    return holding === undefined ? "idle" : holding.isLeaving ? "leaving" : "held";
  }

  #unownedMs(partition: number, known: KnownAssignment | undefined): number {
    if (this.#holdings.has(partition)) return 0;
    const { record, at = this.#assignments.since } = known ?? {};
    const isOwned = record && record.state !== "released" && record.owner !== this.#options.node && this.#proofs.isAlive(record.owner);
    return isOwned ? 0 : Math.max(1, this.#options.timers.now() - at);
  }

  get #problem(): string {
    if (this.#lease.boot === "") return "this node has no lease";
    if (this.#drained !== null) return "this node drains";
    if (this.#leases.isYoung || this.#bucket.isYoung) return "the buckets were made or changed a moment ago";
    return this.#asking.calmMs < settleMs ? "NATS has come back a moment ago" : "";
  }

  #tick(): void {
    if (this.#isStopped) return;
    this.#options.timers.after(lookMs, () => this.#tick());
    this.#lookNow();
    const now = this.#options.timers.now();
    if (now - this.#readAt < readAgainMs) return;
    this.#readAt = now;
    void this.#readAgain();
  }

  async #readAgain(): Promise<void> {
    const learn = (found: readonly StoredRecord[] | undefined, one: (record: StoredRecord) => void) => found?.forEach(one);
    const [leases, assignments] = [this.#leases.readAll(), this.#bucket.readAll()];
    learn(await leases, (record) => this.#proofs.learn(record));
    learn(await assignments, (record) => this.#assignments.learn(record));
  }

  #lookNow(): void {
    if (this.#isStopped) return;
    const at = this.#situation();
    if (at.boot !== "") {
      this.#handOverSome(at);
      for (let partition = 0; partition < this.#options.partitions; partition++) this.#step(partition, at);
      this.#floors.look(this.#holdings.values());
    }
    if (this.#drained !== null && this.#isEmpty()) this.#drained.resolve();
  }

  /** One object for all looks: it answers from what the node knows at that moment. */
  #makeSituation(): Situation {
    const { node, world } = this.#options;
    return {
      self: node, boot: "", now: 0, isDraining: false, mayClaimNew: false, mayRebalance: false, nodes: new Map(),
      hasRoom: () => this.#holdings.size + this.#claiming.size + this.#releasing.size < (this.#maxPartitions || Infinity),
      ownerOf: (partition) => world.ownerOf(partition),
      heirOf: (partition) => world.heirOf(partition),
      countOf: (id) => this.#assignments.countOf(id),
      endedAt: (boot) => this.#proofs.endedAt(boot),
      isFormer: (boot) => this.#lease.isFormer(boot),
      isAlive: (id) => this.#proofs.isAlive(id),
    };
  }

  #situation(): Situation {
    const { timers, world } = this.#options;
    const at = this.#at;
    at.boot = this.#lease.boot;
    at.now = timers.now();
    at.isDraining = this.#drained !== null;
    at.mayClaimNew = this.#asking.calmMs >= settleMs && !this.#leases.isYoung && !this.#bucket.isYoung;
    at.mayRebalance = world.mayRebalance();
    at.nodes.clear();
    for (const one of world.nodes()) at.nodes.set(one.id, one);
    return at;
  }

  #step(partition: number, at: Situation): void {
    if (this.#holdings.has(partition) || this.#claiming.has(partition) || this.#releasing.has(partition)) return;
    if ((this.#notBefore.get(partition) ?? 0) > at.now) return;
    const known = this.#assignments.get(partition);
    const own = this.#wasOwn.get(partition);
    const wasOwn = own !== undefined && isHeldBy(known?.record, at.self, own.boot, own.epoch);
    const step = nextStep(partition, known, this.#assignments.since, wasOwn, at);
    switch (step.kind) {
      case "wait": return;
      case "prove": return void this.#proofs.prove(step.owner, this.#assignments.bootsOf(step.owner));
      case "release": return void this.#release(partition, { ...known!.record!, epoch: epochOf(known!.record!, known!.revision), next: step.next }, known!.revision);
      case "claim":
        if (this.#claiming.size >= claimsMax) return;
        if (isUntaken(known?.record, at.self)) this.#staysUntil.set(partition, at.now + untakenMs);
        void this.#claim(partition, wasOwn);
    }
  }

  async #claim(partition: number, wasOwn: boolean): Promise<void> {
    const { node, queue } = this.#options;
    this.#claiming.add(partition);
    const parts = { node, lease: this.#lease, leases: this.#leases, bucket: this.#bucket, assignments: this.#assignments, queue, asking: this.#asking };
    const claimed = await claim(parts, partition, wasOwn);
    this.#claiming.delete(partition);
    if (claimed !== null && !this.#isStopped) this.#hold(claimed);
    else this.#leaveAlone(partition);
    this.look();
  }

  #hold(claimed: Claimed): void {
    const { partition, boot, epoch } = claimed;
    // Another write may have been seen since: of somebody who has proof that this node's lease had lapsed.
    if (this.#lease.boot !== boot || this.#assignments.get(partition)?.revision !== claimed.revision) return;
    const { gate, events, queue, log } = this.#options;
    const holding = new Holding<M>(claimed, (this.#claims = (this.#claims % 0x7fffffff) + 1), this.#options.timers.now());
    const { claim: number } = holding;
    this.#holdings.set(partition, holding);
    this.#wasOwn.set(partition, claimed);
    gate.hold(partition, number);
    log.info({ partition, epoch }, `placement: this node delivers for partition ${partition}`);
    events.held(partition, number);
    holding.begin(queue, {
      message: (message) => events.message(partition, number, message),
      lost: (reason) => this.#drop(partition, reason),
    });
  }

  /** Stops all deliveries for it, before anything else happens. */
  #drop(partition: number, reason: string): void {
    const holding = this.#holdings.get(partition);
    if (holding === undefined) return;
    const { gate, events, log } = this.#options;
    gate.drop(partition);
    this.#holdings.delete(partition);
    holding.close();
    this.#leaveAlone(partition);
    log.info({ partition, reason }, `placement: this node does not deliver for partition ${partition} any more: ${reason}`);
    events.dropped(partition, holding.claim, reason);
    this.look();
  }

  #leaveAlone(partition: number): void {
    this.#notBefore.set(partition, this.#options.timers.now() + againMs);
  }

  #leaseEnded(reason: string): void {
    this.#options.gate.dropAll();
    for (const partition of [...this.#holdings.keys()]) this.#drop(partition, `the lease has ended: ${reason}`);
    // What it held is to be held again as soon as there is a new lease.
    this.#notBefore.clear();
  }

  /** Nothing that the node knew is certain. */
  #startOver(reason: string): void {
    this.#options.log.error({ reason }, `placement: ${reason}: this node drops all partitions and starts over`);
    this.#lease.end(reason);
    this.#wasOwn.clear();
    this.#handedUntil.clear();
    this.#proofs.reset();
    this.#assignments.reset();
    this.#readAt = -Infinity;
  }

  #changed(partition: number, { revision, record }: KnownAssignment): void {
    const claimed = this.#holdings.get(partition)?.claimed;
    if (claimed !== undefined && revision > claimed.revision && !isHeldBy(record, this.#options.node, claimed.boot, claimed.epoch)) {
      this.#wasOwn.delete(partition);
      this.#drop(partition, "another node has claimed it");
    }
    if (record?.state === "held") this.#handedUntil.delete(partition);
    this.#options.events.assigned(partition, record === null ? "" : this.#ownerToBe(record), record?.state === "held");
    this.look();
  }

  /** Users of a partition that was handed over go to the next node at once: it answers them when it delivers. */
  #ownerToBe({ state, owner, next }: Assignment): string {
    if (state !== "released") return owner;
    return this.#options.world.nodes().some(({ id, state: its }) => id === next && its === "up") ? next : "";
  }

  #handOverSome(at: Situation): void {
    for (const [partition, until] of this.#handedUntil) if (until <= at.now) this.#handedUntil.delete(partition);
    if (this.#holdings.size === 0) return;
    const all = [...this.#holdings.values()];
    const staying = all.filter(({ isLeaving }) => !isLeaving);
    let places = handoversMax - this.#handedUntil.size - (all.length - staying.length);
    let excess = at.isDraining ? Infinity : staying.length - (this.#maxPartitions || Infinity);
    const order = (one: Holding<M>) => (at.ownerOf(one.claimed.partition) === at.self ? 1 : 0);
    staying.sort((a, b) => order(a) - order(b) || b.claimed.partition - a.claimed.partition);
    for (const holding of staying) {
      if (places <= 0) return;
      const { partition } = holding.claimed;
      const mayMove = (this.#staysUntil.get(partition) ?? -Infinity) <= at.now;
      const next = excess > 0 ? heirOf(partition, at) : mayMove ? betterOwner(partition, at) : null;
      if (next === null) continue;
      [places, excess] = [places - 1, excess - 1];
      void this.#handOver(holding, next);
    }
  }

  async #handOver(holding: Holding<M>, next: string): Promise<void> {
    const { timers, events, node } = this.#options;
    const { partition, boot, epoch, stream } = holding.claimed;
    events.leaving(partition, next);
    await new Promise<void>((resolve) => {
      const cancel = timers.after(finishMs, resolve);
      holding.leave(() => {
        cancel();
        resolve();
      });
    });
    if (this.#holdings.get(partition) !== holding) return;
    this.#wasOwn.delete(partition);
    if (next !== "") this.#handedUntil.set(partition, timers.now() + nextMs);
    this.#drop(partition, next === "" ? "given away" : `handed over to ${next}`);
    // Floors were written over the claim.
    const { record, revision } = this.#assignments.get(partition) ?? { record: null, revision: 0 };
    const over = isHeldBy(record, node, boot, epoch) ? revision : holding.claimed.revision;
    await this.#release(partition, { state: "released", owner: node, boot, epoch, floor: holding.floor, stream, next }, over);
  }

  async #release(partition: number, record: Assignment, revision: number): Promise<void> {
    this.#releasing.add(partition);
    await release({ lease: this.#lease, bucket: this.#bucket, assignments: this.#assignments, timers: this.#options.timers }, partition, record, revision);
    this.#releasing.delete(partition);
    this.#leaveAlone(partition);
    this.look();
  }

  #isEmpty(): boolean {
    if (this.#lease.boot === "") return true;
    return this.#holdings.size + this.#claiming.size + this.#releasing.size + this.#handedUntil.size + this.#assignments.countOf(this.#options.node) === 0;
  }
}

/** This node gave it to another one, which did not claim it. */
function isUntaken(record: Assignment | null | undefined, self: string): boolean {
  return record?.state === "released" && record.owner === self && record.next !== self && record.next !== "";
}
