/** `flux-gateway key` as an operator runs it: over a file and over Redis, and the secrets it makes at a node's door. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Command } from "commander";
import t, { type Test } from "tap";
import { createApiKeys } from "../src/auth/apikeys.ts";
import { secretId } from "../src/auth/apisecret.ts";
import { addKeyCommand } from "../src/cli/commands/key.ts";
import { ConfigError } from "../src/config/config.ts";
import { heldEvery } from "../src/contracts/keystore.ts";
import { openFileKeys } from "../src/keystore/file.ts";
import { openRedisKeys } from "../src/keystore/redis.ts";
import { openRedis } from "../src/redis/open.ts";
import { readRedisTarget } from "../src/redis/target.ts";
import { command } from "./support/command.ts";
import { freshPrefix, startRedis } from "./support/redis.ts";

interface Said {
  readonly out: string;
  readonly err: string;
  readonly problem: string;
}

/** In this process: a process each would take most of the time. */
async function run(...args: readonly string[]): Promise<Said> {
  const [out, err]: [string[], string[]] = [[], []];
  const { log, error } = console;
  console.log = (line: string) => void out.push(line);
  console.error = (line: string) => void err.push(line);
  const program = new Command().exitOverride();
  addKeyCommand(program);
  let problem = "";
  try {
    await program.parseAsync(["key", ...args], { from: "user" });
  } catch (thrown) {
    if (!(thrown instanceof ConfigError)) throw thrown;
    problem = thrown.message;
  } finally {
    Object.assign(console, { log, error });
  }
  return { out: out.join("\n"), err: err.join("\n"), problem };
}

const quiet = { info() {}, warn() {}, error() {} };
const server = await startRedis(t);

const places: Record<string, (t: Test) => Promise<{ flags: readonly string[]; node(): Promise<ReturnType<typeof nodeOf>> }>> = {
  file: async (t) => {
    const path = join(t.testdir(), "keys");
    const { every, pass } = heldEvery();
    return { flags: ["--api-keys", path], node: async () => nodeOf(t, await openFileKeys({ path, log: quiet, every }), pass) };
  },
  redis: async (t) => {
    const prefix = freshPrefix();
    const { every, pass } = heldEvery();
    const node = async () => {
      const redis = await openRedis({ target: readRedisTarget(server.url)!, answerMs: 1_000, log: quiet });
      t.teardown(() => redis.close());
      return nodeOf(t, await openRedisKeys({ redis, prefix, log: quiet, every }), pass);
    };
    return { flags: ["--redis", server.url, "--redis-prefix", prefix], node };
  },
};

/** A node's door, and its clock: so long after a command it knows. */
function nodeOf(t: Test, store: Parameters<typeof createApiKeys>[0]["store"], pass: (ms: number) => Promise<void>) {
  t.teardown(() => store.stop());
  let ahead = 0;
  const keys = createApiKeys({ adminKey: "", onLoopback: true, store, verifier: null, date: () => Date.now() + ahead });
  const nameOf = async (text: string) => {
    const found = await keys.authenticate(`Bearer ${text}`);
    return "refused" in found ? found.text : found.name;
  };
  return { nameOf, keys, fiveSeconds: () => pass(5_000), passDate: (ms: number) => (ahead += ms) };
}

