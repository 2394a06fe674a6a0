/** Rewrites the tables of README.md in the working directory: `npm run docs`. */
import { readFileSync, writeFileSync } from "node:fs";
import { updateReadme } from "../docs.ts";

const path = "README.md";
const readme = readFileSync(path, "utf8");
const updated = updateReadme(readme);
if (updated === readme) {
  console.log(`${path} is up to date`);
} else {
  writeFileSync(path, updated);
  console.log(`${path} is updated`);
}
