/** The demo page in a real browser: two pages that talk, lose the node, and find back. */
import { mkdtempSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { startBrowser } from "./support/browser.ts";
import { arrive, open, say, textsOf } from "./support/demo.ts";
import { startNode } from "./support/node.ts";
import { startProxy } from "./support/proxy.ts";
import { isReady, startClient } from "./support/sdk.ts";
import { secret, token } from "./support/tokens.ts";

/** Chromium itself reports every attempt that was refused. */
const isOfRefusal = (complaint: string) => /WebSocket connection to .* failed|connection-url|net::ERR_/.test(complaint);
const screenshots = mkdtempSync(join(tmpdir(), "flux-demo-"));
const browser = await startBrowser(t);
t.test("two pages talk: names, own messages, order, latency, who and where", async (t) => {
  const node = await startNode(t, { reactors: 1, demo: true });
  const ada = await open(browser, node.port, "Ada");
  const grace = await open(browser, node.port, "Grace");
  await ada.page.locator("#log .notice", { hasText: /^Grace came in$/ }).waitFor(); // by the name that she chose
  await grace.page.locator("#people-list .who", { hasText: "Ada" }).waitFor();
  const conversation = ["Good morning", "Hello Ada", "Did it hold?", "It did."];
  for (const [i, text] of conversation.entries()) {
    await say([ada, grace][i % 2]!.page, text);
    for (const { page } of [ada, grace]) await page.locator("#log .text", { hasText: text }).waitFor();
  }
  for (const { page } of [ada, grace]) t.same(await textsOf(page), conversation);
  t.same(await ada.page.locator("#log .who").allTextContents(), ["Ada", "Grace", "Ada", "Grace"]);
  t.same(await ada.page.locator("#log .own .text").allTextContents(), ["Good morning", "Did it hold?"]);
  t.same(await grace.page.locator("#log .own .text").allTextContents(), ["Hello Ada", "It did."]);
  t.match(await ada.page.locator("#user").textContent(), /^anon-/);
  t.equal(await ada.page.locator("#node").textContent(), node.config.nodeId);
  t.match(await ada.page.locator("#position").textContent(), /^4 of ./);
  await ada.page.locator("#latency", { hasText: /^\d/ }).waitFor();
  t.match(await ada.page.locator("#spark .line").getAttribute("d"), /^M/);
  t.equal(await ada.page.locator("#received").textContent(), "4");
  await ada.page.screenshot({ path: join(screenshots, "light.png") });
  t.ok(statSync(join(screenshots, "light.png")).size > 10_000, screenshots);
  t.same([...ada.complaints, ...grace.complaints], []);
});

t.test("a node with a key: the page says how to make a token, and takes one from its address, which then shows none", async (t) => {
  const node = await startNode(t, { reactors: 1, demo: true, authSecret: secret });
  const { page, complaints } = await arrive(browser, node.port, "Ada");
  const requests: string[] = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("websocket", (socket) => requests.push(socket.url()));
  const note = page.getByRole("alert");
  await note.getByText("This node requires a token").waitFor();
  t.match(await note.textContent(), new RegExp(`npx flux-gateway token --sub ann .* http://127.0.0.1:${node.port}/#token=…`, "s"));
  await page.screenshot({ path: join(screenshots, "no-token.png") });

  const seconds = Math.floor(Date.now() / 1000);
  const [good, foreign, old] = [
    await token({ sub: "ann" }, secret),
    await token({ sub: "ann" }, "a secret that nobody has given it"),
    await token({ sub: "ann", exp: seconds - 5 }, secret),
  ];
  for (const [bad, title] of [[foreign, "The node rejected this token"], [old, "Your token has expired"]] as const) {
    await page.goto(`http://127.0.0.1:${node.port}/#token=${bad}`);
    await note.getByText(title).waitFor();
  }
  await page.goto(`http://127.0.0.1:${node.port}/#token=${good}`);
  await page.locator('#state[data-state="ready"]').waitFor();
  t.equal(await page.locator("#user").textContent(), "ann");
  t.notOk(await note.isVisible());
  t.match(page.url(), /\/#chat:lobby$/);
  await say(page, "with a token");
  await page.locator("#log .text", { hasText: "with a token" }).waitFor();
  await page.screenshot({ path: join(screenshots, "token.png") });
  await page.route("**/elsewhere", (route) => route.fulfill({ contentType: "text/html", body: '<link rel="icon" href="data:,">' }));
  await page.goto(`http://127.0.0.1:${node.port}/elsewhere`);
  await page.goto(`http://127.0.0.1:${node.port}/#token=${good}`);
  await page.locator("#session-kind", { hasText: "resumed" }).waitFor();
  t.equal(page.url(), `http://127.0.0.1:${node.port}/`, "the same when it is opened with one");
  await page.reload();
  await page.locator("#session-kind", { hasText: "resumed" }).waitFor();
  t.ok(requests.length > 2 && requests.every((url) => !url.includes(good.slice(0, 20))), "no address that was asked for has it");
  t.same(complaints.filter((complaint) => !/connection-url.*ERR_ABORTED/.test(complaint)), [], "but a question under way when the page was left");
});

t.test("what people write is text, whatever it looks like", async (t) => {
  const node = await startNode(t, { reactors: 1, demo: true });
  const { page, complaints } = await open(browser, node.port, "<b>Mallory</b>");
  const attempts = ['<img src=x onerror="alert(1)">', "<script>alert(2)</script>", "</li></ol><h1>mine</h1>", "&lt;b&gt; &amp; \u202e"];
  for (const text of attempts) {
    await say(page, text);
    await page.locator("#log .text", { hasText: text }).waitFor();
  }
  t.same(await textsOf(page), attempts);
  t.same(await page.locator("#log .who").allTextContents(), ["<b>Mallory</b>"]);
  t.equal(await page.locator("#log :is(img, script, h1, b)").count(), 0);
  const response = await page.request.get(`http://127.0.0.1:${node.port}/`);
  t.match(response.headers()["content-security-policy"], /default-src 'self'/);
  t.same(complaints, []);
});

t.test("rooms hold anything: other applications' data is shown as what it is", async (t) => {
  const node = await startNode(t, { reactors: 1, demo: true });
  const client = startClient(t, node.url);
  await isReady(client);
  const room = client.join("chat:lobby");
  for (const data of [null, 17, ["<i>"], { name: {}, text: 3 }, Uint8Array.of(1, 2, 3)]) await room.publish(data);
  const { page, complaints } = await open(browser, node.port, "Ada");
  await page.locator("#log .text", { hasText: "3 bytes" }).waitFor();
  t.same(await textsOf(page), ["null", "17", '["<i>"]', '{"name":{},"text":3}', "3 bytes"]);
  t.equal(await page.locator("#rate").textContent(), "0", "history is no rate");
  t.same(complaints, []);
});

t.test("the last 50 are there on joining, and the room follows the address", async (t) => {
  const node = await startNode(t, { reactors: 1, demo: true });
  const client = startClient(t, node.url);
  await isReady(client);
  const room = client.join("chat:lobby");
  for (let n = 1; n <= 60; n++) await room.publish({ text: `message ${n}`, name: "Grace" });
  const { page, complaints } = await open(browser, node.port, "Ada");
  await page.locator("#log .text", { hasText: "message 60" }).waitFor();
  const texts = await textsOf(page);
  t.same([texts.length, texts[0]], [50, "message 11"]);
  t.ok(await page.locator("#log .text").last().isVisible(), "scrolled to the end");

  await page.getByLabel("Room", { exact: true }).last().fill("chat:another place");
  await page.keyboard.press("Enter");
  await page.locator("#log .notice", { hasText: "Nobody has said anything" }).waitFor();
  t.match(page.url(), /#chat:another%20place$/);
  await say(page, "first");
  await page.locator("#log .text", { hasText: "first" }).waitFor();
  await page.goBack();
  await page.locator("#log .text", { hasText: "message 60" }).waitFor();
  t.equal((await textsOf(page)).length, 50);

  await page.goto(`http://127.0.0.1:${node.port}/#nowhere:x`);
  await page.locator("#log .notice", { hasText: "no namespace" }).waitFor();
  t.same(complaints, []);
});

t.test("a lost connection is shown, counted down and made good for", async (t) => {
  const node = await startNode(t, { reactors: 1, demo: true });
  const proxy = await startProxy(t, node.port);
  const client = startClient(t, node.url);
  const room = client.join("chat:lobby");
  const { page, complaints } = await open(browser, proxy.port, "Ada");
  await say(page, "before");
  await page.locator("#log .text", { hasText: "before" }).waitFor();
  proxy.refuse(true);
  proxy.cut();
  await page.locator("#state-text", { hasText: /reconnecting in \d+ s/ }).waitFor();
  for (let n = 1; n <= 12; n++) await room.publish({ text: `missed ${n}`, name: "Grace" });
  await say(page, "while away");
  await page.locator("#outbox .text", { hasText: "while away" }).waitFor();
  t.match(await page.locator("#outbox .fate").textContent(), /sent after reconnecting/);
  await page.screenshot({ path: join(screenshots, "lost.png") });
  proxy.refuse(false);
  await page.locator("#log .notice.recovered", { hasText: "12 missed messages recovered" }).waitFor();
  await page.locator("#log .own .text", { hasText: "while away" }).waitFor();
  await page.locator("#outbox .message").waitFor({ state: "detached" });
  t.same(await textsOf(page), ["before", ...Array.from({ length: 12 }, (_, i) => `missed ${i + 1}`), "while away"]);
  t.same(await page.locator("#log .own .text").allTextContents(), ["before", "while away"], "own messages of both sessions");
  await page.screenshot({ path: join(screenshots, "recovered.png") });
  t.same(complaints.filter((complaint) => !isOfRefusal(complaint)), []);

  // Text that is not sent survives a reload: what is on its way counts once, what stands in the field stays there.
  proxy.cut();
  proxy.refuse(true);
  await say(page, "over a reload");
  await page.locator("#outbox .text", { hasText: "over a reload" }).waitFor();
  await page.getByRole("textbox", { name: "Message" }).fill("half a thou");
  proxy.refuse(false);
  await page.reload();
  await page.locator("#log .own .text", { hasText: "over a reload" }).waitFor();
  await page.locator("#outbox .message").waitFor({ state: "detached" });
  t.same((await textsOf(page)).slice(-2), ["while away", "over a reload"]);
  t.equal(await page.getByRole("textbox", { name: "Message" }).inputValue(), "half a thou");
});

t.test("messages that are gone for good are told, without a number: positions may count other rooms' messages", async (t) => {
  const chat = { durable: true, historySize: 3, historyTtlMs: 60_000, historyBytesMax: 1_000_000, publish: "members" as const };
  const node = await startNode(t, { reactors: 1, demo: true, namespaces: { chat }, tailPublicationsMax: 3 });
  const proxy = await startProxy(t, node.port);
  const room = startClient(t, node.url).join("chat:lobby");
  const { page } = await open(browser, proxy.port, "Ada");
  await room.publish({ text: "before" });
  await page.locator("#log .text", { hasText: "before" }).waitFor();
  proxy.refuse(true);
  proxy.cut();
  for (let n = 1; n <= 9; n++) await room.publish({ text: `missed ${n}` });
  proxy.refuse(false);
  await page.locator("#log .notice.gap", { hasText: /^Messages are lost here: / }).waitFor();
  t.notMatch(await page.locator("#log .notice.gap").textContent(), /\d/);
  await page.locator("#log .text", { hasText: "missed 9" }).waitFor();
  t.same(await textsOf(page), ["before", "missed 7", "missed 8", "missed 9"], "what is kept");
});

t.test("a node that is gone: the page goes to the one that it named, and stays if that does not take its origin", async (t) => {
  const node = await startNode(t, { reactors: 1, demo: true, nodeId: "one" });
  const proxy = await startProxy(t, node.port);
  for (const isAllowed of [true, false]) {
    const other = await startNode(t, { reactors: 1, nodeId: "two", allowedOrigins: isAllowed ? [`http://127.0.0.1:${proxy.port}`] : [] });
    const { page } = await arrive(browser, proxy.port, "Ada");
    // As a node of a cluster answers.
    await page.route("**/api/connection-url?**", (route) => (route.request().url().includes("not=one") ? route.fulfill({ json: { url: `ws://127.0.0.1:${other.port}/ws?node=two&ticket=x`, node: "two", retryAfterMs: 0 } }) : route.abort()));
    await page.reload();
    await page.waitForFunction(() => sessionStorage.getItem("other node") !== null);
    proxy.refuse(true);
    proxy.cut();
    if (isAllowed) await page.locator("#node", { hasText: "two" }).waitFor();
    else await page.waitForFunction(() => sessionStorage.getItem("other node") === null);
    proxy.refuse(false);
    if (!isAllowed) await page.locator('#state[data-state="ready"]').waitFor();
    t.equal(await page.locator("#node").textContent(), isAllowed ? "two" : "one");
    await page.context().close();
  }
});

t.test("the page fits a phone, in the dark too, and every control has a name", async (t) => {
  const node = await startNode(t, { reactors: 1, demo: true });
  const phone = { viewport: { width: 320, height: 600 }, colorScheme: "dark" as const, deviceScaleFactor: 2 };
  const { page, complaints } = await open(browser, node.port, "Ada", phone);
  await say(page, `a long word: ${"a".repeat(300)}`);
  await page.locator("#log .text").waitFor();
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  t.equal(overflow, 0, "nothing is wider than the screen");
  t.not(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(244, 243, 238)", "not the paper of the day");
  t.notOk(await page.locator("#nickname").isVisible(), "the session is folded away");
  const small = await page.evaluate(() => [...document.querySelectorAll<HTMLElement>("input, textarea, button, summary")]
    .filter((control) => control.checkVisibility() && control.getBoundingClientRect().height < 44).map((control) => control.id || control.textContent));
  t.same(small, [], "every control is 44 px high");
  await page.screenshot({ path: join(screenshots, "phone-folded.png") });
  await page.getByText("Session", { exact: true }).first().click();
  t.ok(await page.getByLabel("Your name").isVisible());
  await page.getByLabel("Your name").fill("Countess");
  await page.keyboard.press("Enter");
  t.equal(await page.evaluate(() => localStorage.getItem("nickname")), "Countess");
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll<HTMLInputElement>("input, textarea, button")]
      .filter((control) => !control.labels?.[0]?.textContent && !control.textContent?.trim())
      .map((control) => control.id));
  t.same(nameless, []);
  await page.screenshot({ path: join(screenshots, "phone.png") });
  t.same(complaints, []);
});
