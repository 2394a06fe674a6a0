/** Rewrites what is made from the tables in the code: README.md and flux.schema.json in the working directory (`npm run docs`). */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { schemaText, updateReadme } from "./tables.ts";

update("README.md", updateReadme);
update("flux.schema.json", schemaText);

function update(path: string, make: (before: string) => string): void {
  const before = existsSync(path) ? readFileSync(path, "utf8") : "";
  const after = make(before);
  if (after !== before) writeFileSync(path, after);
  console.log(`${path} is ${after === before ? "up to date" : "updated"}`);
}
