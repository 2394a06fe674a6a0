/**
 * Mistakes that the model must find: each is planted into every node, around what is right. Each has the seed of a world
 * that finds it soon, for the suite. `npm run test:partition` begins with the first world.
 */
import type { GateWriter } from "../../../src/placement/leases/gate.ts";
import type { RecordStore, Written } from "../../../src/placement/leases/leases.ts";
import { partitionOfKey, readAssignment, readLease } from "../../../src/placement/leases/records.ts";
import type { Plant, ProcessParts } from "./process.ts";

export interface Mistake {
  readonly seed: number;
  readonly plant: Plant;
}

const plants: Readonly<Record<string, Plant>> = {
  // An old read may show what was there before the lease: nothing.
  "a lapse is believed from a read": (parts, { options: { random, faults } }) => {
    const { store, pretend } = pretending(parts.leases);
    const create: RecordStore["create"] = async (key, value) => {
      if (readLease(value)?.kind !== "tombstone") return store.create(key, value);
      const found = await store.read(key);
      return found === null || random.chance(faults.stale) ? pretend() : { kind: "conflict" };
    };
    return { ...parts, leases: { ...store, create } };
  },

  "a boot id is used again after it lost its lease": (parts) => {
    const boot = parts.randomId();
    return { ...parts, randomId: () => boot };
  },

  "consumers are deleted before one's own exists": (parts) => {
    const { queue } = parts;
    const createConsumer: typeof queue.createConsumer = async (partition, epoch, floor) => {
      await queue.deleteConsumersBelow(partition, epoch);
      await queue.createConsumer(partition, epoch, floor);
    };
    return { ...parts, queue: { ...queue, createConsumer } };
  },

  // Neither of its two writes is waited for.
  "a claim is delivered for before it is confirmed": (parts) => {
    const { store, pretend } = pretending(parts.assignments);
    const update: RecordStore["update"] = async (key, value, revision) => {
      const answer = store.update(key, value, revision);
      answer.catch(() => {});
      return readAssignment(value)?.state === "released" ? answer : pretend();
    };
    return { ...parts, assignments: { ...store, update } };
  },

  "reactors have no deadline": (parts) => withGate(parts, { serve: (until) => parts.gate.serve(until + 1e6) }),

  "the deadline trusts the clock of the store's leader": (parts) => withGate(parts, { serve: (until) => parts.gate.serve(until + 4_000) }),

  "a partition is released while reactors still deliver": (parts) => withGate(parts, { drop() {} }),

  "an update looks at no revision": (parts) => {
    const { assignments } = parts;
    const update: RecordStore["update"] = async (key, value, revision) =>
      assignments.update(key, value, (await assignments.read(key))?.revision ?? revision);
    return { ...parts, assignments: { ...assignments, update } };
  },

  "a claimant that gives up deletes its consumer": (parts, { options }) => {
    const { assignments } = parts;
    const update: RecordStore["update"] = async (key, value, revision) => {
      const answer = await assignments.update(key, value, revision);
      const record = readAssignment(value);
      if (answer.kind === "conflict" && record?.state === "held") options.store.queue.deleteWhere(partitionOfKey(key), (epoch) => epoch === record.epoch);
      return answer;
    };
    return { ...parts, assignments: { ...assignments, update } };
  },
};

const seeds: Readonly<Record<string, number>> = {
  "a lapse is believed from a read": 85,
  "a boot id is used again after it lost its lease": 27,
  "consumers are deleted before one's own exists": 4,
  "a claim is delivered for before it is confirmed": 48,
  "reactors have no deadline": 2,
  "the deadline trusts the clock of the store's leader": 23,
  "a partition is released while reactors still deliver": 1,
  "an update looks at no revision": 11,
  "a claimant that gives up deletes its consumer": 20,
};

export const mistakes: Readonly<Record<string, Mistake>> = Object.fromEntries(Object.entries(plants).map(([title, plant]) => [title, { plant, seed: seeds[title] ?? 1 }]));

/** A store whose writes can be made up. Their revisions fit between real ones. */
function pretending(store: RecordStore): { readonly store: RecordStore; pretend(): Written } {
  let highest = 0;
  const note = (answer: Written): Written => {
    if (answer.kind === "written") highest = Math.max(highest, answer.revision);
    return answer;
  };
  return {
    store: {
      ...store,
      create: async (key, value) => note(await store.create(key, value)),
      update: async (key, value, revision) => note(await store.update(key, value, revision)),
      info: async () => {
        const info = await store.info();
        highest = Math.max(highest, info.lastRevision);
        return { ...info, lastRevision: Math.max(info.lastRevision, Math.ceil(highest)) };
      },
    },
    pretend: () => note({ kind: "written", revision: highest + 0.01 }),
  };
}

function withGate(parts: ProcessParts, changed: Partial<Pick<GateWriter, "serve" | "drop">>): ProcessParts {
  const { gate } = parts;
  const serve = (until: number) => gate.serve(until);
  const hold = (partition: number, claim: number) => gate.hold(partition, claim);
  const drop = (partition: number) => gate.drop(partition);
  return { ...parts, gate: { serve, hold, drop, dropAll: () => gate.dropAll(), ...changed } as unknown as GateWriter };
}
