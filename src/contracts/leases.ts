/** Contract of what leases stand on, clause by clause of src/placement/leases/leases.ts. Run over each implementation. */
import type { Test } from "tap";
import type { PartitionQueue, QueuedMessage, RecordStore, StoredRecord, Written } from "../placement/leases/leases.ts";
import { until } from "./until.ts";

/** A fresh bucket, as several nodes see it. */
export interface RecordPlace {
  /** One node's access to the bucket. */
  open(): Promise<RecordStore> | RecordStore;
  /** Deletes the bucket and makes it again. */
  wipe(): Promise<void> | void;
  /** Resolves when so much time has passed for the store: by waiting, where its clock cannot be set. */
  pass(ms: number): Promise<void>;
}

/** @param make a bucket whose records expire after `maxAgeMs`; 0: never */
export type MakeRecords = (t: Test, maxAgeMs: number) => Promise<RecordPlace> | RecordPlace;

export function recordStoreContract(t: Test, name: string, make: MakeRecords): void {
  const start = async (t: Test, maxAgeMs = 0) => {
    const place = await make(t, maxAgeMs);
    return { place, store: await place.open(), other: await place.open() };
  };

  t.test(`${name}: a record is created once, and read by every node with its revision`, async (t) => {
    const { store, other } = await start(t);
    t.equal(await store.read("node.a"), null);
    const revision = revisionOf(await store.create("node.a", '"ä"'));
    t.same(await store.create("node.a", "2"), { kind: "conflict" });
    t.same(await other.create("node.a", "3"), { kind: "conflict" });
    t.same(await other.read("node.a"), { key: "node.a", value: '"ä"', revision });
    t.equal(await other.read("node.ab"), null, "one with a longer name is another");
    t.equal(await other.read("node"), null);
  });

  t.test(`${name}: an update is stored only over the revision that it names, and revisions increase over all keys`, async (t) => {
    const { store, other } = await start(t);
    const first = revisionOf(await store.create("p.1", "1"));
    const elsewhere = revisionOf(await store.create("p.2", "1"));
    const second = revisionOf(await other.update("p.1", "2", first));
    t.ok(first < elsewhere && elsewhere < second, "one order in all");
    t.same(await store.update("p.1", "3", first), { kind: "conflict" }, "an old revision");
    t.same(await store.update("p.1", "3", second + 1), { kind: "conflict" }, "one that is not there yet");
    t.same(await store.update("p.4", "1", second), { kind: "conflict" }, "none is there at all");
    t.equal(await store.read("p.4"), null);
    t.same(await store.read("p.1"), { key: "p.1", value: "2", revision: second });
  });

  t.test(`${name}: of writes at the same time over one revision exactly one is stored`, async (t) => {
    const { store, other } = await start(t);
    const creates = await Promise.all([store, other, store, other].map((one, i) => one.create("p.1", String(i))));
    t.equal(creates.filter(({ kind }) => kind === "written").length, 1);
    const revision = revisionOf(creates.find(({ kind }) => kind === "written")!);
    const updates = await Promise.all([store, other, store, other].map((one, i) => one.update("p.1", `${i}`, revision)));
    const won = updates.findIndex(({ kind }) => kind === "written");
    t.equal(updates.filter(({ kind }) => kind === "written").length, 1);
    t.equal((await store.read("p.1"))?.value, String(won), "and that is read");
  });

  t.test(`${name}: a record that is not renewed expires: it is gone, its revision refuses, and it can be created`, async (t) => {
    const { place, store, other } = await start(t, 2_000);
    const revision = revisionOf(await store.create("node.a", "1"));
    const renewed = revisionOf(await store.update("node.a", "2", revision));
    await place.pass(2_500);
    // A server may look for what has expired only now and then.
    await until(async () => (await other.read("node.a")) === null, "the record to be gone");
    t.same(await other.readAll(), []);
    t.same(await store.update("node.a", "3", renewed), { kind: "conflict" });
    const again = revisionOf(await other.create("node.a", "4"));
    t.ok(again > renewed, "revisions go on");
    t.same(await store.update("node.a", "5", renewed), { kind: "conflict" }, "also now that there is another");
    t.equal((await store.read("node.a"))?.value, "4");
  });

  t.test(`${name}: a renewal begins the age anew`, async (t) => {
    const { place, store } = await start(t, 8_000);
    let revision = revisionOf(await store.create("node.a", "1"));
    for (let i = 0; i < 2; i++) {
      await place.pass(5_000);
      revision = revisionOf(await store.update("node.a", String(i), revision));
    }
    t.equal((await store.read("node.a"))?.revision, revision);
  });

  t.test(`${name}: records are kept where the bucket has no age, and all are listed`, async (t) => {
    const { store, other } = await start(t);
    t.same(await store.readAll(), []);
    const first = revisionOf(await store.create("p.1", "1"));
    await store.create("p.10", "10");
    await other.update("p.1", "2", first);
    t.same((await other.readAll()).map(({ key, value }) => [key, value]).sort(), [["p.1", "2"], ["p.10", "10"]]);
  });

  t.test(`${name}: the bucket says its age, its last revision, and that it is another one`, async (t) => {
    const { place, store, other } = await start(t, 2_000);
    t.equal((await store.info()).lastRevision, 0);
    const revision = revisionOf(await store.create("node.a", "1"));
    await place.pass(2_500);
    const before = await other.info();
    t.equal(before.lastRevision, revision, "also when its record has expired");
    t.ok(before.ageMs >= 0 && before.ageMs < 600_000, `age ${before.ageMs}`);
    t.equal((await store.info()).created, before.created, "for every node the same");
    await place.wipe();
    const after = await store.info();
    t.not(after.created, before.created);
    t.ok(after.ageMs < 2_000);
    t.equal(after.lastRevision, 0);
    t.same(await store.update("node.a", "2", revision), { kind: "conflict" });
    t.equal((await other.create("node.a", "3")).kind, "written");
  });

  t.test(`${name}: a watch tells of every node's writes, those after a wipe too, until it ends`, async (t) => {
    const { place, store, other } = await start(t);
    const seen: StoredRecord[] = [];
    const end = other.watch((record) => seen.push(record));
    const knows = (value: string) => until(() => seen.some((record) => record.value === value), `the watch tells of ${value}`);
    const revision = revisionOf(await store.create("p.1", '"one"'));
    await knows('"one"');
    await other.update("p.1", '"two"', revision);
    await knows('"two"');
    t.same(seen.find(({ value }) => value === '"one"'), { key: "p.1", value: '"one"', revision });
    await place.wipe();
    await store.create("p.1", '"three"');
    await knows('"three"');
    end();
    const count = seen.length;
    await store.create("p.2", '"four"');
    await store.info();
    t.equal(seen.length, count);
  });
}

