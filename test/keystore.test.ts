/** API keys in memory, in a file and in Redis: the contract, and what happens when the place is broken or away. */
import promises, { appendFile, chmod, mkdir, readFile, rename, rm, stat, symlink, utimes, writeFile, type FileHandle } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { dirname, join } from "node:path";
import t, { type Test } from "tap";
import { heldEvery, keyOf, keyStoreContract, type KeyPlace } from "../src/contracts/keystore.ts";
import { openFileKeys, openFileKeyWriter } from "../src/keystore/file.ts";
import { lookMs, type KeyRecord } from "../src/keystore/keystore.ts";
import { createMemoryKeys } from "../src/keystore/memory.ts";
import { openRedisKeys, openRedisKeyWriter } from "../src/keystore/redis.ts";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";

const server = await startRedis(t);
const quiet = { info() {}, warn() {}, error() {} };

async function connect(t: Pick<Test, "teardown">, url = server.url) {
  const link = await openRedis({ target: readRedisTarget(url)!, answerMs: 1_000, log: quiet });
  t.teardown(() => link.close());
  return link;
}

const header = '{"format":"flux-gateway api keys","version":1}\n';
const linesOf = (...keys: readonly KeyRecord[]) => keys.map((key) => `${JSON.stringify(key)}\n`).join("");

keyStoreContract(t, "memory", () => {
  const { store, writer } = createMemoryKeys();
  return { writer: () => writer, open: () => store };
});

keyStoreContract(t, "file", (t) => {
  const path = join(t.testdir(), "keys");
  return {
    writer: () => openFileKeyWriter(path),
    open: async (every) => {
      await openFileKeyWriter(path).change("made", () => null);
      return openFileKeys({ path, log: quiet, every });
    },
    fill: (keys) => writeFile(path, header + linesOf(...keys)),
  } satisfies KeyPlace;
});

keyStoreContract(t, "redis", (t) => {
  const prefix = freshPrefix();
  return {
    writer: async () => openRedisKeyWriter(await connect(t), prefix),
    open: async (every) => openRedisKeys({ redis: await connect(t), prefix, log: quiet, every }),
    fill: async (keys) => {
      await server.client.hset(`${prefix}gateway:api-keys`, { "*": "v", ...Object.fromEntries(keys.map((key) => [key.name, JSON.stringify(key)])) });
    },
  } satisfies KeyPlace;
});

interface Said {
  readonly level: string;
  readonly text: string;
}

function logOf(said: Said[]) {
  const at = (level: string) => (_: object, text: string) => void said.push({ level, text });
  return { info: at("info"), warn: at("warn"), error: at("error") };
}

async function fileOf(t: Test, ...keys: readonly KeyRecord[]) {
  const path = join(t.testdir(), "keys");
  const writer = openFileKeyWriter(path);
  for (const key of keys) await writer.change(key.name, () => key);
  const said: Said[] = [];
  const { every, pass } = heldEvery();
  const store = await openFileKeys({ path, log: logOf(said), every });
  t.teardown(() => store.stop());
  return { path, writer, store, said, look: () => pass(lookMs) };
}

t.test("file: a file that breaks leaves the keys as they were and says so once, until it is repaired", async (t) => {
  const { path, store, said, look } = await fileOf(t, keyOf("shop", ["a"]), keyOf("bank", ["b"]));
  const good = await readFile(path, "utf8");
  const broken: Record<string, string> = {
    "empty": "",
    "without its first line": linesOf(keyOf("shop", ["a"])),
    "cut off": good.slice(0, -20),
    "of another kind": "\u0000\u0001\u0002".repeat(1000),
    "with a name twice": header + linesOf(keyOf("shop", ["a"]), keyOf("shop", ["b"])),
    "with a secret twice": header + linesOf(keyOf("shop", ["a"]), keyOf("bank", ["a"])),
    "with a field of a later version": header + linesOf({ ...keyOf("shop", ["a"]), more: 1 } as KeyRecord),
    "with a long line": header + linesOf(keyOf("shop", ["a"])) + "x".repeat(20_000),
    "with a control character in a name": header + linesOf(keyOf("sh\u001bop", ["a"])),
  };
  for (const [how, text] of Object.entries(broken)) {
    said.length = 0;
    await writeFile(path, text);
    for (let i = 0; i < 3; i++) await look();
    t.ok(store.find("a000000000") && store.find("b000000000"), `${how}: known keys go on`);
    t.not(store.usage().problem, "", how);
    t.same(said.map(({ level }) => level), ["error"], `${how}: said once`);
    t.match(said[0]?.text, /keeps the 2 keys that it read last/);
    t.notMatch(said[0]?.text, /xxxx|\u0001|\u001b/, "without what is in it");
    await writeFile(path, good);
    await look();
    t.equal(store.usage().problem, "", "repaired");
  }
  await utimes(path, 1, 1);
  await look();
  await rename(path, `${path}.gone`);
  await look();
  t.ok(store.find("a000000000"), "removed: known keys go on");
  t.match(store.usage().problem, /does not exist/);
  await rename(`${path}.gone`, path);
  await look();
  t.equal(store.usage().problem, "", "put back as it was");
  await writeFile(path, "old and broken");
  await utimes(path, 1, 1);
  said.length = 0;
  for (let i = 0; i < 3; i++) await look();
  t.match(store.usage().problem, /does not begin/, "one that was broken long ago stays a problem");
  t.equal(said.length, 1);
  await rm(path);
  await mkdir(path);
  await look();
  t.ok(store.find("a000000000"), "a folder: known keys go on");
});

