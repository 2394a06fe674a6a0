/** Writes the files that a node needs into a folder, for the image: node tools/binary/folder.mjs FOLDER */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { collect } from "./files.mjs";

const [, , folder] = process.argv;
if (folder === undefined) throw new Error("usage: node tools/binary/folder.mjs FOLDER");
for (const [name, bytes] of collect()) {
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, bytes);
}
