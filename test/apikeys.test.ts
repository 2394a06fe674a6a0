/** Who may call the HTTP API: keys, JWTs and the admin key become callers or are refused; limits; what metrics count. */
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import t from "tap";
import { createApiKeys, openCaller, permits, type ApiCaller, type ApiKeysOptions, type ApiRefusal } from "../src/auth/apikeys.ts";
import { ApiBuckets } from "../src/auth/apilimits.ts";
import { makeSecret, secretId } from "../src/auth/apisecret.ts";
import { secretKey } from "../src/auth/keys.ts";
import { createVerifier } from "../src/auth/verifier.ts";
import type { KeyRecord } from "../src/keystore/keystore.ts";
import { createMemoryKeys } from "../src/keystore/memory.ts";
import { none } from "./support/only.ts";
import { secret, token } from "./support/tokens.ts";

const adminKey = "a".repeat(32);
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** API keys of a memory store, and clocks that the test holds. */
async function start(keys: Readonly<Record<string, Partial<KeyRecord>>> = {}, options: Partial<ApiKeysOptions> = {}) {
  const { store, writer } = createMemoryKeys();
  const texts: Record<string, string> = {};
  for (const [name, more] of Object.entries(keys)) {
    const { text, id, sha256 } = makeSecret();
    texts[name] = text;
    const key = { name, tenant: "", scopes: ["publish"], rooms: null, requestsPerSecond: null, publicationsPerSecond: null, createdAt: 1, expiresAt: 0, ...more } as const;
    await writer.change(name, () => ({ ...key, secrets: [{ id, sha256, createdAt: 1, expiresAt: 0 }] }));
  }
  const time = { date: 1_000_000, clock: 1_000 };
  const apiKeys = createApiKeys({ adminKey: "", onLoopback: true, store, verifier: null, date: () => time.date, clock: () => time.clock, ...options });
  const ask = async (credential?: string) => apiKeys.authenticate(credential === undefined ? undefined : `Bearer ${credential}`);
  const caller = async (credential: string) => {
    const found = await ask(credential);
    if ("refused" in found) throw new Error(found.text);
    return found;
  };
  return { apiKeys, writer, texts, time, ask, caller };
}

const refused = (text: RegExp): Partial<ApiRefusal> => ({ refused: "unauthorized", text }) as unknown as ApiRefusal;

t.test("a secret's text can be found by scanners, has its id in it, and a wrong character shows", async (t) => {
  const { text, id, sha256 } = makeSecret();
  t.match(text, /^flux_[0-9A-Za-z]{10}_[0-9A-Za-z]{38}$/);
  t.equal(secretId(text), id);
  t.equal(sha256, createHash("sha256").update(text).digest("base64url"));
  for (let i = 0; i < text.length; i++) {
    const changed = text.slice(0, i) + (text[i] === "0" ? "1" : "0") + text.slice(i + 1);
    t.equal(secretId(changed), null, `another character ${i}`);
  }
  for (const other of ["", "flux_", `${text}0`, ` ${text}`, text.slice(0, -1), text.toLowerCase()]) t.equal(secretId(other), null);
  t.equal(new Set(Array.from({ length: 200 }, () => makeSecret().id)).size, 200);
});

t.test("the characters of secrets are evenly spread", async (t) => {
  const counts = new Map<string, number>();
  for (let i = 0; i < 1_000; i++) for (const one of makeSecret().text.slice(16, 48)) counts.set(one, (counts.get(one) ?? 0) + 1);
  t.equal(counts.size, 62, "letters and digits");
  // 32,000 characters, 516 of each: six standard deviations are 136.
  t.ok([...counts.values()].every((count) => Math.abs(count - 516) < 200));
});