t.test("file: a change survives a power loss: file and folder are synced before it counts", async (t) => {
  const { path, writer } = await fileOf(t, keyOf("shop", ["a"]));
  const files = promises as unknown as { open: (path: string, ...more: unknown[]) => Promise<FileHandle> };
  const real = files.open;
  t.teardown(() => (files.open = real, syncBuiltinESMExports()));
  const synced: string[] = [];
  files.open = async (opened, ...more) => {
    const handle = await real(opened, ...more);
    const { sync } = handle;
    handle.sync = () => (synced.push(opened), sync.call(handle));
    return handle;
  };
  syncBuiltinESMExports();
  await writer.change("shop", () => null);
  t.match(synced, [new RegExp(`^${path}\\..+\\.new$`), dirname(path)]);
});

t.test("file: what kept it from being read may pass without any change of it", async (t) => {
  const { path, store, look } = await fileOf(t, keyOf("shop", ["a"]));
  await writeFile(path, header + linesOf(keyOf("bank", ["b"])));
  await utimes(path, 1, 1);
  const files = promises as unknown as { readFile: unknown };
  const real = files.readFile;
  t.teardown(() => (files.readFile = real, syncBuiltinESMExports()));
  files.readFile = () => Promise.reject(Object.assign(new Error("EMFILE: too many open files"), { code: "EMFILE" }));
  syncBuiltinESMExports();
  await look();
  t.match(store.usage(), { keys: 1, problem: /EMFILE/ });
  files.readFile = real;
  syncBuiltinESMExports();
  await look();
  t.same([store.find("a000000000"), store.find("b000000000")?.key.name, store.usage().problem], [undefined, "bank", ""], "the revocation counts");
});

t.test("file: a change is seen however the file is changed", async (t) => {
  const { path, store, look } = await fileOf(t, keyOf("shop", ["a"]));
  await appendFile(path, linesOf(keyOf("bank", ["b"])));
  await look();
  t.ok(store.find("b000000000"), "in place");
  await writeFile(`${path}.v2`, header + linesOf(keyOf("bank", ["c"])));
  await rename(`${path}.v2`, path);
  await look();
  t.same([store.find("b000000000"), store.find("c000000000")?.key.name], [undefined, "bank"], "by another file of this size");
  for (const id of ["d", "e", "f"]) {
    await writeFile(path, header + linesOf(keyOf("bank", [id])));
    await look();
    t.ok(store.find(id.padEnd(10, "0")), "by one of the same size, at the same moment");
  }
});

t.test("file: the writer keeps mode, link and other keys, and a new file is for its owner only", async (t) => {
  const { path, writer, store, look } = await fileOf(t, keyOf("shop", ["a"]));
  t.equal((await stat(path)).mode & 0o777, 0o600);
  await chmod(path, 0o640);
  await symlink(path, `${path}.link`);
  const linked = openFileKeyWriter(`${path}.link`);
  await linked.change("bank", () => keyOf("bank", ["b"]));
  await look();
  t.ok(store.find("b000000000"), "written through the link");
  t.equal((await stat(path)).mode & 0o777, 0o640);
  t.same((await writer.list()).map(({ name }) => name), ["bank", "shop"]);
});

t.test("file: one that everybody may read or write is warned of, once", async (t) => {
  const { path, said, look } = await fileOf(t, keyOf("shop", ["a"]));
  for (const mode of [0o644, 0o644, 0o646]) {
    await chmod(path, mode);
    await look();
  }
  t.same(said.map(({ level, text }) => `${level} ${/may (\w+)/.exec(text)?.[1]}`), ["warn read", "warn write"]);
});

