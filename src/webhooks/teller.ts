/**
 * Tells one endpoint the facts of many subjects. The facts of one subject go out one after the other, those of
 * different subjects beside one another. So a room whose facts the endpoint does not take is parked: it waits for its
 * next attempt, and no other room waits with it. An endpoint that fails altogether is tried with one message now and
 * then (Breaker).
 */
import type { FactPage, Facts, Subject } from "../facts/facts.ts";
import type { WebhookUsage } from "../metrics/webhooks.ts";
import type { Logger } from "../platform/log/log.ts";
import { Sparse } from "../platform/log/sparse.ts";
import { Backoff, type Timers } from "./backoff.ts";
import { failureReasons, type Endpoint, type FailureReason, type Outcome } from "./endpoint.ts";
import { KnownSubjects, type Known } from "./known.ts";
import { messageOf } from "./message.ts";

export interface TellerOptions {
  readonly endpoint: Endpoint;
  readonly facts: Facts;
  /** Messages under way at once. */
  readonly connectionsMax: number;
  /** Older facts are given up at their next failure. */
  readonly giveUpMs: number;
  readonly log: Logger;
  /** Nothing of the subject waits for this endpoint. */
  onTold(subject: Subject): void;
  readonly clock?: () => number;
  readonly timers?: Timers;
}

/** Facts that are read at once, and messages after which the store learns what was told: a crash repeats so many. */
const pageMax = 64;
const toldEach = 16;
const toldEachMs = 500;
/** A subject gives way to others after this. */
const turnMs = 5_000;
const unreadableMs = 1_000;
/** A subject that another node tells is looked at again after this: that node may be done, or dead. */
const heldLookMs = 2_000;
/** While the breaker is open, whether it admits a trial is looked at so often. */
const lookMs = 250;
/** Whether a disabled endpoint was enabled by way of another node is read so often. */
const disabledMs = 5_000;
/** While the endpoint fails, so many subjects at once are looked through for facts to give up. */
const overdueMax = 2_000;

export class Teller {
  told = 0;
  deadLetters = 0;
  lost = 0;
  readonly failures = Object.fromEntries(failureReasons.map((reason) => [reason, 0])) as Record<FailureReason, number>;
  readonly #options: TellerOptions;
  readonly #clock: () => number;
  /** For waiting: a step of the machine's clock changes nothing. */
  readonly #steady: () => number;
  readonly #known: KnownSubjects;
  readonly #ready = new Set<Known>();
  readonly #later: Backoff<Known>;
  #isClosing = false;
  readonly #sparse = new Sparse();
  readonly #turns = new Set<Promise<void>>();
  #pausedUntil = 0;
  #isDisabled = false;
  /** Until then no fact to give up is looked for: there was none. */
  #noneOverdueUntil = 0;
  readonly #uncounted = new Set<Known>();
  /** When this was read or found last. */
  #disabledAt = 0;

  constructor(options: TellerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? Date.now;
    this.#steady = options.clock ?? (() => performance.now());
    this.#known = new KnownSubjects(this.#steady);
    this.#later = new Backoff({ clock: this.#steady, ...(options.timers && { timers: options.timers }), onDue: (known) => this.#makeReady(known) });
  }