t.test("without keys, a request needs none; with one, or with an admin key, it does", async (t) => {
  const none = await start();
  t.equal(await none.ask(), openCaller);
  t.match(await (await start({}, { onLoopback: false })).ask(), refused(/needs an API key/), "unless other machines can reach it");
  t.match(await none.ask("flux_something"), refused(/unknown/), "a wrong key is refused all the same");
  const one = await start({ shop: {} });
  t.match(await one.ask(), refused(/needs an API key/));
  await one.writer.change("shop", () => null);
  t.match(await one.ask(), refused(/needs an API key/), "with the last key revoked, too");
  const admin = await start({}, { adminKey });
  t.match(await admin.ask(), refused(/needs an API key/));
  t.match(await admin.ask(adminKey), { kind: "admin", name: "admin", tenant: null, scopes: ["admin"], rooms: null });
  t.match(await admin.ask("a".repeat(31)), refused(/unknown/));
});

t.test("a key becomes a caller with its rights, the same one for every request", async (t) => {
  const { texts, ask } = await start({ shop: { tenant: "acme", scopes: ["read", "publish"], rooms: ["orders:*"], requestsPerSecond: 5 } });
  const caller = (await ask(texts.shop)) as ApiCaller;
  t.match(caller, { kind: "key", name: "shop", tenant: "acme", scopes: ["read", "publish"], limits: { requestsPerSecond: 5, publicationsPerSecond: null } });
  t.equal(await ask(texts.shop), caller);
  t.equal(permits(caller, "publish", "publish", "orders:1"), null);
  t.match(permits(caller, "publish", "publish", "chat:1"), { refused: "forbidden" });
  t.match(permits(caller, "disconnect"), { refused: "forbidden", text: /lacks the scope disconnect/ });
  t.equal(permits({ ...caller, scopes: ["admin"] }, "disconnect"), null, "admin includes the others");
});

t.test("wrong, revoked and expired keys are refused, and no answer quotes them", async (t) => {
  const { texts, ask, writer, time, apiKeys } = await start({ shop: { expiresAt: 2_000_000 }, bank: {} });
  const shop = texts.shop!;
  const stranger = makeSecret().text;
  const wrong = [
    stranger, shop.slice(0, -1), `${shop}x`, shop.toUpperCase(), `flux_${"0".repeat(10)}_${"0".repeat(38)}`, "", "null", "x".repeat(100_000), "a.b.c", "__proto__",
    texts.bank!.replace(secretId(texts.bank!)!, secretId(shop)!),
  ];
  for (const one of wrong) {
    const answer = await ask(one);
    t.match(answer, refused(/unknown/));
    if (one !== "") t.notMatch(JSON.stringify(answer), one.slice(0, 40));
  }
  // A secret of another key under this key's id, with a good checksum: only the digest tells them apart.
  const body = `flux_${secretId(shop)}${stranger.slice(15, -6)}`;
  let [rest, sum] = [crc32(body), ""];
  for (let i = 0; i < 6; i++, rest = Math.floor(rest / 62)) sum = digits[rest % 62] + sum;
  t.equal(secretId(body + sum), secretId(shop));
  t.match(await ask(body + sum), refused(/unknown/));
  for (const header of [shop, `Basic ${shop}`, `Bearer`, `Bearer ${shop} ${shop}`, `Bearer ${shop},`]) t.match(await apiKeys.authenticate(header), refused(/unknown/), header.slice(0, 8));
  t.equal(((await apiKeys.authenticate(`bearer  ${shop} `)) as ApiCaller).name, "shop", "the scheme in any case");
  time.date = 1_999_999;
  t.match(await ask(shop), { name: "shop" });
  time.date = 2_000_000;
  t.match(await ask(shop), refused(/expired/));
  await writer.change("bank", () => null);
  t.match(await ask(texts.bank), refused(/unknown or revoked/));
  t.equal(apiKeys.usage().unauthorized, wrong.length + 1 + 5 + 2, "each is counted");
});

