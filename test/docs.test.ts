/** What is made from the tables in the code: the reference pages and the JSON schema. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { options } from "../src/config/config.ts";
import { closesDoc, configDoc, errorsDoc, schemaText } from "../src/cli/tables.ts";
import { closes, errors } from "../src/errors.ts";
import { generated } from "../tools/docs/pages.ts";
import { root } from "./support/root.ts";

const lineOf = (doc: string, start: string) => doc.split("\n").find((line) => line.startsWith(start)) ?? "";

t.test("every generated file is what the code makes of it", async (t) => {
  for (const [path, text] of await generated()) {
    t.ok(readFileSync(join(root, path), "utf8") === text, `${path} is stale: run npm run docs`);
  }
});

t.test("the JSON schema knows every option", async (t) => {
  const { properties } = JSON.parse(schemaText()) as { properties: Record<string, { description?: string }> };
  t.same(Object.keys(properties), ["$schema", ...options.map(({ key }) => key)]);
  for (const { key } of options) t.ok(properties[key]?.description, key);
});

t.test("every option, close and error is in its table", async (t) => {
  const config = configDoc();
  for (const { key, defaultText } of options) t.ok(lineOf(config, `| \`${key}\` |`).includes(`| ${defaultText || "none"} |`), key);
  for (const [name, { code }] of Object.entries(closes)) t.match(lineOf(closesDoc(), `| ${code} |`), `\`${name}\``);
  for (const name of Object.keys(errors)) t.ok(lineOf(errorsDoc(), `| \`${name}\` |`), name);
  t.match(lineOf(closesDoc(), "| 3008"), /\| yes \|/);
  t.match(lineOf(closesDoc(), "| 3501"), /\| no \|/);
});

t.test("a cell never breaks its table", async (t) => {
  const rows = [configDoc(), closesDoc(), errorsDoc()].join("\n").split("\n").filter((line) => line.startsWith("| `"));
  t.ok(rows.length > 30);
  for (const row of rows) t.ok([3, 4, 5].includes(row.replaceAll("\\|", "").split("|").length - 2), row);
});

t.test("nothing in the reference pages is without its sentence", async (t) => {
  for (const [path, text] of await generated()) {
    if (!path.endsWith(".md")) continue;
    t.strictSame(text.split("\n").filter((line) => /\|\s+\|/.test(line)), [], path);
  }
});

t.test("every decision has its number, a context and a decision on one screen, and the index lists it", async (t) => {
  const folder = join(root, "docs/decisions");
  const index = readFileSync(join(folder, "README.md"), "utf8");
  const names = readdirSync(folder).filter((name) => name !== "README.md").sort();
  t.ok(names.length > 50);
  names.forEach((name, i) => {
    const number = String(i + 1).padStart(3, "0");
    const text = readFileSync(join(folder, name), "utf8");
    const title = /^# (.*)$/m.exec(text)?.[1] ?? "";
    t.ok(name.startsWith(`${number}-`) && title.startsWith(`${number}. `), name);
    t.ok(index.includes(`- [${title}](${name})`), `${name} in the index`);
    t.match(text, /\n## Context\n\n[^#]+\n## Decision\n\n/, name);
    t.ok(text.split("\n").length <= 50, `${name} fits a screen`);
  });
});
