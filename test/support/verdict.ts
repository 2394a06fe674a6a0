/** The judging half of the history checker: a pure function from a history to its faults. */
import type { HistoryEvent, Position } from "./history.ts";

export const faultKinds = [
  "lost", // acknowledged, owed to the member, not delivered, no gap signalled over it
  "doubled", // delivered to a member more than once
  "reordered", // delivered to a member after something that comes later, or from before its join position
  "silentGaps", // what a delivery follows on (`prev`) is unknown to the member, and it was not told so
  "unattempted", // delivered, but nobody published it
  "uninvited", // delivered to a member outside its membership, or though it was excluded
  "conflicting", // one position with two publications, or one publication at two positions
  "refusedDelivered", // refused for good, and delivered nevertheless
] as const;
export type FaultKind = (typeof faultKinds)[number];

export interface MemberVerdict {
  room: string;
  member: string;
  memberships: number;
  delivered: number;
  lost: number;
  doubled: number;
  reordered: number;
  silentGaps: number;
}

export interface Verdict extends Record<FaultKind, number> {
  attempted: number;
  acknowledged: number;
  refused: number;
  delivered: number;
  /** Not a fault: nobody can know before the answer whether a publish took place. */
  unacknowledgedDelivered: number;
  /** The sum over all kinds of fault. */
  faults: number;
  members: MemberVerdict[];
  /** For a person: the counts, the seed and the first offenders of each kind. */
  report: string;
}

/** Errors after which a publication may exist all the same: the answer came from somewhere on the way. */
const uncertainCodes = new Set(["unavailable", "internal"]);
const offendersShown = 5;

/** A position as one number; epochs count in the order in which the history first names them. */
type Rank = number;
const ranksPerEpoch = 2 ** 40;

interface Publication {
  id: string;
  attempted: boolean;
  acknowledged: boolean;
  refusedFor: string | undefined;
  rank: Rank | undefined;
  delivered: boolean;
}

interface Delivery {
  publication: Publication;
  rank: Rank;
  prev: Rank;
}

interface Membership {
  from: Rank;
  recovering: boolean;
  ended: boolean;
  deliveries: Delivery[];
  gaps: { from: Rank; to: Rank }[];
}

interface Member {
  name: string;
  memberships: Membership[];
  excluded: Set<Rank>;
  counts: MemberVerdict;
}

interface Room {
  name: string;
  epochs: string[];
  publications: Map<string, Publication>;
  /** What is published at a position, and the position before it, as far as anybody has seen them. */
  at: Map<Rank, { publication: Publication; prev: Rank }>;
  members: Map<string, Member>;
}

type Blame = (kind: FaultKind, where: string) => void;

export function judge(events: readonly HistoryEvent[], seed: number | string): Verdict {
  const rooms = new Map<string, Room>();
  const faults = Object.fromEntries(faultKinds.map((kind) => [kind, [] as string[]])) as Record<FaultKind, string[]>;
  const blame: Blame = (kind, where) => void faults[kind].push(where);

  for (const event of events) replay(roomOf(rooms, event.room), event, blame);
  for (const room of rooms.values()) {
    const acknowledged = [...room.publications.values()].filter((publication) => publication.acknowledged);
    for (const member of room.members.values()) judgeMember(room, member, acknowledged, blame);
    for (const publication of room.publications.values()) judgePublication(room, publication, blame);
  }
  return summarise(rooms, events, faults, seed);
}

