/**
 * Checks the types of everything, and writes src, test, bench and tools as JavaScript into .test/, where tap runs them. A loader
 * that translates files one by one costs Node 20 two seconds of CPU for every test file. What else lies at the top of
 * the project is linked, so that paths relative to a file mean the same there as here.
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, ".test");
const written = ["src", "test", "bench", "tools"];
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
