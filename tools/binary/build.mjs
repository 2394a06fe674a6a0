/**
 * Makes one executable file of the program (`npm run build:binary`): build/flux-gateway-linux-x64, with the Node that runs this script,
 * uWebSockets.js's binary for it, and everything else that a node needs. stub.cjs says how it starts.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const root = fileURLToPath(new URL("../..", import.meta.url));
const here = fileURLToPath(new URL(".", import.meta.url));
const out = join(root, "build");
const target = join(out, `flux-gateway-${process.platform}-${process.arch}`);
/** As Node's documentation names it, so that postject finds its place. */
const fuse = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2";
/** Packages that dist/ loads from node_modules: see build.mjs. */
const external = ["pino", "pino-pretty", "pg"];

mkdirSync(out, { recursive: true });
const files = collect();
const manifest = [];
let at = 0;
for (const [name, bytes] of files) {
  manifest.push({ name, at, size: bytes.length, hash: createHash("sha256").update(bytes).digest("hex") });
  at += bytes.length;
}
const id = createHash("sha256").update(JSON.stringify(manifest)).digest("hex").slice(0, 24);
writeFileSync(join(out, "manifest"), JSON.stringify({ id, files: manifest }));
writeFileSync(join(out, "archive"), gzipSync(Buffer.concat(files.map(([, bytes]) => bytes))));
writeFileSync(join(out, "sea.json"), JSON.stringify({
  main: join(here, "stub.cjs"), output: join(out, "blob"), disableExperimentalSEAWarning: true,
  assets: { manifest: join(out, "manifest"), archive: join(out, "archive") },
}));
execFileSync(process.execPath, ["--experimental-sea-config", join(out, "sea.json")], { stdio: ["ignore", "ignore", "inherit"] });
copyFileSync(process.execPath, target);
// Only half of Node's size is code: the rest is symbols, where Node's packager left them in.
execFileSync(process.execPath, [join(root, "node_modules/postject/dist/cli.js"), target, "NODE_SEA_BLOB", join(out, "blob"), "--sentinel-fuse", fuse], { stdio: ["ignore", "ignore", "inherit"] });
console.log(`${target}: ${(statSync(target).size / 2 ** 20).toFixed(1)} MiB, with Node ${process.versions.node} and ${files.length} files of ${(at / 2 ** 20).toFixed(1)} MiB`);

/** Name and content of every file, in an order that is the same each time. */
function collect() {
  const found = new Map();
  const add = (name, path = join(root, name)) => found.set(name, readFileSync(path));
  add("boot.cjs", join(here, "boot.cjs"));
  for (const name of ["package.json", "proto/flux.proto", "dist/cli/main.js", "dist/cli/health.js", "dist/index.js", "dist/reactor/main.js"]) add(name);
  for (const folder of ["dist/chunks", "dist/browser", "dist/demo"]) for (const name of below(folder)) if (!name.endsWith(".map")) add(name);
  for (const name of below("dist")) if (name.endsWith(".lua")) add(name);
  for (const name of packages(external)) {
    for (const file of below(join("node_modules", name))) if (!/\.(?:md|map|ts|mts|cts|yml|yaml)$|\/(?:test|tests|docs|benchmarks|examples)\//.test(file) || /package\.json$/.test(file)) add(file);
  }
  const uws = "node_modules/uWebSockets.js";
  const binary = `${uws}/uws_${process.platform}_${process.arch}_${process.versions.modules}.node`;
  if (!existsSync(join(root, binary))) throw new Error(`uWebSockets.js has no ${binary}: it does not run on Node ${process.versions.node} here`);
  for (const file of [binary, ...["package.json", "uws.js", "ESM_wrapper.mjs"].map((name) => `${uws}/${name}`)]) add(file);
  return [...found].sort(([one], [other]) => (one < other ? -1 : 1));
}

function below(folder) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(root.length));
}

/** These packages and all that they depend on. Optional ones only where they are installed. */
function packages(names) {
  const all = new Set();
  const visit = (name) => {
    if (all.has(name)) return;
    const file = join(root, "node_modules", name, "package.json");
    if (!existsSync(file)) return;
    all.add(name);
    const { dependencies = {}, optionalDependencies = {}, peerDependencies = {} } = JSON.parse(readFileSync(file, "utf8"));
    for (const other of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })) visit(other);
  };
  names.forEach(visit);
  return all;
}
