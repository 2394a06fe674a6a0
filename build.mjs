// Builds dist/ from src/ and proto/: protocol code, JavaScript with types, and what browsers load.
// With --if-stale only where a source is newer than the last build: npx prepares a clone again before it runs it.
import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { bundleClient } from "./bundle.mjs";

const bin = (name) => `node_modules/.bin/${name}`;
const run = (command, ...args) => execFileSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });

const stamp = "dist/.built";
if (process.argv.includes("--if-stale") && existsSync(stamp) && newest(["src", "proto", "build.mjs", "bundle.mjs"]) < statSync(stamp).mtimeMs) {
  process.exit(0);
}

mkdirSync("src/protocol/generated", { recursive: true });
run(bin("pbjs"), "-t", "static-module", "-w", "esm", "--dts", "--force-number", "--no-service",
  "--no-delimited", "--no-typeurl", "--no-convert", "--no-create", "--no-verify",
  "--dependency", "protobufjs/minimal.js", "-o", "src/protocol/generated/flux.js", "proto/flux.proto");

rmSync("dist", { recursive: true, force: true });
run(bin("tsc"), "-p", "tsconfig.build.json");
cpSync("src/protocol/generated", "dist/protocol/generated", { recursive: true });
cpSync("src/demo", "dist/demo", { recursive: true });
chmodSync("dist/cli/main.js", 0o755);

await bundleReactor();
await bundleClient({ sourcemap: true, outfile: "dist/browser/flux-client.js" });
writeFileSync(stamp, "");

/**
 * A reactor is one file, with what it imports: a thread loads its modules anew, and a hundred files take it as much CPU
 * as all the rest of its start. uWebSockets.js finds its binary beside its own file, so it stays where it is.
 */
async function bundleReactor() {
  const file = "dist/reactor/main.js";
  await build({
    entryPoints: [file],
    outfile: file,
    allowOverwrite: true,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    external: ["uWebSockets.js"],
    sourcemap: true,
    logLevel: "warning",
    // For the parts that are CommonJS.
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
  });
}

/** When the latest of these files, and files in these folders, was written. */
function newest(paths) {
  return Math.max(
    ...paths.map((path) => {
      const { mtimeMs } = statSync(path);
      return statSync(path).isDirectory() ? newest(readdirSync(path).map((name) => join(path, name))) : mtimeMs;
    }),
  );
}
