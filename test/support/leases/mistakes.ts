/**
 * Mistakes that the model must find: each is planted into every node, around what is right. Each has the seed of a world
 * that finds it soon, for the suite. `npm run test:partition` begins with the first world.
 */
import type { GateWriter } from "../../../src/placement/leases/gate.ts";
import { answerMs, type RecordStore, type StoredRecord, type Written } from "../../../src/placement/leases/leases.ts";
import { partitionOfKey, readAssignment, readLease, writeRecord } from "../../../src/placement/leases/records.ts";
import type { SimulatedBucket } from "./bucket.ts";
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

  // While the node is cut off, others prove that its lease has lapsed.
  "an unanswered renewal counts as answered": (parts) => {
    const { store, pretend } = pretending(parts.leases);
    const update: RecordStore["update"] = (key, value, revision) =>
      new Promise((resolve, reject) => {
        store.update(key, value, revision).then(resolve, () => {});
        parts.timers.after(answerMs - 10, () => (readLease(value)?.kind === "lease" ? resolve(pretend()) : reject(new Error("no answer"))));
      });
    return { ...parts, leases: { ...store, update } };
  },

  // Its revisions seem to go on, and its age says nothing.
  "a bucket that was made again is not noticed": (parts, { options: { store } }) => {
    const blind = (own: RecordStore, bucket: SimulatedBucket): RecordStore => {
      let [life, highest, before] = [bucket.life, 0, 0];
      const look = (): void => {
        if (bucket.life !== life) [life, before] = [bucket.life, highest];
      };
      const shown = (revision: number): number => {
        look();
        highest = Math.max(highest, revision + before);
        return revision + before;
      };
      const record = (one: StoredRecord): StoredRecord => ({ ...one, revision: shown(one.revision) });
      const written = (answer: Written): Written => (answer.kind === "written" ? { kind: "written", revision: shown(answer.revision) } : answer);
      return {
        create: async (key, value) => written(await own.create(key, value)),
        update: async (key, value, revision) => {
          look();
          return written(await own.update(key, value, revision - before));
        },
        read: async (key) => {
          const found = await own.read(key);
          return found && record(found);
        },
        readAll: async () => (await own.readAll()).map(record),
        info: async () => {
          const { lastRevision } = await own.info();
          return { created: "always", ageMs: 1e6, lastRevision: shown(lastRevision) };
        },
        watch: (listener) => own.watch((one) => listener(record(one))),
      };
    };
    return { ...parts, leases: blind(parts.leases, store.leases), assignments: blind(parts.assignments, store.assignments) };
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

  "a floor is recorded before it was delivered": (parts, { options: { store: { queue } } }) => {
    const { assignments } = parts;
    const update: RecordStore["update"] = (key, value, revision) => {
      const record = readAssignment(value);
      if (record?.state !== "held") return assignments.update(key, value, revision);
      const floor = queue.messages(partitionOfKey(key)).at(-1) ?? 0;
      return assignments.update(key, writeRecord({ ...record, floor: Math.max(record.floor, floor) }), revision);
    };
    return { ...parts, assignments: { ...assignments, update } };
  },

  // It arrived late, or the node was frozen: the partition may be another's by now.
  "a refused floor is written over what is there": (parts) => {
    const { assignments } = parts;
    const confirmed = new Map<string, number>();
    const update: RecordStore["update"] = async (key, value, revision) => {
      const record = readAssignment(value);
      const isFloor = record?.state === "held" && confirmed.get(key) === record.epoch;
      const answer = await assignments.update(key, value, revision);
      if (record?.state === "held" && answer.kind === "written") confirmed.set(key, record.epoch);
      return isFloor && answer.kind === "conflict" ? assignments.update(key, value, (await assignments.read(key))?.revision ?? revision) : answer;
    };
    return { ...parts, assignments: { ...assignments, update } };
  },

  // The others' consumers are gone by then, and with its own the only floor.
  "a claimant that is not confirmed deletes all consumers": (parts, { options }) => {
    const { assignments, queue } = parts;
    const createConsumer: typeof queue.createConsumer = async (partition, epoch, floor) => {
      await queue.createConsumer(partition, epoch, floor);
      await queue.deleteConsumersBelow(partition, epoch);
    };
    const update: RecordStore["update"] = async (key, value, revision) => {
      const answer = await assignments.update(key, value, revision);
      const record = readAssignment(value);
      if (answer.kind === "conflict" && record?.state === "held") options.store.queue.deleteWhere(partitionOfKey(key), (epoch) => epoch === record.epoch);
      return answer;
    };
    return { ...parts, queue: { ...queue, createConsumer }, assignments: { ...assignments, update } };
  },
};

const seeds: Readonly<Record<string, number>> = {
  "a lapse is believed from a read": 3,
  "a boot id is used again after it lost its lease": 6,
  "consumers are deleted before one's own exists": 5,
  "an unanswered renewal counts as answered": 8,
  "a bucket that was made again is not noticed": 15,
  "a claim is delivered for before it is confirmed": 1,
  "reactors have no deadline": 6,
  "the deadline trusts the clock of the store's leader": 9,
  "a partition is released while reactors still deliver": 1,
  "an update looks at no revision": 1,
  "a floor is recorded before it was delivered": 1,
  "a refused floor is written over what is there": 218,
  "a claimant that is not confirmed deletes all consumers": 1,
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
