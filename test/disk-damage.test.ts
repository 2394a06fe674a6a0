/** What is wrong with a data directory is said before the port opens, and a full disk costs publishes but nothing that was acknowledged. */
import { execFileSync } from "node:child_process";
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmdirSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";
import t, { type Test } from "tap";
import { lockFolder } from "../src/disk/lock.ts";
import { createLogBroker, type LogBroker } from "../src/broker/disk/log.ts";
import type { Answer, Draft, Page, Published, Retention, Stored } from "../src/broker/broker.ts";
import { createGateway } from "../dist/index.js";
import { startNode } from "./support/node.ts";
import { open, type Command } from "./support/session.ts";
import { until } from "./support/until.ts";
import { isRealRoot, nobody } from "./support/user.ts";

const durable: Retention = { durable: true, historySize: 1000, historyTtlMs: 3_600_000, historyBytesMax: 1e9 };
const small: Retention = { ...durable, historySize: 5 };
const MiB = 1024 * 1024;

interface Said {
  readonly level: "info" | "warn" | "error";
  readonly text: string;
}

interface Opened {
  readonly broker: LogBroker;
  readonly said: Said[];
  readonly delivered: Stored[];
  publish(room: string, words: string, key?: string): Promise<Answer<Published>>;
  words(room: string): Promise<string[]>;
}

/** The clock stands still: keys, and rooms that keep nothing, are forgotten after a minute, however long a test takes. */
const clock = () => 1_800_000_000_000;

async function openBroker(folder: string, options: { dataBytesMax?: number; uncommittedBytesMax?: number } = {}): Promise<Opened> {
  const said: Said[] = [];
  const delivered: Stored[] = [];
  const say = (level: Said["level"]) => (_: object, text: string) => void said.push({ level, text });
  const broker = await createLogBroker(
    {
      folder, roomsMax: 1000, historyTotalBytesMax: 1e9, keyWindowMs: 60_000, keysPerRoomMax: 1000, sync: true, clock,
      dataBytesMax: 64 * MiB, uncommittedBytesMax: 16 * MiB, retentionOf: (room) => (room === "chat:busy" ? small : durable),
      log: { info: say("info"), warn: say("warn"), error: say("error") }, ...options,
    },
    (_, publication) => delivered.push({ ...publication, payload: Uint8Array.from(publication.payload) }),
  );
  const draft = (words: string, key: string): Draft => ({ sender: "ann", payload: Buffer.from(words), format: 0, key, origin: "" });
  const newest = { direction: "newest", position: { epoch: "", seq: 0 }, limit: 10_000, bytesMax: 1e9 } as const;
  return {
    broker, said, delivered,
    publish: (room, words, key = "") => new Promise((resolve) => broker.publish(room, durable, draft(words, key), resolve)),
    words: async (room) => {
      const answer = await new Promise<Answer<Page>>((resolve) => broker.history(room, durable, newest, resolve));
      if ("error" in answer) throw new Error(answer.error);
      return answer.value.publications.map(({ payload }) => Buffer.from(payload).toString());
    },
  };
}

function files(folder: string): string[] {
  return readdirSync(folder).filter((name) => name.endsWith(".flux")).sort().map((name) => join(folder, name));
}

function seqOf(answer: Answer<Published>): number {
  if ("error" in answer) throw new Error(answer.error);
  return answer.value.seq;
}

// ------------------------------------------------------------------------------------- starting

