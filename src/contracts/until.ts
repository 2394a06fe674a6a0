import { setTimeout as sleep } from "node:timers/promises";

/** Waits for a condition, generously: how long it takes is not what these tests measure. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 20_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited ${limitMs} ms in vain: ${what}`);
    await sleep(5);
  }
}