t.test("two secrets of a key are valid beside each other, until one expires or is revoked", async (t) => {
  const { texts, ask, writer, time } = await start({ shop: {} });
  const next = makeSecret();
  await writer.change("shop", (before) => ({
    ...before!, secrets: [{ id: next.id, sha256: next.sha256, createdAt: 2, expiresAt: 0 }, { ...before!.secrets[0]!, expiresAt: 1_500_000 }],
  }));
  for (const text of [texts.shop, next.text]) t.match(await ask(text), { name: "shop" });
  time.date = 1_500_000;
  t.match(await ask(texts.shop), refused(/expired/));
  t.match(await ask(next.text), { name: "shop" });
});

t.test("a key that was verified before is not trusted longer than its record says", async (t) => {
  const { texts, ask, writer, time } = await start({ shop: {} });
  const { shop } = texts;
  for (let i = 0; i < 2; i++) t.match(await ask(shop), { name: "shop", scopes: ["publish"] });
  await writer.change("shop", (before) => ({ ...before!, scopes: ["read"] }));
  for (let i = 0; i < 2; i++) t.match(await ask(shop), { scopes: ["read"] });
  const record = { ...(await writer.list())[0]! };
  await writer.change("shop", (before) => ({ ...before!, secrets: [{ ...before!.secrets[0]!, sha256: makeSecret().sha256 }] }));
  t.match(await ask(shop), refused(/unknown or revoked/), "the digest under its id is another one");
  await writer.change("shop", () => ({ ...record, expiresAt: 1_500_000 }));
  for (let i = 0; i < 2; i++) t.match(await ask(shop), { name: "shop" });
  time.date = 1_500_000;
  t.match(await ask(shop), refused(/expired/));
  await writer.change("shop", () => null);
  t.match(await ask(shop), refused(/unknown or revoked/));
  await writer.change("shop", () => record);
  for (const spaces of [0, 1, 100, 5_000]) for (let i = 0; i < 2; i++) t.match(await ask(`${shop}${" ".repeat(spaces)}`), { name: "shop" }, "in any spelling");
});

t.test("limits: requests and publications per second, with the time to wait", async (t) => {
  const { texts, caller, apiKeys, time } = await start({ shop: { requestsPerSecond: 10, publicationsPerSecond: 100 }, bank: {} });
  const shop = await caller(texts.shop!);
  const bank = await caller(texts.bank!);
  for (let i = 0; i < 20; i++) t.equal(apiKeys.admit(shop, 1), null, "two seconds' worth at once");
  t.match(apiKeys.admit(shop, 1), { refused: "rate_limited", retryAfterMs: 100, text: /10 requests per second/ });
  t.equal(apiKeys.admit(bank, 1_000), null, "a key without limits has none");
  time.clock += 99;
  t.match(apiKeys.admit(shop, 1), { refused: "rate_limited", retryAfterMs: 1 });
  time.clock += 1;
  t.equal(apiKeys.admit(shop, 1_000), null, "a batch may be larger than what is left");
  time.clock += 1_000;
  t.match(apiKeys.admit(shop, 1), { refused: "rate_limited", text: /100 publications per second/ }, "and is paid for afterwards");
  t.equal(apiKeys.admit(shop, 0), null, "reading goes on");
  const { retryAfterMs } = apiKeys.admit(shop, 1)!;
  time.clock += retryAfterMs - 1;
  t.match(apiKeys.admit(shop, 1), { retryAfterMs: 1 });
  time.clock += 1;
  t.equal(apiKeys.admit(shop, 1), null, "after the time that was named");
  t.match(apiKeys.usage().byKey, [{ key: "shop", limited: 5, publications: 1_021 }, { key: "bank", requests: 1, publications: 1_000 }]);
});

t.test("limits below one a second let one pass, and the number of buckets is bounded", async (t) => {
  let now = 0;
  const slow = new ApiBuckets(() => now);
  t.equal(slow.take("a", 0.1, 1), 0);
  t.equal(slow.take("a", 0.1, 1), 10_000);
  now += 10_000;
  t.equal(slow.take("a", 0.1, 1), 0);
  for (let i = 0; i < 30_000; i++) slow.take(`b${i}`, 1, 1);
  t.equal(slow.size, 20_000);
});

