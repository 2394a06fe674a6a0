/** `flux-gateway token` as a developer runs it: makes secrets and tokens, explains them, and never logs anything else. */
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import { decodeJwt, decodeProtectedHeader } from "jose";
import t, { type Test } from "tap";
import { addTokenCommand } from "../src/cli/commands/token.ts";
import { ConfigError } from "../src/config/config.ts";
import { plainly } from "./support/command.ts";
import { startNode } from "./support/node.ts";
import { open } from "./support/session.ts";
import { handmade, keyPair, secret, token } from "./support/tokens.ts";

interface Said {
  code: number;
  out: string;
  err: string;
}

/** In this process: a process each would take most of the time. */
async function run(args: readonly string[], env: Record<string, string> = {}): Promise<Said> {
  const out: string[] = [];
  const { log } = console;
  const before = { ...process.env };
  for (const name of Object.keys(before)) if (name.startsWith("FLUX_")) delete process.env[name];
  Object.assign(process.env, env);
  console.log = (line: string) => void out.push(`${line}\n`);
  const program = new Command().exitOverride();
  addTokenCommand(program);
  let err = "";
  try {
    await program.parseAsync(["token", ...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    err = error.message;
  } finally {
    console.log = log;
    for (const name of Object.keys(env)) delete process.env[name];
    Object.assign(process.env, before);
  }
  const code = err === "" ? Number(process.exitCode ?? 0) : 1;
  process.exitCode = undefined;
  return { code, out: out.join(""), err };
}

/** As a developer does it. */
function runBuilt(args: readonly string[], input = ""): Promise<Said> {
  const child = spawn("env", plainly(["token", ...args]), { env: { PATH: process.env.PATH ?? "" } });
  const said = { out: "", err: "" };
  child.stdout.on("data", (text: Buffer) => (said.out += text.toString()));
  child.stderr.on("data", (text: Buffer) => (said.err += text.toString()));
  child.stdin.end(input);
  return new Promise((resolve) => child.once("close", (code) => resolve({ ...said, code: code ?? -1 })));
}

function file(t: Test, text: string, name: string): string {
  const path = join(existsSync(t.testdirName) ? t.testdirName : t.testdir({}), name);
  writeFileSync(path, text);
  return path;
}

const env = { FLUX_AUTH_SECRET: secret };

t.test("token secret prints a new secret that a node takes", async (t) => {
  const [one, other] = [await run(["secret"]), await run(["secret"])];
  t.match(one.out, /^[\w-]{43}\n$/);
  t.not(one.out, other.out);
  await startNode(t, { authSecret: one.out.trim() });
});

t.test("token prints a token and nothing else, signed with the node's secret wherever that is given", async (t) => {
  const node = await startNode(t, { authSecret: secret });
  const config = file(t, JSON.stringify({ authSecret: secret, port: 9000 }), "flux.json");
  const ways = [
    await run(["--sub", "ann"], env), await run(["--sub", "ann", "--auth-secret", secret]), await run(["--sub", "ann", "--config", config]),
    await run(["--sub", "ann"], { FLUX_CONFIG: config }), await runBuilt(["--sub", "ann", "--auth-secret", secret]),
  ];
  for (const { code, out, err } of ways) {
    t.same([code, err], [0, ""]);
    t.match(out, /^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    t.equal((await open(node, { hello: { token: out.trim() } })).ready?.user, "ann");
  }
});

t.test("every claim has its flag", async (t) => {
  const { out } = await run([
    "--sub", "ann", "--tenant", "acme", "--rooms", "chat:*=join, publish", "--rooms", "a=b=all", "--no-send", "--expires", "2h",
    "--aud", "chat", "--aud", "game", "--iss", "me", "--limit-commands-per-second", "5", "--limit-rooms", "2", "--kid", "k1",
  ], env);
  const claims = decodeJwt(out.trim());
  t.match(claims, {
    sub: "ann", tenant: "acme", aud: ["chat", "game"], iss: "me", send: false, limits: { commandsPerSecond: 5, rooms: 2 },
    rooms: { "chat:*": ["join", "publish"], "a=b": ["join", "publish", "history", "presence"] },
  });
  t.equal(claims.exp! - claims.iat!, 7200);
  t.same(decodeProtectedHeader(out.trim()), { alg: "HS256", typ: "JWT", kid: "k1" });
  t.equal(decodeJwt((await run(["--sub", "ann", "--expires", "never"], env)).out.trim()).exp, undefined);
});

t.test("a private key signs with the algorithm that it is for, and a node with its public part takes the token", async (t) => {
  for (const [kind, alg] of [["RSA", "RS256"], ["P-256", "ES256"], ["Ed25519", "EdDSA"]] as const) {
    const pair = keyPair(kind);
    const node = await startNode(t, { authKeys: [file(t, pair.pem, `${kind}.pub`)], reactors: 1 });
    const jwk = JSON.stringify({ ...pair.private.export({ format: "jwk" }), kid: "mine" });
    for (const path of [file(t, pair.privatePem, `${kind}.pem`), file(t, jwk, `${kind}.json`)]) {
      const { out, err } = await run(["--sub", "ann", "--key", path]);
      t.equal(err, "");
      t.equal(decodeProtectedHeader(out.trim()).alg, alg);
      t.equal((await open(node, { hello: { token: out.trim() } })).ready?.user, "ann", path);
    }
  }
});

t.test("what is wrong is told in a line that names the flag, and nothing is printed", async (t) => {
  const pair = keyPair("Ed25519");
  const cases: [string[], RegExp][] = [
    [[], /^--sub: missing/],
    [["--sub", "a\u0001b"], /^claim sub: control characters are not allowed/],
    [["--sub", "ann", "--expires", "soon"], /^--expires: must be a time from 1s/],
    [["--sub", "ann", "--rooms", "chat:*"], /^--rooms chat:\*: must look like 'chat:\*=join,publish'/],
    [["--sub", "ann", "--rooms", "chat:*=fly"], /unknown right "fly"/],
    [["--sub", "ann", "--limit-rooms", "many"], /^--limit-rooms: must be a whole number/],
    [["--sub", "ann", "--limit-commands-per-second", "0"], /^claim limits.commandsPerSecond: /],
    [["--sub", "ann", "--key", "nowhere.pem"], /^--key nowhere.pem: cannot be read/],
    [["--sub", "ann", "--key", file(t, pair.pem, "public.pem")], /contains no private key; create one with/],
    [["--sub", "ann", "--key", file(t, "hello", "text")], /contains no private key/],
    [["--sub", "ann", "--key", file(t, '{"kty":"oct","k":"c2hvcnQ"}', "short")], /has an unsupported type/],
    [["--sub", "ann", "--auth-secret", "short"], /^--auth-secret: must be a secret of 32 to 1024 characters, not one of 5$/],
  ];
  for (const [args, text] of cases) {
    const { code, out, err } = await run(args, env);
    t.same([code, out], [1, ""], args.join(" "));
    t.match(err, text);
  }
  t.match(await runBuilt(["--sub", "ann", "--colour", "red"]), { code: 1, out: "", err: /^error: unknown option '--colour'/ });
  t.match(await runBuilt([]), { code: 1, out: "", err: /^error: --auth-secret: / });
  t.match((await run(["--sub", "ann"])).err, /^--auth-secret: no key to sign with; .*FLUX_AUTH_SECRET.*--key FILE/);
});

t.test("token explain shows what a token says, and whether a node would take it", async (t) => {
  const now = Math.floor(Date.now() / 1000);
  const good = await token({
    sub: "ann", tenant: "acme", aud: "chat", iss: "me", iat: now - 7200, exp: now + 9000, rooms: { "chat:*": ["join"], "*": [] }, send: false, limits: { rooms: 3 }, colour: "red",
  }, secret);
  const { code, out } = await run(["explain", good], env);
  t.equal(code, 0);
  const rows = out.trimEnd().split("\n").map((line) => [line.slice(0, 9).trim(), line.slice(11)]);
  t.match(rows, [
    ["algorithm", "HS256"], ["user", "ann"], ["tenant", "acme"], ["audience", "chat"], ["issuer", "me"], ["issued", /Z, 2 hours ago$/], ["expires", /Z, in 2 hours$/],
    ["rooms", "chat:*: join"], ["", "*: nothing"], ["send", "no direct messages"], ["limits", "the node's commands a second, 3 rooms"], ["ignored", "colour"], ["verdict", /^valid/],
  ]);
  t.match(await runBuilt(["explain", "-", "--auth-secret", secret], `Bearer ${good}\n`), { code: 0, out: /verdict +valid/ });
  t.match(await run(["explain", good, "--auth-audience", "game"], env), { code: 1, out: /verdict +refused, invalid_token: aud: names none of the accepted audiences/ });
  t.match(await run(["explain", good]), { code: 1, out: /user +ann[^]*verdict +not checked: no key is configured/ });
  const wrong: [string, RegExp][] = [
    [await token({ sub: "ann", exp: now - 60 }, secret), /expires +.*, \d+ (seconds|minutes) ago[^]*refused, token_expired: has expired/],
    [await token({ sub: "ann" }, "a secret that nobody has given it"), /user +ann[^]*refused, invalid_token: no key of this node has signed it/],
    [handmade({ alg: "none" }, { sub: "a\u001b[31mnn" }), /algorithm +none[^]*user +a�\[31mnn[^]*claims +sub: control characters[^]*refused, invalid_token: is not signed/],
    ["garbage", /token +cannot be read[^]*refused, invalid_token: is not a JWT/],
  ];
  for (const [one, text] of wrong) t.match(await run(["explain", one], env), { code: 1, out: text, err: "" });
});
