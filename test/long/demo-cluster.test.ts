/**
 * `npm run demo:cluster`, as a person would use it: two browsers talk through the load balancer, while a node, NATS and
 * Redis are killed and come back.
 */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { Client } from "pg";
import t from "tap";
import type { Page } from "playwright-core";
import { complaintsOf, startBrowser } from "../support/browser.ts";
import { isBack, say } from "../support/demo.ts";
import { root } from "../support/root.ts";
import { until } from "../support/until.ts";

const child = spawn(process.execPath, ["--import", "tsx", join(root, "tools/demo/cluster.ts"), "--port", "0", "--restart-ms", "300"], {
  cwd: root, stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, NODE_OPTIONS: "" },
});
t.teardown(() => {
  if (child.exitCode === null) child.kill("SIGKILL");
});
/** Process of each part that runs, how often it was started, and the last status line. */
const processes = new Map<string, number>();
const starts = new Map<string, number>();
const urls = new Map<string, string>();
let status = "";
let database = "";
createInterface(child.stdout).on("line", (line) => {
  const started = /^(\S+) runs: process (\d+)$/.exec(line);
  if (started) {
    processes.set(started[1]!, Number(started[2]));
    starts.set(started[1]!, (starts.get(started[1]!) ?? 0) + 1);
  }
  const url = /^ {2}(\w+) +(http:\S+)$/.exec(line);
  if (url) urls.set(url[1]!, url[2]!);
  database ||= /^ {2}psql (\S+) /.exec(line)?.[1] ?? "";
  if (line.includes(" · ")) status = line;
});
await until(() => {
  if (child.exitCode !== null) throw new Error("the cluster has ended");
  return urls.has("anybody");
}, "the cluster to run");

const browser = await startBrowser(t);

async function arrive(user: string): Promise<Page> {
  const context = await browser.newContext();
  context.setDefaultTimeout(120_000);
  complaintsOf(context);
  const page = await context.newPage();
  await page.goto(urls.get(user)!);
  await isBack(page);
  return page;
}

const [ada, grace] = await Promise.all([arrive("ada"), arrive("grace")]);
const said: string[] = [];

/** Both say something, and both read it. */
async function talk(what: string): Promise<void> {
  for (const [name, page] of [["ada", ada], ["grace", grace]] as const) {
    const text = `${name}, ${what}`;
    await say(page, text);
    said.push(text);
    for (const reader of [ada, grace]) await reader.locator("#log .text", { hasText: text }).waitFor();
  }
}

async function killed(part: string): Promise<void> {
  const before = starts.get(part) ?? 0;
  process.kill(processes.get(part)!, "SIGKILL");
  await until(() => (starts.get(part) ?? 0) > before, `${part} to be started again`);
}

const nodeOf = (page: Page) => page.locator("#node").textContent();

t.test("the status line says who is where", async (t) => {
  await talk("good morning");
  t.equal(await ada.locator("#user").textContent(), "ada");
  const nodes = [await nodeOf(ada), await nodeOf(grace)] as const;
  await until(() => status.includes("ada") && status.includes("grace"), "the status line");
  t.match(status, new RegExp(`${nodes[0]} up \\([^)]*ada`));
  t.match(status, new RegExp(`${nodes[1]} up \\([^)]*grace`));
  t.match(status, /nats up · redis up · postgres up · gateway-1 .* · gateway-2 .* · gateway-3 .* · lb up$/);
});

t.test("they go on talking when the node of one, NATS, Redis or the load balancer is killed", async (t) => {
  for (const part of [(await nodeOf(ada))!, "nats", "redis", "postgres", "lb"]) {
    await killed(part);
    await Promise.all([isBack(ada), isBack(grace)]);
    await talk(`after the end of ${part}`);
  }
  for (const page of [ada, grace]) t.same(await page.locator("#log .text").allTextContents(), said, "everything, once, in order");
  const client = new Client({ connectionString: database });
  await client.connect();
  const archived = async () => (await client.query("SELECT convert_from(data, 'UTF8')::json ->> 'text' AS text FROM flux_publications ORDER BY at")).rows.map(({ text }) => text as string);
  await until(async () => (await archived()).length >= said.length, "the archive");
  t.same(await archived(), said, "and so in the archive");
  await client.end();
});

t.test("Ctrl+C ends all parts", async (t) => {
  await browser.close();
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGINT");
  t.equal(await ended, 0);
  for (const [name, pid] of processes) t.throws(() => process.kill(pid, 0), { code: "ESRCH" }, name);
});
