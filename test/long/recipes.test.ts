/** The recipes of docs/recipes, each in two pages of Chromium, with one node for all. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Page, WebSocketRoute } from "playwright-core";
import { build } from "esbuild";
import t from "tap";
import { complaintsOf, startBrowser } from "../support/browser.ts";
import { startNode } from "../support/node.ts";
import { pageOf } from "../support/pages.ts";
import { root } from "../support/root.ts";

const read = (name: string) => pageOf(name, readFileSync(join(root, "docs/recipes", name), "utf8"));
const config = JSON.parse(read("README.md").blocks.find(({ rest }) => rest === "file=recipes.json")!.text) as object;

/** The web server of a reader: files by their path. */
const files = new Map<string, string>();
const server = createServer((req, res) => {
  const text = files.get(req.url ?? "");
  if (text === undefined) return void res.writeHead(204).end(); // favicon.ico
  res.writeHead(200, { "Content-Type": req.url!.endsWith(".js") ? "text/javascript" : "text/html; charset=utf-8" }).end(text);
});
await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
t.teardown(() => void server.close());
const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const node = await startNode(t, { ...config, demo: true, allowedOrigins: [origin] });
const browser = await startBrowser(t);
const client = await (await fetch(`http://127.0.0.1:${node.port}/flux-client.js`)).text();
const admin = `http://127.0.0.1:${node.adminPort}/api/v1`;

/** Opens a page in a browser of its own. */
async function openAt(path: string): Promise<{ page: Page; complaints: string[] }> {
  const context = await browser.newContext();
  const complaints = complaintsOf(context);
  const page = await context.newPage();
  await page.goto(`${origin}${path}`);
  return { page, complaints };
}

/** Opens a recipe, served as the README says. */
function open(name: string): Promise<{ page: Page; complaints: string[] }> {
  files.set(`/${name}/`, read(name).blocks.find(({ language }) => language === "html")!.text.replace(":8080/", `:${node.port}/`));
  files.set(`/${name}/flux-client.js`, client);
  return openAt(`/${name}/`);
}