/** Takes one event into the picture of its room, and notes what can be seen to be wrong at once. */
function replay(room: Room, event: HistoryEvent, blame: Blame): void {
  switch (event.kind) {
    case "attempted":
      publicationOf(room, event.id).attempted = true;
      return;
    case "acknowledged": {
      const publication = publicationOf(room, event.id);
      publication.acknowledged = true;
      return place(room, publication, rankOf(room, event.position), undefined, blame);
    }
    case "refused":
      publicationOf(room, event.id).refusedFor = event.code;
      return;
    case "joined": {
      const member = memberOf(room, event.member);
      const last = member.memberships.at(-1);
      if (last) last.ended = true;
      const from = rankOf(room, event.position);
      member.memberships.push({ from, recovering: event.recovering, ended: false, deliveries: [], gaps: [] });
      return;
    }
    case "delivered": {
      const publication = publicationOf(room, event.id);
      publication.delivered = true;
      const rank = rankOf(room, event.position);
      const prev = rankOf(room, { epoch: event.position.epoch, seq: event.prev });
      place(room, publication, rank, prev, blame);
      const member = memberOf(room, event.member);
      const membership = member.memberships.at(-1);
      if (!membership || membership.ended) return blame("uninvited", `${where(room, member)} was sent ${tell(room, rank)}, being no member`);
      membership.deliveries.push({ publication, rank, prev });
      return;
    }
    case "excluded": {
      const rank = rankOf(room, event.position);
      place(room, publicationOf(room, event.id), rank, undefined, blame);
      memberOf(room, event.member).excluded.add(rank);
      return;
    }
    case "gap":
      memberOf(room, event.member).memberships.at(-1)?.gaps.push({ from: rankOf(room, event.from), to: rankOf(room, event.to) });
      return;
    case "left": {
      const membership = memberOf(room, event.member).memberships.at(-1);
      if (membership) membership.ended = true;
    }
  }
}

/** Notes that `publication` is at `rank`; everyone must agree on that. */
function place(room: Room, publication: Publication, rank: Rank, prev: Rank | undefined, blame: Blame): void {
  const there = room.at.get(rank);
  if (there && there.publication !== publication) {
    return blame("conflicting", `${room.name}: ${publication.id} and ${there.publication.id} are both at ${tell(room, rank)}`);
  }
  if (publication.rank !== undefined && publication.rank !== rank) {
    return blame("conflicting", `${room.name}: ${publication.id} is at ${tell(room, publication.rank)} and at ${tell(room, rank)}`);
  }
  publication.rank = rank;
  room.at.set(rank, { publication, prev: prev ?? there?.prev ?? rank - 1 });
}

function judgeMember(room: Room, member: Member, acknowledged: Publication[], blame: Blame): void {
  const earlier = new Set<Publication>();
  let reached = 0;
  member.counts.memberships = member.memberships.length;
  for (const membership of member.memberships) {
    // Recovery goes on from what the member had, wherever it says it was.
    if (membership.recovering && earlier.size > 0) membership.from = Math.min(membership.from, reached);
    judgeOrder(room, member, membership, earlier, blame);
    for (const { publication } of membership.deliveries) earlier.add(publication);
    reached = Math.max(membership.from, ...membership.gaps.map(({ to }) => to), lastDelivered(membership));
    judgeLosses(room, member, membership, acknowledged, earlier, blame);
  }
}

/** Each delivery must be new to the member, come after the one before, and follow on what the member knows. */
function judgeOrder(room: Room, member: Member, membership: Membership, earlier: Set<Publication>, blame: Blame): void {
  const delivered = new Set<Publication>();
  let last = membership.from;
  const fault = (kind: "doubled" | "reordered" | "silentGaps", text: string): void => {
    member.counts[kind]++;
    blame(kind, `${where(room, member)} ${text}`);
  };
  for (const { publication, rank, prev } of membership.deliveries) {
    member.counts.delivered++;
    const name = `${publication.id} at ${tell(room, rank)}`;
    if (delivered.has(publication) || (rank <= membership.from && earlier.has(publication))) fault("doubled", `got ${name} twice`);
    else if (rank <= last) fault("reordered", `got ${name} after ${tell(room, last)}`);
    else if (!isTold(room, member, membership, last, prev)) {
      fault("silentGaps", `got ${name}, which follows on ${tell(room, prev)}, after ${tell(room, last)}`);
    }
    if (member.excluded.has(rank)) blame("uninvited", `${where(room, member)} got ${name}, from which it was excluded`);
    delivered.add(publication);
    last = Math.max(last, rank);
  }
}

/** Whether the member knows of everything after `last` up to `prev`: walks back from `prev` over what it was told. */
function isTold(room: Room, member: Member, membership: Membership, last: Rank, prev: Rank): boolean {
  let at = prev;
  while (at > last) {
    const gap = membership.gaps.find(({ from, to }) => from < at && at <= to);
    if (gap) at = gap.from;
    else if (member.excluded.has(at)) at = room.at.get(at)?.prev ?? at - 1;
    else return false;
  }
  return true;
}

