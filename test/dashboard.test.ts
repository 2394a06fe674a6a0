/** The dashboard: who may come in, what it says, and its page in a real browser. */
import { once } from "node:events";
import { gunzipSync } from "node:zlib";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { pino } from "pino";
import t from "tap";
import { Audit } from "../src/admin/audit.ts";
import type { Refused } from "../src/admin/request.ts";
import { createApiKeys } from "../src/auth/apikeys.ts";
import { makeSecret } from "../src/auth/apisecret.ts";
import { checked } from "../src/dashboard/answers.ts";
import { Dashboard } from "../src/dashboard/dashboard.ts";
import { HotRooms } from "../src/dashboard/hotrooms.ts";
import { Logins, loginMs } from "../src/dashboard/logins.ts";
import { duration } from "../src/dashboard/page/format.ts";
import { pagePaths } from "../src/dashboard/paths.ts";
import { preview } from "../src/dashboard/preview.ts";
import { RoomTraces } from "../src/dashboard/roomtraces.ts";
import { Reasons } from "../src/dashboard/reasons.ts";
import { Sampler, type Reading } from "../src/dashboard/sampler.ts";
import { UserTraces } from "../src/dashboard/usertraces.ts";
import type { KeyRecord } from "../src/keystore/keystore.ts";
import { createMemoryKeys } from "../src/keystore/memory.ts";
import { complaintsOf, startBrowser } from "./support/browser.ts";
import { startNode } from "./support/node.ts";
import { root } from "./support/root.ts";
import { isReady, startClient } from "./support/sdk.ts";
import { until } from "./support/until.ts";

const adminKey = "an-admin-key-of-32-or-more-characters";
const folder = join(root, "dist/browser/dashboard");

