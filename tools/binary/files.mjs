/**
 * The files that a node needs to run: no types, no source maps, no documentation, and the one uWebSockets.js binary for the Node that runs this.
 * The single executable file carries them, and the image has them.
 */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
/** Packages that dist/ loads from node_modules: see build.mjs. */
const external = ["pino", "pino-pretty", "pg"];
const own = ["package.json", "proto/flux.proto", "dist/cli/main.js", "dist/cli/health.js", "dist/cli/health.sh", "dist/index.js", "dist/reactor/main.js"];
const unused = /\.(?:md|map|ts|mts|cts|yml|yaml)$|\/(?:test|tests|docs|benchmarks|examples)\//;

/** @returns the path, relative to the project, and the content of each file, in an order that is the same each time */
export function collect() {
  const found = new Map();
  const add = (name) => found.set(name, readFileSync(join(root, name)));
  own.forEach(add);
  for (const folder of ["dist/chunks", "dist/browser", "dist/demo"]) for (const name of below(folder)) if (!name.endsWith(".map")) add(name);
  for (const name of below("dist")) if (name.endsWith(".lua")) add(name);
  for (const name of packages(external)) {
    for (const file of below(join("node_modules", name))) if (!unused.test(file) || file.endsWith("package.json")) add(file);
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
