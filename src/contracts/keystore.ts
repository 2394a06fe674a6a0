/** Contract of the API keys, clause by clause of src/keystore/keystore.ts. Run over each implementation. */
import type { Test } from "tap";
import { KeyStoreProblem, keysMax, lookMs, type Every, type KeyRecord, type KeyStore, type KeyWriter } from "../keystore/keystore.ts";

/** One place for keys, and the nodes that read it. */
export interface KeyPlace {
  writer(): Promise<KeyWriter> | KeyWriter;
  open(every: Every): Promise<KeyStore> | KeyStore;
  /** Stores many keys faster than the writer, where each of its changes costs much. */
  fill?(keys: readonly KeyRecord[]): Promise<void>;
}

/** The time of stores in the hands of a test: it passes only when the test says so, and looks are awaited. */
export function heldEvery(): { readonly every: Every; pass(ms: number): Promise<void> } {
  const looks = new Set<{ readonly ms: number; passed: number; readonly look: () => Promise<void> }>();
  return {
    every: (ms, look) => {
      const one = { ms, passed: 0, look };
      looks.add(one);
      return () => void looks.delete(one);
    },
    async pass(ms) {
      for (const one of [...looks]) {
        for (one.passed += ms; one.passed >= one.ms; one.passed -= one.ms) await one.look();
      }
    },
  };
}

const [sha256, otherSha256] = ["x", "y"].map((letter) => letter.repeat(43)) as [string, string];

export function keyOf(name: string, secretIds: readonly string[], more: Partial<KeyRecord> = {}): KeyRecord {
  const secrets = secretIds.map((id) => ({ id: id.padEnd(10, "0"), sha256, createdAt: 1, expiresAt: 0 }));
  return { name, tenant: "", scopes: ["publish"], rooms: null, requestsPerSecond: null, publicationsPerSecond: null, createdAt: 1, expiresAt: 0, secrets, ...more };
}

