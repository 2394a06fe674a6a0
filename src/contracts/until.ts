import { setTimeout as sleep } from "node:timers/promises";

/** Waits for a condition. The limit only ends a test that would wait for ever: it must hold on a machine that is busy with other things. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 60_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited ${limitMs} ms in vain: ${what}`);
    await sleep(5);
  }
}
