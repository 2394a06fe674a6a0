/** A journal whose commits do not wait for the disk: what a power loss may leave of it. */
import t from "tap";
import type { FileHandle } from "node:fs/promises";
import { openJournal } from "../src/disk/opening.ts";
import type { Segment } from "../src/disk/segment.ts";

t.test("a file is on the disk before the next one begins, and what was copied out of one before it goes", async (t) => {
  const folder = t.testdir();
  const journal = await openJournal({ folder, segmentBytes: 4096, uncommittedBytesMax: 1 << 20, sync: false, log: { info() {}, warn() {}, error() {} } }, () => {});
  t.teardown(() => journal.close());
  const told: string[] = [];
  const watched = new Set<FileHandle>();
  const watch = ({ id, file }: Segment) => {
    if (watched.has(file)) return;
    watched.add(file);
    const datasync = file.datasync.bind(file);
    file.datasync = () => (told.push(`${id} is synced`), datasync());
  };
  const write = () => new Promise<void>((resolve, reject) => {
    watch(journal.head);
    journal.append(1000, { committed: () => resolve(), failed: () => reject(new Error("a commit failed")) }).fill(1);
  });
  while (journal.segments.length < 3) {
    await write();
    watch(journal.head);
  }
  const [first, second] = journal.segments;
  t.strictSame(told, [`${first!.id} is synced`, `${second!.id} is synced`], "each, when the next began");
  await journal.remove(first!);
  t.strictSame(told.slice(2), [`${journal.head.id} is synced`], "the last one, before the first went");
  t.equal(journal.segments.length, 2);
});