function judgeLosses(
  room: Room, member: Member, membership: Membership, acknowledged: Publication[], had: Set<Publication>, blame: Blame,
): void {
  const owedTo = membership.ended ? lastDelivered(membership) : Infinity;
  for (const publication of acknowledged) {
    const rank = publication.rank ?? 0;
    if (rank <= membership.from || rank > owedTo || had.has(publication) || member.excluded.has(rank)) continue;
    if (membership.gaps.some(({ from, to }) => from < rank && rank <= to)) continue;
    member.counts.lost++;
    blame("lost", `${where(room, member)} never got ${publication.id} at ${tell(room, rank)}`);
  }
}

function judgePublication(room: Room, publication: Publication, blame: Blame): void {
  const { id, attempted, delivered, refusedFor } = publication;
  if (delivered && !attempted) blame("unattempted", `${room.name}: ${id} was delivered, and nobody published it`);
  if (delivered && refusedFor !== undefined && !uncertainCodes.has(refusedFor)) {
    blame("refusedDelivered", `${room.name}: ${id} was refused (${refusedFor}) and delivered`);
  }
}

function summarise(
  rooms: Map<string, Room>, events: readonly HistoryEvent[], faults: Record<FaultKind, string[]>, seed: number | string,
): Verdict {
  const counts = Object.fromEntries(faultKinds.map((kind) => [kind, faults[kind].length])) as Record<FaultKind, number>;
  const total = faultKinds.reduce((sum, kind) => sum + counts[kind], 0);
  const publications = [...rooms.values()].flatMap((room) => [...room.publications.values()]);
  const members = [...rooms.values()].flatMap((room) => [...room.members.values()].map((member) => member.counts));
  const of = (kind: HistoryEvent["kind"]): number => events.reduce((sum, event) => sum + Number(event.kind === kind), 0);
  const seen = { attempted: of("attempted"), acknowledged: of("acknowledged"), refused: of("refused"), delivered: of("delivered") };
  const unacknowledgedDelivered = publications.filter((one) => one.delivered && !one.acknowledged).length;
  const report = [
    `history: ${rooms.size} rooms, ${members.length} members, seed ${seed}`,
    Object.entries({ ...seen, unacknowledgedDelivered }).map(([name, count]) => `${name} ${count}`).join(", "),
    faultKinds.map((kind) => `${kind} ${counts[kind]}`).join(", "),
    ...faultKinds.filter((kind) => counts[kind] > 0).flatMap((kind) => [
      `first ${kind}:`,
      ...faults[kind].slice(0, offendersShown).map((offender) => `  ${offender}`),
    ]),
  ].join("\n");
  return { ...counts, ...seen, unacknowledgedDelivered, faults: total, members, report };
}

function roomOf(rooms: Map<string, Room>, name: string): Room {
  const known = rooms.get(name);
  if (known) return known;
  const room: Room = { name, epochs: [], publications: new Map(), at: new Map(), members: new Map() };
  rooms.set(name, room);
  return room;
}

function publicationOf(room: Room, id: string): Publication {
  const known = room.publications.get(id);
  if (known) return known;
  const fresh: Publication = { id, attempted: false, acknowledged: false, refusedFor: undefined, rank: undefined, delivered: false };
  room.publications.set(id, fresh);
  return fresh;
}

function memberOf(room: Room, name: string): Member {
  const known = room.members.get(name);
  if (known) return known;
  const counts = { room: room.name, member: name, memberships: 0, delivered: 0, lost: 0, doubled: 0, reordered: 0, silentGaps: 0 };
  const member: Member = { name, memberships: [], excluded: new Set(), counts };
  room.members.set(name, member);
  return member;
}

function rankOf(room: Room, { epoch, seq }: Position): Rank {
  if (!room.epochs.includes(epoch)) room.epochs.push(epoch);
  return room.epochs.indexOf(epoch) * ranksPerEpoch + seq;
}

function tell(room: Room, rank: Rank): string {
  return `${room.epochs[Math.floor(rank / ranksPerEpoch)]}/${rank % ranksPerEpoch}`;
}

function where(room: Room, member: Member): string {
  return `${room.name}: ${member.name}`;
}

function lastDelivered(membership: Membership): Rank {
  return membership.deliveries.reduce((most, { rank }) => Math.max(most, rank), membership.from);
}
