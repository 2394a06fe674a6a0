/** Chromium without windows, driven by playwright-core: half the CPU of a whole one. services.sh sees to it that it is there. */
import { chromium, type Browser, type BrowserContext } from "playwright-core";
import type { Test } from "tap";

const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium-headless-shell";

/** @param more flags of Chromium */
export async function startBrowser(t: Pick<Test, "teardown">, more: readonly string[] = []): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath,
    headless: true,
    args: [
      "--no-sandbox", // of root, which Chromium refuses otherwise; it loads nothing but our own page
      "--disable-gpu",
      "--disable-quic",
      "--disable-dev-shm-usage",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...more,
    ],
  });
  t.teardown(() => browser.close());
  return browser;
}

/** Everything a page complains about: console errors and warnings, exceptions, requests that failed or left our host. */
export function complaintsOf(context: BrowserContext): string[] {
  const complaints: string[] = [];
  context.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(`${message.type()}: ${message.text()}`);
  });
  context.on("weberror", (error) => complaints.push(`exception: ${String(error.error())}`));
  context.on("requestfailed", (request) => complaints.push(`failed: ${request.url()} ${request.failure()?.errorText ?? ""}`));
  context.on("response", (response) => {
    if (response.status() >= 400) complaints.push(`${response.status()}: ${response.url()}`);
  });
  context.on("request", (request) => {
    if (!["127.0.0.1", "localhost"].includes(new URL(request.url()).hostname)) complaints.push(`elsewhere: ${request.url()}`);
  });
  return complaints;
}
