const readings = 100;

/**
 * One clock for all threads: the machine's monotonic clock in microseconds. `performance.now()` counts from the start
 * of its thread, so each thread adds its own offset.
 */
const offset = offsetOf(() => Number(process.hrtime.bigint()) / 1000, () => performance.now() * 1000);

export function micros(): number {
  return performance.now() * 1000 + offset;
}

/**
 * What `clock` is ahead of `own`, both in microseconds. A thread that has to wait for a core between the two readings
 * would be behind all others for good: so the readings that were closest together count.
 */
export function offsetOf(clock: () => number, own: () => number): number {
  let closest = Infinity;
  let offset = 0;
  for (let i = 0; i < readings; i++) {
    const [before, at, after] = [clock(), own(), clock()];
    if (after - before >= closest) continue;
    closest = after - before;
    offset = (before + after) / 2 - at;
  }
  return offset;
}

/** A time as sent in a payload: the low 32 bits, which wrap after 71 minutes. */
export function stamp(atMicros: number): number {
  return atMicros >>> 0;
}

/** Microseconds between two stamps. */
export function since(sentAt: number, now: number): number {
  return (now - sentAt) >>> 0;
}
