/**
 * The cost model: what a connect, a publication, a delivery and an idle member cost, from a stored run, and what a larger
 * machine would hold by it. Figures are those of flux-gateway, medians over the rounds, in the binary format.
 */
import type { RowSummary } from "./summary.ts";

export type CostModel = {
  /** CPU microseconds of a connect with hello, HS256 token and join, upgrade included. */
  connect: number | null;
  /** CPU microseconds of a publication without its deliveries. */
  publication: number;
  /** CPU microseconds of a delivery that needs a write of its own, and of one of many that share a write. */
  deliveryAlone: number;
  deliveryShared: number;
  /** Of an idle member that answers pings: CPU microseconds a second, bytes at once and after V8 has collected. */
  idleMicros: number | null;
  idleBytes: number | null;
  idleBytesLater: number | null;
};

/** Null: a row that the model needs was not measured. */
export function costModel(rows: readonly RowSummary[]): CostModel | null {
  const median = (row: string, metric: string): number | null =>
    rows.find((one) => one.row === row)?.servers.find(({ server }) => server === "flux")?.metrics[metric]?.median ?? null;
  const few = median("speed-binary-10-1000", "cpuPublication");
  const more = median("speed-binary-40-1000", "cpuPublication");
  const deliveryAlone = median("speed-binary-1000-100", "cpuMicros");
  // Many publications share a write there: the write itself counts least.
  const deliveryShared = median("speed-binary-1000-2000", "cpuMicros");
  if (few === null || more === null || deliveryAlone === null || deliveryShared === null) return null;
  const idleMs = median("idle-cost", "cpuMs");
  return {
    connect: median("connects-json-1000-token", "cpuMicros"),
    // Two rooms at one rate, neither of which fills the server, differ by 30 deliveries a publication.
    publication: Math.max(0, few - (10 * (more - few)) / 30),
    deliveryAlone,
    deliveryShared,
    // Less than without them: lost in what the node does anyway.
    idleMicros: idleMs === null || idleMs <= 0 ? null : (1000 * idleMs) / idleMembers,
    idleBytes: median("idle-cost", "rssAtOnce"),
    idleBytesLater: median("idle-cost", "rssLater"),
  };
}

/** Members in the row idle-cost. */
const idleMembers = 10_000;

export type HotRoom = { members: number; rate: number; reactors: number };

/**
 * A room on a reactor that has nothing else to do. The reactor goes through its members in rounds: each round writes to
 * each of them what was published since the last, so a busier reactor writes less often and more at a time. With n
 * members, r publications a second, w of CPU a write and m a delivery in it, a round takes n·(w + r·T·m) = T.
 *
 *     T = n·w / (1 − n·r·m)
 *
 * @returns seconds of a round and deliveries in a write; null if the reactor cannot keep up
 */
export function hotRoom({ deliveryAlone, deliveryShared }: CostModel, { members, rate, reactors }: HotRoom): { roundSeconds: number; deliveriesPerWrite: number; cores: number } | null {
  const here = members / reactors;
  const [write, each] = [(deliveryAlone - deliveryShared) / 1e6, deliveryShared / 1e6];
  const forDeliveries = here * rate * each;
  if (forDeliveries >= 1) return null;
  const roundSeconds = (here * write) / (1 - forDeliveries);
  const deliveriesPerWrite = Math.max(1, rate * roundSeconds);
  // A round that is shorter than the gap between two publications leaves the reactor idle between them.
  const cores = reactors * Math.min(1, here * rate * (write / deliveriesPerWrite + each));
  return { roundSeconds, deliveriesPerWrite, cores };
}

/** Idle members: gigabytes and cores, and the seconds in which `cores` take all of them back. Null: not measured. */
export function idleCrowd({ connect, idleMicros, idleBytes }: CostModel, members: number, cores: number): { gigabytes: number; cores: number; reconnectSeconds: number } | null {
  if (connect === null || idleMicros === null || idleBytes === null) return null;
  return { gigabytes: (members * idleBytes) / 1e9, cores: (members * idleMicros) / 1e6, reconnectSeconds: (members * connect) / 1e6 / cores };
}