export function keyStoreContract(t: Test, name: string, make: (t: Test) => KeyPlace | Promise<KeyPlace>): void {
  const start = async (t: Test, keys: readonly KeyRecord[] = []) => {
    const place = await make(t);
    const writer = await place.writer();
    t.teardown(() => writer.stop());
    for (const key of keys) await writer.change(key.name, () => key);
    const { every, pass } = heldEvery();
    const open = async () => {
      const store = await place.open(every);
      t.teardown(() => store.stop());
      return store;
    };
    return { place, writer, open, pass, store: await open() };
  };
  const ids = async (writer: KeyWriter) => (await writer.list()).map((key) => key.name);

  t.test(`${name}: a key is known with all that was stored, by the id of each of its secrets`, async (t) => {
    const key = keyOf("shop", ["a", "b"], { tenant: null, scopes: ["read", "admin"], rooms: ["chat:*", "ñ"], requestsPerSecond: 0.5, publicationsPerSecond: 100, expiresAt: 9 });
    const { store, writer } = await start(t, [key, keyOf("other", ["c"])]);
    t.same(store.find("a000000000"), { key, secret: key.secrets[0] });
    t.same(store.find("b000000000"), { key, secret: key.secrets[1] });
    t.equal(store.find("d000000000"), undefined);
    t.equal(store.usage().keys, 2);
    t.same(await writer.list(), [keyOf("other", ["c"]), key], "and listed by name");
  });

  t.test(`${name}: a new key, a changed one and a revoked one are so on every node in the time of one look`, async (t) => {
    const { writer, pass, store, open } = await start(t, [keyOf("shop", ["a"])]);
    const another = await open();
    await writer.change("bank", () => keyOf("bank", ["b"]));
    await writer.change("shop", (before) => ({ ...before!, scopes: ["read"], secrets: [{ ...before!.secrets[0]!, sha256: otherSha256 }] }));
    await pass(lookMs);
    for (const one of [store, another]) {
      t.equal(one.find("b000000000")?.key.name, "bank");
      t.same(one.find("a000000000")?.key.scopes, ["read"]);
      t.equal(one.find("a000000000")?.secret.sha256, otherSha256);
    }
    await writer.change("shop", () => null);
    await pass(lookMs);
    for (const one of [store, another]) {
      t.equal(one.find("a000000000"), undefined, "revoked");
      t.equal(one.find("b000000000")?.key.name, "bank", "others are not");
    }
    t.ok(lookMs <= 2_000, "two looks take less than the 5 s that are promised");
  });

  t.test(`${name}: what was revoked is revoked for a node that starts later`, async (t) => {
    const { writer, open } = await start(t, [keyOf("shop", ["a"]), keyOf("bank", ["b"])]);
    await writer.change("shop", () => null);
    const late = await open();
    t.equal(late.find("a000000000"), undefined);
    t.ok(late.find("b000000000"));
  });

  t.test(`${name}: with the last key revoked, requests still need one`, async (t) => {
    const { writer, pass, store, open } = await start(t, [keyOf("shop", ["a"])]);
    t.equal(store.guarded, true);
    await writer.change("shop", () => null);
    await pass(lookMs);
    t.same([store.usage().keys, store.guarded], [0, true]);
    t.equal((await open()).guarded, true, "also on a node that starts later");
  });

  t.test(`${name}: a change that throws changes nothing, and learns what was there`, async (t) => {
    const { writer } = await start(t, [keyOf("shop", ["a"])]);
    const refuse = (before: KeyRecord | null): never => {
      throw new Error(before === null ? "nothing there" : `there is ${before.name}`);
    };
    await t.rejects(writer.change("shop", refuse), { message: "there is shop" });
    await t.rejects(writer.change("bank", refuse), { message: "nothing there" });
    t.same(await ids(writer), ["shop"]);
  });

  t.test(`${name}: changes at the same time do not lose each other`, async (t) => {
    const { place, writer } = await start(t, [keyOf("count", ["a"])]);
    const writers = [writer, await place.writer(), await place.writer()];
    t.teardown(() => Promise.all(writers.slice(1).map((one) => one.stop())));
    const raise = (before: KeyRecord | null) => ({ ...before!, createdAt: before!.createdAt + 1 });
    await Promise.all([
      ...writers.map((one, i) => one.change(`k${i}`, () => keyOf(`k${i}`, [`k${i}`]))),
      ...writers.map((one) => one.change("count", raise)),
    ]);
    t.same(await ids(writer), ["count", "k0", "k1", "k2"]);
    t.equal((await writer.list())[0]?.createdAt, 4);
  });

  t.test(`${name}: a key that no node could read is not stored`, async (t) => {
    const { writer } = await start(t, [keyOf("shop", ["a"])]);
    const wrong: Partial<KeyRecord>[] = [
      { name: "sh\nop" }, { scopes: ["all" as "read"] }, { rooms: ["a\u0000"] }, { tenant: "t".repeat(129) }, { secrets: [] }, { expiresAt: -1 },
      { requestsPerSecond: 0 }, { rooms: Array.from({ length: 51 }, String) }, { secrets: keyOf("x", ["a", "b", "c"]).secrets }, { more: 1 } as object,
    ];
    for (const more of wrong) await t.rejects(writer.change("shop", (before) => ({ ...before!, ...more })), KeyStoreProblem, JSON.stringify(more));
    t.same(await writer.list(), [keyOf("shop", ["a"])]);
  });

  t.test(`${name}: ${keysMax} keys are known, and one more is refused`, async (t) => {
    const { place, writer, store, pass } = await start(t);
    await fill(place, writer);
    await pass(lookMs);
    t.equal(store.usage().keys, keysMax);
    t.equal(store.find(idOf(keysMax - 1))?.key.name, `k${keysMax - 1}`);
    await t.rejects(writer.change("more", () => keyOf("more", ["more"])), KeyStoreProblem);
    await writer.change("k0", () => null);
    await writer.change("more", () => keyOf("more", ["more"]));
    await pass(lookMs);
    t.ok(store.find("more000000"));
    t.equal(store.find(idOf(0)), undefined);
  });
}

const idOf = (i: number) => `i${String(i).padStart(9, "0")}`;

/** Stores as many keys as are allowed. */
async function fill(place: KeyPlace, writer: KeyWriter): Promise<void> {
  const keys = Array.from({ length: keysMax }, (_, i) => keyOf(`k${i}`, [idOf(i)]));
  if (place.fill !== undefined) return place.fill(keys);
  for (const key of keys) await writer.change(key.name, () => key);
}
