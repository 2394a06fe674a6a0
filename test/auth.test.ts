/** Tokens: which keys sign them, what they say, and what of it is remembered. */
import { createHmac, hash } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { readKeys } from "../src/auth/files.ts";
import { createVerifier, type Verdict } from "../src/auth/verifier.ts";
import { ConfigError, resolveConfig, type GatewayOptions } from "../src/config/config.ts";
import { handmade, keyPair, secret, signed, startKeyServer, token, type Pair, type PairKind } from "./support/tokens.ts";
import { until } from "./support/until.ts";

const seconds = () => Math.floor(Date.now() / 1000);

interface Checked {
  verify(token: string): Promise<Verdict>;
  /** Signatures that were looked at so far. */
  verified(): number;
  readonly outages: (string | null)[];
}

/** The least time between two requests for keys. */
const cooldownMs = 5_000;

function verifier(options: GatewayOptions, clock?: () => number): Checked {
  const { config } = resolveConfig({ options });
  let count = 0;
  const outages: (string | null)[] = [];
  const { verify } = createVerifier({
    config, keys: readKeys(config), onVerified: () => count++, onOutage: (problem) => outages.push(problem), ...(clock && { clock }),
  });
  return { verify: async (token) => verify(token), verified: () => count, outages };
}

function userOf(verdict: Verdict): string {
  return "grant" in verdict ? verdict.grant.user : `${verdict.refused}: ${verdict.text}`;
}

function file(t: Test, text: string, name = "keys"): string {
  const path = join(dir(t), name);
  writeFileSync(path, text);
  return path;
}

/** One for all files of a test: making it anew empties it. */
function dir(t: Test): string {
  return existsSync(t.testdirName) ? t.testdirName : t.testdir({});
}

const pairs: Record<PairKind, Pair> = { RSA: keyPair("RSA"), "P-256": keyPair("P-256"), Ed25519: keyPair("Ed25519") };
const signers: readonly (readonly [alg: string, kind: PairKind])[] = [["RS256", "RSA"], ["PS256", "RSA"], ["ES256", "P-256"], ["EdDSA", "Ed25519"]];

for (const [alg, kind] of signers) {
  t.test(`${alg} tokens are checked with a key from PEM, a JWK or a JWKS`, async (t) => {
    const { pem, jwk, private: key } = pairs[kind];
    const good = await signed({ sub: "ann" }, key, { alg });
    const another = await signed({ sub: "ann" }, keyPair(kind).private, { alg });
    for (const text of [pem, JSON.stringify(jwk), JSON.stringify({ keys: [{ ...jwk, use: "sig", kid: "k1" }] })]) {
      const { verify } = verifier({ authKeys: [file(t, text)] });
      t.equal(userOf(await verify(good)), "ann");
      t.match(await verify(another), { refused: "invalid_token" }, "of another key");
    }
  });
}

t.test("HS256 tokens are checked with the secret, the previous one, or one from a JWK", async (t) => {
  const [before, third] = ["the secret before, of 32 or more!", "a third secret that is in a file!"];
  const jwk = file(t, JSON.stringify({ kty: "oct", k: Buffer.from(third).toString("base64url") }));
  const { verify } = verifier({ authSecret: secret, authSecretPrevious: before, authKeys: [jwk] });
  for (const key of [secret, before, third]) t.equal(userOf(await verify(await token({ sub: "ann" }, key))), "ann");
  t.match(await verify(await token({ sub: "ann" }, "a secret that nobody has given it")), { refused: "invalid_token" });
});

