/** What the node may delete from its data directory, and when. */
import { EventEmitter } from "node:events";
import { mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { open as openFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import type { Answer, Published, Retention } from "../src/broker/broker.ts";
import { createLogBroker, type LogBrokerOptions } from "../src/broker/disk/log.ts";
import { value } from "../src/contracts/answers.ts";
import { lockFolder } from "../src/disk/lock.ts";
import { until } from "./support/until.ts";

const quiet = { info() {}, warn() {}, error() {} };
const kept: Retention = { durable: true, historySize: 10, historyTtlMs: 1e12, historyBytesMax: 1e9 };
const brief: Retention = { ...kept, historyTtlMs: 1_000 };
const newest: Retention = { ...kept, historySize: 1 };
const retentions: Record<string, Retention> = { kept, brief, newest };
const retentionOf = (room: string) => retentions[room.split(":")[0]!]!;

async function openBroker(t: Pick<Test, "teardown">, folder: string, options: Partial<LogBrokerOptions> = {}) {
  const broker = await createLogBroker(
    { folder, sync: false, roomsMax: 10_000, historyTotalBytesMax: 1e9, dataBytesMax: 1 << 20, uncommittedBytesMax: 1 << 18, keyWindowMs: 1_000, keysPerRoomMax: 10, retentionOf, log: quiet, ...options },
    () => {},
  );
  let stopped: Promise<void> | null = null;
  const stop = () => (stopped ??= broker.stop());
  t.teardown(stop);
  const publish = (room: string, bytes = 10) =>
    new Promise<Answer<Published>>((resolve) => broker.publish(room, retentionOf(room), { sender: "ann", key: "", payload: Buffer.alloc(bytes), format: 0, origin: "" }, resolve));
  return { broker, publish, stop };
}

const files = (folder: string) => readdirSync(folder).filter((name) => name.endsWith(".flux")).sort();

t.test("a room that expired gives no position twice after a restart, though an older file still names it", async (t) => {
  const folder = t.testdir();
  let time = 1_800_000_000_000;
  const options = { clock: () => time, sweepMs: 2 };
  const first = await openBroker(t, folder, options);
  // Files have 16 KiB. The first stays: something in it is kept.
  await first.publish("kept:a");
  for (let i = 0; i < 3; i++) await first.publish("brief:r");
  for (let i = 0; i < 40; i++) await first.publish("newest:busy", 1_000);
  const last = value(await first.publish("brief:r"));
  t.equal(last.seq, 4);
  for (let i = 0; i < 40; i++) await first.publish("newest:busy", 1_000);
  const before = files(folder);
  time += 120_000;
  await until(() => files(folder).length < before.length, "files to go");
  for (let i = 0; i < 20; i++) await sleep(5);
  await first.stop();
  const second = await openBroker(t, folder, options);
  const again = value(await second.publish("brief:r"));
  t.ok(again.epoch !== last.epoch || again.seq === 5, `${again.epoch === last.epoch ? "the same epoch" : "another epoch"}, ${again.seq}`);
});

t.test("a room in several files is forgotten when one of them is left", async (t) => {
  const folder = t.testdir();
  let time = 1_800_000_000_000;
  const { broker, publish } = await openBroker(t, folder, { clock: () => time, sweepMs: 2 });
  await publish("kept:a");
  for (let i = 0; i < 20; i++) await publish("newest:busy", 1_000);
  await publish("brief:r");
  for (let i = 0; i < 20; i++) await publish("newest:busy", 1_000);
  await publish("brief:r");
  t.equal(broker.usage().rooms, 3);
  for (let i = 0; i < 20; i++) await publish("newest:busy", 1_000);
  time += 120_000;
  await until(() => broker.usage().rooms === 2, "it to be forgotten");
  t.ok(files(folder).length < 5, "its files go");
});

t.test("a full directory is cleaned while publishers never pause: it used to wait until they did", async (t) => {
  const folder = t.testdir();
  const dataBytesMax = 4 * 2 ** 20;
  const { broker, publish } = await openBroker(t, folder, { sweepMs: 1e9, dataBytesMax });
  const draft = { sender: "ann", key: "", payload: Buffer.alloc(10), format: 0, origin: "" };
  let refused = 0;
  let isOver = false;
  // In the callback itself, so that the journal always has something to write.
  const again = (answer?: Answer<Published>): void => {
    if (answer !== undefined && "error" in answer) refused++;
    else if (!isOver) broker.publish("newest:busy", newest, draft, again);
  };
  again();
  for (let i = 0; refused === 0 && broker.disk().bytes <= 0.8 * dataBytesMax; i++) await publish(i % 4 === 0 ? `newest:${i}` : "newest:other", 1_000);
  const before = files(folder);
  await until(() => refused > 0 || before.some((name) => !files(folder).includes(name)), "a file to go");
  isOver = true;
  t.equal(refused, 0);
});

/** Holds every datasync until the test lets it go. */
async function heldSyncs(t: Test) {
  const file = await openFile(join(t.testdir({ x: "" }), "x"));
  const files = Object.getPrototypeOf(file) as { datasync(): Promise<void> };
  await file.close();
  const { datasync } = files;
  t.teardown(() => (files.datasync = datasync));
  const held: (() => void)[] = [];
  let isHeld = true;
  let count = 0;
  files.datasync = async function (this: unknown) {
    count++;
    if (isHeld) await new Promise<void>((resolve) => held.push(resolve));
    return datasync.call(this as never);
  };
  return {
    get count() {
      return count;
    },
    release() {
      isHeld = false;
      for (const go of held.splice(0)) go();
    },
  };
}

t.test("a file goes when the disk has what was copied out of it, also where commits do not wait for the disk", async (t) => {
  const syncs = await heldSyncs(t);
  const folder = t.testdir();
  const { broker, publish } = await openBroker(t, folder, { sweepMs: 1e9 });
  for (let i = 0; broker.disk().bytes <= 0.8 * 2 ** 20; i++) {
    const answer = await publish(i % 4 === 0 ? `newest:${i}` : "newest:busy", 1_000);
    if ("error" in answer) throw new Error(answer.error);
  }
  await until(() => syncs.count > 0, "a sync");
  const before = files(folder);
  for (let i = 0; i < 20; i++) await publish("newest:busy", 10);
  t.same(before.filter((name) => !files(folder).includes(name)), [], "none is deleted meanwhile");
  syncs.release();
  await until(() => before.some((name) => !files(folder).includes(name)), "a file to go");
});

t.test("the archive is given what the disk has", async (t) => {
  const syncs = await heldSyncs(t);
  const { broker, publish } = await openBroker(t, t.testdir(), { retentionOf: (room) => ({ ...retentionOf(room), archive: true }) as Retention, archive: { name: "j", lagMaxMs: 1e9 } });
  await publish("kept:a");
  const [feed] = broker.feeds();
  let isRead = false;
  const read = feed!.read(0, 0, 1).then((piece) => ((isRead = true), piece));
  await until(() => syncs.count > 0, "a sync");
  t.notOk(isRead);
  syncs.release();
  t.equal((await read).publications.length, 1);
});

t.test("of two nodes that find the lock of a dead one, one gets the directory", async (t) => {
  // The path of a socket must be short.
  const folder = mkdtempSync(join(tmpdir(), "flux-lock-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "lock");
  // A socket on which nobody listens any more, as after a kill.
  const dead = net.createServer();
  await new Promise<void>((resolve) => dead.listen(`${path}.dead`, resolve));
  renameSync(`${path}.dead`, path);
  await new Promise<void>((resolve) => dead.close(() => resolve()));

  // The second hears that nobody answers, but only when the first has its lock.
  const { connect } = net;
  let tell = () => {};
  let isFirst = true;
  net.connect = ((...call: [string]) => {
    if (!isFirst) return connect(...call);
    isFirst = false;
    const socket = Object.assign(new EventEmitter(), { setTimeout() {}, destroy() {} });
    tell = () => socket.emit("error", Object.assign(new Error("refused"), { code: "ECONNREFUSED" }));
    return socket;
  }) as never;
  syncBuiltinESMExports();
  t.teardown(() => {
    net.connect = connect;
    syncBuiltinESMExports();
  });
  const second = lockFolder(folder).then(() => "locked", (error: Error) => error.message);
  await until(() => !isFirst, "the second to ask");
  const first = await lockFolder(folder);
  tell();
  t.match(await second, /another node has just locked it/);
  await t.rejects(lockFolder(folder), /another node uses it/, "the first still has it");
  await first.release();
});
