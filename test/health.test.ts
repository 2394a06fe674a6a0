/** What a container asks to know whether its node lives, and how that finds the node. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, linkSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t, { type Test } from "tap";
import { readListening, writeListening, type Recorded } from "../src/cli/listening.ts";
import { freePort } from "../src/node/ports.ts";
import { folder, makePair } from "./support/certificates.ts";
import { startNode } from "./support/node.ts";
import { bin } from "./support/command.ts";
import { open } from "./support/session.ts";
import { until } from "./support/until.ts";
import { isRealRoot, nobody } from "./support/user.ts";

const script = fileURLToPath(new URL("../dist/cli/health.js", import.meta.url));

interface Checked {
  readonly code: number | null;
  readonly said: string;
}

const ofImage = fileURLToPath(new URL("../dist/cli/health.sh", import.meta.url));

/** What the check says and exits with. Not spawnSync: the node that it asks may run in this process. */
function check(env: Record<string, string>, before: readonly string[] = []): Promise<Checked> {
  return runCheck([...before, process.execPath, script], env);
}

/** The image's check, with a Node that says so and does nothing. */
function checkOfImage(t: Test, env: Record<string, string>, before: readonly string[] = []): Promise<Checked> {
  const bin = t.testdir({ node: "#!/bin/sh\necho a second Node: $*\n" });
  chmodSync(join(bin, "node"), 0o755);
  return runCheck([...before, "/bin/bash", ofImage], { PATH: `${bin}:${process.env.PATH ?? ""}`, ...env });
}

function runCheck([command = "", ...args]: readonly string[], env: Record<string, string>): Promise<Checked> {
  const child = spawn(command, args, { env: { PATH: process.env.PATH ?? "", ...env }, stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, said })));
}

for (const tls of [false, true]) {
  t.test(`a node that lives is healthy, and one that is gone is not${tls ? ": the same with TLS" : ""}`, async (t) => {
    const { cert, key } = tls ? makePair(folder(t), "node") : { cert: "", key: "" };
    const node = await startNode(t, { reactors: 1, drainMs: 3_600_000, tlsCert: cert, tlsKey: key });
    const env = { FLUX_PORT: String(node.port), FLUX_TLS_CERT: cert };
    t.match(await check(env), { code: 0, said: /^healthy: / });
    t.match(await check({ ...env, FLUX_TLS_CERT: tls ? "" : "node.crt" }), { code: 1, said: /^not healthy: https?:/ }, "it is asked in the way it serves");
    if (!tls) {
      await open(node);
      void node.drain();
      t.match(await check(env), { code: 0 }, "in the middle of a drain");
    }
    await node.close();
    t.match(await check(env), { code: 1, said: `not healthy: nothing listens on http${tls ? "s" : ""}://127.0.0.1:${node.port}/health` });
  });
}

/** A node of the command, alone with these variables on this machine; resolves when it is healthy. */
async function run(t: Test, id: string, flags: readonly string[], more: Record<string, string> = {}) {
  const env = { FLUX_NODE_ID: id, ...more };
  const args = [bin, "start", "--admin-port", "0", "--reactors", "1", "--drain-ms", "0", "--log-format", "json", ...flags];
  const child = spawn(process.execPath, args, { env: { PATH: process.env.PATH ?? "", ...env }, stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  t.teardown(() => child.kill("SIGKILL"));
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`the node ended with ${child.exitCode}`);
    const { code, said } = await check(env);
    // Another node may serve the default port of this machine.
    return code === 0 && said.includes(id);
  }, `node ${id} to be healthy`);
  return { env, child, ended, file: () => readListening().length && files().find((file) => readFileSync(file, "utf8").includes(id)) };
}

const files = () => readdirSync("/dev/shm").filter((name) => name.startsWith("flux-gateway-")).map((name) => join("/dev/shm", name));

