import { setTimeout as sleep } from "node:timers/promises";

/** Waits for a condition. The limit only ends a test that would wait for ever: it must hold on a machine that is busy with other things. */
export async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 60_000): Promise<void> {
  const end = performance.now() + limitMs;
  for (;;) {
    const askedAt = performance.now();
    if (await condition()) return;
    const now = performance.now();
    if (now > end) throw new Error(`waited ${limitMs} ms in vain: ${what}`);
    await sleep(Math.min(pauseMsMax, Math.max(pauseMs, 3 * (now - askedAt))));
  }
}

/** Between two looks. One that takes long, such as a request or a process, is taken less often: a wait is to cost little. */
const pauseMs = 5;
const pauseMsMax = 100;
