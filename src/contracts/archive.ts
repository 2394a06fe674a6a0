/** Contract of the archive, clause by clause of src/archive/archive.ts. Run over each implementation. */
import type { Test } from "tap";
import type { Archive, ArchivedRow, ArchivePage, ArchiveQuery, Cursor } from "../archive/archive.ts";
import { until } from "./until.ts";

/** One place for an archive, and those who use it. */
export interface ArchivePlace {
  open(): Archive;
}

const stream = "CONTRACT_chat_0";
const dayMs = 86_400_000;
const text = new TextEncoder();

export function archivedRow(seq: number, more: Partial<ArchivedRow> = {}): ArchivedRow {
  const at = Date.now() * 1000 + seq;
  return { seq, at, tenant: "", room: "chat:a", sender: "ann", time: 1_700_000_000_000 + seq, format: 0, key: "", payload: text.encode(`"${seq}"`), ...more };
}

export function archiveContract(t: Test, name: string, make: (t: Test) => ArchivePlace | Promise<ArchivePlace>): void {
  const start = async (t: Test) => {
    const place = await make(t);
    const archive = place.open();
    t.teardown(() => archive.stop());
    const [taken] = await archive.take([stream], "one", 60_000, 1);
    /** Begins an epoch and stores these rows of it. */
    const fill = async (epoch: string, from: Cursor | null, rows: readonly ArchivedRow[], completeFrom = 1): Promise<Cursor> => {
      const lost = from && { epoch: from.epoch, from: from.seq + 1, to: null, reason: "lost" as const };
      const begun = (await archive.begin(stream, from, { epoch, seq: 0, at: 0, completeFrom }, lost))!;
      const { seq, at } = rows.at(-1) ?? begun;
      const to = { ...begun, seq, at };
      if (rows.length > 0 && !(await archive.append(stream, begun, to, rows, []))) throw new Error("the rows were not stored");
      return to;
    };
    const read = (query: Partial<ArchiveQuery> & Pick<ArchiveQuery, "direction">) =>
      archive.history({ stream, tenant: "", room: "chat:a", position: { epoch: "", seq: 0 }, limit: 100, bytesMax: 1e6, ...query });
    const cursor = async () => (await archive.take([stream], "one", 60_000, 1))[0]?.cursor;
    return { place, archive, taken, fill, read, cursor };
  };
  const seqs = (page: ArchivePage | null) => page?.publications.map(({ seq }) => seq);
  const prevs = (page: ArchivePage | null) => page?.publications.map(({ prev }) => prev);
  const rows = (...numbers: number[]) => numbers.map((seq) => archivedRow(seq));

  t.test(`${name}: a stream has one holder, until its lease expires or is given up`, async (t) => {
    const { place, archive, taken } = await start(t);
    t.same(taken, { stream, cursor: null }, "never archived");
    const other = place.open();
    t.teardown(() => other.stop());
    t.same(await other.take([stream], "two", 60_000, 9), [], "not to another");
    t.same((await archive.take([stream, "second", "third"], "one", 60_000, 1)).length, 2, "what it has, and at most so many more");
    await archive.release([stream], "one");
    t.same((await other.take([stream], "two", 1, 9)).length, 1, "given up");
    await until(async () => (await archive.take([stream], "one", 60_000, 9)).some((one) => one.stream === stream), "the lease to expire");
  });

  t.test(`${name}: rows are stored with the cursor, or not at all`, async (t) => {
    const { archive, fill, read, cursor } = await start(t);
    const at = await fill("e1", null, rows(1, 2));
    t.match(await cursor(), { epoch: "e1", seq: 2, at: at.at });
    t.equal(await archive.append(stream, { ...at, seq: 1 }, { ...at, seq: 9 }, rows(9), [{ epoch: "e1", from: 3, to: 8, reason: "dropped" }]), false, "from where the cursor is not");
    t.equal(await archive.append(stream, { ...at, epoch: "e0" }, { ...at, seq: 9 }, rows(9), []), false, "of an epoch that it is not in");
    t.equal(await archive.begin(stream, { ...at, seq: 1 }, { epoch: "e2", seq: 0, at: 0, completeFrom: 1 }, null), null);
    t.equal(await archive.begin(stream, null, { epoch: "e2", seq: 0, at: 0, completeFrom: 1 }, null), null);
    t.match(await cursor(), { epoch: "e1", seq: 2 });
    const page = await read({ direction: "since", position: { epoch: "e1", seq: 0 } });
    t.same(seqs(page), [1, 2]);
    t.equal(page!.gap, false);
  });

  t.test(`${name}: of two writers one succeeds`, async (t) => {
    const { place, archive, fill, read } = await start(t);
    const at = await fill("e1", null, rows(1));
    const other = place.open();
    t.teardown(() => other.stop());
    const to = { ...at, seq: 3 };
    const answers = await Promise.all([archive, other].map((one) => one.append(stream, at, to, rows(2, 3), [])));
    t.same(answers.sort(), [false, true]);
    t.same(seqs(await read({ direction: "newest" })), [1, 2, 3]);
  });

  t.test(`${name}: what is stored is read as it was`, async (t) => {
    const { fill, read } = await start(t);
    const [one, two, three] = [
      archivedRow(1, { sender: "Robert'); DROP TABLE flux_publications;--", key: "a\u0000b", format: 1, payload: new Uint8Array(0), time: 0 }),
      archivedRow(2, { sender: "half \ud800 and \"{\\,}\" NULL", payload: new Uint8Array(65_536).fill(0xfe), time: 8_640_000_000_000_000 }),
      archivedRow(3, { sender: "ñ 好 \u0001", payload: text.encode("\\x00'\"") }),
    ] as const;
    await fill("e1", null, [one, two, three]);
    const page = (await read({ direction: "newest" }))!;
    for (const [i, row] of [one, two, three].entries()) {
      const { epoch, seq, time, format, payload } = page.publications[i]!;
      t.same({ epoch, seq, time, format }, { epoch: "e1", seq: row.seq, time: row.time, format: row.format });
      t.ok(Buffer.from(payload).equals(row.payload), `the payload of ${row.seq}`);
    }
    t.equal(page.publications[0]!.sender, one.sender);
    t.equal(page.publications[2]!.sender, three.sender);
  });

  t.test(`${name}: a room has its own rows, whatever others are called`, async (t) => {
    const { fill, read } = await start(t);
    const [room, tenant] = ["chat:' OR 1=1 --%_", "a\"b"];
    await fill("e1", null, [archivedRow(1), archivedRow(2, { tenant }), archivedRow(3, { room }), archivedRow(4, { room, tenant })]);
    t.same(seqs(await read({ direction: "newest" })), [1]);
    t.same(seqs(await read({ direction: "newest", tenant })), [2]);
    t.same(seqs(await read({ direction: "newest", room })), [3]);
    t.same(seqs(await read({ direction: "newest", room, tenant })), [4]);
    t.same(seqs(await read({ direction: "newest", stream: "OTHER", room: "chat:other" })), []);
  });

  t.test(`${name}: pages end at their limit or their bytes, and say whether there is more`, async (t) => {
    const { fill, read } = await start(t);
    await fill("e1", null, rows(2, 4, 6, 8).map((row) => ({ ...row, payload: new Uint8Array(100) })));
    const since = (seq: number, more = {}) => read({ direction: "since", position: { epoch: "e1", seq }, ...more });
    const before = (seq: number, more = {}) => read({ direction: "before", position: { epoch: "e1", seq }, ...more });
    for (const [page, wanted, more] of [
      [await since(0), [2, 4, 6, 8], false], [await since(2, { limit: 2 }), [4, 6], true], [await since(4, { limit: 2 }), [6, 8], false], [await since(8), [], false],
      [await since(0, { bytesMax: 250 }), [2, 4], true], [await since(0, { bytesMax: 250, bytesEach: 50 }), [2], true], [await since(0, { bytesMax: 1 }), [2], true],
      [await before(8), [2, 4, 6], false], [await before(8, { limit: 2 }), [4, 6], true], [await before(6, { limit: 2 }), [2, 4], false], [await before(2), [], false], [await before(8, { bytesMax: 1 }), [6], true],
      [await read({ direction: "newest", limit: 2 }), [6, 8], true], [await read({ direction: "newest", limit: 4 }), [2, 4, 6, 8], false],
    ] as const) {
      t.same(seqs(page), wanted);
      t.equal(page!.more, more);
    }
    t.same(prevs(await since(2)), [2, 4, 6]);
    t.same(prevs(await before(8, { limit: 2 })), [2, 4], "backward too");
  });

  t.test(`${name}: history goes through all epochs of the stream, and says where publications are missing`, async (t) => {
    const { archive, fill, read } = await start(t);
    const first = await fill("e1", null, rows(1, 2));
    const to = { ...first, seq: 9 };
    t.ok(await archive.append(stream, first, to, rows(9), [{ epoch: "e1", from: 3, to: 8, reason: "dropped" }]));
    await fill("e2", to, rows(1, 2, 3));
    const since = (epoch: string, seq: number, limit = 100) => read({ direction: "since", position: { epoch, seq }, limit });
    const whole = (await since("e1", 0))!;
    t.same(whole.publications.map(({ epoch, seq }) => `${epoch}:${seq}`), ["e1:1", "e1:2", "e1:9", "e2:1", "e2:2", "e2:3"]);
    t.same(prevs(whole), [0, 1, 8, 0, 1, 2]);
    t.match(whole, { more: false, gap: true, gapAfter: true, cursor: { epoch: "e2", seq: 3 } });
    t.match(await since("e1", 0, 2), { more: true, gap: false, gapAfter: true });
    t.match(await since("e2", 0), { more: false, gap: false, gapAfter: false });
    t.match(await since("e1", 9, 9), { gap: true, publications: { length: 3 } }, "an epoch that was lost ends with one");
    t.match(await since("e2", 3), { more: false, publications: { length: 0 } });
    const back = (await read({ direction: "before", position: { epoch: "e2", seq: 2 }, limit: 3 }))!;
    t.same(back.publications.map(({ epoch, seq }) => `${epoch}:${seq}`), ["e1:2", "e1:9", "e2:1"]);
    t.match(back, { more: true, gap: true, gapAtEnd: false });
    t.match(await read({ direction: "before", position: { epoch: "e1", seq: 9 }, limit: 1 }), { gap: true, gapAtEnd: true, publications: [{ seq: 2 }] });
    t.match(await read({ direction: "before", position: { epoch: "e2", seq: 3 }, limit: 2 }), { gap: false, publications: { length: 2 } });
  });

  t.test(`${name}: a position that it does not cover is unknown`, async (t) => {
    const { fill, read } = await start(t);
    await fill("e1", null, rows(3, 5, 9), 7);
    const since = (epoch: string, seq: number) => read({ direction: "since", position: { epoch, seq } });
    t.equal(await since("e0", 1), null, "another epoch");
    t.equal(await since("e1", 10), null, "after the cursor");
    t.equal(await since("e1", 4), null, "from before the archive was complete");
    t.same(seqs(await since("e1", 5)), [9], "a row that is there has all that follow it");
    t.same(seqs(await since("e1", 6)), [9]);
    t.equal(await read({ direction: "before", position: { epoch: "e0", seq: 1 } }), null);
  });

  t.test(`${name}: an epoch that is archived already goes on after its newest row`, async (t) => {
    const { archive, fill, cursor } = await start(t);
    const first = await fill("e1", null, rows(1, 2));
    const second = await fill("e2", first, rows(1));
    const back = await archive.begin(stream, second, { epoch: "e1", seq: 0, at: 0, completeFrom: 1 }, null);
    t.match(back, { epoch: "e1", seq: 2 });
    t.match(await cursor(), { epoch: "e1", seq: 2 });
  });

  t.test(`${name}: rooms of a journal have positions of their own, and its cursor moves with them`, async (t) => {
    const { archive, fill, cursor } = await start(t);
    const [a, b] = [{ stream: `${stream}/a`, epoch: "ea" }, { stream: `${stream}/b`, epoch: "eb" }];
    const row = (of: typeof a, seq: number) => archivedRow(seq, { of, room: of.stream.slice(-1) });
    const read = (of: typeof a, seq: number, epoch = of.epoch) => archive.history({ stream: of.stream, tenant: "", room: of.stream.slice(-1), direction: "since", position: { epoch, seq }, limit: 100, bytesMax: 1e6 });
    const begun = await fill("journal", null, []);
    t.equal((await archive.ends([a.stream])).size, 0);
    const first = { ...begun, seq: 500, at: 1_000_000 };
    const copied = row(a, 2);
    t.ok(await archive.append(stream, begun, first, [row(a, 1), row(b, 7), copied], [], [{ ...a, completeFrom: 1 }, { ...b, completeFrom: 7 }]));
    t.equal(await archive.append(stream, begun, first, [row(a, 3)], [{ ...a, from: 4, to: 5, reason: "dropped" }], [{ ...a, epoch: "ec", completeFrom: 1 }]), false, "from where the cursor is not");
    t.match(await cursor(), { epoch: "journal", seq: 500, at: 1_000_000 });
    t.same([...(await archive.ends([a.stream, b.stream, "other"]))].sort(), [[a.stream, { epoch: "ea", seq: 2 }], [b.stream, { epoch: "eb", seq: 7 }]]);
    t.match(await read(a, 0), { publications: [{ epoch: "ea", seq: 1, prev: 0 }, { seq: 2, prev: 1 }], more: false, gap: false, cursor: { epoch: "ea", seq: 2 } });
    t.equal(await read(b, 5), null, "from before it was archived");
    t.same(seqs(await read(b, 6)), [7]);

    const second = { ...first, seq: 900 };
    t.ok(await archive.append(stream, first, second, [copied, row(a, 6), row({ ...b, epoch: "eb2" }, 1)], [{ ...a, from: 3, to: 5, reason: "dropped" }], [{ ...b, epoch: "eb2", completeFrom: 1 }, { ...b, completeFrom: 3 }]));
    const page = await read(a, 1);
    t.same(seqs(page), [2, 6], "what is there already is not stored again");
    t.same(prevs(page), [1, 5]);
    t.match(page, { gap: true, cursor: { epoch: "ea", seq: 6 } });
    t.same((await archive.ends([b.stream])).get(b.stream), { epoch: "eb2", seq: 1 });
    t.same((await read(b, 6))!.publications.map(({ epoch, seq }) => [epoch, seq]), [["eb", 7], ["eb2", 1]], "through both epochs of the room");
    t.ok(await archive.append(stream, second, { ...second, seq: 901 }, [], [{ ...a, from: 7, to: 9, reason: "dropped" }], [{ ...a, completeFrom: 6 }]));
    t.same((await archive.ends([a.stream])).get(a.stream), { epoch: "ea", seq: 9 }, "a gap is done with");
    t.equal(await read(a, 3), null, "complete from there on only");
  });

  t.test(`${name}: the row at or before a sequence`, async (t) => {
    const { archive, fill } = await start(t);
    const [three, seven] = [archivedRow(3), archivedRow(7)];
    await fill("e1", null, [three, seven]);
    t.equal(await archive.rowBefore(stream, "e1", 2), null);
    t.same(await archive.rowBefore(stream, "e1", 6), { seq: 3, at: three.at });
    t.same(await archive.rowBefore(stream, "e1", 7), { seq: 7, at: seven.at }, "with its time to the microsecond");
    t.equal(await archive.rowBefore(stream, "e2", 7), null);
  });

  t.test(`${name}: days older than it keeps are deleted, and a history that reached into them is no longer complete`, async (t) => {
    const { archive, fill, read } = await start(t);
    const now = Date.now();
    const daysAgo = (days: number) => (now - days * dayMs) * 1000;
    await fill("e1", null, [archivedRow(1, { at: daysAgo(12) }), archivedRow(2, { at: daysAgo(11), room: "chat:b" }), archivedRow(3, { at: daysAgo(10) }), archivedRow(4, { at: daysAgo(1) }), archivedRow(5)]);
    await archive.tidy(now, 0);
    t.same(seqs(await read({ direction: "newest" })), [1, 3, 4, 5], "none are deleted without a limit");
    await archive.tidy(now, 5 * dayMs);
    t.same(seqs(await read({ direction: "newest" })), [4, 5]);
    t.equal(await read({ direction: "since", position: { epoch: "e1", seq: 1 } }), null);
    t.same(seqs(await read({ direction: "since", position: { epoch: "e1", seq: 3 } })), [4, 5], "complete from the first day that is left");
    await archive.tidy(now + 100 * dayMs, 5 * dayMs);
    t.same(seqs(await read({ direction: "newest" })), [4, 5], "a clock that is ahead deletes nothing");
  });

  t.test(`${name}: rows on both sides of a day's end are stored, and read in order`, async (t) => {
    const { archive, fill, read } = await start(t);
    const midnight = Date.UTC(2026, 0, 2) * 1000;
    const at = await fill("e1", null, [archivedRow(1, { at: midnight - 1 }), archivedRow(2, { at: midnight })]);
    t.ok(await archive.append(stream, at, { ...at, seq: 3 }, [archivedRow(3, { at: midnight + dayMs * 1000 })], []));
    t.same(seqs(await read({ direction: "since", position: { epoch: "e1", seq: 0 } })), [1, 2, 3]);
  });
}
