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
  for (let partition = 0; partition < partitions; partition++) owners[partition] = assign(points, room, partition, null);
  return owners;
}

/** Why a partition has its owner: the members whose points came first and that had no room, and the owner. */
export interface Trail {
  /** The partition's place on the ring. */
  readonly place: number;
  /** The points behind it, each member once. The last is the owner's. Empty without members. */
  readonly points: readonly { readonly place: number; readonly member: number }[];
}

export function trailOf(members: readonly Member[], partitions: number, wanted: number): Trail {
  const place = placeOf(wanted);
  const trail: { place: number; member: number }[] = [];
  if (members.length === 0) return { place, points: trail };
  const points = pointsOf(members);
  const room = roomOf(members, partitions);
  for (let partition = 0; partition <= wanted; partition++) assign(points, room, partition, partition === wanted ? trail : null);
  return { place, points: trail.filter(({ member }, i) => trail.findIndex((point) => point.member === member) === i) };
}

function assign(points: Float64Array, room: Int32Array, partition: number, trail: { place: number; member: number }[] | null): number {
  let at = firstFrom(points, placeOf(partition) * membersMax);
  for (;;) {
    const member = memberAt(points, at);
    trail?.push({ place: Math.floor(points[at]! / membersMax), member });
    if (room[member]! > 0) {
      room[member]!--;
      return member;
    }
    at = (at + 1) % points.length;
  }
}

function placeOf(partition: number): number {
  return xxh32(`p${partition}`);
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
