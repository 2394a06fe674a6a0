/**
 * `npm run test:dashboard -- [FOLDER]`: a cluster of three nodes with four troubles in it, looked at in Chromium by the
 * dashboard of one node: a slow client, a hot room, a node that lags, and a reconnect storm. Each must stand in "Needs
 * attention" within a minute, with what one needs to know of it. Then a node is killed while one looks. Screenshots go
 * into FOLDER. With `--stay` it leaves the cluster running and prints its address, for people to try.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { complaintsOf, startBrowser } from "./support/browser.ts";
import { startNats } from "./support/nats.ts";
import { startNodeProcess } from "./support/nodeprocess.ts";
import { plainClient, type PlainClient } from "./support/plainclient.ts";
import { startRedis } from "./support/redis.ts";
import { until } from "./support/until.ts";

const words = process.argv.slice(2).filter((word) => word !== "--");
const stays = words.includes("--stay");
const folder = words.find((word) => !word.startsWith("--")) ?? mkdtempSync(join(tmpdir(), "flux-dashboard-"));
mkdirSync(folder, { recursive: true });
t.setTimeout(stays ? 0 : 600_000);

t.test("an operator finds four troubles, and a node that dies", { timeout: stays ? 0 : 600_000 }, async (t) => {
  const adminKey = "the admin key of the troubled cluster";
  const source = "127.0.0.1";
  const crowd = 60;
  const stormers = 12;

  const [nats, redis] = await Promise.all([startNats(t), startRedis(t)]);
  const flags = (name: string) => [
    "--node-id", name, "--reactors", "2", "--nats", nats.url, "--redis", redis.url, "--redis-prefix", "dash:", "--resume-secret", "a secret that the nodes of a test share", "--admin-key", adminKey.replaceAll(" ", "-"),
    "--node-heartbeat-ms", "500", "--node-dead-ms", "3s", "--socket-queue-bytes-max", "262144", "--heartbeat-ms", "200s",
    "--namespaces", JSON.stringify({ feed: { durable: true, slowReaders: "catch-up", historySize: 50 } }),
  ];
  const key = adminKey.replaceAll(" ", "-");
  const nodes = await Promise.all(["gateway-1", "gateway-2", "gateway-3"].map((name) => startNodeProcess(flags(name))));
  t.teardown(async () => {
    for (const { pid } of nodes) try { process.kill(pid, "SIGCONT"); } catch { /* it has ended */ }
    await Promise.all(nodes.map((node) => node.kill()));
  });
  const [first, second, third] = nodes as [(typeof nodes)[0], (typeof nodes)[0], (typeof nodes)[0]];
  let isOver = false;
  t.teardown(() => void (isOver = true));
  const publish = (room: string, data: unknown) => fetch(`${first.adminUrl}/api/v1/rooms/${encodeURIComponent(room)}/publications`, {
    method: "POST", headers: { "Content-Type": "application/json", Authorization: `Bearer ${key}` }, body: JSON.stringify({ data }),
  }).then(async (response) => void (await response.arrayBuffer()), () => undefined);
  const clients: PlainClient[] = [];
  t.teardown(() => clients.forEach(({ tcp }) => tcp.destroy()));
  const join_ = async (port: number, room: string) => {
    const client = plainClient(port, room, source);
    clients.push(client);
    await client.fate;
    return client;
  };

  /** A quiet crowd, so that the troubles are not all there is. */
  const crowded = await Promise.all(Array.from({ length: crowd }, (_, i) => join_(nodes[i % 3]!.port, i % 4 === 0 ? "chat:lobby" : "chat:hot")));
  t.equal(crowded.length, crowd);
  const quiet = setInterval(() => void publish("chat:lobby", { text: "good morning" }), 1_000);
  t.teardown(() => clearInterval(quiet));

  const troubles: Readonly<Record<string, { begin(): Promise<void> | void; readonly said: RegExp }>> = {
    "a hot room": {
      begin() {
        const timer = setInterval(() => { for (let i = 0; i < 4; i++) void publish("chat:hot", { price: Math.random() }); }, 50);
        t.teardown(() => clearInterval(timer));
      },
      said: /Hot room chat:hot.*publications\/s.*of all deliveries/s,
    },
    "a slow client": {
      async begin() {
        const slow = await join_(second.port, "feed:prices");
        slow.tcp.pause();
        const text = "x".repeat(40_000);
        const timer = setInterval(() => void publish("feed:prices", { text }), 60);
        t.teardown(() => clearInterval(timer));
      },
      said: /Slow clients on gateway-2/,
    },
    "a node that lags": {
      begin() {
        void (async () => {
          while (!isOver && third.ended === undefined) {
            process.kill(third.pid, "SIGSTOP");
            await sleep(700);
            if (third.ended === undefined) process.kill(third.pid, "SIGCONT");
            await sleep(500);
          }
        })().catch(() => undefined);
      },
      // On a busy machine all nodes lag a little: it must be a problem.
      said: /Problemgateway-3 lags.*event loop was up to/s,
    },
    "a reconnect storm": {
      begin() {
        // They send what is too large, are closed, come again, and send it again.
        const again = async (i: number): Promise<void> => {
          while (!isOver) {
            const client = plainClient(nodes[i % 2]!.port, "chat:lobby", source);
            await client.fate;
            client.send({ id: 9, publish: { room: "chat:lobby", payload: "y".repeat(200_000) } });
            await Promise.race([new Promise((resolve) => client.tcp.once("close", resolve)), sleep(1_000)]);
            client.tcp.destroy();
            await sleep(100);
          }
        };
        for (let i = 0; i < stormers; i++) void again(i).catch(() => undefined);
      },
      said: /Reconnect storm: .*connections in the last minute.*frame_too_large/s,
    },
  };

  if (stays) {
    for (const { begin } of Object.values(troubles)) await begin();
    console.log(`\nThe dashboard: ${first.adminUrl}/dashboard\nThe key:       ${key}\nCtrl+C ends it.\n`);
    await new Promise(() => undefined);
  }

  const browser = await startBrowser(t);
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, colorScheme: "light" });
  const complaints = complaintsOf(context);
  const page = await context.newPage();
  const shot = async (name: string, fullPage = true) => void (await page.screenshot({ path: join(folder, `${name}.png`), fullPage }));

  await page.goto(`${first.adminUrl}/`, { waitUntil: "domcontentloaded" });
  await page.getByLabel("Key").fill(key);
  await page.keyboard.press("Enter");
  await page.locator(".tile", { hasText: "3/3" }).waitFor();
  // The 401 of the first question: who am I?
  complaints.length = 0;

  const attention = page.locator("#attention");
  for (const [name, { begin, said }] of Object.entries(troubles)) {
    const began = performance.now();
    await begin();
    await until(async () => said.test((await attention.textContent()) ?? ""), `${name} in "Needs attention"`, 60_000);
    t.pass(`${name} stands in "Needs attention" after ${((performance.now() - began) / 1_000).toFixed(1)} s`);
  }
  await page.getByRole("link", { name: /^Reconnect storm/ }).click();
  await until(() => page.evaluate<boolean>("document.getElementById('reasons').getBoundingClientRect().bottom <= innerHeight"), "the reasons of the storm to be in sight");
  await page.evaluate("scrollTo(0, 0)");
  await sleep(10_000);
  await shot("dashboard");
  await page.evaluate("scrollTo(0, 500)");
  await page.goto(`${first.adminUrl}/dashboard#/slow`);
  await page.locator("td", { hasText: "feed:prices" }).first().waitFor();
  t.equal(await page.evaluate("scrollY"), 0, "another view begins at its top");
  await shot("dashboard-slow");
  await page.goto(`${first.adminUrl}/dashboard#/`);
  await page.emulateMedia({ colorScheme: "dark" });
  await page.reload();
  await page.locator(".u-over").first().waitFor();
  await sleep(4_000);
  await shot("dashboard-dark");
  await page.setViewportSize({ width: 380, height: 800 });
  await sleep(1_500);
  await shot("dashboard-phone");
  const overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
  t.equal(overflow, 0, "at 380 px nothing is wider than the page");
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1360, height: 900 });
  for (const [view, name] of [["#/rooms", "rooms"], ["#/rooms/chat%3Ahot", "room"], ["#/nodes/gateway-3", "node"], ["#/placement", "placement"], ["#/backend", "backend"], ["#/settings", "settings"]] as const) {
    await page.goto(`${first.adminUrl}/dashboard${view}`);
    await page.locator("h1").waitFor();
    if (name === "room") await page.getByRole("button", { name: "Start trace" }).click();
    await sleep(4_000);
    if (name === "placement") await page.locator(".tile", { hasText: "any node serves any user" }).waitFor();
    await page.evaluate("scrollTo(0, 0)");
    await shot(`dashboard-${name}`);
  }
  t.equal(((await page.locator("body").textContent()) ?? "").includes("the-admin-key"), false, "the configuration shows no key");
  t.same(complaints, []);

  await page.goto(`${first.adminUrl}/dashboard#/`);
  await page.locator(".tile", { hasText: "3/3" }).waitFor();
  await second.kill();
  await page.locator("#attention li.bad", { hasText: /gateway-2 (does not answer|is down)/ }).waitFor({ timeout: 20_000 });
  t.pass("a node that is killed is missed");
  await first.kill();
  await page.locator(".notice.bad", { hasText: "cannot be reached" }).waitFor({ timeout: 20_000 });
  t.pass("the node whose dashboard it is, too");
  t.comment(`screenshots: ${folder}`);
  isOver = true;
});
