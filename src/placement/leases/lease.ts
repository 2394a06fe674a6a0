/**
 * The lease of this node. It is renewed all the time; the node serves its partitions until `serveMs` after the send of
 * the last answered renewal. A boot id whose lease ended, or could not be confirmed, is never used again: the node then
 * takes another one, and a lease for it.
 */
import type { Bucket } from "./bucket.ts";
import type { HolderLog } from "./holderoptions.ts";
import { renewMs, serveMs } from "./leases.ts";
import { leaseKey, readLease, writeRecord, type LeaseRecord } from "./records.ts";
import type { Timers } from "./timers.ts";

export interface LeaseOptions {
  readonly node: string;
  readonly leases: Bucket;
  /** Looked at with each renewal: a node serves only while it knows that this is the bucket it claimed in. */
  readonly assignments: Bucket;
  readonly timers: Timers;
  readonly randomId: () => string;
  readonly log: HolderLog;
  /** Deliveries are allowed until then. */
  serve(until: number): void;
  begun(): void;
  /** MUST stop all deliveries before it returns. */
  ended(reason: string): void;
}

/** Boot ids of this process that have ended, and of which a lease may still be stored. */
const formersMax = 1_000;
/** Before the store is asked again after an answer of no use. */
const pauseMs = 250;

export class Lease {
  readonly #options: LeaseOptions;
  readonly #formers = new Set<string>();
  #boot = "";
  #revision = 0;
  /** When the last answered renewal was sent. */
  #renewedAt = 0;
  #begunAt = 0;
  #isStopped = false;
  #cancelPause: () => void = () => {};
  #cancelDeadline: () => void = () => {};
  #wasForeign = false;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** The boot id that lives. "": there is no lease. Every use of a lease asks here first. */
  get boot(): string {
    if (this.#boot !== "" && this.#options.timers.now() >= this.#until) this.end("not renewed in time");
    return this.#boot;
  }

  get heldMs(): number {
    return this.boot === "" ? 0 : this.#options.timers.now() - this.#begunAt;
  }

  /** Whether this process used the boot id, and does not any more. */
  isFormer(boot: string): boolean {
    return this.#formers.has(boot);
  }

  start(): void {
    void this.#run();
  }

  /** Ends it, and says so in the store where possible: others need not wait for it to expire. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    const [boot, revision] = [this.boot, this.#revision];
    this.end("stopped");
    this.#cancelPause();
    if (boot === "") return;
    const { node, leases } = this.#options;
    const tombstone: LeaseRecord = { kind: "tombstone", ended: [boot], by: node };
    if ((await this.#write(tombstone, revision))?.kind === "written") return;
    // A renewal was on its way.
    const found = await leases.read(leaseKey(node));
    const record = found ? readLease(found.value) : null;
    if (found && record?.kind === "lease" && record.boot === boot) await this.#write(tombstone, found.revision);
  }

  /** The boot id is over. */
  end(reason: string): void {
    if (this.#boot === "") return;
    this.#giveUp(this.#boot);
    this.#boot = "";
    this.#cancelDeadline();
    this.#options.ended(reason);
    this.#cancelPause();
  }

  get #until(): number {
    return Math.min(this.#renewedAt, this.#options.assignments.lookedAt) + serveMs;
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      const waitMs = this.boot === "" ? await this.#acquire() : await this.#renew(this.#boot);
      if (waitMs > 0 && !this.#isStopped) await this.#pause(waitMs);
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#options.timers.after(ms, resolve);
      this.#cancelPause = () => {
        cancel();
        resolve();
      };
    });
  }

  /** @returns the time until the next step */
  async #acquire(): Promise<number> {
    const { node, leases, assignments, timers, randomId } = this.#options;
    const looks = [leases.look(), assignments.look()];
    for (const look of looks) if (!(await look)) return pauseMs;
    const found = await leases.read(leaseKey(node));
    if (found === undefined) return pauseMs;
    const record = found === null ? null : readLease(found.value);
    if (found !== null && !this.#mayReplace(record)) return 4 * pauseMs;
    const [boot, sentAt] = [randomId(), timers.now()];
    const answer = await this.#write({ kind: "lease", boot }, found?.revision ?? 0);
    if (answer?.kind !== "written" || this.#isStopped) {
      this.#giveUp(boot);
      return pauseMs;
    }
    [this.#boot, this.#revision, this.#renewedAt, this.#begunAt] = [boot, answer.revision, sentAt, timers.now()];
    if (this.boot === "") return pauseMs;
    this.#serve();
    this.#options.begun();
    return this.#untilNext();
  }

  /** A tombstone, or a lease of this process that it gave up. Another process's has to expire. */
  #mayReplace(record: LeaseRecord | null): boolean {
    const may = record?.kind === "tombstone" || (record?.kind === "lease" && this.#formers.has(record.boot));
    if (!may && !this.#wasForeign) {
      const { node, log } = this.#options;
      log.warn({ node }, `placement: node ${node} has a lease of another process: this one waits until it expires. If it does not, two nodes have the same nodeId`);
    }
    this.#wasForeign = !may;
    return may;
  }

  /** @returns the time until the next step */
  async #renew(boot: string): Promise<number> {
    const { node, leases, assignments, timers } = this.#options;
    const sentAt = timers.now();
    const looked = assignments.look();
    const answer = await this.#write({ kind: "lease", boot }, this.#revision);
    const isSame = await looked;
    if (this.boot !== boot) return 0;
    if (answer?.kind === "written") {
      [this.#revision, this.#renewedAt] = [answer.revision, sentAt];
      this.#serve();
      return isSame ? this.#untilNext() : pauseMs;
    }
    const found = await leases.read(leaseKey(node));
    if (found === undefined || this.boot !== boot) return found === undefined ? pauseMs : 0;
    const record = found === null ? null : readLease(found.value);
    if (found === null || record?.kind !== "lease" || record.boot !== boot) {
      this.end("it has expired, or another process has it");
      return 0;
    }
    const isNews = found.revision !== this.#revision || answer === undefined;
    this.#revision = found.revision;
    return isNews ? 0 : pauseMs;
  }

  #write(record: LeaseRecord, revision: number) {
    const { node, leases } = this.#options;
    const [key, value] = [leaseKey(node), writeRecord(record)];
    return revision === 0 ? leases.create(key, value) : leases.update(key, value, revision);
  }

  #serve(): void {
    const { timers, serve } = this.#options;
    serve(this.#until);
    this.#cancelDeadline();
    this.#cancelDeadline = timers.after(Math.max(0, this.#until - timers.now()), () => {
      if (this.boot !== "") this.#serve();
    });
  }

  #untilNext(): number {
    return Math.max(1, this.#renewedAt + renewMs - this.#options.timers.now());
  }

  #giveUp(boot: string): void {
    this.#formers.add(boot);
    for (const oldest of this.#formers) {
      if (this.#formers.size <= formersMax) break;
      this.#formers.delete(oldest);
    }
  }
}
