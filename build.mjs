// Builds dist/ from src/ and proto/: protocol code, JavaScript with types, and what browsers load.
// With --if-stale only where a source is newer than the last build: npx prepares a clone again before it runs it.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { bundleClient } from "./bundle.mjs";

/** TypeScript 7 takes a fifth of the time of 6, which tap and a test need for its interface. */
const tsc = ["node_modules/typescript-7/bin/tsc", "node_modules/typescript/bin/tsc"].find((path) => existsSync(path));
const run = (command, ...args) => execFileSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });

const sources = ["src", "proto", "package-lock.json", "build.mjs", "bundle.mjs"].filter((path) => existsSync(path));
const stamp = "dist/.built";
if (process.argv.includes("--if-stale") && existsSync(stamp) && newest(sources) < statSync(stamp).mtimeMs) {
  process.exit(0);
}

const generated = "src/protocol/generated";
// Its types take as long as all the rest of a build.
if (!existsSync(`${generated}/flux.d.ts`) || newest(["proto", "package-lock.json", "build.mjs"]) > statSync(`${generated}/flux.d.ts`).mtimeMs) {
  mkdirSync(generated, { recursive: true });
  run("node_modules/.bin/pbjs", "-t", "static-module", "-w", "esm", "--dts", "--force-number", "--no-service",
    "--no-delimited", "--no-typeurl", "--no-convert", "--no-create", "--no-verify",
    "--dependency", "protobufjs/minimal.js", "-o", `${generated}/flux.js`, "proto/flux.proto");
}

rmSync("dist", { recursive: true, force: true });
run(tsc, "-p", "tsconfig.build.json");
cpSync(generated, "dist/protocol/generated", { recursive: true });
cpSync("src/demo", "dist/demo", { recursive: true });
// Scripts for Redis, which are read where they are (src/redis/scripts.ts).
cpSync("src", "dist", { recursive: true, filter: (path) => statSync(path).isDirectory() || path.endsWith(".lua") });

await bundleCommand();
await bundleReactor();
await bundleClient({ sourcemap: true, outfile: "dist/browser/flux-client.js" });
chmodSync("dist/cli/main.js", 0o755);
writeFileSync(stamp, "");

/**
 * The command and the library, with what they import: hundreds of small files take a start as much CPU as all the rest
 * of it. What they share, and what is loaded only where it is needed (NATS, Redis), lies in dist/chunks, as deep as the
 * folders of src, so that paths relative to a file stay right. The packages are in it: package.json pins each to one
 * version, so a fix of theirs needs a new version of this one, bundled or not.
 */
async function bundleCommand() {
  await bundleNode({
    entryPoints: ["dist/index.js", "dist/cli/main.js", "dist/cli/health.js"],
    outdir: "dist",
    outbase: "dist",
    splitting: true,
    chunkNames: "chunks/[name]-[hash]",
  });
}

/** A reactor is one file: a thread loads its modules anew. */
async function bundleReactor() {
  await bundleNode({ entryPoints: ["dist/reactor/main.js"], outfile: "dist/reactor/main.js" });
}

function bundleNode(options) {
  return build({
    allowOverwrite: true,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    // uWebSockets.js finds its binary beside its own file, and pino the files that its threads run.
    external: ["uWebSockets.js", "pino", "pino-pretty"],
    sourcemap: true,
    sourcesContent: false,
    logLevel: "warning",
    // For the parts that are CommonJS.
    banner: { js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);' },
    ...options,
  });
}

/** When the latest of these files and folders was written. */
function newest(paths) {
  return Math.max(
    ...paths.map((path) => {
      const file = statSync(path);
      // A folder is newer than what was taken out of it.
      return file.isDirectory() ? Math.max(file.mtimeMs, newest(readdirSync(path).map((name) => join(path, name)))) : file.mtimeMs;
    }),
  );
}
