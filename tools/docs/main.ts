/** Writes what is made from the code: the pages of docs/reference and flux.schema.json (`npm run docs`). */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { generated } from "./pages.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

for (const [path, text] of await generated()) {
  const file = join(root, path);
  const before = existsSync(file) ? readFileSync(file, "utf8") : "";
  mkdirSync(dirname(file), { recursive: true });
  if (text !== before) writeFileSync(file, text);
  console.log(`${path} is ${text === before ? "up to date" : "updated"}`);
}