t.test("the page is at most 45 kB gzipped, and loads nothing from elsewhere", async (t) => {
  const files = readdirSync(folder).filter((name) => name.endsWith(".gz"));
  const bytes = files.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  t.ok(bytes <= 45_000, `${bytes} bytes`);
  for (const name of files) t.same(gunzipSync(readFileSync(join(folder, name))).equals(readFileSync(join(folder, name.slice(0, -3)))), true, name);
  const page = readFileSync(join(folder, "index.html"), "utf8");
  t.notMatch(page, /https?:|<script>|style=| on\w+=/, "the page itself has neither inline code nor another origin");
  t.notMatch(readFileSync(join(folder, "app.js"), "utf8"), /innerHTML\s*=(?!=)[^=]*location|document\.write|new Function|eval\(/);
});

t.test("delays are told apart where they are short", (t) => {
  t.same([0, 999, 1_000, 1_500, 9_949, 9_950, 119_000, 180_000].map(duration), ["0 ms", "999 ms", "1 s", "1.5 s", "9.9 s", "10 s", "119 s", "3 min"]);
  t.end();
});

t.test("log-ins end, and wrong keys are counted by network", (t) => {
  let now = 0;
  const logins = new Logins(() => now);
  const cookie = logins.open("Bearer a");
  t.same(logins.find(cookie)?.authorization, "Bearer a");
  t.equal(logins.find(`${cookie}x`), null);
  now = 59 * 60_000;
  t.ok(logins.find(cookie), "used within the hour");
  now += 61 * 60_000;
  t.equal(logins.find(cookie), null, "not used for an hour");
  const other = logins.open("Bearer b");
  for (const end = now + loginMs; now < end; now += 30 * 60_000) logins.find(other);
  t.equal(logins.find(other), null, "however much it is used");
  for (let i = 0; i < 10; i++) t.equal(logins.attempt("2001:db8:1:2:3::1"), 0);
  t.ok(logins.attempt("2001:db8:1:2:ffff::9") > 0, "the same /64");
  for (let i = 0; i < 10; i++) t.equal(logins.attempt(`2001:db8::${i}`), 0);
  t.ok(logins.attempt("2001:db8::a:b:c:d") > 0, "the same /64, however its zeros are written");
  t.equal(logins.attempt("2001:db8:0:1::1"), 0, "another /64");
  t.equal(logins.attempt("10.0.0.1"), 0, "another address");
  logins.succeeded("10.0.0.1");
  now += 60_000;
  t.equal(logins.attempt("2001:db8:1:2:3::1"), 0, "a minute later");
  for (let i = 0; i < 400; i++) logins.open(`Bearer ${i}`);
  t.end();
});

t.test("a trace is in the audit log, also where the caller says that it has some of it already", async (t) => {
  const said: object[] = [];
  const audit = { done: (...[caller, action, asked]: Parameters<Audit["done"]>) => void said.push({ by: caller.key, action, ...asked }) } as Audit;
  const paths = pagePaths({ cluster: { about: async () => ({ answers: [], unanswered: [] }) } as never, roomTraces: { read: () => ({}) } as never, inbox: async () => ({}) });
  const ask = (key: string, path: string, query: string) => paths[path]!(new URLSearchParams(query), { from: "::1", method: "GET", path: "", key }, audit);
  for (const after of [5, 6, 7]) await ask("one", "trace-user", `user=ann&after=${after}`);
  for (const after of [5, 6]) await ask("two", "trace-room", `room=chat:a&after=${after}`);
  await ask("two", "trace-user", "user=ann&after=9");
  await ask("one", "trace-user", "user=ann&after=0");
  t.strictSame(said, [
    { by: "one", action: "trace", user: "ann", tenant: "" }, { by: "two", action: "trace", room: "chat:a", tenant: "" },
    { by: "two", action: "trace", user: "ann", tenant: "" }, { by: "one", action: "trace", user: "ann", tenant: "" },
  ]);
});

t.test("payloads are shown as text or as hex, and what is cut says so", (t) => {
  t.equal(preview(Buffer.from("ä".repeat(150))), "ä".repeat(150));
  t.equal(preview(Buffer.from(`a${"ä".repeat(300)}`)), `a${"ä".repeat(199)}…`, "not within a character");
  t.equal(preview(Buffer.alloc(200, 255)), "ff".repeat(200));
  t.equal(preview(Buffer.alloc(201, 255)), `${"ff".repeat(200)}…`);
  t.end();
});

t.test("a page whose trace has ended does not go on with that of another", (t) => {
  const traces = new RoomTraces({ listen() {}, unlisten() {} });
  t.teardown(() => traces.stop());
  t.match(traces.read("", "chat:a", 0), { over: false, last: 1 });
  t.match(traces.read("", "chat:a", 1), { over: false });
  t.match(traces.read("", "chat:a", 50), { over: true, events: [] });
  t.end();
});

const reading = (totals: Partial<Reading["totals"]>, more: Partial<Reading> = {}): Reading => ({
  totals: { publications: 0, deliveries: 0, opened: 0, closed: 0, refused: 0, errors: 0, bytesOut: 0, ...totals },
  broker: { answers: 0, ms: 0 }, sockets: 1, memoryBytes: 10, hubBusy: 0.5, reactors: [], ...more,
});

t.test("a node samples itself: rates, the worst delay, and fifteen minutes of it", (t) => {
  let now = 0;
  let deliveries = 0;
  const sampler = new Sampler(() => reading({ deliveries }), () => now);
  t.teardown(() => sampler.stop());
  for (let i = 0; i < 1_000; i++) {
    now += 1_000;
    deliveries += 30;
    sampler.take();
  }
  t.equal(sampler.now.rates.deliveries, 30);
  t.match(sampler.history(), { stepMs: 3_000, series: { deliveries: Array.from({ length: 300 }, () => 30) } });
  now += 4_000;
  deliveries = 0;
  sampler.take();
  t.match(sampler.now.rates, { deliveries: 0, hubLagMs: 3_000 }, "a total that began again, and a timer that came late");
  t.equal(sampler.history().series.lagMs!.at(-1), 3_000);
  t.ok(checked("history", sampler.history()));
  t.end();
});

t.test("reasons are those of the last minute and of the last fifteen", (t) => {
  let total = 5;
  const reasons = new Reasons(() => [{ reason: "bad_frame", code: 3003, total }, { reason: "bye", code: 3000, total: 1 }], () => ({ text: "what", hint: "do", client: "c" }));
  t.teardown(() => reasons.stop());
  total = 8;
  for (let i = 0; i < 12; i++) reasons.take();
  total = 10;
  t.same(reasons.list(), [{ reason: "bad_frame", code: 3003, minute: 2, quarter: 5, text: "what", hint: "do", client: "c" }]);
  t.end();
});

t.test("hot rooms are found by how far each has come since the last look", async (t) => {
  let now = 0;
  const rooms = Array.from({ length: 5_000 }, (_, i) => ({ key: `r${i}`, handle: i, epoch: "e", seq: 0, members: i % 10 }));
  const hot = new HotRooms({ rooms: () => rooms, named: (key) => ({ room: key, tenant: "" }), clock: () => now });
  t.teardown(() => hot.stop());
  t.same(await hot.list(), { isNew: true, rooms: [] });
  rooms[19]!.seq = 40;
  rooms[20]!.seq = 10;
  rooms[21]!.epoch = "f";
  rooms[21]!.seq = 999;
  now = 2_000;
  t.same((await hot.list()).rooms, [{ room: "r19", tenant: "", members: 9, perSecond: 20, deliveries: 180 }, { room: "r20", tenant: "", members: 0, perSecond: 5, deliveries: 0 }]);
});

t.test("a trace of a user is a sample, and ends when nobody reads it", (t) => {
  let now = 0;
  const followed: (readonly string[])[] = [];
  const traces = new UserTraces({ follow: (users) => void followed.push(users) }, () => now);
  t.teardown(() => traces.stop());
  t.same(traces.read("\u001fann", 0), { unsaid: 0, events: [] });
  for (let i = 0; i < 50; i++) traces.tell("\u001fann", 1, { text: "publish", fields: { session: "s", user: "ann", room: "chat:a", bytes: i } });
  traces.tell("\u001fbob", 1, { text: "publish", fields: {} });
  const { unsaid, events } = traces.read("\u001fann", 0)!;
  t.equal(unsaid, 30);
  t.equal(events.length, 20);
  t.match(events[0], { reactor: 1, session: "s", what: "publish", details: "room chat:a · bytes 0" });
  t.same(traces.read("\u001fann", events.at(-1)!.n), { unsaid: 0, events: [] });
  for (let i = 0; i < 7; i++) t.ok(traces.read(`u${i}`, 0));
  t.equal(traces.read("u9", 0), null, "a bound");
  now = 6_000;
  traces.look();
  t.same(followed.at(-1), []);
  t.end();
});

interface Answer { readonly status: number; readonly text: string; readonly headers: Record<string, unknown> }

function ask(port: number, path: string, headers: Record<string, string> = {}, body?: unknown, method = body === undefined ? "GET" : "POST"): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path, method, headers: { ...(body !== undefined && { "Content-Type": "application/json" }), ...headers } }, (response) => {
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
    });
    sent.on("error", reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

t.test("an API key of scope admin logs in, and a key that is revoked or narrowed ends its log-ins at once", async (t) => {
  const { store, writer } = createMemoryKeys();
  const { text, id, sha256 } = makeSecret();
  const record: KeyRecord = { name: "ops", tenant: null, scopes: ["admin"], rooms: null, requestsPerSecond: null, publicationsPerSecond: null, createdAt: 1, expiresAt: 0, secrets: [{ id, sha256, createdAt: 1, expiresAt: 0 }] };
  await writer.change("ops", () => record);
  const keys = createApiKeys({ adminKey: "", onLoopback: false, store, verifier: null });
  const dashboard = new Dashboard({ node: "n", version: "1", keys, paths: { live: () => ({}) }, api: () => undefined });
  const audit = new Audit(pino({ level: "silent" }), "");
  const server = createServer((req, res) => {
    const caller = { from: "127.0.0.1", method: req.method ?? "", path: (req.url ?? "").split("?")[0]! };
    dashboard.serve(req, res, caller, audit, async () => undefined).catch((error: Refused) => void res.writeHead(error.status).end());
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => void server.close());
  const { port } = server.address() as AddressInfo;
  const own = { Origin: `http://127.0.0.1:${port}`, Host: `127.0.0.1:${port}` };
  const logIn = async () => {
    const { status, headers } = await ask(port, "/dashboard/login", own, { key: text });
    return { status, cookie: String(headers["set-cookie"] ?? "").split(";")[0]! };
  };
  const look = async (cookie: string) => (await ask(port, "/dashboard/api/live", { Cookie: cookie })).status;

  const [first, second] = [await logIn(), await logIn()];
  t.same([first.status, await look(first.cookie), await look(second.cookie)], [200, 200, 200]);
  await writer.change("ops", () => ({ ...record, scopes: ["read"] }));
  t.equal(await look(first.cookie), 401, "without the scope");
  await writer.change("ops", () => ({ ...record, tenant: "acme" }));
  t.equal(await look(first.cookie), 401, "of one tenant");
  await writer.change("ops", () => record);
  t.equal(await look(first.cookie), 200);
  await writer.change("ops", () => null);
  t.same([await look(first.cookie), await look(second.cookie), (await logIn()).status], [401, 401, 401], "revoked: all of its log-ins, and new ones");
});

t.test("a node with a key", async (t) => {
  const node = await startNode(t, { adminKey, reactors: 1, allowAnonymous: true, nodeId: "seen" });
  const { adminPort: port } = node;
  const own = { Origin: `http://127.0.0.1:${port}`, Host: `127.0.0.1:${port}` };

  await t.test("nothing is answered without a log-in but the files, and these say nothing of the node", async (t) => {
    for (const path of ["/dashboard", "/dashboard/app.js", "/dashboard/app.css"]) {
      const { status, headers } = await ask(port, path);
      t.equal(status, 200, path);
      t.match(headers["content-security-policy"], /^default-src 'none'; script-src 'self'/);
      t.match(headers, { "x-frame-options": "DENY", "x-content-type-options": "nosniff", "cache-control": "no-store" });
    }
    for (const path of ["session", "api/live", "api/about?what=settings", "api/admin/nodes", "api/admin/metrics", "api/v1/nodes", "api/inbox?user=ann"]) t.equal((await ask(port, `/dashboard/${path}`)).status, 401, path);
    for (const path of ["api/admin/disconnect", "api/admin/drain", "api/v1/rooms/chat:a/publications"]) t.equal((await ask(port, `/dashboard/${path}`, own, {})).status, 401, path);
    t.match(await ask(port, "/", { Accept: "text/html,*/*" }), { status: 302, headers: { location: "/dashboard" } });
    t.equal((await ask(port, "/")).status, 401, "programs get what they got");
  });

  await t.test("only its own page logs in, with the right key, and not without end", async (t) => {
    t.equal((await ask(port, "/dashboard/login", {}, { key: adminKey })).status, 403, "no origin");
    t.equal((await ask(port, "/dashboard/login", { ...own, Origin: "https://evil.example" }, { key: adminKey })).status, 403);
    t.equal((await ask(port, "/dashboard/login", { ...own, Origin: "null" }, { key: adminKey })).status, 403);
    t.equal((await ask(port, "/dashboard/login", { ...own, "Sec-Fetch-Site": "same-site" }, { key: adminKey })).status, 403, "another port of this host");
    t.equal((await ask(port, "/dashboard/login", own, { key: "x", more: 1 })).status, 400);
    const cookieOf = async (origin: string) => String((await ask(port, "/dashboard/login", { ...own, Origin: origin }, { key: adminKey })).headers["set-cookie"]);
    t.match(await cookieOf(`https://127.0.0.1:${port}`), /; HttpOnly; SameSite=Strict; .*; Secure$/, "behind TLS");
    t.match(await cookieOf(own.Origin), /; HttpOnly; SameSite=Strict; Path=\/dashboard; Max-Age=\d+$/);
    for (let i = 0; i < 10; i++) t.equal((await ask(port, "/dashboard/login", own, { key: `${adminKey}${i}` })).status, 401);
    const late = await ask(port, "/dashboard/login", own, { key: adminKey });
    t.match(late, { status: 429, headers: { "retry-after": /^\d+$/ } });
    t.notMatch(late.text, adminKey);
  });
});

t.test("an open node: its page, its writes, and a browser", async (t) => {
  const node = await startNode(t, { reactors: 1, allowAnonymous: true, nodeId: "open-one", demo: true });
  const { adminPort: port } = node;
  const own = { Origin: `http://127.0.0.1:${port}`, Host: `127.0.0.1:${port}` };

  await t.test("pages from elsewhere change nothing, by no name and with no header", async (t) => {
    t.match(JSON.parse((await ask(port, "/dashboard/session")).text), { node: "open-one", open: true });
    for (const headers of [
      {}, { ...own, Origin: "http://evil.example" }, { Origin: "http://rebound.example:1", Host: "rebound.example:1" }, { Origin: `http://rebound.example:${port}`, Host: `rebound.example:${port}` },
      { ...own, "Sec-Fetch-Site": "cross-site" }, { ...own, "Sec-Fetch-Site": "same-site" }, { ...own, "Sec-Fetch-Site": "none" }, { ...own, Origin: `http://127.0.0.1:${port + 1}` },
    ]) {
      for (const path of ["api/admin/disconnect", "api/admin/drain", "api/v1/rooms/chat:a/publications", "login", "logout"]) t.equal((await ask(port, `/dashboard/${path}`, headers, { user: "ann" })).status, 403, `${path} ${JSON.stringify(headers)}`);
    }
    t.equal((await ask(port, "/dashboard/api/live", { Host: "rebound.example" })).status, 403, "nor is anything read by another name");
    t.equal((await ask(port, "/dashboard/api/admin/disconnect", { ...own, "Content-Type": "text/plain" }, { user: "ann" })).status, 415);
    t.equal((await ask(port, "/dashboard/api/admin/disconnect", { ...own, "Sec-Fetch-Site": "same-origin" }, { user: "ann" })).status, 200);
    for (const path of ["api/nothing", "api/constructor", "api/__proto__", "api/about?what=__proto__", "api/about?what=trace", "api/trace-room?room=", "api/../session/x", "nothing"]) t.ok([400, 404].includes((await ask(port, `/dashboard/${path}`)).status), path);
    t.equal((await ask(port, "/dashboard/session", own, {}, "DELETE")).status, 200, "its method does not matter");
  });

  await t.test("in a browser: live figures, keys alone, and names that are no HTML", async (t) => {
    const browser = await startBrowser(t);
    const context = await browser.newContext({ viewport: { width: 380, height: 740 }, colorScheme: "dark" });
    const complaints = complaintsOf(context);
    const page = await context.newPage();
    const room = "chat:<img src=x onerror=alert(1)>";
    const client = startClient(t, node.url);
    await isReady(client);
    await client.join(room);
    await node.publish(room, "<script>alert(2)</script>");
    await page.goto(`http://127.0.0.1:${port}/`);
    await page.locator(".tile", { hasText: "1/1" }).waitFor();
    await page.getByText("This admin port is open").waitFor();
    await page.locator(".u-over").first().waitFor();
    t.equal(await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), true, "nothing is wider than a phone");
    // By keys: skip to the content, then to the rooms.
    await page.keyboard.press("Tab");
    t.equal(await page.evaluate("document.activeElement.textContent"), "Skip to the content");
    await page.keyboard.press("Enter");
    t.equal(await page.evaluate("document.activeElement.id"), "main");
    await page.locator("nav.side a", { hasText: "Rooms" }).press("Enter");
    await page.locator("td a", { hasText: room }).first().press("Enter");
    await page.locator("h1", { hasText: room }).waitFor();
    await page.locator("td", { hasText: "<script>alert(2)</script>" }).waitFor();
    t.same(await page.evaluate(contrasts), [], "text is readable, in the dark");
    await page.emulateMedia({ colorScheme: "light" });
    t.same(await page.evaluate(contrasts), [], "and in the light");
    await page.getByRole("button", { name: "Start trace" }).press("Enter");
    await until(async () => {
      await node.publish(room, "traced");
      return (await page.locator("section", { hasText: "Live trace" }).locator("td", { hasText: "traced" }).count()) > 0;
    }, "the trace to show a publication");
    await page.goto(`http://127.0.0.1:${port}/dashboard#/nodes/open-one`);
    await page.getByRole("button", { name: "Drain open-one…" }).press("Enter");
    const yes = page.locator("dialog").getByRole("button", { name: "Drain" });
    t.equal(await yes.isDisabled(), true, "a drain wants the node's name");
    await page.keyboard.press("Escape");
    await page.locator("dialog[open]").waitFor({ state: "detached" }).catch(() => undefined);
    t.same(complaints, []);
    await node.close();
    await page.locator(".notice.bad", { hasText: "cannot be reached" }).waitFor();
  });
});

/** Text whose contrast with what is behind it is under 4.5 to 1 (WCAG AA). Run in the page. */
const contrasts = `(() => {
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = (element) => { for (let at = element; at; at = at.parentElement) { const c = parse(getComputedStyle(at).backgroundColor); if (c.length === 3 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
  const found = [];
  for (const element of document.querySelectorAll("main *, header *, nav *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== "");
    if (!own || element.disabled || element.closest(":disabled, dialog, .u-wrap")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color).slice(0, 3)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(element.textContent.slice(0, 30) + " " + ratio.toFixed(2));
  }
  return found;
})()`;