async function refusal(dataDir: string): Promise<string> {
  try {
    const gateway = await createGateway({ port: 0, adminPort: 0, reactors: 1, demo: false, logLevel: "silent", dataDir });
    await gateway.close();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("it started");
}

t.test("a data directory that is a file is refused, naming the option", async (t) => {
  const folder = t.testdir({ file: "text" });
  t.match(await refusal(join(folder, "file")), /^--data-dir .*file; choose a directory/);
  t.match(await refusal(join(folder, "file", "below")), /^--data-dir .*file; choose a directory/);
});

t.test("a data directory that may not be written to is refused", async (t) => {
  const mine = join(t.testdir({ mine: {} }), "mine");
  chmodSync(mine, 0o500);
  // Root may write anywhere: the node is started as nobody. Who is root in a namespace of its own may not write in the real one's.
  if (isRealRoot) process.seteuid!(nobody);
  try {
    t.match(await refusal(process.getuid?.() === 0 && !isRealRoot ? "/usr" : mine), /^--data-dir .* may not read and write/);
  } finally {
    if (isRealRoot) process.seteuid!(0);
  }
});

t.test("a data directory that another node has is refused, and free once that one has closed", async (t) => {
  const dataDir = t.testdir();
  const options = { port: 0, adminPort: 0, reactors: 1, demo: false, logLevel: "silent", dataDir } as const;
  const first = await createGateway(options);
  t.match(await refusal(dataDir), /^--data-dir .*another node uses it; stop that node/);
  await first.close();
  const second = await createGateway(options);
  await second.close();
});

t.test("a data directory whose path is longer than a socket's may be is locked all the same", async (t) => {
  const dataDir = join(t.testdir(), "long".repeat(30));
  const options = { port: 0, adminPort: 0, reactors: 1, demo: false, logLevel: "silent", dataDir } as const;
  const first = await createGateway(options);
  t.match(await refusal(dataDir), /another node uses it/);
  await first.close();
});

t.test("a data directory of a newer format is refused", async (t) => {
  const dataDir = t.testdir({ format: "flux-gateway data, format 2\n" });
  t.match(await refusal(dataDir), /^--data-dir .*newer version of flux-gateway wrote it \(format 2, this version reads 1\); start that version/);
});

t.test("a data directory whose format cannot be read is refused", async (t) => {
  t.match(await refusal(t.testdir({ format: "something else" })), /^--data-dir .*names no format/);
});

t.test("damage in the middle of a file is refused, naming the file and the byte", async (t) => {
  const dataDir = t.testdir();
  const folder = join(dataDir, "log");
  mkdirSync(folder);
  const { broker, publish } = await openBroker(folder);
  for (let i = 0; i < 20; i++) await publish("chat:a", `publication ${i}`);
  await broker.stop();
  const [file] = files(folder);
  const bytes = readFileSync(file!);
  const at = bytes.indexOf("publication 7");
  bytes[at] = bytes[at]! ^ 255;
  writeFileSync(file!, bytes);
  t.match(await refusal(dataDir), new RegExp(`^--data-dir .*${file!.slice(-15)} is damaged at byte \\d+ of ${bytes.length}.*restore a backup`));
});

// ------------------------------------------------------------------------------------- torn tails

t.test("what a power loss tore at the end is cut off and said, and everything before it is there", async (t) => {
  const folder = t.testdir();
  const first = await openBroker(folder);
  for (let i = 0; i < 5; i++) await first.publish("chat:a", `publication ${i}`);
  await first.broker.stop();
  const [file] = files(folder);
  const whole = statSync(file!).size;
  truncateSync(file!, whole - 3);

  const second = await openBroker(folder);
  t.same(await second.words("chat:a"), ["publication 0", "publication 1", "publication 2", "publication 3"]);
  t.match(second.said, [{ level: "warn", text: /an incomplete last write was cut off/ }]);
  t.equal(seqOf(await second.publish("chat:a", "instead")), 5);
  await second.broker.stop();

  appendFileSync(file!, Buffer.alloc(5000, 1));
  const third = await openBroker(folder);
  t.same((await third.words("chat:a")).slice(-2), ["publication 3", "instead"]);
  t.equal(third.said.length, 1);
  await third.broker.stop();
  const fourth = await openBroker(folder);
  t.equal(fourth.said.length, 0, "it was cut off for good");
  await fourth.broker.stop();
});

t.test("a payload that looks like a frame is not taken for one behind a torn end", async (t) => {
  const folder = t.testdir();
  const first = await openBroker(folder);
  await first.publish("chat:a", "whole");
  const frame = readFileSync(files(folder)[0]!).subarray(16);
  await first.publish("chat:a", frame.toString("latin1"));
  await first.broker.stop();
  const [file] = files(folder);
  truncateSync(file!, statSync(file!).size - 1);
  const second = await openBroker(folder);
  t.same(await second.words("chat:a"), ["whole"]);
  await second.broker.stop();
});

// ------------------------------------------------------------------------------------- a full disk

t.test("a full disk refuses publishes as unavailable, is said once, and is over when there is room again", async (t) => {
  const disk = smallDisk(t);
  const folder = join(disk, "log");
  const filler = join(disk, "filler");
  const first = await openBroker(folder);
  const acknowledged: string[] = [];
  const words = (i: number) => `${i} ${"x".repeat(2000)}`;
  writeFileSync(filler, Buffer.alloc(3 * MiB));
  let refused = 0;
  for (let i = 0; refused < 50; i++) {
    const answer = await first.publish("chat:a", words(i), `key ${i}`);
    if ("value" in answer) acknowledged.push(words(i));
    else refused++;
    if ("error" in answer && answer.error !== "unavailable") throw new Error(answer.error);
  }
  t.ok(acknowledged.length > 50, `${acknowledged.length} were acknowledged`);
  t.equal(first.broker.disk().failing, true);
  t.equal(first.said.filter(({ level }) => level === "error").length, 1, "said once");
  t.same(await first.words("chat:a"), acknowledged.slice(-1000), "what was acknowledged can be read");

  truncateSync(filler, 0);
  const last = words(acknowledged.length);
  const retry = async () => "value" in (await first.publish("chat:a", last, "the last"));
  let back = false;
  await until(() => (void retry().then((done) => (back ||= done)), back), "the disk to be tried again");
  acknowledged.push(last);
  t.equal(first.broker.disk().failing, false);
  t.match(first.said.at(-1), { level: "warn", text: /disk writes succeed again/ });
  t.equal(seqOf(await first.publish("chat:a", "next")), acknowledged.length + 1, "no position was left out");
  await first.broker.stop();

  const second = await openBroker(folder);
  t.same(await second.words("chat:a"), [...acknowledged, "next"].slice(-1000));
  t.equal(second.said.length, 0);
  await second.broker.stop();
});

t.test("a node whose disk is full refuses what would have to be kept, says so, stays ready and serves the rest", async (t) => {
  const disk = smallDisk(t);
  const filler = join(disk, "filler");
  writeFileSync(filler, Buffer.alloc(3 * MiB));
  const node = await startNode(t, { dataDir: join(disk, "data"), reactors: 1, commandsPerSecond: 0, bytesPerSecond: 0 });
  const isFailing = async () => /^flux_disk_failing\{journal="log"\} 1$/m.test(await node.metrics());
  const readiness = async () => (await fetch(`http://127.0.0.1:${node.port}/ready`)).status;
  const session = await open(node);
  await session.join("chat:a");
  t.equal(await isFailing(), false);
  const payload = Buffer.alloc(10_000, "x");
  const publish = (n: number): Command => ({ publish: { room: "chat:a", payload, format: 0, key: `key ${n}` } });
  const acknowledged: number[] = [];
  let refusal: unknown = null;
  for (let n = 0; refusal === null; n++) {
    const { published, error } = await session.request(publish(n));
    if (published) acknowledged.push(published.position?.seq ?? 0);
    else refusal = error;
  }
  t.match(refusal, { code: "unavailable", retryable: true });
  t.equal(await isFailing(), true);
  t.equal(await readiness(), 200);
  t.match((await session.request({ send: { user: "ann", payload, format: 0 } })).error, { code: "unavailable", retryable: true });

  const other = await open(node);
  await other.join("live:b");
  await session.join("live:b");
  await session.publish("live:b", '"goes on"');
  await other.waitFor(() => other.publications.length === 1, "an ephemeral room to go on");
  const last = acknowledged.at(-1)!;
  const { missed } = await other.join("chat:a", { recover: { epoch: session.publications[0]!.epoch, seq: last - 3 } });
  t.same(missed.map(({ seq }) => seq), [last - 2, last - 1, last], "what is kept can be read");

  truncateSync(filler, 0);
  const again = async () => (await session.request(publish(acknowledged.length))).published;
  await until(async () => (await again())?.position?.seq === last + 1, "it to be taken, at the next place");
  t.equal(await isFailing(), false);
  await other.waitFor(() => other.publications.at(-1)?.seq === last + 1, "members to get it");
});

/** A file system of a few MiB. */
function smallDisk(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), "flux-small-disk-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", path], { stdio: "ignore" });
  } catch (cause) {
    rmdirSync(path);
    throw new Error("a full disk is tested on one of 4 MiB, which takes the right to mount it: unshare --map-root-user --mount npm test", { cause });
  }
  t.teardown(() => {
    execFileSync("umount", [path]);
    rmdirSync(path);
  });
  return path;
}

