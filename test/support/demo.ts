/** The demo page in a browser, as the tests use it. */
import type { Browser, Page } from "playwright-core";
import { complaintsOf } from "./browser.ts";

export const wide = { viewport: { width: 1280, height: 800 } };

export type Opened = { page: Page; complaints: string[] };

/** Opens the page in a browser of its own, and waits until it has a session. */
export async function open(browser: Browser, port: number, name: string, options: Parameters<Browser["newContext"]>[0] = wide): Promise<Opened> {
  const opened = await arrive(browser, port, name, options);
  await isBack(opened.page).catch((error: unknown) => {
    throw new Error(`the page does not get ready: ${opened.complaints.join("; ")}`, { cause: error });
  });
  return opened;
}

/** Opens it without waiting for anything. */
export async function arrive(browser: Browser, port: number, name: string, options: Parameters<Browser["newContext"]>[0] = wide): Promise<Opened> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(120_000);
  const complaints = complaintsOf(context);
  const page = await context.newPage();
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.addInitScript((nickname) => localStorage.setItem("nickname", nickname), name);
  await page.goto(`http://127.0.0.1:${port}/`);
  return { page, complaints };
}

export async function say(page: Page, text: string): Promise<void> {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.keyboard.press("Enter");
}

export const textsOf = (page: Page) => page.locator("#log .text").allTextContents();

/** It has a session again. Where the node was away for long, it waits up to 20 s between two attempts. */
export const isBack = (page: Page): Promise<void> => page.locator('#state[data-state="ready"]').waitFor({ timeout: 180_000 });
