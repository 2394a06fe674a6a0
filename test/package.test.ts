/** What is published to a registry: everything that package.json exports can be imported from it, and suites run over parts. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import t from "tap";
import { freshPrefix, startRedis } from "./support/redis.ts";
import { root as project } from "./support/root.ts";

const { exports, dependencies } = JSON.parse(readFileSync(join(project, "package.json"), "utf8")) as {
  readonly exports: Record<string, string | { readonly types: string; readonly default: string }>;
  readonly dependencies: Record<string, string>;
};
const folder = mkdtempSync(join(tmpdir(), "flux-package-"));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const installed = join(folder, "node_modules/flux-gateway");

/** As npm would lay it out, with the project's copies of what it depends on: tap is for the suites. */
function install(): void {
  const packed = execFileSync("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder], { cwd: project, encoding: "utf8" }).trim();
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", join(folder, packed), "-C", installed, "--strip-components", "1"]);
  for (const name of [...Object.keys(dependencies), "tap"]) {
    mkdirSync(dirname(join(folder, "node_modules", name)), { recursive: true });
    symlinkSync(join(project, "node_modules", name), join(folder, "node_modules", name));
  }
}

/** In a process of its own, that finds the installed package only. */
function run(name: string, lines: readonly string[]): string {
  writeFileSync(join(folder, name), lines.join("\n"));
  return execFileSync(process.execPath, [name], { cwd: folder, encoding: "utf8", env: { ...process.env, NODE_OPTIONS: "" } });
}

t.before(install);

t.test("whatever is exported is there, with its types", async (t) => {
  const names = Object.keys(exports).map((path) => path.replace(/^\./, "flux-gateway"));
  for (const target of Object.values(exports)) {
    for (const path of typeof target === "string" ? [target] : Object.values(target)) t.ok(existsSync(join(installed, path)), path);
  }
  // The hooks need React, which the package does not bring.
  const code = names.filter((name) => !/\.\w+$/.test(name) && name !== "flux-gateway/client/react");
  const found = JSON.parse(run("imports.mjs", [
    ...code.map((name, i) => `import * as part${i} from ${JSON.stringify(name)};`),
    `console.log(JSON.stringify([${code.map((_, i) => `Object.keys(part${i})`).join()}]));`,
  ])) as string[][];
  t.same(code, ["flux-gateway", "flux-gateway/client", "flux-gateway/server", "flux-gateway/contracts"]);
  for (const [i, expected] of ["createGateway", "connect", "FluxServer", "brokerContract"].entries()) t.ok(found[i]!.includes(expected), `${expected} of ${found[i]!.join()}`);
  for (const seam of ["broker", "messages", "presence", "registry", "sessions"]) t.ok(found[3]!.includes(`${seam}Contract`), `a suite for ${seam}`);
});

t.test("the suite for brokers runs as docs/operations.md says", async (t) => {
  const said = run("mine.test.mjs", [
    'import t from "tap";',
    'import { brokerContract } from "flux-gateway/contracts";',
    `import { createMemoryBroker } from ${JSON.stringify(join(installed, "dist/broker/memory.js"))};`,
    'brokerContract(t, "mine", (limits, deliver, clock) => createMemoryBroker({ ...limits, clock }, deliver));',
  ]);
  t.match(said, /^ok \d+ - mine: /m);
  t.notMatch(said, /^not ok/m);
});

t.test("a backend publishes with flux-gateway/server", async (t) => {
  const [published, page] = JSON.parse(run("backend.mjs", [
    'import { createGateway } from "flux-gateway";',
    'import { ApiError, FluxServer } from "flux-gateway/server";',
    'const gateway = await createGateway({ port: 0, adminPort: 0, reactors: 1, logLevel: "error", adminKey: "k".repeat(32) });',
    "const url = `http://127.0.0.1:${gateway.adminPort}`;",
    'const flux = new FluxServer({ url, key: "k".repeat(32) });',
    'const published = await flux.publish("chat:a", { text: "hi" });',
    'const page = await flux.history("chat:a");',
    'const error = await new FluxServer({ url, key: "wrong" }).publish("chat:a", 1).catch((error) => error);',
    "if (!(error instanceof ApiError)) throw error;",
    "await gateway.close();",
    "console.log(JSON.stringify([published, page, error.code]));",
  ])) as [{ position: string }, { publications: { position: string; data: unknown }[] }, string];
  t.match(page.publications, [{ position: published.position, data: { text: "hi" } }]);
});

t.test("a node of the package serves with Redis: its scripts are there", async (t) => {
  const redis = await startRedis(t);
  const prefix = freshPrefix();
  const before = JSON.parse(run("redis.mjs", [
    'import { createGateway } from "flux-gateway";',
    'import { connect } from "flux-gateway/client";',
    `import { WebSocket } from ${JSON.stringify(join(project, "node_modules/ws/wrapper.mjs"))};`,
    `import { Redis } from ${JSON.stringify(join(project, "node_modules/ioredis/built/index.js"))};`,
    `const gateway = await createGateway({ port: 0, adminPort: 0, reactors: 1, logLevel: "error", redis: ${JSON.stringify(redis.url)}, redisPrefix: ${JSON.stringify(prefix)}, namespaces: { chat: { presence: "members" } } });`,
    "const client = connect(`ws://127.0.0.1:${gateway.port}/ws`, { WebSocket });",
    'const room = client.join("chat:a");',
    "await room.publish(1);",
    `const redis = new Redis(${redis.port}, "127.0.0.1");`,
    `let keys = [];`,
    `const isThere = () => ["session:", ":s"].every((part) => keys.some((key) => key.includes(part)));`,
    `for (const end = Date.now() + 30_000; !isThere() && Date.now() < end;) keys = await redis.keys(${JSON.stringify(`${prefix}*`)});`,
    "client.close();",
    "redis.disconnect();",
    "await gateway.close();",
    "console.log(JSON.stringify(keys));",
  ])) as string[];
  t.ok(before.some((key) => key.includes("session:")), `the session: ${before.join()}`);
  t.ok(before.some((key) => key.endsWith(":s")), "and that it is in the room");
});
