/**
 * Checks the types of everything, and writes src, test, bench and tools as JavaScript into .test/, where run.mjs runs them. A loader
 * that translates files one by one costs Node 20 two seconds of CPU for every test file. What else lies at the top of
 * the project is linked, so that paths relative to a file mean the same there as here.
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, ".test");
const written = ["src", "test", "bench", "tools"];
/** For what was CommonJS. */
const banner = { js: 'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);' };
const ours = new Set([...written, "node_modules", ".git", ".tap", ".test"]);

rmSync(out, { recursive: true, force: true });
mkdirSync(out);
for (const name of readdirSync(root)) if (!ours.has(name)) symlinkSync(join("..", name), join(out, name));
const tsc = ["typescript-7", "typescript"].map((name) => join(root, "node_modules", name, "bin/tsc")).find((path) => existsSync(path));
execFileSync(tsc, ["-p", join(root, "tsconfig.test.json")], { stdio: "inherit" });
// What is no TypeScript: threads of tests, generated code, pages of the demo.
for (const name of written) {
  cpSync(join(root, name), join(out, name), { recursive: true, filter: (path) => !/\.ts$/.test(path) || /\.d\.ts$/.test(path) });
}

await bundleTap();
await bundleTests();

/** tap is 260 files. Where packages are, its own lines are left out of the stacks of failed checks. */
async function bundleTap() {
  const folder = join(out, "node_modules/tap");
  await build({
    stdin: { contents: 'export { default, t } from "tap";', resolveDir: root },
    outfile: join(folder, "index.js"),
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    // Loaded where elements of React are compared.
    external: ["react-element-to-jsx-string"],
    alias: { "async-hook-domain": join(root, "test/support/domain.mjs") },
    logLevel: "error",
    banner,
  });
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "tap", type: "module", exports: "./index.js" }));
}

/**
 * Joins the small files that tests load, with the packages of many files: each test file is a program, and loading some
 * hundred files takes it as long as many a test. The parts that several of them load are loaded from `chunks`, and the
 * built node from where it is.
 */
async function bundleTests() {
  const folder = join(out, "test");
  const joined = ["commander", "ioredis", "jose", "lru-cache", "nats", "p-limit", "prom-client", "protobufjs", "undici", "zod"];
  const isJoined = (name) => joined.some((known) => name === known || name.startsWith(`${known}/`));
  const dist = join(root, "dist");
  await build({
    entryPoints: ["", "long/"].flatMap((part) => readdirSync(join(folder, part)).filter((name) => name.endsWith(".test.js")).map((name) => join(folder, part, name))),
    outdir: folder,
    allowOverwrite: true,
    bundle: true,
    splitting: true,
    chunkNames: "chunks/[name]-[hash]",
    platform: "node",
    format: "esm",
    target: "node20",
    sourcemap: true,
    sourcesContent: false,
    logLevel: "error",
    banner,
    plugins: [{
      name: "tests",
      setup({ onResolve, onLoad }) {
        onResolve({ filter: /^[@a-z]/i }, ({ path, importer }) => (importer.includes("/node_modules/") || isJoined(path) ? undefined : { path, external: true }));
        onResolve({ filter: /\/dist\// }, ({ path }) => ({ path: join(dist, path.replace(/^.*\/dist\//, "")), external: true }));
        // A path relative to a file stays relative to where tsc has put that file.
        onLoad({ filter: /\/\.test\/(?:src|test|bench|tools)\/.*\.js$/ }, ({ path }) => {
          const text = readFileSync(path, "utf8");
          return text.includes("import.meta.url") ? { contents: text.replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href)) } : undefined;
        });
      },
    }],
  });
}
