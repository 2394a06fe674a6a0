/** The steps of the Dockerfile, done in empty folders, and what they make started as the image would start it. */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import t from "tap";
import { freePort } from "../../src/node/ports.ts";
import { readDockerfile, words, type Stage } from "../support/dockerfile.ts";
import { root } from "../support/root.ts";
import { open } from "../support/session.ts";
import { until } from "../support/until.ts";
import { isRealRoot, nobody } from "../support/user.ts";

const [build, image] = readDockerfile(readFileSync(join(root, "Dockerfile"), "utf8")) as [Stage, Stage];

/** Does what a stage says in a folder of its own; `instead` replaces commands that would only repeat what has been done. */
function make(stage: Stage, folder: string, made: ReadonlyMap<string, string>, instead: (command: string) => (() => void) | null): void {
  const app = join(folder, "app");
  mkdirSync(app, { recursive: true });
  for (const step of stage.steps) {
    if (step.kind === "copy") {
      for (const source of step.sources) {
        const from = step.from === null ? join(root, source) : join(made.get(step.from)!, source);
        // A folder's content is copied, not the folder.
        const target = step.target === "./" && !statSync(from).isDirectory() ? basename(source) : step.target;
        cpSync(from, join(app, target), { recursive: true, filter: (path) => step.from !== null || !path.endsWith("protocol/generated") });
      }
      continue;
    }
    const other = instead(step.command);
    if (other !== null) {
      other();
      continue;
    }
    const env = { ...process.env, npm_config_prefer_offline: "true", npm_config_audit: "false", npm_config_fund: "false", npm_config_update_notifier: "false" };
    const { status, stderr } = spawnSync("/bin/sh", ["-c", step.command], { cwd: app, env, encoding: "utf8" });
    if (status !== 0) throw new Error(`${step.command}: ended with ${status}: ${stderr}`);
  }
}

t.test("the steps of the Dockerfile make a node that starts, says that it lives, serves, and drains to an end", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "flux-image-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const made = new Map([[build.name, join(folder, build.name)]]);
  // The packages of a build are those this test runs with.
  make(build, made.get("build")!, made, (command) => (command.startsWith("npm ci") ? () => symlinkSync(join(root, "node_modules"), join(made.get("build")!, "app/node_modules")) : null));
  const final = join(folder, "image");
  make(image, final, made, (command) => (command.startsWith("mkdir /data") ? () => undefined : null));
  const app = join(final, "app");

  const binaries = readdirSync(join(app, "node_modules/uWebSockets.js")).filter((name) => name.endsWith(".node"));
  t.same(binaries, [`uws_linux_${process.arch}_${process.versions.modules}.node`], "one binary");
  for (const unused of ["tap", "typescript", "esbuild", "yaml", "zod"]) t.notOk(existsSync(join(app, "node_modules", unused)), `without ${unused}`);
  const names = readdirSync(app, { recursive: true }) as string[];
  t.same(names.filter((name) => /\.(?:map|md|d\.ts)$/.test(name)), [], "no source maps, types or documentation");

  chmodSync(folder, 0o755);
  const port = String(await freePort());
  const env = { PATH: process.env.PATH ?? "", NODE_ENV: "production", FLUX_PORT: port, FLUX_ADMIN_PORT: "0", FLUX_ALLOW_ANONYMOUS: "true", FLUX_DRAIN_MS: "300ms" };
  // Nothing of this test's own environment, which tap adds to.
  const clean = ["-i", ...Object.entries(env).map(([name, value]) => `${name}=${value}`)];
  // As the image would: as a user who has no rights, where this one has.
  const user = isRealRoot ? { uid: nobody, gid: nobody } : {};
  const [entry = "", ...more] = [...words(image.settings.get("ENTRYPOINT")), ...words(image.settings.get("CMD"))];
  const node = spawn("env", [...clean, entry, ...more], { cwd: app, stdio: ["ignore", "pipe", "pipe"], ...user });
  t.teardown(() => node.kill("SIGKILL"));
  let said = "";
  for (const stream of [node.stdout, node.stderr]) stream.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const ended = new Promise<number | null>((done) => node.once("exit", (code) => done(code)));
  const isHealthy = () => {
    const [command = "", ...args] = words(/CMD (\[.*\])$/.exec(image.settings.get("HEALTHCHECK") ?? "")?.[1]);
    return spawnSync("env", [...clean, command, ...args], { cwd: app }).status === 0;
  };
  t.equal(isHealthy(), false, "nothing is there yet");
  await until(() => {
    if (node.exitCode !== null) throw new Error(said);
    return isHealthy();
  }, "the node to be healthy");
  t.match(readFileSync(`/proc/${node.pid}/cmdline`, "utf8").replaceAll("\0", " "), /^node .*dist\/cli\/main\.js start $/, "the process that gets signals is the node");

  const session = await open({ port: Number(port) });
  await session.join("chat:a");
  await session.publish("chat:a", '"hello"');
  node.kill("SIGTERM");
  t.match(await session.closed(), { code: 3001 });
  t.equal(await ended, 0, said);
  t.equal(isHealthy(), false);
});