t.test("it finds the node whatever its port and host are, and however they were given; nodes on one machine do not meet", async (t) => {
  const id = `health-${process.pid}`;
  const [port, other] = [await freePort(), String(await freePort())];
  const config = join(t.testdir({ "flux.json": JSON.stringify({ port: 0, host: "::1" }) }), "flux.json");
  // The variable says another port than the flag, which counts more.
  const a = await run(t, `${id}-a`, ["--port", String(port)], { FLUX_PORT: other });
  const b = await run(t, `${id}-b`, ["--config", config]);
  t.match(await check(a.env), { code: 0, said: `healthy: ${id}-a on port ${port}\n` });
  t.match(await check(b.env), { code: 0, said: new RegExp(`^healthy: ${id}-b on port \\d+\n$`) });
  const left = a.file();
  t.ok(left);
  a.child.kill("SIGKILL");
  await a.ended;
  // Any node of this machine that starts from now on takes away what the crash has left.
  t.match(await check(a.env), { code: 1, said: new RegExp(`^not healthy: nothing listens on http://127.0.0.1:${other}/health.*as FLUX_PORT says`) }, "is not believed");
  const c = await run(t, `${id}-c`, ["--port", "0"]);
  t.notOk(left && existsSync(left), "and the next node takes it away");
  for (const { child, ended, file } of [b, c]) {
    const own = file();
    t.ok(own);
    child.kill("SIGTERM");
    await ended;
    t.notOk(own && existsSync(own), "an end leaves nothing");
  }
});

t.test("the image's check asks a node without a second Node, and leaves to Node only what it cannot know", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "flux-health-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  // /dev/shm is everybody's on this machine; in a container it is the node's.
  const alone = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"];
  const inside = (env: Record<string, string> = {}) => checkOfImage(t, { TMPDIR: folder, ...env }, isRealRoot ? alone : []);
  t.match(await inside(), { code: 0, said: /^a second Node: .*health\.js/ }, "nothing is recorded");
  const node = await startNode(t, { reactors: 1 });
  const record = (more: object = {}) => writeListening({ node: `image-${process.pid}`, host: "0.0.0.0", port: node.port, tls: false, ...more }, [folder])!;
  const file = record();
  t.match(await inside(), { code: 0, said: `healthy: image-${process.pid} on port ${node.port}\n` });
  t.match(await inside({ FLUX_PORT: "1" }), { said: /^a second Node/ }, "another node is meant");
  const written = readFileSync(file, "utf8");
  const change = (from: string | RegExp, to: string) => writeFileSync(file, written.replace(from, to));
  change(/"began":"\d+"/, '"began":"1"');
  t.match(await inside(), { said: /^a second Node/ }, "a process of another time");
  for (const [from, to] of [['"tls":false', '"tls":true'], ['"host":"0.0.0.0"', '"host":"::1"']] as const) {
    change(from, to);
    t.match(await inside(), { said: /^a second Node/ }, to);
  }
  const path = join(folder, "flux-gateway-link");
  rmSync(file);
  writeFileSync(join(folder, "elsewhere"), written);
  symlinkSync(join(folder, "elsewhere"), path);
  t.match(await inside(), { said: /^a second Node/ }, "a symbolic link");
  rmSync(path);
  const silent = createServer(() => undefined).listen(0, "127.0.0.1");
  t.teardown(() => silent.close());
  await once(silent, "listening");
  const refusing = createServer((socket) => socket.end("HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nwhy")).listen(0, "127.0.0.1");
  t.teardown(() => refusing.close());
  await once(refusing, "listening");
  const portOf = (server: typeof silent) => (server.address() as AddressInfo).port;
  for (const [port, said] of [[portOf(silent), "did not answer within 2.5 s"], [portOf(refusing), "answered 503: why"], [await freePort(), "nothing listens on"]] as const) {
    writeFileSync(file, written.replace(`"port":${node.port}`, `"port":${port}`));
    t.match(await inside(), { code: 1, said: new RegExp(`^not healthy: .*${said}`) });
  }
});

