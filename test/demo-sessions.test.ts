/** The demo page over what ends sockets: a reload, another page, a node that is killed. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import t from "tap";
import { startBrowser } from "./support/browser.ts";
import { isBack, open, say, textsOf } from "./support/demo.ts";
import { startNode } from "./support/node.ts";
import { startNodeProcess, type NodeProcess } from "./support/nodeprocess.ts";
import { isReady, startClient } from "./support/sdk.ts";
import { until } from "./support/until.ts";

const screenshots = mkdtempSync(join(tmpdir(), "flux-demo-"));
const browser = await startBrowser(t);
const node = await startNode(t, { demo: true });

const textOf = (page: Page, id: string) => page.locator(`#${id}`).textContent();

t.test("a reload keeps user, session and conversation, and what was said meanwhile is there", async (t) => {
  const room = startClient(t, node.url).join("chat:lobby");
  const { page, complaints } = await open(browser, node.port, "Ada");
  await say(page, "before");
  await page.locator("#log .text", { hasText: "before" }).waitFor();
  for (let n = 1; n <= 4; n++) await room.publish({ text: `early ${n}`, name: "Grace" });
  await page.locator("#log .text", { hasText: "early 4" }).waitFor();
  const [user, session] = [await textOf(page, "user"), await textOf(page, "session-id")];
  t.equal(await textOf(page, "session-kind"), "new");

  await page.reload();
  await isBack(page);
  await page.locator("#log .text", { hasText: "early 4" }).waitFor();
  t.same([await textOf(page, "user"), await textOf(page, "session-id"), await textOf(page, "session-kind")], [user, session, "resumed"]);
  t.same(await textsOf(page), ["before", "early 1", "early 2", "early 3", "early 4"]);

  await page.route("**/elsewhere", (route) => route.fulfill({ contentType: "text/html", body: '<link rel="icon" href="data:,">' }));
  await page.goto(`http://127.0.0.1:${node.port}/elsewhere`);
  for (let n = 1; n <= 70; n++) await room.publish({ text: `missed ${n}`, name: "Grace" });
  await page.goto(`http://127.0.0.1:${node.port}/`);
  await page.locator("#log .notice.recovered", { hasText: "70 missed messages recovered" }).waitFor();
  t.same(await textsOf(page), ["before", ...numbered("early", 4), ...numbered("missed", 70)], "more than the page asks for of history");
  t.equal(await textOf(page, "session-id"), session);
  t.same(await page.locator("#log .own .text").allTextContents(), ["before"], "still one's own");
  t.same(complaints, []);
});

function numbered(word: string, last: number): string[] {
  return Array.from({ length: last }, (_, i) => `${word} ${i + 1}`);
}

t.test("a node that is killed and started again has lost nothing, and the pages are back by themselves", async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), "flux-demo-data-"));
  const nodes: NodeProcess[] = [];
  t.teardown(async () => {
    for (const each of nodes) await each.stop();
    rmSync(dataDir, { recursive: true, force: true });
  });
  const start = async (port: number) => {
    const started = await startNodeProcess(["--demo", "--data-dir", dataDir, "--port", String(port)]);
    nodes.push(started);
    return started;
  };
  const first = await start(0);
  const { port } = first;
  const [ada, grace] = [await open(browser, port, "Ada"), await open(browser, port, "Grace")];
  await say(ada.page, "before the crash");
  await say(grace.page, "still before");
  for (const { page } of [ada, grace]) await page.locator("#log .text").nth(1).waitFor();
  const [user, session] = [await textOf(ada.page, "user"), await textOf(ada.page, "session-id")];
  const said = await textsOf(ada.page);
  const other = startClient(t, `ws://127.0.0.1:${port}/ws`);
  await other.send(user!, { text: "between us", name: "Edith" });
  const unread = ada.page.locator("#people-list .badge", { hasText: /^1\b/ });
  await unread.waitFor();

  process.kill(first.pid, "SIGKILL");
  await ada.page.locator("#state-text", { hasText: /reconnecting|connecting/ }).waitFor();
  await ada.page.screenshot({ path: join(screenshots, "killed.png") });
  await say(ada.page, "written while it was gone");
  await until(() => first.ended !== undefined, "the node to be gone");
  await start(port);
  await isReady(other);
  const room = other.join("chat:lobby");
  for (let n = 1; n <= 20; n++) await room.publish({ text: `after the restart ${n}`, name: "Edith" });

  for (const { page } of [ada, grace]) {
    await isBack(page);
    await page.locator("#log .text", { hasText: "after the restart 20" }).waitFor();
    await page.locator("#log .text", { hasText: "written while it was gone" }).waitFor();
    const notices = await page.locator("#log .notice.gap").allTextContents();
    // A slow machine may have had something else to say, such as an answer that was late.
    t.comment(notices.join("; "));
    t.same(notices.filter((text) => /lost/.test(text)), []);
  }
  const texts = await textsOf(ada.page);
  t.same(texts.slice(0, 2), said);
  t.same(texts.filter((text) => text.startsWith("after")), numbered("after the restart", 20), "in order, once");
  t.same(texts, await textsOf(grace.page), "the same for both");
  t.equal(texts.length, 23);
  t.same([await textOf(ada.page, "user"), await textOf(ada.page, "session-id"), await textOf(ada.page, "session-kind")], [user, session, "resumed"]);
  t.equal(await unread.count(), 1, "nor is a direct message given to it twice");
  await ada.page.screenshot({ path: join(screenshots, "restarted.png") });

  await ada.page.reload();
  await isBack(ada.page);
  await ada.page.locator("#log .text").nth(22).waitFor();
  t.same(await textsOf(ada.page), texts);
  await unread.waitFor();
  await ada.page.locator("#people-list").getByRole("button", { name: /Edith/ }).click();
  await ada.page.locator("#with-name", { hasText: "Edith" }).waitFor();
  t.same(await textsOf(ada.page), ["between us"], "a direct message that was not read is there, once");
  t.comment(screenshots);
});
