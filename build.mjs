// Builds dist/ from src/ and proto/: protocol code, JavaScript with types, and the browser files. With --if-stale, only
// if a source is newer than the last build: npx prepares a clone again before it runs it.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build } from "esbuild";
import { bundleClient, clientEntries } from "./bundle.mjs";
import { bundleDashboard } from "./bundledashboard.mjs";
import { bundleTypes } from "./bundletypes.mjs";
import { writeFields } from "./fields.mjs";

/** TypeScript 7 takes a fifth of the time of version 6, which tap and one test need for its API. */
const tsc = ["node_modules/typescript-7/bin/tsc", "node_modules/typescript/bin/tsc"].find((path) => existsSync(path));
const run = (command, ...args) => execFileSync(command, args, { stdio: ["ignore", "inherit", "inherit"] });

const sources = ["src", "proto", "package-lock.json", "build.mjs", "bundle.mjs", "bundledashboard.mjs", "bundletypes.mjs", "fields.mjs"].filter((path) => existsSync(path));
const stamp = "dist/.built";
if (process.argv.includes("--if-stale") && existsSync(stamp) && newest(sources) < statSync(stamp).mtimeMs) {
  process.exit(0);
}

const generated = "src/protocol/generated";
// The types take as long as the rest of a build.
if (!existsSync(`${generated}/flux.d.ts`) || newest(["proto", "package-lock.json", "build.mjs"]) > statSync(`${generated}/flux.d.ts`).mtimeMs) {
  mkdirSync(generated, { recursive: true });
  run("node_modules/.bin/pbjs", "-t", "static-module", "-w", "esm", "--dts", "--force-number", "--no-service",
    "--no-delimited", "--no-typeurl", "--no-convert", "--no-create", "--no-verify",
    "--dependency", "protobufjs/minimal.js", "-o", `${generated}/flux.js`, "proto/flux.proto");
}

writeFields();

rmSync("dist", { recursive: true, force: true });
run(tsc, "-p", "tsconfig.build.json");
// Those of the wire's messages need types of other packages, and features of the newest TypeScript.
const types = clientEntries.map((name) => bundleTypes(`dist/client/${name}.d.ts`, name === "index" ? undefined : "dist/client/index.d.ts"));
for (const [i, name] of clientEntries.entries()) writeFileSync(`dist/client/${name}.d.ts`, types[i]);
cpSync(generated, "dist/protocol/generated", { recursive: true });
cpSync("src/demo", "dist/demo", { recursive: true });
// Redis scripts are read from their place (src/redis/scripts.ts). The image's health check is a shell script.
cpSync("src", "dist", { recursive: true, filter: (path) => statSync(path).isDirectory() || /\.(?:lua|sh)$/.test(path) });

await bundleCommand();
await bundleReactor();
await bundleDashboard("dist/browser/dashboard");
await bundleClient({ sourcemap: true, outfile: "dist/browser/flux-client.js" });
compressClient();
chmodSync("dist/cli/main.js", 0o755);
writeFileSync(stamp, "");

/**
 * Bundles the command and the library with their imports: loading hundreds of small files would double the CPU of a
 * start. Shared code, and code loaded only on demand (NATS, Redis), is in dist/chunks. That is as deep as the folders
 * of src, so relative paths stay valid. The packages are included. package.json pins each to one version, so a fix in
 * one of them needs a new version of this package anyway.
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

/** A reactor is one file: each thread loads its modules itself. */
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
    // uWebSockets.js finds its binary next to its own file, and pino the files of its threads. pg is loaded only where
    // PostgreSQL is configured, and looks for optional packages.
    external: ["uWebSockets.js", "pino", "pino-pretty", "pg"],
    sourcemap: true,
    sourcesContent: false,
    logLevel: "warning",
    // For CommonJS dependencies.
    banner: { js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);' },
    ...options,
  });
}

/** Writes what a node serves beside the client's file: compressed ones, and its path and hash (src/reactor/transport/clientfile.ts). */
function compressClient() {
  const file = "dist/browser/flux-client.js";
  const bytes = readFileSync(file);
  const { version } = JSON.parse(readFileSync("package.json", "utf8"));
  writeFileSync(`${file}.gz`, gzipSync(bytes, { level: 9 }));
  writeFileSync(`${file}.br`, brotliCompressSync(bytes));
  const integrity = `sha384-${createHash("sha384").update(bytes).digest("base64")}`;
  const path = `/flux-client-${version}-${createHash("sha256").update(bytes).digest("hex").slice(0, 8)}.js`;
  writeFileSync("dist/browser/flux-client.json", JSON.stringify({ version, path, integrity }));
}

/** Latest modification time of these files and folders. */
function newest(paths) {
  return Math.max(
    ...paths.map((path) => {
      const file = statSync(path);
      // Deleting a file changes the folder's time.
      return file.isDirectory() ? Math.max(file.mtimeMs, newest(readdirSync(path).map((name) => join(path, name)))) : file.mtimeMs;
    }),
  );
}
