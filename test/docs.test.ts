import { readFileSync } from "node:fs";
import t from "tap";
import { options } from "../src/config/config.ts";
import { closesDoc, configDoc, errorsDoc, replaceBetween, schemaText, updateReadme } from "../src/cli/tables.ts";
import { closes, errors } from "../src/errors.ts";

const lineOf = (doc: string, start: string) => doc.split("\n").find((line) => line.startsWith(start)) ?? "";

t.test("README's tables are those that the code makes (npm run docs writes them)", async (t) => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  t.equal(updateReadme(readme), readme);
});

t.test("the JSON schema of the configuration is the one that the table makes (npm run docs writes it), and knows every option", async (t) => {
  t.equal(readFileSync(new URL("../flux.schema.json", import.meta.url), "utf8"), schemaText());
  const { properties } = JSON.parse(schemaText()) as { properties: Record<string, { description?: string }> };
  t.same(Object.keys(properties), ["$schema", ...options.map(({ key }) => key)]);
  for (const { key } of options) t.ok(properties[key]?.description, key);
});

t.test("every option, close and error is in its table", async (t) => {
  const config = configDoc();
  for (const { key, defaultText } of options) t.ok(lineOf(config, `| \`${key}\` |`).includes(`| ${defaultText} |`), key);
  for (const [name, { code }] of Object.entries(closes)) t.match(lineOf(closesDoc(), `| ${code} |`), `\`${name}\``);
  for (const name of Object.keys(errors)) t.ok(lineOf(errorsDoc(), `| \`${name}\` |`), name);
  t.match(lineOf(closesDoc(), "| 3008"), /\| yes \|/);
  t.match(lineOf(closesDoc(), "| 3501"), /\| no \|/);
});

t.test("a cell never breaks its table", async (t) => {
  const rows = [configDoc(), closesDoc(), errorsDoc()].join("\n").split("\n").filter((line) => line.startsWith("| `"));
  t.ok(rows.length > 30);
  for (const row of rows) t.ok([3, 4].includes(row.replaceAll("\\|", "").split("|").length - 2), row);
});

t.test("only what is between the markers is replaced", async (t) => {
  const text = "a\n<!-- x:start -->\nold\n<!-- x:end -->\nb\n<!-- y:start -->\nkept\n<!-- y:end -->\n";
  const once = replaceBetween(text, "x", "new");
  t.equal(once, "a\n<!-- x:start -->\n\nnew\n\n<!-- x:end -->\nb\n<!-- y:start -->\nkept\n<!-- y:end -->\n");
  t.equal(replaceBetween(once, "x", "new"), once, "a second time changes nothing");
  t.match(replaceBetween(text, "x", "$& $1"), /\$& \$1/, "the body is taken as it is");
});

t.test("missing markers are an error", async (t) => {
  t.throws(() => replaceBetween("text", "x", ""), /markers are missing: <!-- x:start --> before <!-- x:end -->/);
  t.throws(() => replaceBetween("<!-- x:end --> <!-- x:start -->", "x", ""), /markers are missing/);
  t.throws(() => updateReadme("# nothing"), /markers are missing/);
});
