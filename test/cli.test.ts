/** The command as an operator runs it: a process of its own, from the build. */
import { execFileSync, spawn, type ChildProcessByStdio } from "node:child_process";
import { accessSync, constants, readFileSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { Command } from "commander";
import t, { type Test } from "tap";
import { isOptionOf, options } from "../src/config/config.ts";
import { createProgram } from "../src/cli/program.ts";
import { codesDoc, configDoc } from "../src/cli/tables.ts";
import { freePort } from "../src/node/ports.ts";
import { bin, plainly } from "./support/command.ts";

const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };
const limitMs = 180_000;
const freePorts = ["--port", "0", "--admin-port", "0"];
type Env = Record<string, string>;

/** A running command and what it has said so far. */
interface Running {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  out: string;
  err: string;
  /** Resolves with the match once the output has it. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
}

function command(t: Test, args: readonly string[], env: Env = {}): Running {
  const child = spawn("env", plainly(args), { stdio: ["ignore", "pipe", "pipe"], env: { PATH: process.env.PATH ?? "", ...env } });
  t.teardown(() => child.kill("SIGKILL"));
  const ended: Running["ended"] = new Promise((resolve) => child.once("close", (code, signal) => resolve({ code, signal })));
  const says = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (const giveUpAt = Date.now() + limitMs; Date.now() < giveUpAt; await new Promise((resolve) => setTimeout(resolve, 10))) {
      const match = pattern.exec(started.out);
      if (match) return match;
      if (child.exitCode !== null) break;
    }
    throw new Error(`${args.join(" ")} never said ${pattern}, but: ${started.out}${started.err}`);
  };
  const started: Running = { child, ended, out: "", err: "", says };
  child.stdout.on("data", (text: Buffer) => (started.out += text.toString()));
  child.stderr.on("data", (text: Buffer) => (started.err += text.toString()));
  return started;
}

/** Runs a command to its end. */
async function run(t: Test, args: readonly string[], env: Env = {}): Promise<{ code: number | null; out: string; err: string }> {
  const started = command(t, args, env);
  const { code } = await started.ended;
  return { code, out: started.out, err: started.err };
}

/** Path of a new file. */
function fileWith(t: Test, text: string): string {
  return join(t.testdir({ "flux.json": text }), "flux.json");
}

/** Resolves once something answers there. */
async function serves(url: string): Promise<void> {
  for (const giveUpAt = Date.now() + limitMs; Date.now() < giveUpAt; await new Promise((resolve) => setTimeout(resolve, 20))) {
    const status = await fetch(url).then(
      (response) => response.status,
      () => 0, // not listening yet
    );
    if (status === 200) return;
  }
  throw new Error(`nothing answered at ${url}`);
}

/** A port that is taken until the test ends. */
async function takenPort(t: Test): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

t.test("the build is there and can be run by its name", async (t) => {
  t.doesNotThrow(() => accessSync(bin, constants.X_OK), "npm run build makes it");
  t.match(readFileSync(bin, "utf8"), /^#!\/usr\/bin\/env -S node --[\w=-]+\n/);
  t.equal(execFileSync(bin, ["--version"], { env: { PATH: process.env.PATH ?? "" } }).toString(), `${version}\n`);
});

t.test("--version prints the package's version", async (t) => {
  t.same(await run(t, ["--version"]), { code: 0, out: `${version}\n`, err: "" });
});

t.test("help shows the commands, and every option in its group", async (t) => {
  const { code, out } = await run(t, ["--help"]);
  t.equal(code, 0);
  t.match(out, /start \[options\] +Run a node\.\n +config +Show/);
  for (const runner of ["start", "lb"] as const) {
    const help = (await run(t, [runner, "--help"])).out;
    let at = 0;
    for (const { flag, group, takes } of options.filter(({ key }) => isOptionOf(runner, key))) {
      const heading = help.indexOf(`\n${group}:\n`);
      const place = takes === "" ? Math.max(help.indexOf(`\n  ${flag} `), help.indexOf(`\n  ${flag.replace("--", "--no-")} `)) : help.indexOf(`\n  ${flag} <${takes}>`);
      t.ok(heading > 0 && place > heading && place > at, `${runner}: ${flag} under ${group}`);
      at = place;
    }
    for (const { flag } of options.filter(({ key }) => !isOptionOf(runner, key))) t.equal(help.indexOf(`\n  ${flag} `), -1, `${runner} does not take ${flag}`);
    for (const line of help.split("\n").filter((line) => line.startsWith("  --"))) t.ok(line.length <= 80, line);
  }
});

t.test("help names no default that says nothing, and every command with commands lists help", async (t) => {
  const program = createProgram();
  const pages: [string, string][] = [];
  const collect = (command: Command, path: string): void => {
    pages.push([path, command.helpInformation()]);
    if (command.commands.length > 0) t.match(command.helpInformation(), /^  help \[command\] /m, path);
    t.match(command.helpInformation(), /^  -h, --help /m, path);
    for (const one of command.commands) collect(one, `${path} ${one.name()}`);
  };
  collect(program, program.name());
  t.ok(pages.length > 10);
  for (const [path, page] of pages) t.notMatch(page, /\(default: (""|false|)\)/, path);
  t.match(pages.find(([path]) => path === "flux-gateway token")?.[1], /\(default:\s+1h\)/);
});

t.test("without a command it shows help and fails", async (t) => {
  const { code, out, err } = await run(t, []);
  t.equal(code, 1);
  t.equal(out, "");
  t.match(err, /Usage: flux-gateway/);
});

t.test("a mistyped flag is refused with the one that was meant", async (t) => {
  const { code, err } = await run(t, ["start", "--prot", "1"]);
  t.equal(code, 1);
  t.match(err, /^error: unknown option '--prot'\n\(Did you mean --port\?\)/);
});

t.test("config print shows every value with its source", async (t) => {
  const path = fileWith(t, '{"heartbeatMs":"20s","port":9000,"reactors":2,"namespaces":{"chat":{"historySize":50}}}');
  const args = ["config", "print", "--config", path, "--port", "9002", "--no-demo", "--allowed-origins", "https://a.example,https://b.example"];
  const { code, out, err } = await run(t, args, { FLUX_PORT: "9001", FLUX_REACTORS: "3", FLUX_LOG_LEVEL: "" });
  t.equal(code, 0, err);
  const row = (key: string) => out.split("\n").find((line) => line.startsWith(`${key} `))?.split(/ {2,}/);
  t.same(row("key"), ["key", "value", "source"]);
  t.same(row("port"), ["port", "9002", "flag --port"]);
  t.same(row("demo"), ["demo", "false", "flag --demo"]);
  t.same(row("allowedOrigins"), ["allowedOrigins", "https://a.example,https://b.example", "flag --allowed-origins"]);
  t.same(row("reactors"), ["reactors", "3", "environment FLUX_REACTORS"]);
  t.same(row("heartbeatMs"), ["heartbeatMs", "20s", `file ${path}`]);
  t.same(row("logLevel"), ["logLevel", "info", "default"]);
  t.same(row("namespaces.chat.historySize"), ["namespaces.chat.historySize", "50", `file ${path}`]);
  t.same(row("namespaces.chat.historyTtlMs"), ["namespaces.chat.historyTtlMs", "24h", "default"]);

  const json: unknown = JSON.parse((await run(t, [...args, "--json"], { FLUX_PORT: "9001" })).out);
  t.match(json, {
    port: { value: 9002, source: "flag --port" },
    allowedOrigins: { value: ["https://a.example", "https://b.example"] },
    heartbeatMs: { value: 20_000, source: `file ${path}` },
    namespaces: { chat: { historySize: { value: 50, source: `file ${path}` } }, live: { durable: { value: false, source: "default" } } },
  });
});

t.test("a flag can turn off what a variable turned on, and the other way round", async (t) => {
  const { out } = await run(t, ["config", "print", "--no-allow-anonymous", "--demo"], { FLUX_ALLOW_ANONYMOUS: "1", FLUX_DEMO: "0" });
  t.match(out, /\nallowAnonymous +false +flag/);
  t.match(out, /\ndemo +true +flag/);
});

t.test("config check tells whether a file is right", async (t) => {
  const good = fileWith(t, '\uFEFF{"port":9000}');
  t.same(await run(t, ["config", "check", good]), { code: 0, out: `${good}: good\n`, err: "" });
});

t.test("config check tells everything that is wrong with a file", async (t) => {
  const bad = fileWith(t, '{"port":"x","prot":1,"namespaces":{"live":{"historySize":5}}}');
  const { code, out, err } = await run(t, ["config", "check", bad]);
  t.equal(code, 1);
  t.equal(out, "");
  t.same(err.trimEnd().split("\n"), [
    `error: prot in ${bad}: unknown option; did you mean port?`,
    `error: port in ${bad}: must be a whole number from 0 to 65535, not "x"`,
    `error: namespaces.live.historySize in ${bad}: namespace live stores no history; set live.durable to true, or remove historySize`,
  ]);
});

t.test("config check reads what a file names, and used to call a certificate good that is none", async (t) => {
  const folder = t.testdir({ "cert.pem": "no certificate", "key.pem": "no key", "keys.pem": "nothing", "ca.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", file: "" });
  const at = (name: string) => join(folder, name);
  const check = async (values: object) => {
    writeFileSync(at("flux.json"), JSON.stringify(values));
    const { code, out, err } = await run(t, ["config", "check", at("flux.json")]);
    t.equal(code, err === "" ? 0 : 1);
    return (out + err).replaceAll(/ in \S+flux\.json/g, "").trimEnd().split("\n");
  };
  t.match(await check({ tlsCert: at("cert.pem"), tlsKey: at("key.pem"), authKeys: [at("keys.pem")], dataDir: at("file/data") }), [
    /^error: authKeys \S+keys\.pem: /, /^error: tlsCert: \S+cert\.pem contains no PEM certificate/, /^error: dataDir \S+: \S+\/file is a file/,
  ]);
  t.match(await check({ nats: "tls://h", resumeSecret: "r".repeat(32), natsTlsCa: at("ca.pem"), natsCreds: at("none") }), [/^error: natsTlsCa: \S+ca\.pem contains no certificate/, /^error: natsCreds: \S+none cannot be read.*ENOENT/]);
  t.match(await check({ dataDir: "/proc/x" }), [/^error: dataDir \/proc\/x: this user cannot create files in \/proc/]);
  t.match(await check({ $schema: "./flux.schema.json", dataDir: at("data/of/node") }), [/good$/]);
});

t.test("a key that stands twice in a file is refused, wherever it stands", async (t) => {
  const path = fileWith(t, '{\n  "port": 1, "a\\"b,{": [{"port": 2}, {"port": 3}],\n  "namespaces": {"chat": {"durable": true},\n "chat": {"durable": true, "durable": false}},\n  "\\u0070ort": 2\n}');
  for (const args of [["config", "check", path], ["config", "print", "--config", path]]) {
    const { code, err } = await run(t, args);
    t.equal(code, 1);
    t.match(err.trimEnd().split("\n"), [/^error: namespaces\.chat in \S+: occurs twice, the second time in line 4; /, /^error: namespaces\.chat\.durable in .*line 4; /, /^error: port in .*line 5; /]);
  }
});

t.test("a data directory that cannot be is refused at once, and used to keep the process spinning without hearing a signal", async (t) => {
  for (const dir of ["/proc/x", "/proc/x/y", "/dev/null/x"]) {
    t.match(await run(t, ["start", ...freePorts, "--reactors", "1", "--log-level", "error", "--data-dir", dir]), { code: 1, err: /^error: --data-dir \/.*; (choose another directory|choose a directory or an unused path)\n$/ }, dir);
  }
});

t.test("a configuration file that cannot be read is one clear line, under the name it was given by", async (t) => {
  const folder = t.testdir({ "broken.json": '{\n  "port": 1,\n  nonsense\n}', "list.json": "[]" });
  const line = async (args: string[], env: Env = {}) => {
    const { code, err } = await run(t, args, env);
    t.equal(code, 1);
    t.equal(err.trimEnd().split("\n").length, 1, err);
    return err;
  };
  t.match(await line(["start", "--config", join(folder, "none.json")]), /^error: --config: .*none\.json cannot be read: the file does not exist; check the path/);
  t.match(await line(["start"], { FLUX_CONFIG: join(folder, "none.json") }), /^error: FLUX_CONFIG: .*none\.json cannot be read/);
  t.match(await line(["config", "check", folder]), /^error: config check: .* cannot be read: it is a directory; give the path of a JSON file/);
  t.match(await line(["start", "--config", join(folder, "broken.json")]), /^error: --config: .*broken\.json is not valid JSON: .*line 3 column 3/);
  t.match(await line(["start", "--config", join(folder, "list.json")]), /^error: .*list\.json: must hold a JSON object/);
});

t.test("config doc prints what the reference pages hold", async (t) => {
  t.equal((await run(t, ["config", "doc"])).out, `${configDoc()}\n`);
  t.equal((await run(t, ["config", "doc", "--codes"])).out, `${codesDoc()}\n`);
});

t.test("start says what runs where, serves it, and ends in order on SIGTERM", async (t) => {
  const path = fileWith(t, '{"nodeId":"n1","namespaces":{"live":null}}');
  const node = command(t, ["start", ...freePorts, "--log-format", "pretty", "--reactors", "1", "--config", path]);
  await node.says(/Ctrl\+C/);
  const shown = (name: string) => new RegExp(`^  ${name} +(.*)$`, "m").exec(node.out)?.[1] ?? "";
  t.match(node.out, `flux-gateway ${version}, n1, process ${node.child.pid}\n`);
  t.match(shown("WebSocket"), /^ws:\/\/127\.0\.0\.1:\d+\/ws$/);
  t.equal(shown("Reactors"), "1");
  t.equal(shown("Access"), "anonymous, from this machine only");
  t.match(shown("Broker"), /^embedded, in memory/);
  t.match(shown("Registry"), /^embedded, in memory/);
  t.equal(shown("Namespaces"), "chat (durable: 1000 publications, 24h), default");
  t.equal(shown("Config"), path);

  t.match(await (await fetch(shown("Health"))).json(), { status: "ok", node: "n1" });
  t.match(await (await fetch(shown("Metrics"))).text(), /^# HELP /m);
  t.match(await (await fetch(shown("Demo page"))).text(), /<html/i);

  node.child.kill("SIGTERM");
  t.same(await node.ended, { code: 0, signal: null });
  t.match(node.out, /SIGTERM: draining within 30 s; a second signal stops it at once\n(.*\n)*.*closed\n$/);
  t.equal(node.err, "");
});

t.test("with JSON logs, what runs where is one line of them", async (t) => {
  const node = command(t, ["start", ...freePorts, "--log-format", "json", "--no-demo", "--allow-anonymous", "--host", "127.0.0.1"]);
  await node.says(/is running/);
  const lines = node.out.trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);
  t.match(lines.find(({ msg }) => msg === "flux-gateway is running"), { version, demo: "off", config: "no file", websocket: /^ws:/ });
  node.child.kill("SIGINT");
  t.same(await node.ended, { code: 0, signal: null });
});

t.test("a silent node says nothing", async (t) => {
  const port = String(await freePort());
  const node = command(t, ["start", "--port", port, "--admin-port", "0", "--log-level", "silent", "--log-format", "pretty", "--reactors", "1"]);
  await serves(`http://127.0.0.1:${port}/health`);
  node.child.kill("SIGTERM");
  t.same(await node.ended, { code: 0, signal: null });
  t.same([node.out, node.err], ["", ""]);
});

t.test("a signal while it starts ends it in order, too", async (t) => {
  // The warning of too few files comes before any reactor does.
  const node = command(t, ["start", ...freePorts, "--sockets-max", "100000000"]);
  await node.says(/--sockets-max/);
  node.child.kill("SIGTERM");
  t.same(await node.ended, { code: 0, signal: null });
});

t.test("a second signal makes it exit with 1", async (t) => {
  const node = command(t, ["start", ...freePorts, "--log-format", "json"]);
  await node.says(/is running/);
  node.child.kill("SIGTERM");
  node.child.kill("SIGINT");
  t.same(await node.ended, { code: 1, signal: null });
  t.equal(node.err, "");
});

t.test("the same signal twice at once, as npx passes it on, counts once", async (t) => {
  const node = command(t, ["start", ...freePorts, "--log-format", "json"]);
  await node.says(/is running/);
  node.child.kill("SIGINT");
  await node.says(/a second signal/);
  node.child.kill("SIGINT");
  t.same(await node.ended, { code: 0, signal: null });
});

t.test("it goes on when whoever read its output is gone, and ends in order", async (t) => {
  const node = command(t, ["start", ...freePorts, "--log-format", "json"]);
  const [, health = ""] = await node.says(/"health":"([^"]+)"/);
  node.child.stdout.destroy();
  await serves(health);
  node.child.kill("SIGTERM");
  t.same(await node.ended, { code: 0, signal: null }, "writing the last lines to nobody does no harm");
});

t.test("a port that is taken is one clear line, under the name the operator typed", async (t) => {
  const port = String(await takenPort(t));
  const problem = async (args: string[], env: Env = {}) => {
    const { code, err } = await run(t, ["start", "--reactors", "1", "--log-level", "error", ...args], env);
    t.equal(code, 1);
    t.equal(err.trimEnd().split("\n").length, 1, err);
    return err;
  };
  t.match(await problem(["--port", port, "--admin-port", "0"]), new RegExp(`^error: --port ${port}: another process listens on 127\\.0\\.0\\.1:${port}; `));
  t.match(await problem(["--port", "0", "--admin-port", port]), new RegExp(`^error: --admin-port ${port}: another process listens`));
  t.match(await problem(["--admin-port", "0"], { FLUX_PORT: port }), new RegExp(`^error: FLUX_PORT ${port}: another process listens`));
  const path = fileWith(t, `{"port":${port}}`);
  t.match(await problem(["--admin-port", "0", "--config", path]), new RegExp(`^error: port in .*flux\\.json ${port}: another process listens`));
});

t.test("everything wrong with the options is told at once, without a stack", async (t) => {
  const { code, out, err } = await run(t, ["start", "--port", "http", "--host", "0.0.0.0"], { FLUX_RECATORS: "2" });
  t.equal(code, 1);
  t.equal(out, "");
  t.same(err.trimEnd().split("\n"), [
    "error: FLUX_RECATORS: unknown option; did you mean FLUX_REACTORS?",
    'error: --port: must be a whole number from 0 to 65535, not "http"',
    "error: --host: other machines can reach 0.0.0.0, and without a token key anyone there can connect; set --auth-secret or --auth-keys, use 127.0.0.1, or allow it with --allow-anonymous",
  ]);
});