t.test("only a file that this user wrote, of a process that lives, is believed", async (t) => {
  const into = mkdtempSync(join(tmpdir(), "flux-health-"));
  t.teardown(() => rmSync(into, { recursive: true, force: true }));
  const listening = { node: "a", host: "127.0.0.1", port: 1234, tls: false };
  const file = writeListening(listening, ["/nothing/here", into]) ?? "";
  t.teardown(() => rmSync(file, { force: true }));
  t.match(readListening([into]), [{ ...listening, pid: process.pid }]);
  t.equal(readdirSync(into).length, 1, "nothing half written is left");
  const good = JSON.parse(readFileSync(file, "utf8")) as Recorded;
  t.match(JSON.stringify(good), /^((?!FLUX_).)*$/);
  const path = join(into, "flux-gateway-other");
  const isRefused = (title: string, make: () => void) => {
    make();
    t.equal(readListening([into]).length, 1, title);
    rmSync(path, { force: true });
  };
  const write = (text: string, mode = 0o600) => {
    writeFileSync(path, text);
    chmodSync(path, mode);
  };
  isRefused("a file that others may write to", () => write(JSON.stringify(good), 0o666));
  isRefused("a process of another time", () => write(JSON.stringify({ ...good, began: "1" })));
  isRefused("a process that there is not", () => write(JSON.stringify({ ...good, pid: 2 ** 30 })));
  isRefused("another container's", () => write(JSON.stringify({ ...good, pidSpace: "pid:[1]" })));
  isRefused("no port", () => write(JSON.stringify({ ...good, port: "1234" })));
  for (const text of ["", "null", "{", "[]", `${JSON.stringify(good)}${" ".repeat(5_000)}`]) isRefused(JSON.stringify(text.slice(0, 9)), () => write(text));
  // On the same file system: a hard link cannot leave it.
  const beside = mkdtempSync(join(tmpdir(), "flux-beside-"));
  t.teardown(() => rmSync(beside, { recursive: true, force: true }));
  const elsewhere = join(beside, "flux");
  writeFileSync(elsewhere, JSON.stringify(good), { mode: 0o600 });
  isRefused("a symbolic link", () => symlinkSync(elsewhere, path));
  isRefused("a file of two names", () => linkSync(elsewhere, path));
  if (isRealRoot) {
    isRefused("another user's", () => {
      write(JSON.stringify(good));
      chownSync(path, nobody, nobody);
    });
  }
  write(JSON.stringify(good));
  t.equal(readListening([into]).length, 2, "and it is not for want of a reason");
});

t.test("where neither folder can be written to, it goes by what process 1 was started with", { skip: !isRealRoot && "needs root, for a container of its own" }, async (t) => {
  const port = String(await freePort());
  const config = join(t.testdir({ "flux.json": JSON.stringify({ port: Number(port) }) }), "flux.json");
  const shut = 'mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"';
  // A variable counts less than a flag, and more than a file.
  for (const [title, flags] of [["a flag", ["--port", port]], ["a file", ["--config", config]]] as const) {
    const node = [process.execPath, bin, "start", "--admin-port", "0", "--reactors", "1", "--drain-ms", "0", ...flags];
    const env = { PATH: process.env.PATH ?? "", TMPDIR: "/nothing/here", ...(title === "a flag" && { FLUX_PORT: "1" }) };
    const child = spawn("unshare", ["-pmf", "--kill-child", "--mount-proc", "sh", "-c", shut, "sh", ...node], { env, stdio: "ignore" });
    t.teardown(() => child.kill("SIGKILL"));
    const inside = () => readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim();
    await until(() => inside() !== "", "the container");
    // -r: where the suite runs in a root of its own, the container does too.
    const enter = ["nsenter", "-t", inside(), "-p", "-m", "-r", "--"];
    let last: Checked = { code: 1, said: "" };
    await until(async () => {
      if (child.exitCode !== null) throw new Error("the container ended");
      last = await check(env, enter);
      return last.code === 0;
    }, `${title} to be found`);
    t.match(last.said, `on port ${port}`, title);
    process.kill(Number(inside()), "SIGSTOP");
    t.match(await check(env, enter), { code: 1, said: /^not healthy: .* did not answer within 2500 ms.*by the command line of process 1/ }, "it says why");
    process.kill(Number(inside()), "SIGKILL");
    await new Promise((resolve) => child.once("exit", resolve));
  }
});