const post = (path: string, body: object) => fetch(`${admin}${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

t.test("chat: what one writes, both have; then it is no longer on its way", async (t) => {
  const [ann, bob] = await Promise.all([open("chat.md"), open("chat.md")]);
  await ann.page.getByLabel("Message", { exact: true }).fill("hello <b>Bob</b>");
  await ann.page.getByRole("button", { name: "Send" }).click();
  for (const { page } of [ann, bob]) await page.locator("#messages li", { hasText: /^anon-.*: hello <b>Bob<\/b>$/ }).waitFor();
  t.equal(await ann.page.locator("#messages li").count(), 1);
  await bob.page.reload();
  await bob.page.locator("#messages li", { hasText: "hello" }).waitFor();
  t.same([...ann.complaints, ...bob.complaints], []);
});

t.test("notifications: what the backend writes to the user is shown, also what came while the page was away", async (t) => {
  const { page, complaints } = await open("notifications.md");
  await page.locator("#user", { hasText: "anon-" }).waitFor();
  const user = (await page.locator("#user").textContent())!;
  const sent = await post(`/users/${user}/messages`, { data: { text: "Your order is paid" } });
  t.ok(sent.ok, await sent.text());
  await page.locator("#notices li", { hasText: "the application: Your order is paid" }).waitFor();
  await page.goto("about:blank");
  await post(`/users/${user}/messages`, { data: { text: "It is on its way" } });
  await page.goto(`${origin}/notifications.md/`);
  await page.locator("#notices li", { hasText: "It is on its way" }).waitFor();
  t.equal(await page.locator("#notices li").count(), 1, "the first was acknowledged");
  t.same(complaints, []);
});

t.test("dashboard: the newest value is shown, and the line has those before", async (t) => {
  for (const value of [12, 15]) await post("/rooms/dash:orders/publications", { data: { value } });
  const { page, complaints } = await open("dashboard.md");
  await page.locator("#value", { hasText: /^15$/ }).waitFor();
  await post("/rooms/dash:orders/publications", { data: { value: 23 } });
  await page.locator("#value", { hasText: /^23$/ }).waitFor();
  t.equal((await page.locator("#line").getAttribute("points"))!.split(" ").length, 3);
  t.equal(await page.locator("#state").textContent(), "live");
  t.same(complaints, []);
});

t.test("presence: both are listed, and one is oneself", async (t) => {
  const [ann, bob] = [await open("presence.md"), await open("presence.md")];
  for (const { page } of [ann, bob]) {
    await page.locator("#people li", { hasText: "(you)" }).waitFor();
    await page.locator("#people li:not(:has-text('(you)'))").first().waitFor();
  }
  await ann.page.locator("#last", { hasText: "came in" }).waitFor();
  t.same([...ann.complaints, ...bob.complaints], []);
});

t.test("cursors: the other's pointer moves, one's own is not drawn", async (t) => {
  const [ann, bob] = await Promise.all([open("cursors.md"), open("cursors.md")]);
  const cursor = bob.page.locator(".cursor");
  // The page publishes only while it has a session.
  for (let x = 100; (await cursor.count()) === 0; x += 1) {
    await ann.page.mouse.move(x % 500, 80);
    await cursor.first().waitFor({ timeout: 500 }).catch(() => undefined);
  }
  t.match(await cursor.first().textContent(), /▲ anon-/);
  t.equal(await ann.page.locator(".cursor").count(), 0);
  t.same([...ann.complaints, ...bob.complaints], []);
});

/** Bundles a page with hooks for a version of React, and serves it. */
async function serveReact(path: string, version: string, page: { entryPoints: string[] } | { stdin: { contents: string; resolveDir: string; loader: "jsx" } }): Promise<string> {
  const own = { "flux-gateway-client/react": join(root, "src/client/react.ts"), "flux-gateway-client": join(root, "src/client/index.ts") };
  const alias = version === "18" ? own : { ...own, react: "react-19", "react-dom": "react-dom-19" };
  const { outputFiles } = await build({
    ...page, bundle: true, write: false, format: "esm", target: "es2022", jsx: "automatic", alias, logLevel: "silent", define: { "process.env.NODE_ENV": '"development"' },
  });
  files.set(path, `<!doctype html><div id="root"></div><script>globalThis.address = "ws://127.0.0.1:${node.port}/ws"</script><script type="module" src="page.js"></script>`);
  files.set(`${path}page.js`, outputFiles[0]!.text);
  return outputFiles[0]!.text;
}

const main = `
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
createRoot(document.getElementById("root")).render(<StrictMode><App /></StrictMode>);
`;

for (const version of ["18", "19"]) {
  t.test(`react.md with React ${version}: two tabs, who is here, and a message written without a connection arrives once`, async (t) => {
    const app = read("react.md").blocks.find(({ language }) => language === "jsx")!.text.replace("export default function App", "function App");
    const contents = `${app}${main}`.replace(":8080/", `:${node.port}/`).replace("chat:general", `chat:recipe-${version}`);
    await serveReact(`/react-${version}/`, version, { stdin: { contents, resolveDir: root, loader: "jsx" } });
    const context = await browser.newContext();
    const complaints = complaintsOf(context);
    const [ann, bob] = [await context.newPage(), await context.newPage()];
    let isDown = false;
    const sockets = new Set<WebSocketRoute>();
    await ann.routeWebSocket(/\/ws/, (socket) => {
      if (isDown) return void socket.close({ code: 4000 });
      sockets.add(socket);
      socket.connectToServer();
    });
    for (const page of [ann, bob]) await page.goto(`${origin}/react-${version}/`);
    for (const page of [ann, bob]) await page.getByRole("status").filter({ hasText: /^ready, live, 2 here: anon-.*, anon-/ }).waitFor();
    const say = async (page: Page, text: string) => {
      await page.getByLabel("Message").fill(text);
      await page.getByRole("button", { name: "Send" }).click();
    };
    await say(bob, "hello <b>Ann</b>");
    for (const page of [ann, bob]) await page.getByRole("listitem").filter({ hasText: /^anon-.*: hello <b>Ann<\/b>$/ }).waitFor();

    isDown = true;
    for (const socket of sockets) await socket.close();
    await ann.getByRole("status").filter({ hasText: /^(waiting|connecting), joining/ }).waitFor();
    await say(ann, "written without a connection");
    await ann.getByText("1 on the way").waitFor();
    isDown = false;
    for (const page of [ann, bob]) await page.getByRole("listitem").filter({ hasText: "written without" }).waitFor();
    await ann.getByRole("status").filter({ hasText: /^ready, live, 2 here/ }).waitFor();
    await ann.getByText("on the way").waitFor({ state: "detached" });
    for (const page of [ann, bob]) t.equal(await page.getByRole("listitem").count(), 2);
    t.same(complaints, []);
  });

  t.test(`React ${version}: rooms, presence, status and state in StrictMode; one client, one join, one rendering for a page of history`, async (t) => {
    const name = `chat:react-${version}`;
    for (let n = 1; n <= 40; n++) await post(`/rooms/${name}/publications`, { data: { text: `message ${n}` } });
    const bundle = await serveReact(`/${version}/`, version, { entryPoints: [join(root, "test/support/react/page.js")] });
    files.set(`/${version}/page.js`, bundle.replaceAll('"chat:react"', `"${name}"`));
    const { page, complaints } = await openAt(`/${version}/`);
    const rooms = page.locator("section:has(.status)");
    for (const i of [0, 1]) await rooms.nth(i).locator("li", { hasText: "message 40" }).waitFor();
    t.equal(await rooms.first().locator("li").count(), 20, "history");
    t.equal(await page.evaluate("clients"), 1, "one client");
    t.same(await page.evaluate("joins"), [name, name], "one join for the two components, and one for the list");
    t.ok((await page.evaluate("renderings") as number) < 40, `renderings: ${await page.evaluate("renderings") as number}`);
    await page.locator("#state", { hasText: "ready" }).waitFor();
    await page.locator("#people", { hasText: /^1: anon-/ }).waitFor();
    await page.locator("#online", { hasText: "[false,true]" }).waitFor();

    await page.evaluate("publish({ text: 'from the page' })");
    await rooms.first().locator("li", { hasText: "from the page" }).waitFor();
    for (let n = 41; n <= 60; n++) await post(`/rooms/${name}/publications`, { data: { text: `message ${n}` } });
    await rooms.first().locator("li", { hasText: "message 60" }).waitFor();
    t.equal(await rooms.first().locator("li").count(), 30, "keep");

    await page.evaluate("setName('nowhere:x')");
    await rooms.first().locator(".status", { hasText: "left" }).waitFor();
    t.equal(await rooms.first().locator(".error").textContent(), "unknown_namespace");
    await page.evaluate(`setName(${JSON.stringify(name)})`);
    await rooms.first().locator("li", { hasText: "message 60" }).waitFor();
    await page.evaluate("setName(null)");
    await rooms.first().locator(".count", { hasText: /^0$/ }).waitFor();
    await page.evaluate("setOpen(false)");

    // The list is there first.
    await page.evaluate(`setName(${JSON.stringify(name)})`);
    await page.locator("#people", { hasText: /^1: anon-/ }).waitFor();
    await page.evaluate("setOpen(true)");
    await rooms.first().locator("li", { hasText: "message 60" }).waitFor();
    await rooms.first().locator(".status", { hasText: "live" }).waitFor();
    t.equal(await rooms.first().locator("li").count(), 20, "history");
    await page.evaluate("setOpen(false)");
    t.same(complaints, []);
  });
}