t.test("a token signed with a secret is judged at once, what its header says of it included", async (t) => {
  const { config } = resolveConfig({ options: { authSecret: secret } });
  const { verify } = createVerifier({ config, keys: readKeys(config) });
  t.match(verify(await token({ sub: "ann" }, secret)), { grant: { user: "ann" } });
  t.match(verify(await token({ sub: "ann", exp: 1 }, secret)), { refused: "token_expired" });
  for (const header of [{ crit: ["b64"], b64: false }, { crit: ["x"], x: 1 }, { crit: [] }]) {
    const text = handmade({ alg: "HS256", ...header }, { sub: "ann" }).slice(0, -1);
    const sealed = `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
    t.match(verify(sealed), { refused: "invalid_token", text: /crit/ }, JSON.stringify(header));
  }
});

t.test("several keys of every kind are good at once: a kid chooses, without one all of the algorithm are tried", async (t) => {
  const others = [keyPair("P-256"), keyPair("P-256")] as const;
  const keys = [{ ...others[0].jwk, kid: "a" }, { ...others[1].jwk, kid: "b" }, pairs.RSA.jwk, pairs.Ed25519.jwk];
  const { verify } = verifier({ authSecret: secret, authKeys: [file(t, JSON.stringify({ keys })), file(t, pairs["P-256"].pem + keyPair("RSA").pem, "pem")] });
  for (const [alg, kind] of signers) t.equal(userOf(await verify(await signed({ sub: alg }, pairs[kind].private, { alg }))), alg);
  t.equal(userOf(await verify(await signed({ sub: "second" }, others[1].private, { alg: "ES256" }))), "second");
  t.equal(userOf(await verify(await signed({ sub: "named" }, others[1].private, { alg: "ES256", kid: "b" }))), "named");
  t.match(await verify(await signed({ sub: "x" }, others[1].private, { alg: "ES256", kid: "a" })), { refused: "invalid_token" }, "the wrong name");
  t.match(await verify(await signed({ sub: "x" }, others[1].private, { alg: "ES256", kid: "c" })), { refused: "invalid_token" }, "no such name");
  t.equal(userOf(await verify(await signed({ sub: "pem" }, pairs["P-256"].private, { alg: "ES256", kid: "c" }))), "pem", "a key without a name may have any");
});

t.test("what a key is decides its algorithm: not none, no public key as a secret, no other one of the same kind", async (t) => {
  const { pem, jwk, private: key } = pairs.RSA;
  const { verify } = verifier({ authKeys: [file(t, JSON.stringify({ keys: [{ ...jwk, alg: "RS256", kid: "k" }] }))] });
  const claims = { sub: "admin", iat: seconds() };
  t.equal(userOf(await verify(await signed(claims, key, { alg: "RS256", kid: "k" }))), "admin");
  const bad = [
    handmade({ alg: "none" }, claims), handmade({ alg: "None" }, claims, "AAAA"), handmade({ alg: "none", kid: "k" }, claims), handmade({}, claims),
    await signed(claims, Buffer.from(pem), { alg: "HS256" }), await signed(claims, Buffer.from(pem.trim()), { alg: "HS256", kid: "k" }),
    await signed(claims, Buffer.from(String(jwk.n), "base64url"), { alg: "HS256" }), await signed(claims, Buffer.from(JSON.stringify(jwk)), { alg: "HS256" }),
    await signed(claims, key, { alg: "PS256", kid: "k" }), await signed(claims, key, { alg: "RS512" }),
    handmade({ alg: "RS256", jwk: pairs.Ed25519.jwk }, claims, "AAAA"), handmade({ alg: "RS256", crit: ["x"], x: 1 }, claims, "AAAA"),
  ];
  for (const one of bad) t.match(await verify(one), { refused: "invalid_token" }, one.slice(0, 40));
});

t.test("what is no token is refused, without a word of it", async (t) => {
  const { verify } = verifier({ authSecret: secret });
  const good = await token({ sub: "ann" }, secret);
  const [head, body, signature] = good.split(".") as [string, string, string];
  const bad = [
    "", ".", "..", "x", "a.b.c", "💥.💥.💥", `${head}.${body}`, `${head}.${body}.`, `${good}.${body}`, `${head}.!!!.${signature}`, `!!!.${body}.${signature}`,
    `${head}.${Buffer.from('{"sub":"admin"}').toString("base64url")}.${signature}`, handmade("not JSON", "{}", signature), handmade('{"alg":"HS256"}', "not JSON", signature),
    handmade("null", "null", signature), handmade('{"alg":["HS256"]}', "{}", signature), handmade('{"alg":"HS256","kid":5}', "{}", signature),
    `${head}.${body}.${"A".repeat(43)}`, `${good} ${good}`, `${good}\n${good}`, `${good}=`, "x".repeat(8193), `${good}${"A".repeat(9000)}`,
  ];
  for (const one of bad) {
    const verdict = await verify(one);
    t.match(verdict, { refused: "invalid_token", text: /^token: / }, JSON.stringify(one.slice(0, 50)));
    if ("text" in verdict && one.length > 20) t.notOk(verdict.text.includes(one.slice(0, 20)));
  }
  for (const one of [` ${good}`, `${good}\n`, `\t${good} \r\n`]) t.ok("grant" in (await verify(one)), "but white space around one, as a file or a header may have, is none of it");
  t.equal(userOf(await verify(good)), "ann");
});

t.test("an oversized token costs no look at its signature", async (t) => {
  const { verify, verified } = verifier({ authSecret: secret });
  const big = await token({ sub: "ann", padding: "x".repeat(8000) }, secret);
  t.match(await verify(big), { refused: "invalid_token", text: "token: at most 8192 bytes" });
  t.equal(verified(), 0);
});

t.test("times, audience and issuer count, with a little tolerance for clocks that are ahead", async (t) => {
  const { verify } = verifier({ authSecret: secret, authAudience: ["chat", "game"], authIssuer: ["https://id.example"], authClockToleranceMs: 5000 });
  const right = { sub: "ann", aud: "chat", iss: "https://id.example" };
  const cases: [string, Record<string, unknown>, string][] = [
    ["as it should be", {}, "ann"],
    ["one audience of several", { aud: ["other", "game"] }, "ann"],
    ["a nbf just ahead", { nbf: seconds() + 2 }, "ann"],
    ["an iat just ahead", { iat: seconds() + 2 }, "ann"],
    ["expired", { exp: seconds() - 1 }, "token_expired: token: has expired"],
    ["long expired", { exp: 1 }, "token_expired: token: has expired"],
    ["not yet valid", { nbf: seconds() + 100 }, "invalid_token: token: nbf: the token is not valid yet"],
    ["issued in the future", { iat: seconds() + 100 }, "invalid_token: token: iat: is in the future; compare the clocks of issuer and node"],
    ["another audience", { aud: "other" }, "invalid_token: token: aud: names none of the accepted audiences (authAudience)"],
    ["no audience", { aud: undefined }, "invalid_token: token: aud: names none of the accepted audiences (authAudience)"],
    ["another issuer", { iss: "https://evil.example" }, "invalid_token: token: iss: names none of the accepted issuers (authIssuer)"],
    ["no issuer", { iss: undefined }, "invalid_token: token: iss: names none of the accepted issuers (authIssuer)"],
  ];
  for (const [title, claims, expected] of cases) t.equal(userOf(await verify(await token({ ...right, ...claims }, secret))), expected, title);
});

t.test("claims make the grant; those that nobody knows are ignored", async (t) => {
  const { verify } = verifier({ authSecret: secret });
  const verdict = await verify(await token({
    sub: "ann", tenant: "acme", iat: 1_700_000_000, exp: 4_000_000_000, rooms: { "chat:*": ["join", "publish"], "*": ["presence"] },
    send: false, limits: { commandsPerSecond: 5, rooms: 2, colour: "red" }, colour: "red", role: { admin: true },
  }, secret));
  t.match(verdict, { grant: {
    user: "ann", tenant: "acme", issuedAt: 1_700_000_000_000, expiresAt: 4_000_000_000_000,
    rooms: [{ pattern: "chat:*", rights: ["join", "publish"] }, { pattern: "*", rights: ["presence"] }],
    send: false, commandsPerSecond: 5, roomsMax: 2,
  } });
  t.match(await verify(await token({ sub: "bob" }, secret)), { grant: { user: "bob", tenant: "", rooms: null, send: true, commandsPerSecond: null, roomsMax: null } });
});

t.test("claims that are malformed or out of bounds are refused, and named", async (t) => {
  const { verify } = verifier({ authSecret: secret });
  const many = Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`r${i}`, ["join"]]));
  const cases: [RegExp, Record<string, unknown>][] = [
    [/sub/, { sub: undefined }], [/sub/, { sub: "" }], [/sub/, { sub: 5 }], [/sub/, { sub: "x".repeat(129) }], [/sub/, { sub: "a\u001fb" }],
    [/sub/, { sub: "a\nb" }], [/sub/, { sub: "\ud800" }], [/tenant/, { tenant: "a\u001fb" }], [/tenant/, { tenant: 5 }], [/tenant/, { tenant: "ä".repeat(65) }],
    [/rooms/, { rooms: [] }], [/rooms/, { rooms: { "chat:*": "join" } }], [/rooms/, { rooms: { "chat:*": ["fly"] } }], [/rooms/, { rooms: many }],
    [/rooms/, { rooms: { ["x".repeat(257)]: ["join"] } }], [/rooms/, { rooms: { "a\u001fb": ["join"] } }], [/rooms/, { rooms: { "": ["join"] } }],
    [/send/, { send: "yes" }], [/limits/, { limits: { commandsPerSecond: 0 } }], [/limits/, { limits: { commandsPerSecond: 1e9 } }],
    [/limits/, { limits: { rooms: -1 } }], [/limits/, { limits: { rooms: 1.5 } }], [/limits/, { limits: 5 }], [/exp/, { exp: 4_000_000_000_000 }],
  ];
  for (const [name, claims] of cases) {
    const verdict = await verify(await token({ sub: "ann", ...claims }, secret));
    t.match(verdict, { refused: "invalid_token", text: name }, JSON.stringify(claims).slice(0, 60));
  }
  for (const claims of [{ exp: "tomorrow" }, { nbf: "x" }, { iat: "x" }]) {
    t.match(await verify(await token({ sub: "ann", ...claims }, secret)), { refused: "invalid_token" }, JSON.stringify(claims));
  }
});

t.test("a token is verified once, good or bad, and at most once at a time", async (t) => {
  const { verify, verified } = verifier({ authSecret: secret });
  const good = await token({ sub: "ann" }, secret);
  const bad = await token({ sub: "ann" }, "a secret that nobody has given it");
  const slower = verifier({ authKeys: [file(t, pairs["P-256"].pem)] });
  const behindKey = await signed({ sub: "ann" }, pairs["P-256"].private, { alg: "ES256" });
  await Promise.all(Array.from({ length: 50 }, () => slower.verify(behindKey)));
  t.equal(slower.verified(), 1);
  await Promise.all(Array.from({ length: 50 }, () => verify(good)));
  t.equal(verified(), 1);
  for (let i = 0; i < 50; i++) await verify(good);
  t.equal(verified(), 1);
  const from = performance.now();
  let refused = 0;
  for (let i = 0; i < 1000; i++) if ("refused" in (await verify(bad))) refused++;
  t.equal(refused, 1000);
  t.ok(verified() - 1 <= 2 + (performance.now() - from) / 1000, `${verified() - 1} looks at a bad one`);
});

t.test("what is remembered of tokens is bounded: 20,000 good ones, 16 MiB of them, and 10,000 bad ones", async (t) => {
  const { config } = resolveConfig({ options: { authSecret: secret } });
  let looks = 0;
  const { verify } = createVerifier({ config, keys: readKeys(config), onVerified: () => looks++ });
  const costsALook = (one: string): boolean => {
    const before = looks;
    void verify(one);
    return looks > before;
  };
  const mine = await token({ sub: "ann" }, secret);
  const verdict = await verify(mine);
  if (!("grant" in verdict)) throw new Error("it is good");
  /** Tokens that are taken for good without a look, since a resume token says so. */
  const remember = (count: number, length: number): void => {
    for (let i = 0; i < count; i++) {
      const other = `a.${String(i).padStart(length, "0")}.b`;
      verify(other, { ...verdict.grant, tokenHash: hash("sha256", other, "base64url") });
    }
  };
  remember(19_999, 5);
  t.notOk(costsALook(mine), "the longest unused of 20,000");
  remember(20_000, 6);
  t.ok(costsALook(mine), "it gave way to the 20,000th after it");
  remember(1_900, 8_000);
  t.notOk(costsALook(mine), "15.7 MB of large ones");
  remember(2_040, 8_001);
  t.ok(costsALook(mine), "16.8 MB are too much");

  // A second ends it for bad ones, so it stands still.
  const { now } = performance;
  performance.now = () => 1_000;
  try {
    const bad = (i: number) => `a.b.${i}`;
    let first = 0;
    for (let i = 0; i < 10_000; i++) if (costsALook(bad(i))) first++;
    t.equal(first, 10_000);
    t.notOk(costsALook(bad(0)), "the longest unused of 10,000");
    costsALook(bad(10_000));
    t.ok(costsALook(bad(1)));
  } finally {
    performance.now = now;
  }
});

t.test("a token that was remembered is refused once it has expired", async (t) => {
  const { verify } = verifier({ authSecret: secret });
  // It has to be good for long enough to be seen once, however slow the machine is.
  let soon = "";
  let verdict: Verdict = { refused: "token_expired", text: "" };
  for (let last = 1; "refused" in verdict && verdict.refused === "token_expired"; last *= 2) {
    soon = await token({ sub: "ann", exp: seconds() + last }, secret);
    verdict = await verify(soon);
  }
  t.equal(userOf(verdict), "ann");
  await until(async () => "refused" in (await verify(soon)), "the token to expire");
  t.match(await verify(soon), { refused: "token_expired" });
});

t.test("a grant that a resume token vouches for is taken for its own token only, and without a signature", async (t) => {
  const { config } = resolveConfig({ options: { authSecret: secret } });
  let verified = 0;
  const node = () => createVerifier({ config, keys: readKeys(config), onVerified: () => verified++ });
  const mine = await token({ sub: "ann" }, secret);
  const first = await node().verify(mine);
  if (!("grant" in first)) throw new Error("it is good");
  t.equal(verified, 1);
  const other = node();
  t.match(other.verify(mine, first.grant), { grant: { user: "ann" } }, "at once");
  t.match(other.verify(mine), { grant: { user: "ann" } }, "and remembered");
  t.equal(verified, 1);
  t.match(await other.verify(handmade({ alg: "none" }, { sub: "ann" }), first.grant), { refused: "invalid_token" });
  t.match(await other.verify(await token({ sub: "bob" }, secret), first.grant), { grant: { user: "bob" } });
});

t.test("files of keys that are wrong are refused at start, naming the option, the file and what to do", async (t) => {
  const path = (text: string, name: string) => file(t, text, name);
  const weak = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==";
  const wrong: [string, RegExp][] = [
    [join(dir(t), "nothing"), /cannot be read: the file does not exist/],
    [dir(t), /cannot be read: it is a directory/],
    [path("hello", "text"), /is neither PEM .* nor JSON/],
    [path("[]", "array"), /must contain an object: a JWK or a JWKS/],
    [path('{"keys":[]}', "none"), /is a JWKS without keys/],
    [path(pairs.RSA.privatePem, "private"), /is a private key, .* openssl pkey/],
    [path(JSON.stringify(pairs.Ed25519.private.export({ format: "jwk" })), "private-jwk"), /is a private key/],
    [path(`-----BEGIN PUBLIC KEY-----\n${weak}\n-----END PUBLIC KEY-----\n`, "weak"), /RSA key of 512 bits; use a key of at least 2048 bits/],
    [path("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "garbage"), /is a PEM block without a supported public key/],
    [path("-----BEGIN PUBLIC KEY-----\nAAAA", "half"), /check that the file is complete/],
    [path('{"kty":"oct","k":"c2hvcnQ"}', "short"), /is a secret of 5 bytes; HS256 needs at least 32/],
    [path('{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}', "curve"), /has an unsupported type \(EC P-384\)/],
    [path('{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}', "point"), /cannot be read: a field is missing or malformed/],
    [path(JSON.stringify({ keys: [pairs.RSA.jwk, { ...pairs.Ed25519.jwk, alg: "RS256" }] }), "alg"), /key 2 of 2 is for RS256; this key can be used with EdDSA/],
    [path(JSON.stringify({ ...pairs.RSA.jwk, use: "enc" }), "enc"), /is not for signatures/],
  ];
  const { config } = resolveConfig({ options: { authKeys: wrong.map(([path]) => path) } });
  const error = t.throws(() => readKeys(config), ConfigError) as unknown as ConfigError;
  t.equal(error.problems.length, wrong.length);
  wrong.forEach(([path, text], i) => {
    t.ok(error.problems[i]?.startsWith(`--auth-keys ${path}: `), String(error.problems[i]));
    t.match(error.problems[i], text);
  });
});

t.test("keys from a URL: fetched once, rotated when a token names a new one", async (t) => {
  const [first, second] = [keyPair("P-256"), keyPair("P-256")];
  const server = await startKeyServer({ keys: [{ ...first.jwk, kid: "1", use: "sig" }, { kty: "oct", k: Buffer.from(secret).toString("base64url"), kid: "o" }, { kty: "?" }] });
  t.teardown(() => server.close());
  let now = 0;
  const { verify, outages } = verifier({ authJwksUrl: server.url }, () => now);
  for (let i = 0; i < 20; i++) t.equal(userOf(await verify(await signed({ sub: `u${i}` }, first.private, { alg: "ES256", kid: "1" }))), `u${i}`);
  t.equal(server.requests, 1);
  t.match(await verify(await signed({ sub: "x" }, Buffer.from(secret), { alg: "HS256", kid: "o" })), { refused: "invalid_token" }, "a secret that is published is none");
  server.body = { keys: [{ ...second.jwk, kid: "2" }] };
  const rotated = await signed({ sub: "new" }, second.private, { alg: "ES256", kid: "2" });
  const said = new Set<string>();
  const look = async () => {
    const verdict = await verify(rotated);
    said.add("grant" in verdict ? "good" : verdict.refused);
    return "grant" in verdict;
  };
  t.notOk(await look(), "the URL was asked a moment ago");
  now += cooldownMs;
  await until(look, "the new key");
  t.notOk(said.has("invalid_token"), "who comes before it is known may come back");
  t.equal(server.requests, 2);
  for (let i = 0; i < 100; i++) await verify(await signed({ sub: "x" }, second.private, { alg: "ES256", kid: `unknown${i}` }));
  t.equal(server.requests, 2, "names that nobody knows do not make it ask again at once");
  t.same(outages, []);
});

t.test("while keys cannot be fetched, tokens that need them are told to come back, and the others are good", async (t) => {
  const pair = keyPair("RSA");
  const server = await startKeyServer(null);
  let now = 0;
  const { verify, outages } = verifier({ authJwksUrl: server.url, authSecret: secret }, () => now);
  const good = await signed({ sub: "ann" }, pair.private, { alg: "RS256", kid: "1" });
  t.match(await verify(good), { refused: "unavailable" });
  for (let i = 0; i < 50; i++) t.match(await verify(await signed({ sub: `u${i}` }, pair.private, { alg: "RS256" })), { refused: "unavailable" });
  t.equal(server.requests, 1, "no request for every token");
  t.equal(userOf(await verify(await token({ sub: "bob" }, secret))), "bob");
  server.body = { keys: [{ ...pair.jwk, kid: "1" }] };
  now += cooldownMs;
  await until(async () => "grant" in (await verify(good)), "the server's return");
  t.equal(outages.length, 2, "told once that it is away and once that it is back");
  t.match(outages, [/200 OK/, null]);
  await server.close();
  t.equal(userOf(await verify(await signed({ sub: "later" }, pair.private, { alg: "RS256", kid: "1" }))), "later", "what is known stays good");
});

t.test("a server of keys that answers nonsense is one that is away", async (t) => {
  for (const body of ["<html>", "null", '{"keys":5}', '{"keys":[]}', '{"keys":[{"kty":"oct","k":"AAAA"}]}']) {
    const server = await startKeyServer(body);
    const { verify, outages } = verifier({ authJwksUrl: server.url });
    t.match(await verify(await signed({ sub: "ann" }, pairs.RSA.private, { alg: "RS256" })), { refused: "unavailable" }, body);
    t.equal(outages.length, 1);
    await server.close();
  }
});