t.test("file: another command's lock is waited for, and a forgotten one is named", async (t) => {
  const { path } = await fileOf(t, keyOf("shop", ["a"]));
  await writeFile(`${path}.lock`, "");
  await t.rejects(openFileKeyWriter(path, 0).change("shop", () => null), { message: /if none is running, remove .*\.lock/ });
  const waiting = openFileKeyWriter(path).change("shop", () => null);
  await rm(`${path}.lock`);
  await waiting;
  t.same(await openFileKeyWriter(path).list(), []);
});

t.test("file: at the start it has to be good", async (t) => {
  const path = join(t.testdir(), "keys");
  await t.rejects(openFileKeys({ path, log: quiet }), { message: /does not exist; flux-gateway key create makes it/ });
  await writeFile(path, "{}");
  await t.rejects(openFileKeys({ path, log: quiet }), { message: /does not begin with/ });
  await t.rejects(openFileKeyWriter(path).change("shop", () => keyOf("shop", ["a"])), { message: /does not begin with/ }, "and a file of another kind is not overwritten");
  t.equal(await readFile(path, "utf8"), "{}");
});

async function redisOf(t: Test, redis = server) {
  const prefix = freshPrefix();
  const said: Said[] = [];
  const { every, pass } = heldEvery();
  const link = await connect(t, redis.url);
  const writer = openRedisKeyWriter(link, prefix);
  await writer.change("shop", () => keyOf("shop", ["a"]));
  const store = await openRedisKeys({ redis: link, prefix, log: logOf(said), every });
  t.teardown(() => store.stop());
  return { hash: `${prefix}gateway:api-keys`, link, writer, store, said, look: () => pass(lookMs) };
}

t.test("redis: while it is away known keys go on; what was created and revoked meanwhile is so when it is back", async (t) => {
  const redis = await startRedis(t);
  const { hash, link, store, look } = await redisOf(t, redis);
  await redis.client.hset(hash, "bank", JSON.stringify(keyOf("bank", ["b"])), "*", "another");
  await redis.save();
  await redis.stop();
  await until(() => !link.up, "it to be noticed");
  await look();
  t.ok(store.find("a000000000"), "known");
  t.equal(store.find("b000000000"), undefined, "not known yet, so not accepted");
  t.equal(store.usage().problem, "Redis is unavailable");
  await redis.start({ saved: true });
  await until(() => store.find("b000000000") !== undefined, "the new key, at once");
  t.equal(store.usage().problem, "");
});

t.test("redis: data that it lost revokes nothing, and the log says so; keys made anew are the keys", async (t) => {
  const { hash, writer, store, said, look } = await redisOf(t);
  await server.client.del(hash);
  for (let i = 0; i < 3; i++) await look();
  t.ok(store.find("a000000000"));
  t.equal(store.guarded, true);
  t.match(said, [{ level: "error", text: /Redis has lost the API keys/ }]);
  t.equal(said.length, 1);
  await writer.change("bank", () => keyOf("bank", ["b"]));
  await look();
  t.same([store.find("a000000000"), store.find("b000000000")?.key.name, store.usage().problem], [undefined, "bank", ""]);
});

t.test("redis: a broken key costs only itself, and stays as it was where it was known", async (t) => {
  const { hash, store, said, look } = await redisOf(t);
  await server.client.hset(hash, "bank", JSON.stringify(keyOf("bank", ["b"])), "broken", "{", "other", JSON.stringify(keyOf("bank", ["c"])), "*", "2");
  for (let i = 0; i < 3; i++) await look();
  t.ok(store.find("a000000000") && store.find("b000000000"));
  t.equal(store.find("c000000000"), undefined, "a key under another's name");
  t.same(said.map(({ level }) => level), ["error"]);
  t.match(store.usage().problem, /"(broken|other)"/);
  await server.client.hset(hash, "shop", "{", "*", "3");
  await look();
  t.ok(store.find("a000000000"), "as it was");
});

t.test("redis: where it refuses to be read, known keys go on, and the log says so once", async (t) => {
  const { hash, store, said, look } = await redisOf(t);
  await server.client.del(hash);
  await server.client.set(hash, "something else");
  for (let i = 0; i < 3; i++) await look();
  t.ok(store.find("a000000000"));
  t.match(said, [{ level: "error", text: /refuses to give the API keys: WRONGTYPE/ }]);
  t.equal(said.length, 1);
});
