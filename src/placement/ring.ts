/**
 * Assigns partitions to nodes: consistent hashing with virtual nodes and bounded load. A pure function, so every
 * program that knows the members computes the same owners.
 *
 * Each member has 160 points on a ring of 2^32 places, for each unit of its weight. A partition stands on the ring too,
 * and goes to the next point whose member has room. The bound keeps the largest share near the mean. The number of a
 * member's points never depends on other members, so a new member moves hardly any partition between the others.
 */
import { xxh32 } from "./hash.ts";

export interface Member {
  readonly id: string;
  /** A whole number from 1 to `weightMax`. */
  readonly weight: number;
}

export const weightMax = 16;
const pointsPerWeight = 160;
/** A member's share of the partitions may exceed its part by this factor. */
const bound = 1.05;
/** Points of one place are in the order of their members. Room for this many members beside 32 bits of a place. */
const membersMax = 2 ** 20;

/** The owner of each partition: an index of `members`, or -1 where there are none. Members are sorted by id. */
export function ownersOf(members: readonly Member[], partitions: number): Int32Array {
  const owners = new Int32Array(partitions).fill(-1);
  if (members.length === 0) return owners;
  const points = pointsOf(members);
  const room = roomOf(members, partitions);
  for (let partition = 0; partition < partitions; partition++) {
    let at = firstFrom(points, xxh32(`p${partition}`) * membersMax);
    while (room[memberAt(points, at)] === 0) at = (at + 1) % points.length;
    const member = memberAt(points, at);
    room[member]!--;
    owners[partition] = member;
  }
  return owners;
}

/** The most partitions that each member may own. */
export function roomOf(members: readonly Member[], partitions: number): Int32Array {
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  return Int32Array.from(members, ({ weight }) => Math.ceil((bound * partitions * weight) / total));
}

/** Sorted: the place of each point, times `membersMax`, plus the index of its member. */
function pointsOf(members: readonly Member[]): Float64Array {
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  const points = new Float64Array(total * pointsPerWeight);
  let next = 0;
  for (const [index, { id, weight }] of members.entries()) {
    for (let i = 0; i < weight * pointsPerWeight; i++) points[next++] = xxh32(`${id}#${i}`) * membersMax + index;
  }
  return points.sort();
}

function memberAt(points: Float64Array, at: number): number {
  return points[at]! % membersMax;
}

/** The first point at this place or behind it. The ring begins again behind the last. */
function firstFrom(points: Float64Array, place: number): number {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (points[middle]! < place) low = middle + 1;
    else high = middle;
  }
  return low % points.length;
}
