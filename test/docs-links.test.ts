/** Links of README, docs/, the map and deploy/ lead somewhere, and files that pages name exist. Nothing is fetched. */
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, posix, relative } from "node:path";
import t from "tap";
import { anchorsOf, linksOf, pageOf, readPages, slugOf, type Page } from "./support/pages.ts";
import { root } from "./support/root.ts";

const pages = readPages();
const byPath = new Map(pages.map((page) => [page.path, page]));

/** A path below the root; a star in its last part stands for anything. */
function exists(path: string): boolean {
  if (!path.includes("*")) return existsSync(join(root, path));
  const name = new RegExp(`^${posix.basename(path).replace(/[.+]/g, "\\$&").replaceAll("*", ".*")}$`);
  const folder = join(root, posix.dirname(path));
  return existsSync(folder) && readdirSync(folder).some((one) => name.test(one));
}

/** What is wrong with the links of a page. */
function broken(page: Page): string[] {
  return linksOf(page).flatMap(({ target, line }) => {
    if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return [];
    const [path = "", anchor] = target.split("#");
    const to = path === "" ? page.path : relative(root, join(root, dirname(page.path), path));
    const where = `${page.path}:${line}: ${target}`;
    if (to.startsWith("..") || !(byPath.has(to) || existsSync(join(root, to)))) return [`${where}: there is no ${to}`];
    if (anchor === undefined) return [];
    const linked = byPath.get(to);
    if (linked === undefined) return [`${where}: only pages of the documentation have anchors`];
    return anchorsOf(linked).has(anchor) ? [] : [`${where}: ${to} has no heading for it`];
  });
}

t.test("every relative link leads to a file, and every anchor to a heading", async (t) => {
  t.ok(pages.length > 5);
  t.ok(pages.flatMap(linksOf).length > 50, "links were found");
  t.strictSame(pages.flatMap(broken), []);
});

t.test("every page of docs/ is linked from another", async (t) => {
  const linked = new Set(pages.flatMap((page) => linksOf(page).map(({ target }) => {
    const to = posix.join(posix.dirname(page.path), target.split("#")[0] ?? "");
    const index = posix.join(to, "README.md");
    return to === page.path ? "" : byPath.has(index) ? index : to;
  })));
  t.strictSame(pages.map(({ path }) => path).filter((path) => path.startsWith("docs/") && !linked.has(path)), []);
});

t.test("files that a page names in code spans exist", async (t) => {
  const folders = /^(?:test|src|bench|deploy|proto|docs|tools)\/[\w./*-]+$/;
  const missing = pages.filter(({ path }) => path !== "CHANGELOG.md").flatMap(({ path, prose }) =>
    [...prose.matchAll(/`([^`\n]+)`/g)].map(([, span = ""]) => span).filter((span) => folders.test(span) && !exists(span)).map((span) => `${path}: ${span}`),
  );
  t.strictSame(missing, []);
});

t.test("the check sees a link that leads nowhere, and none in code", async (t) => {
  const page = pageOf("docs/x.md", "# A b, `c`!\n[1](none.md) [2](#nowhere) [3](#a-b-c) [4](../README.md) `[5](no.md)`\n```text\n[6](no.md)\n```\n[7](https://example.com/no)");
  t.equal(slugOf("A b, `c`!"), "a-b-c");
  byPath.set(page.path, page);
  t.strictSame(broken(page).map((text) => text.split(": ")[1]), ["none.md", "#nowhere"]);
  byPath.delete(page.path);
  t.throws(() => pageOf("y.md", "```sh\nnever"), /does not end/);
});
