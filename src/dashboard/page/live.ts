/** How the cluster is, once a second while the page is visible, and the last 15 minutes of it. */
import { computed, signal } from "@preact/signals";
import { ask, Failed, query, session } from "./api.ts";
import type { About, Answers, Live, NodeNow } from "./types.ts";

export const live = signal<Live | null>(null);
/** Why nothing new comes; "" while it does. */
export const problem = signal("");
/** Grows with each new reading: plots follow it. */
export const reading = signal(0);

const everyMs = 1_000;
export const stepMs = 3_000;
export const points = 300;

export const seriesNames = ["sockets", "deliveries", "publications", "opened", "lagMs", "queueBytes", "memoryBytes"] as const;
export type SeriesName = (typeof seriesNames)[number];

/** By node: one value every three seconds, the newest last; NaN where none is known. */
const histories = new Map<string, Record<SeriesName, Float64Array>>();
/** Number of the newest step of all series. */
let step = 0;

export const nodes = computed(() => live.value?.nodes ?? []);
export const answering = computed(() => nodes.value.filter(isAnswering));

/** It has said how it is in the last seconds. */
export function isAnswering(node: NodeNow): node is NodeNow & { readonly now: NonNullable<NodeNow["now"]> } {
  return node.now !== null && node.silentMs < 3_500;
}

export function seriesOf(node: string, name: SeriesName): Float64Array | null {
  return histories.get(node)?.[name] ?? null;
}

/** Seconds since 1970 of each point. */
export function timesOfPoints(): number[] {
  return Array.from({ length: points }, (_, i) => ((step - points + 1 + i) * stepMs) / 1_000);
}

let timer: ReturnType<typeof setTimeout> | null = null;
let lookedAt = 0;

export function startLive(): void {
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") tick();
  });
  session.subscribe((known) => {
    if (known != null) tick();
  });
}

function tick(): void {
  if (timer !== null) clearTimeout(timer);
  timer = null;
  // A page that nobody sees asks nothing.
  if (document.visibilityState !== "visible" || session.peek() == null) return;
  const began = performance.now();
  void look().finally(() => {
    timer ??= setTimeout(tick, Math.max(100, everyMs - (performance.now() - began)));
  });
}

async function look(): Promise<void> {
  try {
    const known = await ask<Live>("api/live");
    const now = Date.now();
    if (now - lookedAt > 3 * stepMs) await loadHistory();
    lookedAt = now;
    advance(now);
    for (const node of known.nodes) if (isAnswering(node)) note(node);
    live.value = known;
    problem.value = "";
    reading.value++;
  } catch (error) {
    problem.value = error instanceof Failed ? error.message : String(error);
  }
}

async function loadHistory(): Promise<void> {
  const { answers } = await about("history");
  step = Math.floor(Date.now() / stepMs);
  histories.clear();
  for (const { node, said } of answers) {
    const own = emptyHistory();
    for (const name of seriesNames) {
      const values = said.series[name] ?? [];
      values.slice(-points + 1).forEach((value, i, all) => (own[name][points - 1 - all.length + i] = value));
    }
    histories.set(node, own);
  }
}

function emptyHistory(): Record<SeriesName, Float64Array> {
  return Object.fromEntries(seriesNames.map((name) => [name, new Float64Array(points).fill(NaN)])) as Record<SeriesName, Float64Array>;
}

/** Moves all series on to the present. */
function advance(now: number): void {
  const newest = Math.floor(now / stepMs);
  const by = Math.min(points, newest - step);
  if (by <= 0) return;
  step = newest;
  for (const own of histories.values()) {
    for (const name of seriesNames) {
      own[name].copyWithin(0, by);
      own[name].fill(NaN, points - by);
    }
  }
}

function note({ id, now }: NodeNow & { readonly now: NonNullable<NodeNow["now"]> }): void {
  let own = histories.get(id);
  if (own === undefined) histories.set(id, (own = emptyHistory()));
  const { sockets, deliveries, publications, opened, memoryBytes } = now;
  const values: Record<SeriesName, number> = { sockets, deliveries, publications, opened, memoryBytes, lagMs: worstLag(now), queueBytes: Math.max(0, ...now.reactors.map((one) => one.queueBytes)) };
  for (const name of seriesNames) own[name][points - 1] = values[name];
}

export function worstLag({ hub, reactors }: NonNullable<NodeNow["now"]>): number {
  return Math.max(hub.lagMs, ...reactors.map(({ lagMs }) => lagMs));
}

export function about<A extends About>(what: A): Promise<Answers<A>> {
  return ask<Answers<A>>(`api/about${query({ what })}`);
}