t.test("metrics have a label for a hundred names, and one for all others", async (t) => {
  const { apiKeys } = await start();
  const named = (kind: ApiCaller["kind"], name: string) => apiKeys.admit({ ...openCaller, kind, name }, 1);
  for (let i = 0; i < 10_000; i++) named("key", `k${i}`);
  for (let i = 0; i < 500; i++) named("jwt", `user${i}`);
  named("admin", "admin");
  const counts = new Map(apiKeys.usage().byKey.map(({ key, requests }) => [key, requests]));
  t.equal(counts.size, 103);
  t.same([counts.get("k99"), counts.get("k100"), counts.get("other"), counts.get("jwt"), counts.get("admin")], [1, undefined, 9_900, 500, 1]);
});

t.test("a JWT for the audience flux-api is a credential; a client's token is none", async (t) => {
  const config = { authJwksUrl: "", authAudience: ["flux-api"], authIssuer: [], authClockToleranceMs: 0 };
  const { ask, apiKeys } = await start({}, { verifier: () => createVerifier({ config, keys: [secretKey(secret)] }), adminKey });
  const jwt = (claims: object) => token({ sub: "billing", aud: "flux-api", exp: Math.floor(Date.now() / 1000) + 100, ...claims }, secret);
  t.match(await ask(await jwt({ scope: "openid publish read" })), { kind: "jwt", name: "jwt:billing", tenant: "", scopes: ["publish", "read"], rooms: null, limits: { requestsPerSecond: null } });
  t.match(await ask(await jwt({ scope: ["admin"], tenant: "acme", limits: { requestsPerSecond: 3 } })), { tenant: "acme", scopes: ["admin"], limits: { requestsPerSecond: 3, publicationsPerSecond: null } });
  t.match(await ask(await jwt({})), { scopes: none }, "without scopes it may do nothing");
  const limited = { scope: "publish", limits: { requestsPerSecond: 0.001 } };
  const admitted = async (claims: object) => apiKeys.admit((await ask(await jwt({ ...limited, ...claims }))) as ApiCaller, 1)?.refused;
  t.same([await admitted({}), await admitted({ iat: 1 })], [undefined, "rate_limited"], "two tokens of one sub share its limits");
  t.equal(await admitted({ tenant: "acme" }), undefined, "but not with the same sub of another tenant");
  t.equal(apiKeys.admit({ ...openCaller, kind: "key", name: "billing", limits: { requestsPerSecond: 0.001, publicationsPerSecond: null } }, 1), null, "nor with a key of that name");
  const narrow = (await ask(await jwt({ scope: "publish read", rooms: { "news:*": ["history"] } }))) as ApiCaller;
  t.equal(permits(narrow, "read", "history", "news:1"), null);
  t.match(permits(narrow, "publish", "publish", "news:1"), { refused: "forbidden" }, "rights in rooms hold as for clients");
  t.match(await ask(await token({ sub: "ann" }, secret)), refused(/aud/), "a client's");
  t.match(await ask(await token({ sub: "ann", aud: "other" }, secret)), refused(/aud/));
  t.match(await ask(await jwt({ scope: "admin", exp: undefined })), refused(/exp: is missing/));
  t.match(await ask(await jwt({ scope: "admin", exp: 1 })), refused(/expired/));
  t.match(await ask(await jwt({ scope: 5 })), refused(/scope: is malformed/));
  t.match(await ask(await jwt({ limits: { requestsPerSecond: -1 } })), refused(/limits.requestsPerSecond: is malformed/));
  t.match(await ask(`${(await jwt({ scope: "admin" })).slice(0, -3)}AAA`), refused(/no key of this node has signed it/));
  t.match(await ask("a.b.c"), refused(/not a JWT/));
});
