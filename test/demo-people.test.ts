/** The demo page's people: who is in the room, and direct messages between them. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import t from "tap";
import { startBrowser } from "./support/browser.ts";
import { isBack, open, say, textsOf } from "./support/demo.ts";
import { startNode } from "./support/node.ts";

const screenshots = mkdtempSync(join(tmpdir(), "flux-demo-"));
const browser = await startBrowser(t);
const node = await startNode(t, { demo: true, presenceGraceMs: 3000 });

t.test("who is there is listed, comes and goes, and can be written to", async (t) => {
  const [ada, grace] = [await open(browser, node.port, "Ada"), await open(browser, node.port, "Grace")];
  const rooms = (page: Page) => page.evaluate(() => (location.hash = "#chat:people"));
  await Promise.all([rooms(ada.page), rooms(grace.page)]);
  const people = (page: Page) => page.locator("#people-list");
  for (const { page } of [ada, grace]) await page.locator("#people-count", { hasText: /^2$/ }).waitFor();
  await people(ada.page).locator(".person", { hasText: "Ada" }).locator(".tag", { hasText: "you" }).waitFor();
  await say(grace.page, "hello everybody");
  const graceAtAda = people(ada.page).getByRole("button", { name: /Grace/ });
  await graceAtAda.waitFor(); // the name is known once she has said something

  await graceAtAda.click();
  await ada.page.locator("#with-name", { hasText: "Grace" }).waitFor();
  await say(ada.page, "just between us");
  await ada.page.locator("#log .own .text", { hasText: "just between us" }).waitFor();
  await people(grace.page).locator(".badge", { hasText: "1" }).waitFor();
  t.match(await grace.page.title(), /^\(1\) chat:people/);
  t.same(await textsOf(grace.page), ["hello everybody"], "not in the room");
  await grace.page.screenshot({ path: join(screenshots, "unread.png") });

  await grace.page.reload();
  await isBack(grace.page);
  await people(grace.page).locator(".badge", { hasText: "1" }).waitFor();
  await people(grace.page).getByRole("button", { name: /Ada/ }).click();
  await grace.page.locator("#log .text", { hasText: "just between us" }).waitFor();
  t.equal(await people(grace.page).locator(".badge").count(), 0);
  await say(grace.page, "I hear you");
  await ada.page.locator("#log .text", { hasText: "I hear you" }).waitFor();
  await ada.page.locator("#with-status", { hasText: "online" }).waitFor();
  t.same(await textsOf(ada.page), ["just between us", "I hear you"]);
  await ada.page.screenshot({ path: join(screenshots, "direct.png") });
  await ada.page.getByRole("button", { name: /chat:people/ }).click();
  await ada.page.locator("#log .text", { hasText: "hello everybody" }).waitFor();
  t.same(await textsOf(ada.page), ["hello everybody"]);

  await grace.page.evaluate(() => (location.hash = "#chat:elsewhere"));
  await ada.page.locator("#people-count", { hasText: /^1$/ }).waitFor();
  await people(ada.page).locator(".person.gone", { hasText: "Grace" }).waitFor();
  await ada.page.locator("#log .notice", { hasText: "Grace left" }).waitFor();
  t.same([...ada.complaints, ...grace.complaints], []);
});