for (const [name, make] of Object.entries(places)) {
  t.test(`${name}: create, list, rotate, revoke; a node follows each within five seconds`, async (t) => {
    const { flags, node } = await make(t);
    const made = await run("create", "shop", "--scope", "publish,read", "--rooms", "orders:*", "--rooms", "chat", "--tenant", "acme", "--expires", "90d", "--requests-per-second", "2.5", ...flags);
    t.match(made.out, /^flux_\w{10}_\w{38}$/, "only the secret is on standard output");
    t.match(made.err, /key shop created: publish, read in rooms orders:\* chat of tenant acme; expires \d{4}-/);
    t.notMatch(made.err, made.out);
    const { nameOf, keys, fiveSeconds, passDate } = await node();
    t.match(await keys.authenticate(`Bearer ${made.out}`), { name: "shop", tenant: "acme", scopes: ["publish", "read"], limits: { requestsPerSecond: 2.5 } });

    const ops = await run("create", "ops", "--scope", "admin", "--all-tenants", ...flags);
    await fiveSeconds();
    t.match(await keys.authenticate(`Bearer ${ops.out}`), { name: "ops", tenant: null, rooms: null });

    const rotated = await run("rotate", "shop", "--keep", "1h", ...flags);
    t.match(rotated.err, new RegExp(`the one before \\(${secretId(made.out)}\\) expires`));
    await fiveSeconds();
    t.same([await nameOf(made.out), await nameOf(rotated.out)], ["shop", "shop"], "both secrets are valid");
    t.match((await run("rotate", "shop", ...flags)).problem, /has two secrets; revoke the older one first/);
    passDate(3_600_001);
    t.match([await nameOf(made.out), await nameOf(rotated.out)], [/expired/, "shop"], "one has expired");
    passDate(-3_600_001);

    const listed = await run("list", ...flags);
    t.match(listed.out, /^name +scopes[\s\S]*ops +admin +every +every +- +- +never[\s\S]*shop +publish,read +orders:\* chat +acme +2\.5 +- +20/);
    const json = await run("list", "--json", ...flags);
    t.match(JSON.parse(json.out), [{ name: "ops" }, { name: "shop", secrets: [{ id: secretId(rotated.out) }, { id: secretId(made.out) }] }]);
    for (const text of [listed.out, json.out]) t.notMatch(text, /sha256|flux_/, "no secret, and no digest");

    const one = await run("revoke", "shop", "--secret", secretId(made.out)!, ...flags);
    t.match(one.out, /secret \w+ of key shop revoked in .*within 5 seconds/);
    await fiveSeconds();
    t.match([await nameOf(made.out), await nameOf(rotated.out)], [/unknown or revoked/, "shop"]);
    await run("revoke", "shop", ...flags);
    await fiveSeconds();
    t.match([await nameOf(rotated.out), await nameOf(ops.out)], [/unknown or revoked/, "ops"]);
  });

  t.test(`${name}: what is wrong is refused in a sentence, and changes nothing`, async (t) => {
    const { flags } = await make(t);
    await run("create", "shop", "--scope", "read", ...flags);
    const before = (await run("list", ...flags)).out;
    const wrong: [args: string[], says: RegExp][] = [
      [["create", "shop", "--scope", "read"], /key shop exists/],
      [["create", "new"], /--scope: must be publish, read, disconnect, tokens, admin/],
      [["create", "new", "--scope", "read,all"], /--scope: .*not "all"/],
      [["create", "n\new", "--scope", "read"], /name: must be 1 to 64 letters.*"n\\new"/],
      [["create", "\u001b[2J", "--scope", "read"], /name: .*\\u001b/],
      [["create", "__proto__", "--scope", "readx"], /--scope/],
      [["create", "x".repeat(65), "--scope", "read"], /name/],
      [["create", "admin", "--scope", "read"], /metrics use admin/],
      [["create", "new", "--scope", "read", "--tenant", "a\u0001"], /--tenant: control characters/],
      [["create", "new", "--scope", "read", "--tenant", "a", "--all-tenants"], /cannot be combined/],
      [["create", "new", "--scope", "read", "--rooms", ""], /--rooms: the name is empty/],
      [["create", "new", "--scope", "read", "--rooms", "r\u0000"], /--rooms: control characters/],
      [["create", "new", "--scope", "read", ...Array.from({ length: 51 }, (_, i) => ["--rooms", `r${i}`]).flat()], /invalid rooms/],
      [["create", "new", "--scope", "read", "--expires", "soon"], /--expires: must be a time .*or never/],
      [["create", "new", "--scope", "read", "--requests-per-second", "0"], /--requests-per-second/],
      [["create", "new", "--scope", "read", "--publications-per-second", "-1"], /--publications-per-second/],
      [["rotate", "none"], /there is no key none/],
      [["revoke", "none"], /there is no key none/],
      [["revoke", "shop", "--secret", "0000000000"], /no secret 0000000000/],
    ];
    for (const [args, says] of wrong) {
      const { out, problem } = await run(...args, ...flags);
      t.match(problem, says, args.slice(0, 2).join(" "));
      t.equal(out, "");
    }
    t.equal((await run("list", ...flags)).out, before);
  });
}

t.test("the name __proto__ is a name like others", async (t) => {
  const flags = ["--api-keys", join(t.testdir(), "keys")];
  const { out } = await run("create", "__proto__", "--scope", "read", ...flags);
  t.match((await run("list", ...flags)).out, /__proto__ +read/);
  t.ok(secretId(out));
});

t.test("without a file and without Redis it says what to give; a Redis that is away, and a broken file, are named", async (t) => {
  t.match((await run("list")).problem, /--api-keys: name the file of API keys, or the Redis/);
  t.match((await run("list", "--redis", "redis://127.0.0.1:1")).problem, /--redis redis:\/\/127.0.0.1:1: cannot be used/);
  t.match((await run("list", "--api-keys", t.testdir())).problem, /is a directory/);
  t.match((await run("create", "a", "--scope", "read", "--api-keys", join(t.testdir(), "no", "keys"))).problem, /does not exist/);
});

t.test("the file has no secret in it, and is for its owner; commands at the same time do not lose keys", async (t) => {
  const path = join(t.testdir(), "keys");
  const made = await Promise.all(["a", "b", "c"].map((name) => command(["key", "create", name, "--scope", "publish", "--api-keys", path])));
  const text = readFileSync(path, "utf8");
  for (const { out } of made) {
    t.match(out, /^flux_\w+\n$/);
    t.ok(text.includes(secretId(out.trim())!), "its id is in the file");
    t.notOk(text.includes(out.trim().slice(-38)), "its secret is not");
  }
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.notOk(existsSync(`${path}.lock`));
});