// ------------------------------------------------------------------------------------- bounds

t.test("past the bytes of the directory the quietest room loses its oldest, and publishing goes on", async (t) => {
  const folder = t.testdir();
  const dataBytesMax = 1 * MiB;
  const first = await openBroker(folder, { dataBytesMax });
  for (let i = 0; i < 10; i++) await first.publish("chat:quiet", `quiet ${i}`);
  // Where cleaning lags behind, on a slow disk, a publisher is told to try again.
  const isTaken = async (i: number) => {
    const answer = await first.publish(`chat:busy ${i % 3}`, `${i} ${"y".repeat(1000)}`);
    if ("error" in answer && answer.error !== "overloaded") throw new Error(answer.error);
    return "value" in answer;
  };
  for (let i = 0; i < 5000; i++) await until(() => isTaken(i), `publication ${i} to be taken`);
  t.ok(first.broker.disk().bytes <= dataBytesMax, `${first.broker.disk().bytes} bytes on disk`);
  t.same(await first.words("chat:quiet"), []);
  const kept = await first.words("chat:busy 0");
  t.ok(kept.length > 100, `${kept.length} kept`);
  await first.broker.stop();
  const onDisk = files(folder).reduce((sum, file) => sum + statSync(file).size, 0);
  t.ok(onDisk <= dataBytesMax, `${onDisk} bytes in files`);

  const second = await openBroker(folder, { dataBytesMax });
  t.same(await second.words("chat:busy 0"), kept, "the same after a restart");
  t.equal(seqOf(await second.publish("chat:quiet", "again")), 11, "a room that keeps nothing is still where it was");
  await second.broker.stop();
});

