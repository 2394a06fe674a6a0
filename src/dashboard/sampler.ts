/**
 * A node's own record of the last 15 minutes: once a second it reads counters that are there anyway. It is kept also
 * while nobody looks, since people look after something has happened. It costs at most 0.2 ms of CPU a second and 30 kB.
 */
import type { Said } from "./answers.ts";

/** Totals that only grow, and what is now. */
export interface Reading {
  readonly totals: { readonly publications: number; readonly deliveries: number; readonly opened: number; readonly closed: number; readonly refused: number; readonly errors: number; readonly bytesOut: number };
  /** Answers of the broker so far, and the milliseconds that they took. */
  readonly broker: { readonly answers: number; readonly ms: number };
  readonly sockets: number;
  readonly memoryBytes: number;
  /** Busy share of the main thread since the last reading. */
  readonly hubBusy: number;
  readonly reactors: readonly (Omit<Said<"now">["reactors"][number], "deliveries"> & { readonly deliveries: number })[];
}

/** What plots show. */
const names = ["sockets", "deliveries", "publications", "opened", "lagMs", "queueBytes", "memoryBytes"] as const;
type Name = (typeof names)[number];

const everyMs = 1_000;
const keptSeconds = 900;
/** Points that a history has: each is the mean of so many seconds, or the highest. */
const stepSeconds = 3;
const isHighest: ReadonlySet<Name> = new Set(["lagMs", "queueBytes"]);

type Rates = Reading["totals"] & { readonly brokerMs: number; readonly hubBusy: number; readonly hubLagMs: number; readonly reactorDeliveries: readonly number[] };

export class Sampler {
  readonly #read: () => Reading;
  readonly #clock: () => number;
  readonly #kept: Record<Name, Float32Array>;
  readonly #timer: NodeJS.Timeout;
  #count = 0;
  #before: Reading;
  #at: number;
  #rates: Rates | null = null;

  /** @param clock milliseconds; replaced in tests, which call `take` themselves */
  constructor(read: () => Reading, clock = () => performance.now()) {
    this.#read = read;
    this.#clock = clock;
    this.#kept = Object.fromEntries(names.map((name) => [name, new Float32Array(keptSeconds)])) as Record<Name, Float32Array>;
    this.#before = read();
    this.#at = clock();
    this.#timer = setInterval(() => this.take(), everyMs).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  take(): void {
    const at = this.#clock();
    const ms = at - this.#at;
    if (ms <= 0) return;
    const reading = this.#read();
    const rates = ratesOf(this.#before, reading, ms);
    this.#rates = rates;
    this.#before = reading;
    this.#at = at;
    const { sockets, memoryBytes, reactors } = reading;
    const values: Record<Name, number> = {
      sockets, memoryBytes, deliveries: rates.deliveries, publications: rates.publications, opened: rates.opened,
      lagMs: Math.max(rates.hubLagMs, ...reactors.map(({ lagMs }) => lagMs)),
      queueBytes: Math.max(0, ...reactors.map(({ queueBytes }) => queueBytes)),
    };
    // A node that stood still for seconds has no readings of them: they look as this one does.
    for (let missed = Math.min(keptSeconds, Math.max(1, Math.round(ms / everyMs))); missed > 0; missed--) this.#keep(values);
  }

  /** The rates of the last second. */
  get now(): { readonly reading: Reading; readonly rates: Rates } {
    return { reading: this.#before, rates: this.#rates ?? ratesOf(this.#before, this.#before, everyMs) };
  }

  /** The oldest first. */
  history(): Said<"history"> {
    const count = Math.min(this.#count, keptSeconds);
    const points = Math.floor(count / stepSeconds);
    const series = Object.fromEntries(names.map((name) => {
      const kept = this.#kept[name];
      const values = Array.from({ length: points }, (_, point) => {
        const last = this.#count - (points - 1 - point) * stepSeconds;
        let sum = 0;
        let highest = 0;
        for (let i = last - stepSeconds; i < last; i++) {
          const value = kept[i % keptSeconds]!;
          sum += value;
          if (value > highest) highest = value;
        }
        return rounded(isHighest.has(name) ? highest : sum / stepSeconds);
      });
      return [name, values];
    }));
    return { stepMs: stepSeconds * everyMs, series };
  }

  #keep(values: Record<Name, number>): void {
    for (const name of names) this.#kept[name][this.#count % keptSeconds] = values[name];
    this.#count++;
  }
}

function ratesOf(before: Reading, after: Reading, ms: number): Rates {
  // A reactor that was replaced begins at 0.
  const rate = (from: number, to: number) => rounded((Math.max(0, to - from) * 1_000) / ms);
  const totals = Object.fromEntries(Object.entries(after.totals).map(([name, value]) => [name, rate(before.totals[name as keyof Reading["totals"]], value)])) as unknown as Reading["totals"];
  const answers = after.broker.answers - before.broker.answers;
  return {
    ...totals,
    brokerMs: answers > 0 ? rounded((after.broker.ms - before.broker.ms) / answers) : 0,
    hubBusy: rounded(after.hubBusy),
    // A timer that comes late waited for something else of the main thread.
    hubLagMs: Math.max(0, Math.round(ms - everyMs)),
    reactorDeliveries: after.reactors.map(({ deliveries }, index) => rate(before.reactors[index]?.deliveries ?? 0, deliveries)),
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
