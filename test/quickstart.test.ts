/** docs/quickstart.md as a newcomer follows it: its configuration, its page from another origin, two browsers, a kill. */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Page } from "playwright-core";
import t from "tap";
import { freePort } from "../src/node/ports.ts";
import { startBrowser } from "./support/browser.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { root } from "./support/root.ts";
import { until } from "./support/until.ts";

/** The files that the page has one make, by name. */
function filesOf(markdown: string): Map<string, string> {
  const blocks = markdown.matchAll(/^```\w+ file=(\S+)\n(.*?)^```$/gms);
  return new Map([...blocks].map(([, name, text]) => [name!, text!]));
}

t.test("the quickstart's page comes from another origin, and misses nothing when the node is killed", async (t) => {
  const folder = t.testdir();
  const [port, pagePort] = [await freePort(), await freePort()];
  const local = (text: string) => text
    .replaceAll("127.0.0.1:8080", `127.0.0.1:${port}`).replaceAll("127.0.0.1:3000", `127.0.0.1:${pagePort}`)
    .replaceAll("listen(3000,", `listen(${pagePort},`).replaceAll("./data", join(folder, "data"));
  for (const [name, text] of filesOf(readFileSync(join(root, "docs/quickstart.md"), "utf8"))) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), local(text));
  }
  let node: NodeProcess | null = null;
  const start = async () => {
    node = await startNodeProcess(["--demo", "--port", String(port), "--config", join(folder, "flux.json")]);
  };
  t.teardown(() => node?.kill());
  await start();
  writeFileSync(join(folder, "page/flux-client.js"), await (await fetch(`http://127.0.0.1:${port}/flux-client.js`)).text());
  const server = spawn("env", ["-u", "NODE_OPTIONS", process.execPath, "serve.mjs"], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  t.teardown(() => server.kill());
  await until(() => fetch(`http://127.0.0.1:${pagePort}/`).then(({ ok }) => ok, () => false), "the page to be served");

  const browser = await startBrowser(t);
  const open = async (host: string): Promise<Page> => {
    const page = await (await browser.newContext()).newPage();
    await page.goto(`http://${host}:${pagePort}/`);
    return page;
  };
  const lines = (page: Page) => page.locator("#list li").allTextContents();
  const state = (page: Page, wanted: string) => page.locator("#state", { hasText: wanted }).waitFor();
  const have = (page: Page, count: number) => until(async () => (await lines(page)).length === count, `${count} publications`);
  const pages = [await open("127.0.0.1"), await open("127.0.0.1")] as const;
  for (const page of pages) await state(page, "ready");

  for (const page of pages) await page.click("#publish");
  for (const page of pages) await have(page, 2);
  await node!.kill();
  for (const page of pages) await state(page, "waiting");
  for (const page of pages) await page.click("#publish");
  await start();
  for (const page of pages) await have(page, 4);

  const [first, second] = [await lines(pages[0]), await lines(pages[1])];
  t.same(first, second, "both have the same, in one order");
  t.same(first.map((line) => Number(line.split(" ")[0])), [1, 2, 3, 4], "without a gap or a double");

  const stranger = await open("localhost");
  await stranger.locator("#list li", { hasText: "closed for good: 3505 forbidden_origin" }).waitFor();
});