/** A queue of two partitions, as several nodes see it. */
export interface QueuePlace {
  open(): Promise<PartitionQueue<QueuedMessage>> | PartitionQueue<QueuedMessage>;
  /** Stores a message in partition 1 or 2, and resolves with its sequence. */
  publish(partition: number): Promise<number>;
}

export type MakeQueue = (t: Test) => Promise<QueuePlace> | QueuePlace;

export function partitionQueueContract(t: Test, name: string, make: MakeQueue): void {
  const start = async (t: Test) => {
    const place = await make(t);
    const queue = await place.open();
    const floors = async (partition: number) =>
      (await queue.state(partition)).consumers.map(({ epoch, floor }) => [epoch, floor]).sort(([a = 0], [b = 0]) => a - b);
    /** Pulls, and keeps what comes. */
    const pull = (partition: number, epoch: number, from = queue) => {
      const got: number[] = [];
      const lost: string[] = [];
      const one = from.pull(partition, epoch, { message: ({ seq }) => got.push(seq), lost: (reason) => lost.push(reason) });
      t.teardown(() => one.close());
      return { ...one, got, lost, has: (count: number) => until(() => got.length >= count, `${count} messages, got ${got.length}`) };
    };
    return { place, queue, floors, pull };
  };

  t.test(`${name}: a consumer hands over everything behind its floor, in order, and of its partition only`, async (t) => {
    const { place, queue, pull } = await start(t);
    const first = await place.publish(1);
    await place.publish(2);
    const second = await place.publish(1);
    await queue.createConsumer(1, 5, 0);
    await queue.createConsumer(2, 5, 0);
    const whole = pull(1, 5);
    await whole.has(2);
    const third = await place.publish(1);
    await whole.has(3);
    t.same(whole.got, [first, second, third]);
    await queue.createConsumer(1, 6, first);
    const rest = pull(1, 6);
    await rest.has(2);
    t.same(rest.got, [second, third], "and another one from its own floor");
  });

  t.test(`${name}: a floor is what was acknowledged without a hole, and survives its node`, async (t) => {
    const { place, queue, floors, pull } = await start(t);
    const [first, second, third] = [await place.publish(1), await place.publish(1), await place.publish(1)];
    await queue.createConsumer(1, 5, 0);
    t.same(await floors(1), [[5, 0]]);
    const { acknowledge, stop, close, has, got } = pull(1, 5);
    await has(3);
    acknowledge(first);
    acknowledge(third);
    await until(async () => (await floors(1))[0]?.[1] === first, "the first is acknowledged");
    stop();
    acknowledge(second);
    await until(async () => (await floors(1))[0]?.[1] === third, "acknowledged after the stop, with the third behind it");
    close();
    await place.publish(1);
    const other = await place.open();
    t.same((await other.state(1)).consumers, [{ epoch: 5, floor: third }]);
    t.equal(got.length, 3, "a stopped pull hands over nothing");
  });

  t.test(`${name}: what was not acknowledged comes again in the next pull`, async (t) => {
    const { place, queue, pull } = await start(t);
    const [first, second] = [await place.publish(1), await place.publish(1)];
    await queue.createConsumer(1, 5, 0);
    const before = pull(1, 5);
    await before.has(2);
    before.close();
    await queue.createConsumer(1, 6, 0);
    await queue.deleteConsumersBelow(1, 6);
    const after = pull(1, 6, await place.open());
    await after.has(2);
    t.same(after.got, [first, second]);
  });

  t.test(`${name}: creating a consumer again changes nothing`, async (t) => {
    const { place, queue, floors, pull } = await start(t);
    const first = await place.publish(1);
    await queue.createConsumer(1, 5, 0);
    const { acknowledge, has } = pull(1, 5);
    await has(1);
    acknowledge(first);
    await until(async () => (await floors(1))[0]?.[1] === first, "acknowledged");
    await queue.createConsumer(1, 5, 0);
    t.same(await floors(1), [[5, first]]);
  });

  t.test(`${name}: consumers of lower epochs are deleted, those of others and of other partitions are not`, async (t) => {
    const { queue, floors, pull } = await start(t);
    for (const epoch of [3, 5, 20, 100]) await queue.createConsumer(1, epoch, 0);
    await queue.createConsumer(2, 3, 0);
    const { lost } = pull(1, 3);
    await queue.deleteConsumersBelow(1, 20);
    t.same(await floors(1), [[20, 0], [100, 0]]);
    t.same(await floors(2), [[3, 0]]);
    await until(() => lost.length === 1, "a pull says that its consumer is gone");
    await queue.deleteConsumersBelow(1, 20);
    t.equal(lost.length, 1, "once");
  });

  t.test(`${name}: a pull without a consumer is lost, and not before it has begun`, async (t) => {
    const { pull } = await start(t);
    const { lost } = pull(1, 7);
    t.equal(lost.length, 0);
    await until(() => lost.length === 1, "lost");
  });

  t.test(`${name}: the state names the stream and its last sequence`, async (t) => {
    const { place, queue } = await start(t);
    const before = await queue.state(1);
    t.same([before.last, before.consumers], [0, []]);
    const seq = await place.publish(1);
    const after = await (await place.open()).state(1);
    t.equal(after.stream, before.stream);
    t.ok(after.last >= seq);
  });
}

function revisionOf(written: Written): number {
  if (written.kind !== "written") throw new Error("was not written");
  return written.revision;
}