t.test("cleaning moves what is kept, and keys that are remembered, out of files that go", async (t) => {
  const folder = t.testdir();
  const dataBytesMax = 2 * MiB;
  const first = await openBroker(folder, { dataBytesMax });
  for (let i = 0; i < 20; i++) await first.publish("chat:kept", `kept ${i}`, `key ${i}`);
  const busy = (i: number) => new Promise<Answer<Published>>((resolve) =>
    first.broker.publish("chat:busy", small, { sender: "bob", payload: Buffer.alloc(2000, i), format: 0, key: "", origin: "" }, resolve));
  for (let i = 0; i < 3000; i++) await until(async () => "value" in (await busy(i)), `publication ${i} to be taken`);
  const before = files(folder)[0];
  t.not(before?.endsWith("0000000001.flux"), "the first file is gone");
  t.same(await first.words("chat:kept"), Array.from({ length: 20 }, (_, i) => `kept ${i}`));
  await first.broker.stop();
  const second = await openBroker(folder, { dataBytesMax });
  t.same(await second.words("chat:kept"), Array.from({ length: 20 }, (_, i) => `kept ${i}`));
  t.match(await second.publish("chat:kept", "twice", "key 3"), { value: { seq: 4, duplicate: true } });
  t.equal(seqOf(await second.publish("chat:kept", "once", "key 20")), 21);
  await second.broker.stop();
});

t.test("more that waits for its commit than may wait is refused, and nothing is seen before its commit", async (t) => {
  const { broker, delivered } = await openBroker(t.testdir(), { uncommittedBytesMax: 100_000 });
  t.teardown(() => broker.stop());
  await new Promise((resolve) => broker.open("chat:a", durable, resolve));
  const answers: Answer<Published>[] = [];
  const draft = { sender: "ann", payload: Buffer.alloc(1000), format: 0, key: "", origin: "" };
  for (let i = 0; i < 200; i++) broker.publish("chat:a", durable, draft, (answer) => answers.push(answer));
  t.equal(delivered.length, 0, "none of them is on the disk");
  t.ok(answers.length > 90 && answers.length < 120, `${answers.length} refused at once`);
  t.ok(answers.every((answer) => "error" in answer && answer.error === "overloaded"));
  await until(() => answers.length === 200, "the others");
  const seqs = answers.flatMap((answer) => ("value" in answer ? [answer.value.seq] : []));
  t.same(seqs, Array.from({ length: seqs.length }, (_, i) => i + 1));
  t.same(delivered.map(({ seq }) => seq), seqs);
});

t.test("a key that is used again while its first publication waits is answered with it, once that is durable", async (t) => {
  const { broker, publish } = await openBroker(t.testdir());
  t.teardown(() => broker.stop());
  const [first, second] = await Promise.all([publish("chat:a", "one", "k"), publish("chat:a", "two", "k")]);
  t.match(first, { value: { seq: 1, duplicate: false } });
  t.match(second, { value: { seq: 1, duplicate: true } });
});

t.test("who asks whether a data directory is in use and cannot be accepted ends no node", async (t) => {
  const servers: net.Server[] = [];
  const { createServer } = net;
  net.createServer = ((...given: Parameters<typeof createServer>) => {
    const server = createServer(...given);
    servers.push(server);
    return server;
  }) as typeof createServer;
  syncBuiltinESMExports();
  const folder = t.testdir();
  const lock = await lockFolder(folder);
  net.createServer = createServer;
  syncBuiltinESMExports();
  for (let i = 0; i < 2; i++) servers[0]!.emit("error", Object.assign(new Error("accept EMFILE"), { code: "EMFILE" }));
  await t.rejects(lockFolder(folder), /another node uses it/);
  await lock.release();
});