  /** There may be facts of the subject, more than before. @param gone a dead node: its claims until now are free */
  look(subject: Subject, gone?: string): void {
    if (this.#isClosing) return;
    const known = this.#known.get(subject) ?? this.#known.add(subject, this.#clock());
    if (gone !== undefined) known.gone = { node: gone, at: this.#steady() };
    if (known.state === "later" && known.attempts === 0) return this.#makeReady(known);
    known.again = true;
    this.#uncounted.add(known);
  }

  /** The node is back: what it claims now is its own. */
  back(node: string): void {
    for (const known of this.#known.values()) if (known.gone?.node === node) known.gone = undefined;
  }

  /** Facts that wait, as far as this node has looked. */
  get waiting(): { readonly events: number; readonly bytes: number } {
    return { events: this.#known.events, bytes: this.#known.bytes };
  }

  /**
   * Counts the facts of subjects that were heard of again and not read since. What is heard of may be no fact: clients
   * cause it as often as they like.
   */
  async recount(max: number): Promise<void> {
    const some: Known[] = [];
    for (const known of this.#uncounted) {
      if (some.length >= max) break;
      this.#uncounted.delete(known);
      some.push(known);
    }
    if (some.length === 0) return;
    const { facts, endpoint } = this.#options;
    try {
      const counts = await facts.count(endpoint.name, some.map(({ subject }) => subject));
      for (const [i, known] of some.entries()) this.#known.set(known, { waiting: counts[i] ?? known.waiting });
    } catch {
      // The store is unavailable: the next time.
      for (const known of some) if (this.#known.get(known.subject) === known) this.#uncounted.add(known);
    }
  }

  /** Whether facts of the subject may wait. */
  has(subject: Subject): boolean {
    return this.#known.has(subject);
  }

  /** Whether the endpoint has answered 410, here or on another node, and was not enabled since. */
  async readDisabled(): Promise<boolean> {
    const { facts, endpoint } = this.#options;
    this.#disabledAt = this.#steady();
    const url = await facts.disabled(endpoint.name).catch(() => null);
    // Unreadable: as before.
    if (url !== null) this.#isDisabled = url === endpoint.url;
    return this.#isDisabled;
  }

  #makeReady(known: Known): void {
    this.#later.take(known);
    known.state = "ready";
    this.#ready.add(known);
    this.#pump();
  }

  /** No longer than until its oldest fact is given up. */
  #wait(known: Known, ms: number): void {
    known.state = "later";
    const giveUpIn = known.since + this.#options.giveUpMs - this.#clock();
    this.#later.put(known, giveUpIn > 0 ? Math.min(ms, giveUpIn) : ms);
  }

  #pump(): void {
    if (this.#isClosing) return;
    const { endpoint, connectionsMax } = this.#options;
    const now = this.#steady();
    // Each new subject comes here. Without the pause each would cost a look through thousands.
    if (endpoint.breaker.state !== "closed" && !this.#isDisabled && now >= this.#noneOverdueUntil) this.#beginOverdue(now);
    if (this.#ready.size > 0 && now < this.#pausedUntil) return this.#later.wake(this.#pausedUntil - now, () => this.#pump());
    for (const known of this.#ready) {
      // One at a time finds out whether the endpoint is back.
      const most = endpoint.breaker.state === "closed" || this.#isDisabled ? connectionsMax : 1;
      if (this.#turns.size >= most) return;
      this.#begin(known);
    }
  }

  #begin(known: Known): void {
    this.#ready.delete(known);
    known.state = "busy";
    const turn: Promise<void> = this.#turn(known).catch((error: unknown) => this.#unread(known, error)).finally(() => {
      this.#turns.delete(turn);
      this.#pump();
    });
    this.#turns.add(turn);
  }

  /** While the endpoint fails, what is too old becomes a dead letter all the same, without an attempt. */
  #beginOverdue(now: number): void {
    const { connectionsMax, giveUpMs } = this.#options;
    if (this.#turns.size >= connectionsMax) return;
    const before = this.#clock() - giveUpMs;
    let left = Math.min(overdueMax, this.#ready.size);
    let found = 0;
    for (const known of this.#ready) {
      if (this.#turns.size >= connectionsMax || left-- === 0) break;
      if (known.since <= before) {
        this.#begin(known);
        found++;
        continue;
      }
      // To the end: the next time others are looked at.
      this.#ready.delete(known);
      this.#ready.add(known);
    }
    if (found === 0) this.#noneOverdueUntil = now + lookMs;
  }

  /** Tells the facts of one subject, as far as they go. */
  async #turn(known: Known): Promise<void> {
    const { facts, endpoint } = this.#options;
    const { subject, gone } = known;
    known.again = false;
    if (this.#isDisabled && this.#steady() - this.#disabledAt >= disabledMs) await this.readDisabled();
    const page = await facts.claim(endpoint.name, subject, { max: pageMax, ...(gone !== undefined && { gone: { node: gone.node, forMs: this.#steady() - gone.at } }) });
    // Once only: the node may be back, with claims that it makes from now on.
    if (known.gone === gone) known.gone = undefined;
    if (page.heldMs > 0) return this.#wait(known, Math.min(page.heldMs, heldLookMs));
    this.#count(known, page);
    const { stop, left } = await this.#tellPage(known, page);
    if (stop !== null) return this.#stopped(known, stop);
    if (left < 0) return this.#wait(known, heldLookMs);
    this.#known.set(known, { waiting: left });
    if (left > 0 || known.again) return this.#goOn(known);
    this.#known.delete(known);
    this.#uncounted.delete(known);
    this.#options.onTold(subject);
  }

  /** After a page: the others get their turn first. */
  #goOn(known: Known): void {
    known.state = "ready";
    this.#ready.add(known);
  }

  #count(known: Known, { waiting, lost, bytes, facts }: FactPage): void {
    this.#uncounted.delete(known);
    this.#known.set(known, { waiting, ...(facts.length > 0 && { bytesEach: bytes / facts.length }) });
    known.since = facts[0]?.at ?? this.#clock();
    if (lost === 0) return;
    this.lost += lost;
    const unsaid = this.#sparse.due("lost");
    if (unsaid !== null) this.#options.log.error({ endpoint: this.#options.endpoint.name, lost }, "webhooks: too many events of one room or user waited, and the oldest were deleted untold; see flux_webhook_lost_total");
  }

  /** `stop` is null where nothing failed. `left`: facts that still wait. */
  async #tellPage(known: Known, { epoch, facts: page, through }: FactPage): Promise<{ readonly stop: Stop | null; readonly left: number }> {
    const { facts, endpoint } = this.#options;
    const { subject } = known;
    const begun = this.#steady();
    let said = 0;
    let saidAt = begun;
    let n = 0;
    let isWhole = true;
    let stop: Stop | null = null;
    for (const fact of page) {
      if (endpoint.kinds.has(fact.kind)) {
        const outcome = await this.#tell(subject, epoch, fact);
        if (outcome === null) stop = { afterMs: lookMs, isFailure: false };
        else if (outcome.kind === "failed") stop = { afterMs: outcome.afterMs, isFailure: outcome.afterMs === 0 };
        if (stop !== null) {
          known.since = fact.at;
          break;
        }
      }
      n = fact.n;
      this.#known.set(known, { waiting: known.waiting - 1, attempts: 0 });
      const now = this.#steady();
      if (now - begun > turnMs && fact !== page.at(-1)) {
        isWhole = false;
        break;
      }
      if (++said < toldEach && now - saidAt < toldEachMs) continue;
      // Another node tells the rest.
      if ((await facts.told(endpoint.name, subject, { epoch, n, isOver: false })) < 0) return { stop: null, left: -1 };
      said = 0;
      saidAt = now;
    }
    // Facts that this version does not know are passed over.
    if (stop === null && isWhole) n = through;
    // Also with nothing told: it ends the claim.
    return { stop, left: await facts.told(endpoint.name, subject, { epoch, n, isOver: true }) };
  }

  /** Null: the breaker admits nothing now. */
  async #tell(subject: Subject, epoch: string, fact: FactPage["facts"][number]): Promise<Outcome | null> {
    const { endpoint, facts, giveUpMs } = this.#options;
    const message = messageOf(subject, epoch, fact);
    const bury = async (reason: string): Promise<Outcome> => {
      await facts.bury(endpoint.name, { ...message, reason, at: this.#clock() });
      this.deadLetters++;
      return { kind: "refused", text: reason };
    };
    if (this.#isDisabled) return bury("the endpoint has answered 410 before, and is disabled");
    const isOld = this.#clock() - fact.at >= giveUpMs;
    if (!endpoint.breaker.admits()) return isOld ? bury("the endpoint failed for too long") : null;
    const outcome = await endpoint.send(message);
    switch (outcome.kind) {
      case "told":
        this.told++;
        this.#succeeded();
        return outcome;
      case "refused":
        this.#succeeded();
        this.#warn("refused", outcome.text, "the event is a dead letter now: see flux-gateway hooks failed");
        return bury(outcome.text);
      case "gone":
        this.#succeeded();
        this.#isDisabled = true;
        this.#disabledAt = this.#steady();
        await facts.disable(endpoint.name, endpoint.url);
        this.#options.log.error({ endpoint: endpoint.name }, "webhooks: the endpoint answered 410 (gone) and is disabled: its events become dead letters; flux-gateway hooks replay enables it again");
        return bury(outcome.text);
      case "failed":
        if (this.#isClosing) return outcome;
        this.#failed(outcome);
        return isOld ? bury(outcome.text) : outcome;
    }
  }

  #succeeded(): void {
    const { endpoint, log } = this.#options;
    if (endpoint.breaker.succeeded()) log.info({ endpoint: endpoint.name }, "webhooks: the endpoint answers again");
  }

  #failed({ reason, text, afterMs }: Outcome & { kind: "failed" }): void {
    const { endpoint, log } = this.#options;
    this.failures[reason]++;
    // What it asks for is no failure of the endpoint.
    if (afterMs > 0) endpoint.breaker.withdrawn();
    else if (endpoint.breaker.failed()) log.error({ endpoint: endpoint.name }, `webhooks: the endpoint fails: ${text}; events wait, and one every few seconds tries it again`);
    this.#warn(reason, text, "the event is told again later");
  }

  #warn(of: string, text: string, then: string): void {
    const unsaid = this.#sparse.due(of);
    if (unsaid !== null) this.#options.log.warn({ endpoint: this.#options.endpoint.name, ...(unsaid > 0 && { unsaid }) }, `webhooks: the endpoint did not take an event: ${text}; ${then}`);
  }

  #stopped(known: Known, { afterMs, isFailure }: Stop): void {
    if (isFailure) return this.#retry(known);
    // The whole endpoint waits, not this subject.
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#steady() + afterMs);
    this.#goOn(known);
  }

  #retry(known: Known): void {
    const attempts = known.attempts + 1;
    this.#known.set(known, { attempts });
    this.#wait(known, this.#later.delayOf(attempts));
  }

  /** The store is unavailable. What was told since the last look is told again, with the same ids. */
  #unread(known: Known, error: unknown): void {
    const unsaid = this.#sparse.due("store");
    if (unsaid !== null && !this.#isClosing) this.#options.log.warn({ endpoint: this.#options.endpoint.name, problem: String(error) }, "webhooks: the events that wait cannot be read; the node tries again every second");
    // Nothing can be read, or it is about this subject alone.
    if (error instanceof Error && error.name === "RedisAway") this.#stopped(known, { afterMs: unreadableMs, isFailure: false });
    else this.#retry(known);
  }

  usage(): WebhookUsage {
    const { endpoint: { name: endpoint, breaker: { state: breaker } } } = this.#options;
    const { told, deadLetters, lost, failures } = this;
    const { size: subjects, parked, events: waiting } = this.#known;
    const oldest = this.#known.oldest();
    const ageMs = oldest === Infinity ? 0 : Math.max(0, this.#clock() - oldest);
    return { endpoint, told, deadLetters, lost, failures: { ...failures }, running: this.#turns.size, subjects, parked, waiting, ageMs, breaker, isDisabled: this.#isDisabled };
  }

  /** Requests under way are given up: their facts are told after the next start, or by another node. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#later.clear();
    await this.#options.endpoint.close();
    await Promise.all(this.#turns);
  }
}

interface Stop {
  readonly afterMs: number;
  /** The subject's attempts count. Not where the breaker alone stopped it. */
  readonly isFailure: boolean;
}
