import { setTimeout as sleep } from "node:timers/promises";

/**
 * Waits for a condition. The limit only ends a test that would wait forever; it must be long enough on a busy machine.
 */
export async function until(condition: () => boolean | Promise<boolean>, what: string, limitMs = 180_000): Promise<void> {
  const end = performance.now() + limitMs;
  for (;;) {
    const askedAt = performance.now();
    if (await condition()) return;
    const now = performance.now();
    if (now > end) throw new Error(`timed out after ${limitMs} ms: ${what}`);
    await sleep(Math.min(pauseMsMax, Math.max(pauseMs, 6 * (now - askedAt))));
  }
}

/** Pause between checks. A slow check is repeated less often, so that waiting costs little CPU. */
const pauseMs = 5;
const pauseMsMax = 100;
