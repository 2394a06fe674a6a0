/** The HTTP API and a real browser: what pages elsewhere try, what a page with a token may do, and the page of the calls. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Page } from "playwright-core";
import t from "tap";
import { ask } from "./support/api.ts";
import { complaintsOf, startBrowser } from "./support/browser.ts";
import { startNode } from "./support/node.ts";
import { secret, token } from "./support/tokens.ts";
import { until } from "./support/until.ts";

// As if the attacker's name pointed to this machine.
const browser = await startBrowser(t, ["--host-resolver-rules=MAP rebound.example 127.0.0.1"]);
const site = createServer((_, res) => res.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>a page</title>"));
await new Promise<void>((resolve) => site.listen(0, "127.0.0.1", resolve));
t.teardown(() => site.close());
const origin = `http://127.0.0.1:${(site.address() as AddressInfo).port}`;
const open = await startNode(t, { reactors: 1 });
const guarded = await startNode(t, { reactors: 1, apiPublic: true, authSecret: secret, host: "127.0.0.1", allowedOrigins: [origin] });
const visit = async (url: string): Promise<Page> => {
  const page = await (await browser.newContext()).newPage();
  // The loader of the tests wraps functions in it, those for the page as well.
  await page.addInitScript("globalThis.__name = (one) => one");
  await page.goto(url);
  return page;
};

t.test("a page of another origin can neither publish nor read at a loopback port without keys", async (t) => {
  const api = `http://127.0.0.1:${open.apiPort}/api/v1`;
  await ask(open.apiPort, "/rooms/chat:a/publications", { body: { data: "secret" } });
  const page = await visit(origin);
  const tried = await page.evaluate(async (api) => {
    const body = JSON.stringify({ data: "evil" });
    const url = `${api}/rooms/chat:a/publications`;
    const outcome = (asked: Promise<Response>) => asked.then(async (got) => `${got.type} ${got.status} ${await got.text()}`, () => "failed");
    const outcomes = await Promise.all([
      outcome(fetch(url, { method: "POST", body })),
      outcome(fetch(url, { method: "POST", body, headers: { "Content-Type": "application/json" } })),
      outcome(fetch(url, { method: "POST", body, mode: "no-cors" })),
      outcome(fetch(url, { method: "POST", body: new Blob([body], { type: "application/json" }), mode: "no-cors" })),
      outcome(fetch(`${api}/users/ann/rooms/chat:a`, { method: "PUT" })),
      outcome(fetch(`${api}/rooms/chat:a/history`)),
      outcome(fetch(`${api}/rooms/chat:a/history`, { mode: "no-cors" })),
    ]);
    const source = await new Promise((resolve) => {
      const events = new EventSource(`${api}/rooms/chat:a/stream`);
      events.onerror = () => resolve("failed");
      events.addEventListener("open", () => resolve("open"));
    });
    const image = await new Promise((resolve) => Object.assign(new Image(), { onload: () => resolve("loaded"), onerror: () => resolve("failed"), src: `${api}/docs` }));
    const script = await new Promise((resolve) => document.head.append(Object.assign(document.createElement("script"), { onload: () => resolve("loaded"), onerror: () => resolve("failed"), src: `${api}/openapi.json` })));
    navigator.sendBeacon(url, body);
    const form = Object.assign(document.createElement("form"), { method: "POST", action: url, enctype: "text/plain", target: "frame" });
    const frame = Object.assign(document.createElement("iframe"), { name: "frame" });
    form.append(Object.assign(document.createElement("input"), { name: '{"data":"', value: 'evil"}' }));
    document.body.append(frame, form);
    const sent = new Promise((resolve) => (frame.onload = resolve));
    form.submit();
    await sent;
    return { outcomes, source, image, script };
  }, api);
  t.strictSame(tried.outcomes, ["failed", "failed", "opaque 0 ", "opaque 0 ", "failed", "failed", "opaque 0 "]);
  t.match(tried, { source: "failed", image: "failed", script: "failed" });
  const { json } = await ask(open.apiPort, "/rooms/chat:a/history");
  t.strictSame((json!.publications as { data: unknown }[]).map(({ data }) => data), ["secret"], "nothing was published");
  t.match(await ask(open.apiPort, "/users/ann"), { json: { joined: [] } });
  await page.context().close();
});

t.test("a name that an attacker points to this machine reaches nothing", async (t) => {
  for (const path of ["rooms/chat:a/history", "docs", "openapi.json"]) {
    const page = await (await browser.newContext()).newPage();
    const response = await page.goto(`http://rebound.example:${open.apiPort}/api/v1/${path}`);
    t.equal(response!.status(), 403, path);
    // A page of that name has the same origin as the port.
    const read = await page.evaluate(() => fetch("/api/v1/rooms/chat:a/history").then(async (got) => `${got.status} ${await got.text()}`));
    t.match(read, /^403 /);
    t.notMatch(read, /secret/);
    await page.context().close();
  }
});

t.test("an EventSource with its user's token follows a room on the port for clients, and ends with the sign-out", async (t) => {
  const api = `http://127.0.0.1:${guarded.port}/api/v1`;
  const page = await visit(origin);
  const ann = await token({ sub: "ann", rooms: { "chat:*": ["join"] } }, secret);
  await page.evaluate(([api, token]) => {
    const seen = ((window as unknown as { seen: string[] }).seen = []) as string[];
    const events = new EventSource(`${api}/rooms/chat:a/stream?token=${token}`);
    for (const name of ["open", "message", "end"]) events.addEventListener(name, (event) => seen.push(`${name} ${(event as MessageEvent<string>).data ?? ""}`));
    events.onerror = () => seen.push(`error ${events.readyState}`);
  }, [api, ann] as const);
  const seen = () => page.evaluate(() => (window as unknown as { seen: string[] }).seen);
  await until(async () => (await seen()).some((line) => line.startsWith('open {"position"')), "the stream to be open");
  await guarded.publish("chat:a", { text: "hi" });
  await until(async () => (await seen()).some((line) => line.includes('"data":{"text":"hi"}')), "the publication");
  await guarded.disconnect("ann", { signOut: true });
  await until(async () => (await seen()).some((line) => line === "error 2"), "the EventSource to give up: its token is refused");
  t.ok((await seen()).some((line) => line === 'end {"reason":"disconnected"}'), (await seen()).join("\n"));
  const read = await page.evaluate((url) => fetch(url).then(() => "read", () => "failed"), `${api}/rooms/chat:a/history?token=${ann}`);
  t.equal(read, "failed", "no other call takes a token");
  await page.context().close();
});

t.test("the page of the calls has no error, and no line that runs over a narrow screen", async (t) => {
  const context = await browser.newContext({ viewport: { width: 380, height: 800 } });
  const complaints = complaintsOf(context);
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${open.apiPort}/api/v1/docs`);
  const { wide, all } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, all: document.querySelectorAll("section").length }));
  t.ok(wide <= 380, `${wide} px`);
  t.ok(all > 15);
  t.strictSame(complaints, []);
  await context.close();
});
